"""The layers that hardware is built of, from the steps of a program; what has no form is refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from bitproof.export.integer import (
    INPUT,
    Affine,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    Shape,
    SumPool,
    Threshold,
    Transpose,
)
from bitproof.export.program.order import ORDERS, from_stored, places, to_stored
from bitproof.export.program.program import Program
from bitproof.export.program.schedule import schedule
from bitproof.export.program.step import Step
from bitproof.hw.finn.layers import Activation, Function, Hardware, Layer, Product, Reduction, Windows, stream_shape
from bitproof.hw.finn.supported import (
    OPERATIONS,
    TARGET,
    code_type,
    in_steps_of_one,
    on_two_axes,
    require_activation,
    require_max_pool,
    require_one_group,
    require_plain,
    require_product,
    require_window,
    sum_type,
    wide_enough,
)
from bitproof.hw.rtl.host_order import Columns
from bitproof.pipeline import Codes, StageError

TAKEN = (MatMul, Conv, MaxPool, SumPool, Threshold)
MOVING = (Reshape, Transpose)


def hardware_of(model: IntegerModel) -> Hardware:
    """Return what FINN builds of *model*.

    Raises:
        StageError: FINN's RTL layers and ours cannot carry it out; the message names the layer and what would work.
    """
    return _Walk(schedule(model, "channels-last", pooled=())).hardware()


def require_supported(model: IntegerModel) -> None:
    """Check that FINN's RTL layers and ours can carry out *model*.

    Raises:
        StageError: they cannot; the message names the layer and what would work.
    """
    hardware_of(model)


@dataclass
class _Walk:
    """The state of one walk.

    Attributes:
        program: what is walked through.
        held: name of the stored value that the stream carries.
        codes: type of its codes in hardware; None: they are accumulators.
        bias: what is added to the outputs, once it has been met.
        layers: those made so far.
    """

    program: Program
    held: str = INPUT
    codes: IntegerType | None = None
    bias: Affine | None = None
    layers: list[Layer] = field(default_factory=list)

    def hardware(self) -> Hardware:
        """Walk from the input to the output.

        Raises:
            StageError: there is no way, or a layer on it has no form.
        """
        program = self.program
        steps = _computing(program)
        _require_operations(steps)
        source = self.codes = wide_enough(program.model.input)
        self.held = program.values[steps[0].takes[0]].storage
        for step in steps:
            if {program.values[name].storage for name in step.takes} != {self.held}:
                raise StageError(f"{TARGET} takes one chain of {OPERATIONS}; the network branches at {step.name!r}")
            self.layers += self._layers(step)
            self.held = step.makes
        if not any(isinstance(layer, Product) for layer in self.layers):
            raise StageError(f"the network has no matrix product; {TARGET} takes chains of {OPERATIONS}")
        inputs = self._input_shape(steps[0])
        outputs = self._output_shape()
        return Hardware(source, inputs, outputs, tuple(self.layers), self._output_bias(outputs))

    def _layers(self, step: Step) -> Iterator[Layer]:
        """Yield the layers of *step*."""
        main, after = step.main, list(step.after)
        if self.bias is not None:
            raise _inner_bias(self.bias)
        if isinstance(main, MatMul):
            yield self._dense(step, main)
        elif isinstance(main, Threshold):
            yield self._activation(main, self._image(step))
        elif isinstance(main, Affine):
            after.insert(0, main)
        elif isinstance(main, Conv):
            yield from self._convolution(step, main)
        elif isinstance(main, MaxPool | SumPool):
            # Thresholds never fall: the code of the largest accumulator is the largest code, and takes fewer bits.
            if self.codes is None and isinstance(main, MaxPool) and after and after[0] is step.thresholds:
                yield self._activation(step.thresholds, self._image(step))
                after.pop(0)
            yield from self._pool(step, main)
        for node in after:
            if self.bias is not None:
                raise _inner_bias(self.bias)
            if isinstance(node, Threshold):
                yield self._activation(node, stream_shape(self.program.values[step.makes].shape))
            elif isinstance(node, Affine):
                self.bias = node

    def _convolution(self, step: Step, node: Conv) -> Iterator[Layer]:
        require_one_group(node)
        codes, source = self._take_codes(node), self._image(step)
        window, taps = on_two_axes(node.window, step.padding), prod(node.window.kernel)
        columns = Columns(channels=node.channels, positions=taps) if min(node.channels, taps) > 1 else None
        weights = node.weights.reshape(node.outputs, -1)
        matrix = MatMul(node.name, _streamed(weights, columns), node.weight_type)
        require_product(node, matrix, codes)
        within = not window.padded and window.dilations == (1, 1)
        alone = within and window.kernel == window.strides == (1, 1)
        if not alone and not (within and window.kernel == source[:2]):
            require_window(node, source, window)
            yield Windows(node.name, source, window, by_channel=False)
        yield Product(matrix, (*window.output_sizes(source[:2]), node.outputs), columns)

    def _dense(self, step: Step, node: MatMul) -> Layer:
        codes, value = self._take_codes(node), self.program.values[step.takes[0]]
        moved = places(value.shape, value.order)
        for before in step.before[0]:
            moved = before.apply(moved)
        columns = None
        if (moved.ravel() != np.arange(moved.size)).any():
            columns = Columns(channels=value.shape[0], positions=prod(value.shape[1:]))
            require_plain(moved.ravel()[columns.streamed], _named([*self._views(step.takes[0]), *step.before[0]]))
        matrix = replace(node, weights=_streamed(node.weights, columns))
        require_product(node, matrix, codes)
        return Product(matrix, (node.outputs,), columns)

    def _pool(self, step: Step, node: MaxPool | SumPool) -> Iterator[Layer]:
        codes, source = self._take_codes(node), self._image(step)
        window = on_two_axes(node.window, step.padding)
        require_window(node, source, window)
        if isinstance(node, MaxPool):
            require_max_pool(node, window, codes)
        made = codes if isinstance(node, MaxPool) else sum_type(codes, node.steps)
        function: Function = "max" if isinstance(node, MaxPool) else "sum"
        self.codes = made
        yield Windows(node.name, source, window, by_channel=True)
        shape = (*window.output_sizes(source[:2]), source[2])
        yield Reduction(node.name, function, node.steps, shape, codes, made)

    def _activation(self, node: Threshold, shape: Shape) -> Layer:
        model = self.program.model
        require_activation(node)
        self.codes = code_type(node)
        return Activation(in_steps_of_one(node, model.values[model.sources(node.name)[0]].ranges), shape)

    def _take_codes(self, node: Node) -> IntegerType:
        """Return the type of the codes that *node* takes, and leave accumulators."""
        codes, self.codes = self.codes, None
        if codes is None:
            raise StageError(
                f"layer {node.name!r} takes the accumulators of layer {self.layers[-1].name!r}; {TARGET} takes codes: "
                "put a quantized activation between them"
            )
        return codes

    def _image(self, step: Step) -> Shape:
        """Return the shape in the stream of what *step* takes, an image in its place."""
        value = self.program.values[step.takes[0]]
        if self.layers:  # the host turns what the first takes
            there = to_stored(places(value.shape, value.order), "channels-last").ravel()
            require_plain(there, _named(self._views(value.name)))
        return stream_shape(value.shape)

    def _input_shape(self, first: Step) -> Shape:
        """Return the shape to which the host turns the input codes, channels first, and then puts the channels last."""
        values, name, order = self.program.values, first.takes[0], ORDERS[1]
        if isinstance(first.main, MatMul):  # whose columns are in the order in which the program stores what it takes
            name = values[name].storage
            order = values[name].order
        nodes = self._between(INPUT, name)
        counted = np.arange(self.program.model.inputs, dtype=np.int64).reshape(1, *self.program.model.shape)
        for node in nodes:
            counted = node.apply(counted)
        if (to_stored(counted, order).ravel() == np.arange(counted.size)).all():
            return (counted.size,)
        require_plain(counted.ravel(), _named(nodes))
        return values[name].shape

    def _output_shape(self) -> Shape:
        """Return the shape of the outputs, channels first, of which the stream has the channels last."""
        program = self.program
        shape, last = program.values[self.held].shape, program.model.nodes[-1].name
        turned = np.arange(prod(shape), dtype=np.int64).reshape(1, -1)
        turned = from_stored(turned, shape, "channels-last" if len(shape) > 1 else "channels-first")
        nodes = self._between(self.held, last)
        for node in nodes:
            turned = node.apply(turned)
        if (turned.ravel() == np.arange(turned.size)).all():
            return (turned.size,)
        require_plain(to_stored(turned.reshape(1, *shape), "channels-last").ravel(), _named(nodes))
        return shape

    def _output_bias(self, outputs: Shape) -> tuple[int, ...]:
        """Return the bias of each output in the order of the model."""
        if self.bias is None:
            return ()
        shape = self.program.values[self.held].shape
        if len(outputs) < len(shape) and prod(shape[1:]) > 1:
            raise _inner_bias(self.bias)
        return tuple(np.repeat(self.bias.offsets, prod(shape[1:])).tolist())

    def _between(self, first: str, last: str) -> list[Node]:
        """Return the nodes, each of one input, on the way from the value *first* to the value *last*."""
        model, end = self.program.model, last
        nodes: list[Node] = []
        while last != first:
            node, sources = (None, ()) if last == INPUT else (model.node(last), model.sources(last))
            if not isinstance(node, MOVING):
                raise StageError(f"{TARGET} gives what the last layer makes; the output {end!r} is another value")
            nodes.insert(0, node)
            (last,) = sources
        return nodes

    def _views(self, name: str) -> list[Node]:
        """Return the nodes between the value *name* and the stored value that it is a view of."""
        return self._between(self.program.values[name].storage, name)


def _named(nodes: Sequence[Node]) -> str:
    """Return the names of those of *nodes* that move codes."""
    named = [node for node in nodes if isinstance(node, Transpose)] or nodes
    return ", ".join(f"{node.name} ({node.op})" for node in named)


def _streamed(weights: Codes, columns: Columns | None) -> Codes:
    return weights if columns is None else np.ascontiguousarray(weights[:, columns.streamed])


def _inner_bias(node: Affine) -> StageError:
    return StageError(
        f"layer {node.name!r} adds a bias inside of the network, which {TARGET} has no form for; a bias before an "
        "activation belongs into its thresholds, and one of the outputs comes last"
    )


def _computing(program: Program) -> tuple[Step, ...]:
    """Return the steps from the first to the last that computes: what others move, the host moves."""
    at = [number for number, step in enumerate(program.steps) if not isinstance(step.main, MOVING)]
    if not at:
        raise StageError(f"the network has no matrix product; {TARGET} takes chains of {OPERATIONS}")
    return program.steps[at[0] : at[-1] + 1]


def _require_operations(steps: tuple[Step, ...]) -> None:
    problems = []
    for step in steps:
        for node in step.carried_out:
            if isinstance(node, Affine) and not node.is_bias:
                problems.append(f"{node.name} (affine with factors other than 1)")
            elif isinstance(node, Pad | Reshape | Transpose) and node is not step.main:
                continue
            elif not isinstance(node, (*TAKEN, Affine)):
                problems.append(f"{node.name} ({node.op})")
    if problems:
        raise StageError(f"{TARGET} has no form for {', '.join(problems)}; it takes chains of {OPERATIONS}")
