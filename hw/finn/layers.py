"""The layers that hardware is built of, one for each module with a stream in and a stream out.

Streams are channels last: all channels of a position, then those of the next one, row by row. So is every shape here:
(height, width, channels), or (channels,) for a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

from bitproof.export.integer import IntegerType, MatMul, Shape, Threshold, Window
from bitproof.hw.rtl.host_order import Columns

Function: TypeAlias = Literal["max", "sum"]


def stream_shape(shape: Shape) -> Shape:
    """Return how a value of *shape*, channels first, lies in a stream: (height, width, channels), or (channels,)."""
    channels, *sizes = shape
    if not sizes:
        return (channels,)
    return (*((1,) * (2 - len(sizes))), *sizes, channels)


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of an image, one after the other, with the code 0 around the image.

    Attributes:
        name: of the node of the integer model that looks through them.
        source: shape of the image.
        window: where they lie, on two axes.
        by_channel: each channel's window alone, for a pool; otherwise position by position, all channels.
    """

    name: str
    source: Shape
    window: Window
    by_channel: bool

    @property
    def padded(self) -> Shape:
        """Shape of the image with its padding."""
        height, width, channels = self.source
        above, left = self.window.begin
        below, right = self.window.end
        return (above + height + below, left + width + right, channels)

    @property
    def shape(self) -> Shape:
        """Of the output: for each window its codes."""
        height, width = self.window.output_sizes(self.source[:2])
        return (height, width, prod(self.window.kernel) * self.source[2])


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product of what arrives with the weights, vector by vector.

    Attributes:
        node: the weights, their columns in the order of the stream.
        shape: of the output.
        columns: how the stream's columns lie in the model's; None: they are the same.
    """

    node: MatMul
    shape: Shape
    columns: Columns | None

    @property
    def name(self) -> str:
        """Of the node of the integer model."""
        return self.node.name


@dataclass(frozen=True, slots=True)
class Activation:
    """Thresholds on each channel.

    Attributes:
        node: the thresholds.
        shape: of the output.
    """

    node: Threshold
    shape: Shape

    @property
    def name(self) -> str:
        """Of the node of the integer model."""
        return self.node.name


@dataclass(frozen=True, slots=True)
class Reduction:
    """The largest code, or the sum, of each window of each channel.

    Attributes:
        name: of the node of the integer model.
        function: what is made of a window.
        taps: number of codes of a window.
        shape: of the output.
        source: type of the codes.
        output: type of what is made of them.
    """

    name: str
    function: Function
    taps: int
    shape: Shape
    source: IntegerType
    output: IntegerType


Layer: TypeAlias = Windows | Product | Activation | Reduction


@dataclass(frozen=True, slots=True)
class Hardware:
    """What FINN builds of a network.

    Attributes:
        input: type of the input codes in hardware.
        input_shape: shape of the input codes as the model counts them, channels first; in the stream they are last.
        output_shape: the same of the outputs.
        layers: in the order of the data.
        output_bias: what is added to what the hardware gives, by the program that reads it, one integer per output in
            the model's order; empty: nothing.
    """

    input: IntegerType
    input_shape: Shape
    output_shape: Shape
    layers: tuple[Layer, ...]
    output_bias: tuple[int, ...]
