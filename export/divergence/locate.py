"""The first layer at which an executor and the integer model diverge.

An executor that can be traced is compared layer by layer on the same samples. One that cannot, but lets its units be
run alone (matrix products, activations), is given what the integer model gives to each of them: the first unit whose
output differs is at fault, whatever happened before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from bitproof.export.integer import INPUT, Conv, IntegerModel, MatMul, Node, Threshold, trace
from bitproof.export.proofs import PartialRequantizer, rising_codes, rising_codes_at, takes_points
from bitproof.pipeline import Codes, LayerTracer, MatrixUnit, Requantizer, StageError

ELEMENTS_AT_ONCE = 1 << 23
"""So many codes of all layers together are held at a time, for each of the two executors."""
ROWS_AT_ONCE = 1 << 17


class UnreadableError(StageError):
    """An executor that runs cannot show its layers as codes, float sums among them being too coarse, say."""


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """One code of a layer: *channel* and *position* within the sample, and the *sample*; ordered like that."""

    channel: int
    position: tuple[int, ...]
    sample: int


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One node that gives other codes than the integer model, on some samples.

    Attributes:
        node: the node.
        sources: what the integer model gives it, each of shape (N, *sample).
        seen: for each source whether the other executor is known to give the same.
        expected: what the integer model makes of them, shape (N, *sample).
        actual: what the other makes, the same shape.
        first: the first code that differs, by channel, position, sample.
        offset: number of the first of these samples among all.
    """

    node: Node
    sources: tuple[Codes, ...]
    seen: tuple[bool, ...]
    expected: Codes
    actual: Codes
    first: Site
    offset: int

    @property
    def inputs_agree(self) -> bool:
        """Both executors are known to see the same inputs, so that the node itself is at fault."""
        return all(self.seen)

    def at(self, values: Codes) -> int:
        """Return the element of *values*, shaped as *expected*, at the first code that differs."""
        return int(values[(self.first.sample, self.first.channel, *self.first.position)])

    def channel(self, values: Codes) -> Codes:
        """Return the elements of *values*, shape (N, C, *sizes), in the channel at fault: shape (N, *sizes)."""
        return values[:, self.first.channel]


@dataclass(frozen=True, slots=True)
class Search:
    """What a comparison of all layers gave: how many codes were compared, and where the executors diverge."""

    compared: int
    evidence: Evidence | None


def search_trace(model: IntegerModel, executor: LayerTracer, codes: Codes) -> Search:
    """Compare every layer that *executor* shows with the integer model's, on *codes*, shape (N, inputs).

    Raises:
        UnreadableError: it cannot show its layers.
        StageError: it shows no layer of the model, or codes of another shape.
    """
    best, compared = None, 0
    for offset, chosen in _groups(model, codes):
        try:
            traced = executor.trace(chosen)
        except StageError as error:
            raise UnreadableError(str(error)) from error
        names = [node.name for node in model.nodes if node.name in traced]
        if traced and not names:
            raise StageError(f"the executor shows layers {sorted(traced)}; none of them is one of {model.name!r}")
        expected = _values(model, chosen)
        for name in names:
            compared += expected[name].size
        found = _first(model, names, expected, traced, {INPUT, *names}, offset)
        best = _earlier(model, best, found)
    return Search(compared, best)


def search_units(model: IntegerModel, executor: object, codes: Codes, only: Collection[str] | None = None) -> Search:
    """Give each matrix unit and activation of *executor* what the integer model gives it, and compare.

    *only* names the nodes that are of interest; None: all.
    """
    best, compared = None, 0
    for offset, chosen in _groups(model, codes):
        expected = _values(model, chosen)
        actual: dict[str, Codes] = {}
        for node in model.nodes:
            if only is not None and node.name not in only:
                continue
            made = _run_unit(executor, node, expected[model.sources(node.name)[0]])
            if made is None:
                continue
            actual[node.name] = made
            compared += made.size
            if (made != expected[node.name]).any():
                break
        # each unit was given the model's own inputs: they agree by construction
        found = _first(model, list(actual), expected, actual, set(expected), offset)
        best = _earlier(model, best, found)
    return Search(compared, best)


def search_outputs(model: IntegerModel, actual: Codes, codes: Codes) -> Search:
    """Compare the outputs alone; *actual* has shape (N, outputs)."""
    last = model.nodes[-1].name
    best, compared = None, 0
    for offset, chosen in _groups(model, codes):
        expected = _values(model, chosen)
        made = actual[offset : offset + len(chosen)].reshape(expected[last].shape)
        compared += made.size
        found = _first(model, [last], expected, {last: made}, {INPUT}, offset)
        best = _earlier(model, best, found)
    return Search(compared, best)


