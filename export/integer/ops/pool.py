"""Pooling: the largest code of a window, and the sum over a window (the mean, with its divisor left to the scale)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from bitproof.export.integer.ops.node import Node
from bitproof.export.integer.ops.window import Window
from bitproof.export.integer.types import Bounds, Interval, Ranges, Shape, Sums
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True, eq=False)
class _Pool(Node):
    window: Window

    @property
    def steps(self) -> int:
        """One per tap."""
        return prod(self.window.kernel)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (C, *counts)."""
        (channels, *sizes), axes = shapes[0], len(self.window.kernel)
        self.require(len(sizes) == axes, f"takes {axes} spatial axes and is given {shapes[0]}")
        counts = self.window.output_sizes(tuple(sizes))
        self.require(min(counts) >= 1, f"has no window that fits into {shapes[0]}")
        return (channels, *counts)


@dataclass(frozen=True, slots=True, eq=False)
class MaxPool(_Pool):
    """The largest code of each window; padding never wins."""

    op: ClassVar[str] = "max-pool"

    def __post_init__(self) -> None:
        around = zip(self.window.kernel, self.window.dilations, self.window.begin, self.window.end, strict=True)
        fits = all(max(b, e) <= d * (k - 1) for k, d, b, e in around)
        self.require(fits, f"pads more than its kernel spans: {self.window}")

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (C, *counts); every window must meet data."""
        shape = _Pool.output_shape(self, *shapes)
        self.require(self.window.meets_data(shapes[0][1:]), f"has a window of padding alone on {shapes[0]}")
        return shape

    def apply(self, *codes: Codes) -> Codes:
        """Return the largest codes, shape (N, C, *counts)."""
        counts = self.output_shape(codes[0].shape[1:])[1:]
        padded = self.window.pad(codes[0], np.iinfo(np.int64).min)
        taps = (met for _, met in self.window.taps(padded, counts))
        largest = next(taps).copy()
        for met in taps:
            np.maximum(largest, met, out=largest)
        return largest

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Return the intervals of the codes."""
        return inputs[0]

    def sums(self, *inputs: Bounds) -> Sums:
        """Those of the codes."""
        return inputs[0].sums


@dataclass(frozen=True, slots=True, eq=False)
class SumPool(_Pool):
    """The sum of each window; padding adds the code 0."""

    op: ClassVar[str] = "sum-pool"
    adds: ClassVar[bool] = True

    def apply(self, *codes: Codes) -> Codes:
        """Return the sums, shape (N, C, *counts)."""
        counts = self.output_shape(codes[0].shape[1:])[1:]
        padded = self.window.pad(codes[0], 0)
        total = np.zeros((*codes[0].shape[:2], *counts), dtype=np.int64)
        for _, met in self.window.taps(padded, counts):
            total += met
        return total

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Bound every sum; a padded tap may be absent, that is, 0."""
        taps = int(np.prod(self.window.kernel))
        source = (i.with_zero() if self.window.padded else i for i in inputs[0])
        return tuple(Interval(taps * i.low, taps * i.high) for i in source)

    def sums(self, *inputs: Bounds) -> Sums:
        """The terms of every tap."""
        taps, before = int(np.prod(self.window.kernel)), inputs[0].sums
        return Sums(tuple(taps * magnitude for magnitude in before.magnitudes), taps * before.terms)
