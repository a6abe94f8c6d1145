"""The least multipliers of a multiply-shift, for all channels at once, in steps linear in the number of thresholds.

``(a * M + B) >> S`` equals thresholds T iff it reaches code ``i`` at ``T[i]`` and not at ``T[i] - 1``:

    M * a + B >= i << S          at the points ``must reach``:      a = T[i]
    M * a + B <= (i << S) - 1    at the points ``must stay below``: a = T[i] - 1

A B exists for a given M iff ``at_least(M) = max(y - M a)`` over the first points is at most
``at_most(M) = min(y - M a)`` over the second. Their difference is concave in M and piecewise linear, with a corner for
each pair of edges of the two convex hulls. From ``M = 0`` on, the pair of points that is violated most bounds M from
below, and that bound, rounded up, is the next M: Newton's method from the side on which it never overshoots. It ends at
the least M, or at a pair that bounds M from above by less, which proves that no M exists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer.ops import Threshold
from bitproof.export.integer.types import Ranges
from bitproof.pipeline import Codes

MAX_MULTIPLIER = (1 << 31) - 1
NONE = 3 << 61
"""Stands for a bound that does not exist; every real one is below 2^62 + 2^61: products of numbers of 31 bits and
codes of 9 bits shifted by at most 52."""


@dataclass(frozen=True, slots=True, eq=False)
class Reached:
    """The points that bound the constants.

    Attributes:
        codes: the code from each threshold on, shape (levels,).
        reach: accumulator at which it must be reached, shape (channels, levels).
        below: accumulator at which it must not be reached.
        met: where *reach* counts: the threshold is not beyond the reachable accumulators.
        missed: where *below* counts: the threshold is not below them.
        lows: least reachable accumulator, shape (channels,).
        highs: largest.
    """

    codes: Codes
    reach: Codes
    below: Codes
    met: NDArray[np.bool_]
    missed: NDArray[np.bool_]
    lows: Codes
    highs: Codes

    @classmethod
    def of(cls, node: Threshold, reachable: Ranges) -> Reached:
        """Return the points of *node*."""
        lows = np.array([interval.low for interval in reachable], dtype=np.int64)
        highs = np.array([interval.high for interval in reachable], dtype=np.int64)
        low, high = lows[:, None], highs[:, None]
        return cls(
            codes=node.lowest + np.arange(1, node.levels + 1, dtype=np.int64),
            reach=np.maximum(node.thresholds, low),
            below=np.minimum(node.thresholds - 1, high),
            met=node.thresholds <= high,
            missed=node.thresholds > low,
            lows=lows,
            highs=highs,
        )

    def at_least(self, multiplier: Codes, shift: int) -> tuple[Codes, Codes]:
        """Return for each channel the least B, ``-NONE`` if nothing bounds it, and the level that bounds it."""
        bounds = np.where(self.met, (self.codes << shift) - multiplier[:, None] * self.reach, -NONE)
        return bounds.max(axis=1), bounds.argmax(axis=1)

    def at_most(self, multiplier: Codes, shift: int) -> tuple[Codes, Codes]:
        """Return for each channel the largest B, ``NONE`` if nothing bounds it, and the level that bounds it."""
        bounds = np.where(self.missed, (self.codes << shift) - 1 - multiplier[:, None] * self.below, NONE)
        return bounds.min(axis=1), bounds.argmin(axis=1)


def least_multipliers(reached: Reached, shift: int) -> tuple[Codes | None, bool]:
    """Return the least M >= 0 of every channel for which a B exists, shape (channels,); None if one has none.

    The second value tells, if there are none, whether a multiplier that is needed has over 31 bits.
    """
    multiplier = np.zeros(len(reached.lows), dtype=np.int64)
    while True:
        (least, reaching), (most, staying) = reached.at_least(multiplier, shift), reached.at_most(multiplier, shift)
        violated = np.flatnonzero(least > most)
        if not len(violated):
            return multiplier, False
        at, not_at = reached.reach[violated, reaching[violated]], reached.below[violated, staying[violated]]
        # M * distance >= fall, of the pair that is violated: values of the reached point minus the other's.
        distance = at - not_at
        fall = ((reached.codes[reaching[violated]] - reached.codes[staying[violated]]) << shift) + 1
        if (distance <= 0).any():  # M * distance >= fall > 0 has no solution, or only smaller ones that are refuted
            return None, False
        wanted = -(-fall // distance)
        if (wanted > MAX_MULTIPLIER).any():
            return None, True
        multiplier[violated] = wanted


def offsets_of(reached: Reached, multiplier: Codes, shift: int) -> Codes:
    """Return B of every channel, in the middle of what is allowed, for multipliers for which one exists."""
    least, most = reached.at_least(multiplier, shift)[0], reached.at_most(multiplier, shift)[0]
    only_least, only_most = most == NONE, least == -NONE
    low, high = np.where(only_most, most, least), np.where(only_least, least, most)
    middle: Codes = (low >> 1) + (high >> 1) + (low & high & 1)  # (low + high) >> 1, which might not fit 64 bits
    return middle
