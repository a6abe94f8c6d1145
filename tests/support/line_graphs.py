"""Graphs whose thresholds lie on lines, as those of a batch norm and a quantizer do."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from integer_graphs import Builder

from bitproof.export.integer import Conv, IntegerType, Interval, Threshold, Window


def thresholds_of(slope: Fraction, offset: Fraction, levels: int, interval: Interval) -> Threshold:
    """Return the thresholds of ``round(slope * a + offset)``, half up, saturated to 0..*levels*; one channel."""
    row = [-((-(Fraction(2 * code - 1, 2) - offset)) // slope) for code in range(1, levels + 1)]
    clipped = np.clip(np.array([row], dtype=object), interval.low - 1, interval.high + 1).astype(np.int64)
    return Threshold("act", clipped, IntegerType.smallest_for(0, levels), 0, np.zeros(1, dtype=bool))


class Lines(Builder):
    """A graph whose thresholds lie on lines, as those of a batch norm and a quantizer do."""

    def on_lines(self, source: str, levels: int, *, lowest: int = 0, common: bool = False) -> str:
        """Add an activation whose codes are the nearest to a line through the accumulators of each channel."""
        accumulators = np.moveaxis(self.values[source], 1, 0).reshape(len(self.ranges[source]), -1)
        rows = []
        for channel, interval in enumerate(self.ranges[source]):
            seen = accumulators if common else accumulators[channel]
            slope = Fraction(levels, max(1, int(4 * seen.std())))
            offset = Fraction(levels, 2) - slope * int(seen.mean()) + Fraction(channel * (not common), 7)
            rows.append(thresholds_of(slope, offset, levels, interval).thresholds[0])
        if common:
            rows = [np.max(rows, axis=0)] * len(rows)
        kind = IntegerType.smallest_for(min(lowest, 0), lowest + levels)
        flipped = np.zeros(len(rows), dtype=bool)
        return self.add(Threshold(f"act{len(self.nodes)}", np.array(rows), kind, lowest, flipped), source)

    def heavy_conv(self, source: str, outputs: int, place: Window, bits: int, groups: int = 1) -> str:
        """Add a convolution with signed weights of *bits* bits."""
        kind = IntegerType(bits, signed=True)
        shape = (outputs, self.values[source].shape[1] // groups, *place.kernel)
        weights = self.generator.integers(kind.minimum, kind.maximum, shape, endpoint=True)
        return self.add(Conv(f"conv{len(self.nodes)}", weights, kind, place, groups), source)