def _groups(model: IntegerModel, codes: Codes) -> Iterator[tuple[int, Codes]]:
    rows = max(1, ELEMENTS_AT_ONCE // sum(prod(shape) for shape in model.shapes().values()))
    for offset in range(0, len(codes), rows):
        yield offset, codes[offset : offset + rows]


def _values(model: IntegerModel, codes: Codes) -> dict[str, Codes]:
    """Return every value of *model* on *codes*, ``input`` included."""
    return {INPUT: codes.reshape(len(codes), *model.shape), **trace(model, codes)}


def _first(
    model: IntegerModel,
    names: list[str],
    expected: Mapping[str, Codes],
    actual: Mapping[str, Codes],
    known: set[str],
    offset: int,
) -> Evidence | None:
    """Return the first of the nodes *names* that differs; *known* holds the values that can be seen in both."""
    for name in names:
        made = np.asarray(actual[name])
        if made.shape != expected[name].shape:
            raise StageError(f"the executor gives {name} the shape {made.shape}; expected {expected[name].shape}")
        differs = made != expected[name]
        if not differs.any():
            continue
        node = next(node for node in model.nodes if node.name == name)
        sources = model.sources(name)
        return Evidence(
            node=node,
            sources=tuple(expected[source] for source in sources),
            seen=tuple(source in known for source in sources),
            expected=expected[name],
            actual=made.astype(np.int64),
            first=first_site(differs),
            offset=offset,
        )
    return None


def first_site(differs: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Site:
    """Return the first True of *differs*, shape (N, C, *sizes), by channel, position, sample."""
    ordered = np.moveaxis(differs, 0, -1)
    channel, *position, sample = (int(i) for i in np.unravel_index(int(ordered.argmax()), ordered.shape))
    return Site(channel, tuple(position), sample)


def _earlier(model: IntegerModel, one: Evidence | None, two: Evidence | None) -> Evidence | None:
    """Return the evidence that lies first: by execution order, then by site."""
    if one is None or two is None:
        return one or two
    order = [node.name for node in model.nodes]
    keys = [(order.index(e.node.name), e.first.channel, e.first.position) for e in (one, two)]
    return two if keys[1] < keys[0] else one


def _run_unit(executor: object, node: Node, source: Codes) -> Codes | None:
    """Return what *executor* makes of *source* at *node*; None if it cannot run that node alone."""
    if isinstance(node, MatMul) and isinstance(executor, MatrixUnit):
        return executor.multiply(node.name, source)
    if isinstance(node, Conv) and isinstance(executor, MatrixUnit):
        return _under_windows(node, source, executor)
    if isinstance(node, Threshold) and isinstance(executor, Requantizer):
        if isinstance(executor, PartialRequantizer) and not executor.requantizes(node.name):
            return None
        return _requantized(node, source, executor)
    return None


def _under_windows(node: Conv, source: Codes, executor: MatrixUnit) -> Codes:
    """Return the executor's accumulators of the convolution *node*, window by window, of *source*, (N, C, *sizes)."""
    counts = node.output_shape(source.shape[1:])[1:]
    shown = np.stack([met for _, met in node.window.taps(node.window.pad(source, 0), counts)], axis=2)
    vectors = np.moveaxis(shown, (1, 2), (-2, -1)).reshape(-1, shown.shape[1] * shown.shape[2])
    made = executor.multiply(node.name, np.ascontiguousarray(vectors))
    return np.ascontiguousarray(np.moveaxis(made.reshape(len(source), *counts, node.outputs), -1, 1))


def _requantized(node: Threshold, accumulators: Codes, executor: Requantizer) -> Codes:
    """Return the executor's codes of *accumulators*, shape (N, C, *sizes), directly or looked up in a sweep."""
    if takes_points(executor):
        last = np.moveaxis(accumulators, 1, -1)
        made = rising_codes_at(node, last.reshape(-1, node.channels), executor)
        return np.moveaxis(made.reshape(last.shape), -1, 1)
    codes = np.zeros_like(accumulators)
    for start in range(int(accumulators.min()), int(accumulators.max()) + 1, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE - 1, int(accumulators.max()))
        inside = (accumulators >= start) & (accumulators <= stop)
        if inside.any():
            table = rising_codes(node, start, stop, executor)
            codes[inside] = table[accumulators[inside] - start, np.nonzero(inside)[1]]
    return codes
