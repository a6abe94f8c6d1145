"""The quantized activation: integer thresholds per channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer.ops.node import Node, require_int64
from bitproof.export.integer.types import Bounds, IntegerType, Interval, Ranges, Shape, Sums
from bitproof.pipeline import Codes

FEW_LEVELS = 8
"""Up to so many thresholds per channel it is faster to compare with each than to search."""


@dataclass(frozen=True, slots=True, eq=False)
class Threshold(Node):
    """``code[c] = lowest + step * (number of thresholds[c] that are <= accumulator[c])``; any shape (C, ...).

    A threshold outside the channel's reachable accumulators is kept as one of two finite integers: the smallest
    reachable accumulator (always met) or the largest plus one (never met).

    Attributes:
        thresholds: shape (channels, levels), each row ascending (repeats allowed).
        output: type of the output codes; ``lowest + step * levels`` is at most its maximum.
        lowest: the output code below the first threshold.
        flipped: shape (channels,); True if the slope of the original activation was negative and the
            channel's weights and thresholds were negated so that the code rises with the accumulator.
        step: distance of two codes: 2 for bipolar codes -1 and 1, else 1.
    """

    op: ClassVar[str] = "threshold"

    thresholds: Codes
    output: IntegerType
    lowest: int
    flipped: NDArray[np.bool_]
    step: int = 1

    def __post_init__(self) -> None:
        require_int64(self.thresholds, f"thresholds of {self.name!r}", ndim=2)
        if (np.diff(self.thresholds, axis=1) < 0).any():
            channel = int(np.argwhere(np.diff(self.thresholds, axis=1) < 0)[0][0])
            raise ValueError(f"thresholds of {self.name!r}, channel {channel}, do not ascend")
        if self.step < 1:
            raise ValueError(f"step of {self.name!r} is {self.step}; it must be positive")
        if not self.output.holds(self.lowest, self.highest):
            raise ValueError(f"{self.name!r} has codes {self.lowest}..{self.highest}, outside {self.output}")
        if self.flipped.shape != (self.channels,) or self.flipped.dtype != np.bool_:
            raise ValueError(f"flipped of {self.name!r} must be {self.channels} booleans")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.thresholds.shape[0])

    @property
    def levels(self) -> int:
        """Number of thresholds of a channel."""
        return int(self.thresholds.shape[1])

    @property
    def highest(self) -> int:
        """The output code if every threshold is met."""
        return self.lowest + self.step * self.levels

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        self.require(shapes[0][0] == self.channels, f"takes {self.channels} channels and is given {shapes[0]}")
        return shapes[0]

    def apply(self, *codes: Codes) -> Codes:
        """Return the output codes, shape that of the accumulators."""
        (accumulators,) = codes
        met = np.zeros(accumulators.shape, dtype=np.int64)
        if self.levels <= FEW_LEVELS:
            column = (self.channels,) + (1,) * (accumulators.ndim - 2)
            for level in self.thresholds.T:
                met += accumulators >= level.reshape(column)
        else:
            for channel, row in enumerate(self.thresholds):
                met[:, channel] = np.searchsorted(row, accumulators[:, channel], side="right")
        return self.lowest + self.step * met

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Bound every code: it rises with the accumulator."""
        bounds = []
        for row, source in zip(self.thresholds.tolist(), inputs[0], strict=True):
            met = (sum(threshold <= end for threshold in row) for end in (source.low, source.high))
            bounds.append(Interval(*(self.lowest + self.step * count for count in met)))
        return tuple(bounds)

    def sums(self, *inputs: Bounds) -> Sums:
        """None: codes begin anew."""
        return Sums.of_codes(self.ranges(inputs[0].ranges))
