"""The plan of the C back-end for a network: a form for every step, or an error that names the node.

Everything that a kernel relies on is decided here, before any text is written: where values lie, what their bytes stand
for, that every sum fits 32 bits. Weights are packed and requantizations solved when they are first asked for, so that a
plan of any network takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from bitproof.export.integer import (
    Add,
    Affine,
    Concat,
    Conv,
    IntegerModel,
    Interval,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Ranges,
    SumPool,
    Threshold,
    TopK,
    Window,
    hull,
)
from bitproof.export.program.order import from_stored, places, to_stored
from bitproof.export.program.program import Program
from bitproof.export.program.schedule import schedule
from bitproof.export.program.step import Step
from bitproof.hw.mcu.activation import PlannedActivation
from bitproof.hw.mcu.byte_codes import MOST_CODES, ByteCodes
from bitproof.hw.mcu.naming import prefix_of
from bitproof.hw.mcu.steps import (
    NOWHERE,
    CWindow,
    Finish,
    PlannedJoin,
    PlannedMaxPool,
    PlannedMove,
    PlannedProduct,
    PlannedSelect,
    PlannedStep,
    PlannedSum,
    PlannedSumPool,
    Rescaling,
    depthwise_layout,
)
from bitproof.hw.mcu.storage import NUMBER_BYTES, Storage, Stored, only_relabels, plan_storage, takes_signed
from bitproof.pipeline import Codes, StageError

POOLED = (Conv,)
FINISHED = (MatMul, Conv, SumPool, Add, Threshold, Affine)
"""Operations that leave sums, of which the kernels make codes; a max pool and a Concat leave what they take."""
INT32_MAX = (1 << 31) - 1
INT32_MIN = -(1 << 31)


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """The network, ready to be written as C.

    Attributes:
        prefix: of all its public names.
        model: what it equals.
        input: the caller's codes.
        storage: of all values.
        steps: in execution order.
        output: the value that holds the outputs.
    """

    prefix: str
    model: IntegerModel
    input: Stored
    storage: Storage
    steps: tuple[PlannedStep, ...]
    output: Stored

    @property
    def signed_input(self) -> bool:
        """The caller gives signed codes, of which bytes are made first; else the bytes themselves."""
        return takes_signed(self.input.bytes)

    @property
    def products(self) -> tuple[PlannedProduct, ...]:
        """The products with weights."""
        return tuple(step for step in self.steps if isinstance(step, PlannedProduct))

    @property
    def finishes(self) -> tuple[tuple[str, Finish], ...]:
        """What is stored of sums, with the name of the step."""
        return tuple((step.name, finish) for step in self.steps if (finish := finish_of(step)) is not None)

    @property
    def activations(self) -> tuple[PlannedActivation, ...]:
        """The requantizations."""
        return tuple(finish.activation for _, finish in self.finishes if finish.activation is not None)

    @property
    def outputs(self) -> Interval:
        """Hull of the outputs."""
        return hull(self.model.values[self.model.nodes[-1].name].ranges)

    @property
    def work_bytes(self) -> int:
        """Of the memory behind the values that a step uses while it runs: sums, then what a window shows."""
        return max(NUMBER_BYTES * step.sums + step.shown for step in self.steps)

    @property
    def values_bytes(self) -> int:
        """Of the values between steps, rounded up to whole words, so that sums may lie behind them."""
        return -(-self.storage.size_bytes // NUMBER_BYTES) * NUMBER_BYTES

    @property
    def arena_bytes(self) -> int:
        """Of the arena that the caller lends: values and work memory, rounded up to whole words."""
        return -(-(self.values_bytes + self.work_bytes) // NUMBER_BYTES) * NUMBER_BYTES


def finish_of(step: PlannedStep) -> Finish | None:
    """Return what is stored of the sums of *step*; None: it has none, or stores them as they are made."""
    if isinstance(step, PlannedProduct):
        return None if step.is_direct else step.finish
    return step.finish if isinstance(step, PlannedSumPool | PlannedSum) else None


def plan_network(model: IntegerModel, prefix: str | None = None) -> NetworkPlan:
    """Decide the form of every step of *model*, without packing or solving anything: in seconds for any size.

    *prefix* is what its public names start with; None: what its name gives.

    Raises:
        StageError: a step has no form with codes of a byte and sums of 32 bits, the message names the node; or there is
            no step that computes anything.
    """
    program = schedule(model, "channels-last", pooled=POOLED, finished=FINISHED)
    storage = plan_storage(program)
    planner = _Planner(program, storage)
    steps = tuple(planner.step(step) for step in program.steps if not planner.stays(step))
    if not steps:
        raise StageError(
            f"network {model.name!r} computes nothing: its layers give the codes that they take other names or places; "
            "the C back-end takes a network with at least one layer that computes"
        )
    return NetworkPlan(
        prefix or prefix_of(model.name), model, storage.values["input"], storage, steps, storage.values[program.output]
    )


@dataclass(frozen=True, slots=True)
class _Planner:
    """The steps of *program*, whose values are kept as *storage* says."""

    program: Program
    storage: Storage

    def stays(self, step: Step) -> bool:
        """Tell whether *step* leaves all bytes as they are."""
        return only_relabels(step, self.storage.values[step.takes[0]].codes)

    def step(self, step: Step) -> PlannedStep:
        """Return the form of *step*."""
        takes = tuple(self.storage.values[name] for name in step.takes)
        makes = self.storage.values[step.makes]
        match step.main:
            case MatMul() | Conv():
                return self._product(step, takes, makes)
            case SumPool():
                return self._sum_pool(step, takes, makes)
            case MaxPool():
                return self._max_pool(step, takes, makes)
            case Concat():
                self._nothing_else(step)
                return self._join(step, takes, makes)
            case TopK():
                self._nothing_else(step)
                return PlannedSelect(step.name, takes, makes, step.main.count)
            case Add() | Affine() | Threshold():
                return self._sum(step, takes, makes)
            case _:
                self._nothing_else(step)
                return self._move(step, takes, makes)

    def _ranges(self, name: str) -> Ranges:
        return self.program.model.values[name].ranges

    def _nothing_else(self, step: Step) -> None:
        """Refuse what a step that has no sums cannot do beside its main node."""
        others = [node for node in step.carried_out if node is not step.main]
        if others:
            named = ", ".join(f"{node.name} ({node.op})" for node in others)
            raise StageError(f"the C back-end has no form for {named} beside {step.name!r} ({step.main.op})")

    def _require_bytes(self, step: Step, stored: Stored) -> None:
        if stored.codes is None:
            raise StageError(
                f"layer {step.name!r} takes the accumulators of layer {stored.name!r}; the C back-end takes codes: put "
                "a quantized activation between them"
            )

    def _require_last(self, step: Step, stored: Stored) -> None:
        if not stored.is_last:
            raise StageError(
                f"layer {step.name!r} takes {stored.name!r} with its channels first in memory; the C back-end keeps "
                "them last: leave out the Reshape or Transpose before it"
            )

    def _finish(self, step: Step, sums: str, passed: Sequence[Node], rescaling: Rescaling | None) -> Finish:
        """Return what is made of the sums called *sums*, behind *rescaling*, by the nodes *passed*."""
        channels = self.program.model.shapes()[sums][0]
        self._require_sums(sums)
        activation = None
        for node in passed:
            if isinstance(node, Affine):
                self._require_sums(node.name)
                rescaling = _then(rescaling, node)
            elif isinstance(node, Threshold):
                (source,) = self.program.model.sources(node.name)
                activation = PlannedActivation.of(node, self.storage.values[step.makes].bytes, self._ranges(source))
            else:
                raise StageError(f"the C back-end has no form for {node.name} ({node.op}) behind {step.name!r}")
        return Finish(channels, rescaling, activation)

    def _require_sums(self, name: str) -> None:
        # A threshold that is never met is the largest accumulator plus one, so that must fit as well.
        outputs = hull(self._ranges(name))
        if outputs.low < INT32_MIN or outputs.high + 1 > INT32_MAX:
            scaled = isinstance(self.program.model.node(name), Affine)
            raise StageError(
                f"{'sums' if scaled else 'accumulators'} of layer {name!r} reach [{outputs.low}, {outputs.high}]; "
                f"allowed are {INT32_MIN} to {INT32_MAX - 1}: "
                f"{'use smaller offsets' if scaled else 'use fewer inputs or fewer bits'}"
            )

    def _product(self, step: Step, takes: tuple[Stored, ...], makes: Stored) -> PlannedProduct:
        node, source = step.main, takes[0]
        assert isinstance(node, MatMul | Conv), "a product"
        self._require_bytes(step, source)
        passed = [each for each in step.after if not isinstance(each, MaxPool)]
        _require_pooled_sums(step)
        finish = self._finish(step, node.name, passed, None)
        outputs = hull(self._ranges(node.name))
        window = pool = columns = None
        if isinstance(node, MatMul):
            columns = _columns(source, step.before[0])
        else:
            self._require_last(step, source)
            shown = _padded(node.window, step)
            groups = node.groups if depthwise_layout(node, source.bytes) is None else 1
            outside = _byte_of_zero(step, source.bytes) if shown.padded else 0
            window = CWindow.over(source.shape, shown, groups=groups, outside=outside)
            if step.max_pool is not None:
                pool = CWindow.over((node.outputs, *window.positions), step.max_pool.window)
        _require_decoding(node, source.bytes)
        planned = PlannedProduct(node.name, takes, makes, node, columns, window, pool, finish, outputs)
        assert planned.layout.words, "weights that have no layout are refused here"
        return planned

    def _sum_pool(self, step: Step, takes: tuple[Stored, ...], makes: Stored) -> PlannedSumPool:
        node, source = step.main, takes[0]
        assert isinstance(node, SumPool), "a pool"
        self._require_last(step, source)
        codes, window = source.codes, _padded(node.window, step)
        outside = _byte_of_zero(step, codes) if codes is not None and window.padded else 0
        decoding = None
        if codes is not None and not codes.as_they_are:
            offset = codes.lowest * prod(window.kernel)
            channels = np.ones(source.channels, dtype=np.int64)
            decoding = Rescaling(codes.step * channels, offset * channels)
        finish = self._finish(step, node.name, step.after, decoding)
        shown = CWindow.over(source.shape, window, outside=outside, number_bytes=source.number_bytes)
        return PlannedSumPool(node.name, takes, makes, shown, finish)

    def _max_pool(self, step: Step, takes: tuple[Stored, ...], makes: Stored) -> PlannedMaxPool:
        node, source = step.main, takes[0]
        assert isinstance(node, MaxPool), "a pool"
        self._nothing_else(step)
        self._require_bytes(step, source)
        self._require_last(step, source)
        assert source.codes == makes.codes, "bytes are copied"
        return PlannedMaxPool(node.name, takes, makes, CWindow.over(source.shape, node.window))

    def _sum(self, step: Step, takes: tuple[Stored, ...], makes: Stored) -> PlannedSum:
        """Return the form of a sum, of a rescaling, or of thresholds alone, which are sums of one value."""
        channels = takes[0].channels
        offsets, factors = np.zeros(channels, dtype=np.int64), []
        for stored, nodes in zip(takes, step.before, strict=True):
            self._require_last(step, stored)
            scale, shift = np.ones(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)
            for node in nodes:
                if not isinstance(node, Affine):
                    raise StageError(f"the C back-end has no form for {node.name} ({node.op}) before {step.name!r}")
                self._require_sums(node.name)
                scale, shift = node.factors * scale, node.factors * shift + node.offsets
            if stored.codes is not None:
                scale, shift = scale * stored.codes.step, shift + scale * stored.codes.lowest
            factors.append(scale)
            offsets += shift
        main = step.main
        if isinstance(main, Affine):
            factors, offsets = [main.factors * factors[0]], main.factors * offsets + main.offsets
        passed = (main, *step.after) if isinstance(main, Threshold) else step.after
        sums = self.program.model.sources(main.name)[0] if isinstance(main, Threshold) else main.name
        finish = self._finish(step, sums, passed, None)
        _require_constants(step.name, *factors, offsets)
        return PlannedSum(step.name, takes, makes, tuple(factors), offsets, finish)

    def _join(self, step: Step, takes: tuple[Stored, ...], makes: Stored) -> PlannedJoin:
        recodes = []
        for stored in takes:
            self._require_last(step, stored)
            recodes.append(_recode(stored, makes))
        return PlannedJoin(step.name, takes, makes, tuple(recodes))

    def _move(self, step: Step, takes: tuple[Stored, ...], makes: Stored) -> PlannedMove:
        (source,) = takes
        at = places(source.shape, source.order) + 1
        moved = step.main.apply(at)  # what Pad adds is 0
        origins = to_stored(moved, makes.order)[0] - 1
        assert source.codes == makes.codes, "bytes are copied"
        outside = 0 if makes.codes is None or not isinstance(step.main, Pad) else _byte_of_zero(step, makes.codes)
        return PlannedMove(step.name, takes, makes, np.where(origins < 0, NOWHERE, origins), outside)


def _require_pooled_sums(step: Step) -> None:
    """Refuse a max pool whose sums may not be compared before they are scaled, as the kernels do."""
    if step.max_pool is None:
        return
    for node in step.after[: step.after.index(step.max_pool)]:
        if isinstance(node, Affine) and (node.factors <= 0).any():
            raise StageError(
                f"layer {node.name!r} multiplies by {int(node.factors.min())} before max pool {step.max_pool.name!r}; "
                "the C back-end pools the sums first, which takes factors > 0: turn the signs of the weights and of "
                f"the scale of {step.name!r}, or pool behind an activation"
            )


def _then(first: Rescaling | None, node: Affine) -> Rescaling:
    """Return *first*, and then *node*."""
    _require_constants(node.name, node.factors, node.offsets)
    if first is None:
        return Rescaling(node.factors, node.offsets)
    made = Rescaling(node.factors * first.factors, node.factors * first.offsets + node.offsets)
    _require_constants(node.name, made.factors, made.offsets)
    return made


def _require_constants(name: str, *constants: Codes) -> None:
    largest = max(int(np.abs(values).max(initial=0)) for values in constants)
    if largest > INT32_MAX:
        raise StageError(
            f"layer {name!r} needs the constant {largest}; allowed are {INT32_MAX} at most: use smaller factors"
        )


def _require_decoding(product: MatMul | Conv, codes: ByteCodes) -> None:
    rows = product.weights.reshape(product.outputs, -1)
    offsets = codes.lowest * rows.sum(axis=1, dtype=object)
    largest = max(codes.step, *(abs(int(offset)) for offset in offsets))
    if largest > INT32_MAX:
        raise StageError(
            f"layer {product.name!r} takes codes {codes.codes[0]} to {codes.codes[-1]}, for which it needs the "
            f"constant {largest}; allowed are {INT32_MAX} at most: use smaller factors"
        )


def _columns(source: Stored, moved: Sequence[Node]) -> Codes:
    """Return for each stored byte of *source* the column of the matrix that it meets behind the nodes *moved*."""
    at = places(source.shape, source.order)
    for node in moved:
        at = node.apply(at)
    columns = np.empty(at.size, dtype=np.int64)
    columns[at.reshape(-1)] = np.arange(at.size)
    return columns


def _padded(window: Window, step: Step) -> Window:
    """Return *window* with the padding that *step* carries out before it."""
    others = [node for node in step.before[0] if not isinstance(node, Pad)]
    if others:
        named = ", ".join(f"{node.name} ({node.op})" for node in others)
        raise StageError(f"the C back-end has no form for {named} before {step.name!r}")
    begin, end = np.array(window.begin), np.array(window.end)
    for node in step.before[0]:
        assert isinstance(node, Pad), "others are refused"
        begin, end = begin + np.array(node.begin), end + np.array(node.end)
    return replace(window, begin=tuple(begin.tolist()), end=tuple(end.tolist()))


def _byte_of_zero(step: Step, codes: ByteCodes) -> int:
    try:
        return int(codes.to_bytes(np.zeros(1, dtype=np.int64))[0])
    except ValueError as error:
        raise StageError(
            f"layer {step.name!r} pads with the code 0, which is none of the codes {codes.codes[0]} to "
            f"{codes.codes[-1]}{f' in steps of {codes.step}' if codes.step > 1 else ''} that it takes: quantize its "
            "input with a zero point of 0, or pad nothing"
        ) from error


def _recode(source: Stored, target: Stored) -> tuple[int, ...] | ByteCodes | None:
    """Return how what is stored of *source* becomes what is stored of *target*, see :class:`PlannedJoin`."""
    if source.codes is None or source.codes == target.codes:
        return None
    if target.codes is None:
        return source.codes
    made = target.codes.to_bytes(source.codes.from_bytes(np.arange(source.codes.count))).tolist()
    return (*made, *(0 for _ in range(MOST_CODES - len(made))))


def in_model_order(stored: Codes, value: Stored) -> Codes:
    """Return *stored*, shape (N, codes of *value* as they lie in memory), in the order of the integer model."""
    return from_stored(stored, value.shape, value.order).reshape(len(stored), -1)
