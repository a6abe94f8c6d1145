"""The layers of one step of a program, and what is known of the streams between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from bitproof.export.integer import (
    Add,
    Affine,
    Concat,
    Conv,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Ranges,
    Shape,
    SumPool,
    Threshold,
    TopK,
    Window,
    hull,
)
from bitproof.export.program.order import places, to_stored
from bitproof.export.program.program import Program
from bitproof.export.program.step import Step
from bitproof.hw.finn.activations import activation_layer
from bitproof.hw.finn.host_turns import named, views
from bitproof.hw.finn.layers import (
    Depthwise,
    Frame,
    Function,
    Junction,
    Layer,
    Product,
    Reduction,
    Scaling,
    Selection,
    Sum,
    Windows,
    padded_shape,
    stream_shape,
    windows_shape,
)
from bitproof.hw.finn.stream_names import StreamNames
from bitproof.hw.finn.supported import (
    fits_finn,
    on_two_axes,
    require_exact,
    require_plain,
    require_product,
    require_window,
    sum_type,
)
from bitproof.hw.rtl.host_order import Columns
from bitproof.hw.rtl.modules import BIPOLAR, Encoding, type_of_both
from bitproof.hw.rtl.modules import Add as AddModule
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known of a stream.

    Attributes:
        tensor: its name.
        kind: type of its elements; of accumulators one that holds them: FINN may choose a wider one.
        accumulators: it carries sums, or what is made of them without an activation between.
        bipolar: the elements 0 and 1 stand for the codes -1 and 1.
    """

    tensor: str
    kind: IntegerType
    accumulators: bool = False
    bipolar: bool = False

    @property
    def encoding(self) -> Encoding:
        """How the codes are encoded."""
        return BIPOLAR if self.bipolar else Encoding.of(self.kind)


