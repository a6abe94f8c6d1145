"""A float32 convolution whose weights hold the scale: exact after truncation, in whatever order its sums are added.

``trunc(clip(sum of (w_j * m) x_j + b, 0, highest + 1/2))`` is the code if the float sum keeps on the right side of
every boundary. A sum of n products of float32, rounded in any order, with or without fused multiply-add, is off by at
most ``gamma(n) * sum |w_j m x_j|`` with ``gamma(n) = n u / (1 - n u)``, ``u = 2^-24`` (Higham, Accuracy and Stability
of Numerical Algorithms, 2nd edition, section 3.1). The constants are those that keep the boundaries furthest away; the
layer is proven if the nearest is further than that bound: this is calculated in exact fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bitproof.export.integer import Ranges, Threshold
from bitproof.export.onnx_int8.fitting import Floats, run_ends
from bitproof.pipeline import Codes

UNIT = Fraction(1, 1 << 24)
"""Of float32: half the distance from 1 to the next number."""
ROUNDINGS = 3
"""Of a term beside those of the sum: of its weight, of its product, and of the bias."""
STEPS = 60
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Per-channel constants of a float32 product that requantizes by itself, each shape (channels,).

    Attributes:
        scale: m, by which the weights are multiplied; positive.
        bias: b.
    """

    scale: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Margin:
    """Of the channel where it is tightest: how far the nearest boundary is, and how far a float sum may be off."""

    distance: Fraction
    error: Fraction

    @property
    def holds(self) -> bool:
        """Tell whether no sum can cross a boundary."""
        return self.error < self.distance


def fold(node: Threshold, reachable: Ranges) -> Folded:
    """Return the constants whose boundaries are as far from every accumulator as can be; *node* counts from code 0."""
    constants = [
        _line(*run_ends(t, interval), node.levels) for t, interval in zip(node.thresholds, reachable, strict=True)
    ]
    scales, biases = zip(*constants, strict=True)
    return Folded(np.array(scales, dtype=np.float32), np.array(biases, dtype=np.float32))


def margin_of(node: Threshold, reachable: Ranges, folded: Folded, magnitudes: Sequence[int], terms: int) -> Margin:
    """Return the margin of the tightest channel of *folded*.

    Args:
        node: the thresholds, counted from code 0.
        reachable: of each channel's accumulator.
        folded: the constants.
        magnitudes: of each channel a bound on the sum of the magnitudes of its products.
        terms: how many products are added.
    """
    found: Margin | None = None
    gamma = (terms + ROUNDINGS) * UNIT / (1 - (terms + ROUNDINGS) * UNIT)
    for thresholds, interval, scale, bias, magnitude in zip(
        node.thresholds, reachable, folded.scale.tolist(), folded.bias.tolist(), magnitudes, strict=True
    ):
        ends, codes = run_ends(thresholds, interval)
        m, b = Fraction(scale), Fraction(bias)
        error = gamma * (m * magnitude + abs(b))
        distances = []
        for end, code in zip(ends.tolist(), codes.tolist(), strict=True):
            value = m * end + b
            if code > 0:
                distances.append(value - code)
            if code < node.levels:
                distances.append(code + 1 - value)
        margin = Margin(min(distances), error)
        if found is None or margin.distance - margin.error < found.distance - found.error:
            found = margin
    assert found is not None
    return found


def _line(ends: Codes, codes: Codes, highest: int) -> tuple[float, float]:
    """Return slope and offset of the line whose floor is *codes* at *ends*, as far from the next integers as can be.

    The room between the bounds on the offset is a concave function of the slope, whose largest value is searched for.
    """
    above, below = codes > 0, codes < highest
    if not above.any() or not below.any():  # one code alone: the lowest or the highest
        slope = 0.25 / float(ends[-1] - ends[0] + 1)
        return slope, float(codes[0]) + 0.5 - slope * float(ends.mean())

    def offsets(slope: float) -> tuple[float, float]:
        return float((codes - slope * ends)[above].max()), float((codes + 1 - slope * ends)[below].min())

    def room(slope: float) -> float:
        lowest, largest = offsets(slope)
        # Half an accumulator is all that there is to win: a steep line is not better than one that just fits.
        return (largest - lowest) / slope

    span = max(1, int(codes[-1] - codes[0]))
    low, high = 0.25 / float(ends[-1] - ends[0] + 1), float(span + 2)
    for _ in range(STEPS):
        left, right = (high ** (1 - GOLDEN)) * low**GOLDEN, (high**GOLDEN) * low ** (1 - GOLDEN)
        if room(left) < room(right):
            low = left
        else:
            high = right
    slope = (low * high) ** 0.5
    lowest, largest = offsets(slope)
    return slope, (lowest + largest) / 2
