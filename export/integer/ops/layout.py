"""Operations that move codes and change none: reshape, transpose, pad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitproof.export.integer.ops.node import Node, flat_ranges
from bitproof.export.integer.types import Bounds, Ranges, Shape, Sums, hull
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True, eq=False)
class Reshape(Node):
    """The same codes in C order under another shape.

    Attributes:
        sizes: shape of one input sample.
        shape: shape of one output sample.
    """

    op: ClassVar[str] = "reshape"

    sizes: Shape
    shape: Shape

    def __post_init__(self) -> None:
        same = min(self.sizes, default=0) >= 1 and min(self.shape, default=0) >= 1
        same = same and np.prod(self.sizes, dtype=np.int64) == np.prod(self.shape, dtype=np.int64)
        self.require(bool(same), f"cannot give {self.sizes} the shape {self.shape}")

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return *shape*."""
        self.require(shapes == (self.sizes,), f"takes values of shape {self.sizes} and is given {shapes[0]}")
        return self.shape

    def apply(self, *codes: Codes) -> Codes:
        """Return the codes, shape (N, *shape)."""
        return codes[0].reshape(len(codes[0]), *self.shape)

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Return for each output channel the hull of the elements that it holds."""
        elements = flat_ranges(inputs[0], self.sizes)
        each = len(elements) // self.shape[0]
        return tuple(hull(elements[c * each : (c + 1) * each]) for c in range(self.shape[0]))

    def sums(self, *inputs: Bounds) -> Sums:
        """The largest of all channels for each."""
        before = inputs[0].sums
        return Sums((max(before.magnitudes),) * self.shape[0], before.terms)


@dataclass(frozen=True, slots=True, eq=False)
class Transpose(Node):
    """Axis ``i`` of the output is axis ``axes[i]`` of the input, the batch left out.

    Attributes:
        sizes: shape of one input sample.
        axes: a permutation of its axes.
    """

    op: ClassVar[str] = "transpose"

    sizes: Shape
    axes: Shape

    def __post_init__(self) -> None:
        permuted = sorted(self.axes) == list(range(len(self.sizes)))
        self.require(permuted, f"has axes {self.axes}, which do not permute those of {self.sizes}")

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the permuted shape."""
        self.require(shapes == (self.sizes,), f"takes values of shape {self.sizes} and is given {shapes[0]}")
        return tuple(self.sizes[axis] for axis in self.axes)

    def apply(self, *codes: Codes) -> Codes:
        """Return the permuted codes."""
        return np.ascontiguousarray(codes[0].transpose(0, *(axis + 1 for axis in self.axes)))

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Return the channels' own intervals if they stay first, else the hull of all for each output channel."""
        first = self.axes[0]
        return inputs[0] if first == 0 else (hull(inputs[0]),) * self.sizes[first]

    def sums(self, *inputs: Bounds) -> Sums:
        """The largest of all channels for each."""
        before = inputs[0].sums
        return Sums((max(before.magnitudes),) * self.sizes[self.axes[0]], before.terms)


@dataclass(frozen=True, slots=True, eq=False)
class Pad(Node):
    """The code 0 around every spatial axis.

    Attributes:
        begin: elements before the first, one number per spatial axis.
        end: elements after the last.
    """

    op: ClassVar[str] = "pad"

    begin: Shape
    end: Shape

    def __post_init__(self) -> None:
        sound = len(self.begin) == len(self.end) >= 1 and min(*self.begin, *self.end) >= 0
        self.require(sound, f"pads {self.begin} before and {self.end} after; needs equally many sizes of at least 0")

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (C, *padded sizes)."""
        channels, *sizes = shapes[0]
        self.require(len(sizes) == len(self.begin), f"pads {len(self.begin)} axes and is given {shapes[0]}")
        return (channels, *(b + size + e for b, size, e in zip(self.begin, sizes, self.end, strict=True)))

    def apply(self, *codes: Codes) -> Codes:
        """Return the padded codes."""
        around = [(0, 0), (0, 0), *zip(self.begin, self.end, strict=True)]
        padded: Codes = np.pad(codes[0], around)
        return padded

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Return the intervals with 0."""
        return tuple(interval.with_zero() for interval in inputs[0])

    def sums(self, *inputs: Bounds) -> Sums:
        """Those of the codes."""
        return inputs[0].sums
