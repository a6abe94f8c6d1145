"""The layers that hardware is built of, one for each module, in a graph of named streams.

Streams are channels last: all channels of a position, then those of the next one, row by row. So is every shape here:
(height, width, channels), or (channels,) for a vector. A layer makes one stream and names those that it takes; a
:class:`Fork` makes two.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

from bitproof.export.integer import IntegerType, MatMul, Ranges, Shape, Threshold, Window
from bitproof.hw.rtl.host_order import Columns
from bitproof.hw.rtl.modules import Encoding, MultiplyShiftUnit, RoundingShiftUnit
from bitproof.pipeline import Codes

Function: TypeAlias = Literal["max", "sum"]


def stream_shape(shape: Shape) -> Shape:
    """Return how a value of *shape*, channels first, lies in a stream: (height, width, channels), or (channels,)."""
    channels, *sizes = shape
    if not sizes:
        return (channels,)
    return (*((1,) * (2 - len(sizes))), *sizes, channels)


@dataclass(frozen=True, slots=True)
class Layer:
    """What every layer has.

    Attributes:
        name: of the node of the integer model that it belongs to.
        takes: names of the streams that it takes.
        makes: name of the stream that it makes, and of the tensor.
        shape: of that stream.
    """

    name: str
    takes: tuple[str, ...]
    makes: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Frame(Layer):
    """An image with a frame of one code, of our own module: FINN's puts the code 0 around an image.

    Attributes:
        source: shape of the image.
        window: its padding is the frame.
        code: of the frame.
        kind: type of the codes.
    """

    source: Shape
    window: Window
    code: int
    kind: IntegerType


@dataclass(frozen=True, slots=True)
class Windows(Layer):
    """The windows of an image, one after the other, with the code 0 around the image.

    Attributes:
        source: shape of the image.
        window: where they lie, on two axes.
        by_channel: each channel's window alone, for a pool; otherwise position by position, all channels.
        padded: name of the tensor that holds the image with its padding; empty: it has none.
    """

    source: Shape
    window: Window
    by_channel: bool
    padded: str = ""


@dataclass(frozen=True, slots=True)
class Product(Layer):
    """A matrix product of what arrives with the weights, vector by vector.

    Attributes:
        node: the weights, their columns in the order of the stream.
        columns: how the stream's columns lie in the model's; None: they are the same.
        groups: of a convolution: the weights between two groups are 0 here and not there in the model.
        logic: how codes and weights are encoded in our matrix unit; None: FINN's serves it.
    """

    node: MatMul
    columns: Columns | None
    groups: int = 1
    logic: tuple[Encoding, Encoding] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Depthwise(Layer):
    """A convolution of each channel with taps of its own.

    Attributes:
        weights: shape (channels, taps).
        codes: how the codes are encoded.
        encoding: how the weights are.
    """

    weights: Codes
    codes: Encoding
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Activation(Layer):
    """Thresholds on each channel.

    Attributes:
        node: the thresholds.
        bipolar: the codes 0 and 1 of *node* are the bits of bipolar codes.
    """

    node: Threshold
    bipolar: bool


@dataclass(frozen=True, slots=True, eq=False)
class Arithmetic(Layer):
    """An activation by constants that equal its thresholds on every accumulator that is reached.

    Attributes:
        unit: the constants, with all channels in a word.
        reachable: the accumulators of each channel.
    """

    unit: MultiplyShiftUnit | RoundingShiftUnit
    reachable: Ranges


@dataclass(frozen=True, slots=True)
class Reduction(Layer):
    """The largest code, or the sum, of each window of each channel.

    Attributes:
        function: what is made of a window.
        taps: number of codes of a window.
        source: type of the codes.
    """

    function: Function
    taps: int
    source: IntegerType


@dataclass(frozen=True, slots=True, eq=False)
class Sum(Layer):
    """The sum of two streams, each channel with a factor of either and an offset.

    Attributes:
        sources: types of both.
        factors: shape (2, channels).
        offsets: shape (channels,).
    """

    sources: tuple[IntegerType, IntegerType]
    factors: Codes
    offsets: Codes

    @property
    def plain(self) -> bool:
        """It multiplies by nothing and adds nothing else."""
        return bool((self.factors == 1).all() and not self.offsets.any())


@dataclass(frozen=True, slots=True, eq=False)
class Scaling(Layer):
    """A factor and an offset for each channel.

    Attributes:
        source: type of what arrives.
        factors: shape (channels,).
        offsets: shape (channels,).
    """

    source: IntegerType
    factors: Codes
    offsets: Codes


@dataclass(frozen=True, slots=True)
class Junction(Layer):
    """The channels of two streams, pixel by pixel.

    Attributes:
        sources: types of both.
        channels: of both.
    """

    sources: tuple[IntegerType, IntegerType]
    channels: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Selection(Layer):
    """The indices of the largest codes of a vector.

    Attributes:
        source: type of the codes.
        channels: length of the vector.
    """

    source: IntegerType
    channels: int


@dataclass(frozen=True, slots=True)
class Fork(Layer):
    """One stream in two: *makes*, and *also*.

    Attributes:
        source: type of the codes.
        also: name of the second stream.
    """

    source: IntegerType
    also: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """What FINN builds of a network.

    Attributes:
        input: type of the input codes in hardware.
        input_shape: shape of the input codes as the model counts them, channels first; in the stream they are last.
        output_shape: the same of the outputs.
        layers: each behind those that make what it takes; the last makes the outputs.
        output_bias: what is added to what the hardware gives, by the program that reads it, one integer per output in
            the model's order; empty: nothing.
    """

    input: IntegerType
    input_shape: Shape
    output_shape: Shape
    layers: tuple[Layer, ...]
    output_bias: tuple[int, ...]

    @property
    def streams(self) -> frozenset[str]:
        """Names of all streams and tensors."""
        made = {name for layer in self.layers for name in (*layer.takes, layer.makes)}
        made |= {layer.padded for layer in self.layers if isinstance(layer, Windows) and layer.padded}
        return frozenset(made | {layer.also for layer in self.layers if isinstance(layer, Fork)})


def padded_shape(source: Shape, window: Window) -> Shape:
    """Return the shape of an image of the shape *source* with the padding of *window*."""
    height, width, channels = source
    above, left = window.begin
    below, right = window.end
    return (above + height + below, left + width + right, channels)


def windows_shape(source: Shape, window: Window) -> Shape:
    """Return the shape of the windows of an image of the shape *source*: for each window its codes."""
    height, width = window.output_sizes(source[:2])
    return (height, width, prod(window.kernel) * source[2])