@dataclass
class StepLayers:
    """The layers of one step.

    Attributes:
        program: that it is a step of.
        step: it.
        takes: the streams of the values that it takes.
        given: name of the value that the host turns and gives.
        bipolar: names of the activations whose codes may be bits.
        names: those in use.
        stream: the one that was made last.
    """

    program: Program
    step: Step
    takes: tuple[Stream, ...]
    given: str
    bipolar: frozenset[str]
    names: StreamNames
    stream: Stream = field(init=False)

    def __post_init__(self) -> None:
        self.stream = self.takes[0]

    def layers(self, after: tuple[Node, ...]) -> Iterator[Layer]:
        """Yield the layers of the main node, and then of the nodes *after* it, as far as the hardware does them."""
        step, rest = self.step, list(after)
        main = step.main
        if isinstance(main, MaxPool) and self.stream.accumulators and rest and rest[0] is step.thresholds:
            # Thresholds never fall: the code of the largest accumulator is the largest code, and takes fewer bits.
            yield self._activation(step.thresholds, self._image(), self._ranges(step.takes[0]))
            rest.pop(0)
        if isinstance(main, MatMul):
            yield self._dense(main)
        elif isinstance(main, Conv):
            yield from self._convolution(main)
        elif isinstance(main, MaxPool | SumPool):
            yield from self._pool(main)
        elif isinstance(main, Add):
            yield self._sum(main)
        elif isinstance(main, Concat):
            yield from self._concat(main)
        elif isinstance(main, Pad):
            yield self._pad(main)
        elif isinstance(main, TopK):
            yield self._largest(main)
        else:
            rest.insert(0, main)
        for node in rest:
            yield self._elementwise(node)

    def _elementwise(self, node: Node) -> Layer:
        shape = self._shape if node is not self.step.main else self._image()
        if isinstance(node, Threshold):
            return self._activation(node, shape, self._ranges(self.program.model.sources(node.name)[0]))
        assert isinstance(node, Affine), node
        require_exact(node, self._ranges(node.name))
        source = self.stream
        low, high = (node.factors * end for end in (source.kind.minimum, source.kind.maximum))
        ends = (np.minimum(low, high) + node.offsets, np.maximum(low, high) + node.offsets)
        kind = IntegerType.smallest_for(min(int(ends[0].min()), -1), int(ends[1].max()))
        self._made(node.name, kind, accumulators=source.accumulators)
        return Scaling(node.name, (source.tensor,), node.name, shape, source.kind, node.factors, node.offsets)

    def _activation(self, node: Threshold, shape: Shape, reachable: Ranges) -> Layer:
        layer, kind = activation_layer(node, (self.stream.tensor,), shape, reachable, bits=node.name in self.bipolar)
        self._made(node.name, kind, bipolar=node.name in self.bipolar)
        return layer

    def _dense(self, node: MatMul) -> Layer:
        value = self.program.values[self.step.takes[0]]
        moved = places(value.shape, value.order)
        for before in self.step.before[0]:
            moved = before.apply(moved)
        columns = None
        if (moved.ravel() != np.arange(moved.size)).any():
            columns = Columns(channels=value.shape[0], positions=prod(value.shape[1:]))
            moving = named([*views(self.program, self.step.takes[0]), *self.step.before[0]])
            require_plain(moved.ravel()[columns.streamed], moving)
        return self._product(node, node.weights, (node.outputs,), columns)

    def _product(self, node: MatMul | Conv, weights: Codes, shape: Shape, columns: Columns | None) -> Product:
        """Return the product of vectors with *weights*, the columns in the order of the model."""
        source, groups = self.stream, node.groups if isinstance(node, Conv) else 1
        streamed = weights if columns is None else np.ascontiguousarray(weights[:, columns.streamed])
        matrix = MatMul(node.name, streamed, node.weight_type)
        require_product(node, weights, IntegerType(2, signed=True) if source.bipolar else source.kind)
        logic = None
        if source.accumulators or not fits_finn(matrix, source.kind):
            logic = (source.encoding, weight_encoding(weights, source.encoding))
        self._sums(node)
        return Product(node.name, (source.tensor,), node.name, shape, matrix, columns, groups, logic)

    def _convolution(self, node: Conv) -> Iterator[Layer]:
        source = self._image()
        window, taps = on_two_axes(node.window, self.step.padding), prod(node.window.kernel)
        shape = (*window.output_sizes(source[:2]), node.outputs)
        within = not window.padded and window.dilations == (1, 1)
        point = within and window.kernel == window.strides == (1, 1)
        if node.groups == node.channels == node.outputs > 1:
            if not point and not image_is_window(source, window):
                yield self._windows(node, source, window, by_channel=True)
            weights, stream = node.weights.reshape(node.outputs, taps), self.stream
            require_product(node, weights, IntegerType(2, signed=True) if stream.bipolar else stream.kind)
            encoding = weight_encoding(weights, stream.encoding)
            self._sums(node)
            yield Depthwise(node.name, (stream.tensor,), node.name, shape, weights, stream.encoding, encoding)
            return
        columns = Columns(channels=node.channels, positions=taps) if min(node.channels, taps) > 1 else None
        if not point and not (within and window.kernel == source[:2]):
            yield self._windows(node, source, window, by_channel=False)
        yield self._product(node, all_channels(node), shape, columns)

    def _windows(self, node: Node, source: Shape, window: Window, *, by_channel: bool) -> Layer:
        require_window(node, source, window)
        made, taken = self.names.derived(node.name, "windows"), self.stream.tensor
        padded = self.names.derived(made, "padded") if window.padded else ""
        self.stream = replace(self.stream, tensor=made)
        return Windows(node.name, (taken,), made, windows_shape(source, window), source, window, by_channel, padded)

    def _pool(self, node: MaxPool | SumPool) -> Iterator[Layer]:
        source = self._image() if self.stream is self.takes[0] else stream_shape(self._value_shape(0))
        window = on_two_axes(node.window, self.step.padding)
        require_exact(node, self._ranges(node.name))
        lowest = hull(self._ranges(self.step.takes[0])).low
        if isinstance(node, MaxPool) and window.padded and self.stream.kind.signed:
            yield self._frame(
                node, source, window, min(lowest, 0) if self.stream.accumulators else self.stream.kind.minimum
            )
            source = padded_shape(source, window)
            window = replace(window, begin=(0, 0), end=(0, 0))
        if not image_is_window(source, window):
            yield self._windows(node, source, window, by_channel=True)
        kind, taken = self.stream.kind, self.stream
        shape = (*window.output_sizes(source[:2]), source[2])
        function: Function = "max" if isinstance(node, MaxPool) else "sum"
        made = kind if function == "max" else sum_type(kind, node.steps)
        self._made(node.name, made, accumulators=taken.accumulators, bipolar=taken.bipolar)
        yield Reduction(node.name, (taken.tensor,), node.name, shape, function, node.steps, kind)

    def _frame(self, node: Node, source: Shape, window: Window, code: int) -> Layer:
        made, taken = self.names.derived(node.name, "framed"), self.stream
        self.stream = replace(self.stream, tensor=made)
        return Frame(node.name, (taken.tensor,), made, padded_shape(source, window), source, window, code, taken.kind)

    def _pad(self, node: Pad) -> Layer:
        ones = (1,) * len(node.begin)
        window = on_two_axes(Window(ones, ones, node.begin, node.end, ones), None)
        source, taken = self._image(), self.stream
        self._made(node.name, taken.kind, accumulators=taken.accumulators)
        return Frame(node.name, (taken.tensor,), node.name, padded_shape(source, window), source, window, 0, taken.kind)

    def _sum(self, node: Add) -> Layer:
        channels = self._value_shape(0)[0]
        factors, offsets = np.ones((2, channels), dtype=np.int64), np.zeros(channels, dtype=np.int64)
        for branch, nodes in enumerate(self.step.before):
            added = np.zeros(channels, dtype=np.int64)
            for affine in nodes:
                assert isinstance(affine, Affine), affine
                require_exact(affine, self._ranges(affine.name))
                factors[branch] *= affine.factors
                added = added * affine.factors + affine.offsets
            offsets += added
        require_exact(node, self._ranges(node.name))
        shape = self._image()
        one, two = self.takes
        made = AddModule(one.kind, two.kind, 1, 1).output
        if (factors != 1).any() or offsets.any():
            made = IntegerType.smallest_for(*sum_ends((one.kind, two.kind), factors, offsets))
        self._made(node.name, made, accumulators=one.accumulators or two.accumulators)
        return Sum(node.name, (one.tensor, two.tensor), node.name, shape, (one.kind, two.kind), factors, offsets)

    def _concat(self, node: Concat) -> Iterator[Layer]:
        *sizes, _ = stream_shape(self._value_shape(0))
        stream, channels = self.takes[0], self._value_shape(0)[0]
        self._image()
        for number, other in enumerate(self.takes[1:], start=1):
            more = self._value_shape(number)[0]
            kind = type_of_both(stream.kind, other.kind)
            last = number == len(self.takes) - 1
            made = node.name if last else self.names.derived(node.name, f"joined{number}")
            shape = (*sizes, channels + more)
            self._made(made, kind, accumulators=stream.accumulators or other.accumulators)
            kinds, counts = (stream.kind, other.kind), (channels, more)
            yield Junction(node.name, (stream.tensor, other.tensor), made, shape, kinds, counts)
            stream, channels = self.stream, channels + more

    def _largest(self, node: TopK) -> Layer:
        taken = self.stream
        self._image()
        self._made(node.name, IntegerType.smallest_for(0, max(1, node.channels - 1)))
        return Selection(node.name, (taken.tensor,), node.name, (node.count,), taken.kind, node.channels)

    def _sums(self, node: Node) -> None:
        total = hull(self._ranges(node.name))
        kind = IntegerType.smallest_for(min(total.low, -1), max(total.high, 0))
        self._made(node.name, kind, accumulators=True)

    def _made(self, tensor: str, kind: IntegerType, *, accumulators: bool = False, bipolar: bool = False) -> None:
        self.stream = Stream(tensor, kind, accumulators, bipolar)

    def _ranges(self, name: str) -> Ranges:
        return self.program.model.values[name].ranges

    def _value_shape(self, number: int) -> Shape:
        return self.program.values[self.step.takes[number]].shape

    @property
    def _shape(self) -> Shape:
        """Of what the step makes, in the stream."""
        return stream_shape(self.program.values[self.step.makes].shape)

    def _image(self) -> Shape:
        """Return the shape in the stream of what the step takes, an image in its place."""
        for name in self.step.takes:
            value = self.program.values[name]
            if value.storage != self.given:
                there = to_stored(places(value.shape, value.order), "channels-last").ravel()
                require_plain(there, named(views(self.program, name)))
        return stream_shape(self._value_shape(0))


