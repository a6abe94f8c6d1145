"""Multiply-shift requantization that is equal to the thresholds, or refused.

``requantize(a) = clip((a * M + B) >> S, lowest, highest)`` with an arithmetic shift (rounding toward minus infinity)
is monotone in ``a`` for ``M >= 0``. It equals the thresholds iff for every level ``i`` it reaches ``i`` at ``T[i]``
and not at ``T[i] - 1``: linear inequalities in the integers ``M`` and ``B``, solved here exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.integer.ops import Threshold
from export.integer.types import Interval
from pipeline import Codes

MAX_SHIFT = 30


@dataclass(frozen=True, slots=True, eq=False)
class MultiplyShift:
    """Per-channel constants of a multiply-shift requantization.

    Attributes:
        multiplier: M, shape (channels,), >= 0.
        offset: B, shape (channels,).
        shift: S, one for all channels, 1..30.
    """

    multiplier: Codes
    offset: Codes
    shift: int


def solve_multiply_shift(node: Threshold, reachable: tuple[Interval, ...], *, word_bits: int) -> MultiplyShift | None:
    """Return constants that reproduce *node* on every reachable accumulator, or None where there are none.

    Every intermediate value ``a * M + B`` fits a two's complement word of *word_bits* bits. The smallest common shift
    is chosen. The result is not trusted: :func:`export.proofs.prove_requantization` checks it like any other.
    """
    for shift in range(1, MAX_SHIFT + 1):
        channels = [
            _solve_channel(row, node.lowest, interval, shift, 1 << (word_bits - 1))
            for row, interval in zip(node.thresholds.tolist(), reachable, strict=True)
        ]
        solved = [channel for channel in channels if channel is not None]
        if len(solved) == len(channels):
            constants = np.array(solved, dtype=np.int64)
            return MultiplyShift(constants[:, 0].copy(), constants[:, 1].copy(), shift)
    return None


def _solve_channel(row: list[int], lowest: int, reachable: Interval, shift: int, limit: int) -> tuple[int, int] | None:
    """Solve one channel: M * a + B >= i << S at ``must_reach`` points, <= (i << S) - 1 at ``must_stay_below`` ones."""
    codes = range(lowest + 1, lowest + 1 + len(row))
    must_reach = [(max(t, reachable.low), i << shift) for t, i in zip(row, codes, strict=True) if t <= reachable.high]
    must_stay_below = [
        (min(t - 1, reachable.high), (i << shift) - 1) for t, i in zip(row, codes, strict=True) if t > reachable.low
    ]
    bounds = _multiplier_bounds(must_reach, must_stay_below)
    if bounds is None:
        return None
    low, high = bounds
    if not must_reach or not must_stay_below:
        multiplier = 0  # one code on the whole range
    elif high is None:
        multiplier = low
    else:
        multiplier = (low + high) // 2
    at_least = max((y - multiplier * a for a, y in must_reach), default=None)
    at_most = min((y - multiplier * a for a, y in must_stay_below), default=None)
    if at_least is not None and at_most is not None:
        offset = (at_least + at_most) // 2
    elif at_least is not None:
        offset = at_least
    else:
        assert at_most is not None, "a threshold is either reached or not"
        offset = at_most
    ends = (multiplier * reachable.low + offset, multiplier * reachable.high + offset)
    if not (-limit <= min(ends) and max(ends) < limit and multiplier < limit):
        return None
    return multiplier, offset


def _multiplier_bounds(
    must_reach: list[tuple[int, int]], must_stay_below: list[tuple[int, int]]
) -> tuple[int, int | None] | None:
    """Return the least and the largest feasible M >= 0 (None: unbounded), or None where no M is feasible.

    B exists for a given M iff every lower bound on B is at most every upper bound:
    ``y_r - M a_r <= y_b - M a_b``, that is ``M (a_b - a_r) <= y_b - y_r``, for all pairs.
    """
    low, high = 0, None
    for reach, reach_value in must_reach:
        for below, below_value in must_stay_below:
            distance, rise = below - reach, below_value - reach_value
            if distance > 0:
                bound = rise // distance
                high = bound if high is None else min(high, bound)
            elif distance < 0:
                low = max(low, -(rise // -distance))
            elif rise < 0:
                return None
    if high is not None and high < low:
        return None
    return low, high


def apply_multiply_shift(node: Threshold, constants: MultiplyShift, accumulators: Codes) -> Codes:
    """Return the codes, shape (N, channels); shift rounds toward minus infinity, codes saturate."""
    shifted = (accumulators * constants.multiplier + constants.offset) >> constants.shift
    codes: Codes = np.clip(shifted, node.lowest, node.lowest + node.levels)
    return codes