def weight_encoding(weights: Codes, codes: Encoding) -> Encoding:
    """Return how our modules hold *weights* for *codes*: a bit if both are bipolar, else the narrowest signed type."""
    if codes.kind == "bipolar" and (np.abs(weights) == 1).all():
        return BIPOLAR
    return Encoding.of(IntegerType.smallest_for(min(int(weights.min()), -1), max(int(weights.max()), 0)))


def image_is_window(source: Shape, window: Window) -> bool:
    """Tell whether the stream of an image is that of its one window, each tap with all channels in a word.

    It is so for any image, but then no channels can be taken one after the other. That is asked for where FINN's window
    generator has no form: one window of two taps, for which its counters would have no bits.
    """
    return not window.padded and window.kernel == source[:2] and prod(window.kernel) == 2


def all_channels(node: Conv) -> Codes:
    """Return the weights of *node* on all input channels, shape (outputs, channels * taps): 0 between the groups."""
    members, taps = node.weights.shape[1], prod(node.window.kernel)
    weights = np.zeros((node.outputs, node.groups, members, taps), dtype=np.int64)
    group = np.arange(node.outputs) // (node.outputs // node.groups)
    weights[np.arange(node.outputs), group] = node.weights.reshape(node.outputs, members, taps)
    return weights.reshape(node.outputs, -1)


def sum_ends(kinds: tuple[IntegerType, IntegerType], factors: Codes, offsets: Codes) -> tuple[int, int]:
    """Return the least of -1 and every sum, and the largest sum, of codes of *kinds*."""
    pairs = [(f * kind.minimum, f * kind.maximum) for f, kind in zip(factors, kinds, strict=True)]
    low = sum((np.minimum(*pair) for pair in pairs), start=offsets)
    high = sum((np.maximum(*pair) for pair in pairs), start=offsets)
    return min(int(low.min()), -1), int(high.max())
