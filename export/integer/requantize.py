"""Requantization by arithmetic instead of thresholds: three forms, each equal to the thresholds or refused.

* multiply-shift, 32 bits: ``clip((a * M + B) >> S, lowest, highest)``, shift rounding toward minus infinity;
* rounding shift: ``clip((a + B) / 2^k rounded to the nearest integer, a tie to the even one, lowest, highest)``, as a
  power-of-two rescaling needs it: no affine form rounds a tie down here and up there;
* multiply-shift, 64 bits: the first form with products of 64 bits, as 8-bit activations need it.

Every form is monotone in ``a`` (``M >= 0``), and so are thresholds: the two are equal iff they are equal at both ends
of every run of one code. That is checked here for every form that is returned, however it was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitproof.export.integer.multiply_shift import Reached, least_multipliers, offsets_of
from bitproof.export.integer.ops import Threshold
from bitproof.export.integer.types import Ranges
from bitproof.pipeline import Codes, StageError

MAX_SHIFT = {32: 30, 64: 52}
"""Largest shift tried, by the bits of the word."""
LARGEST_ACCUMULATOR = 1 << 31
LARGEST_CODE = 1 << 9
"""Beyond these magnitudes nothing is solved: no target multiplies wider numbers, and int64 would not be safe here."""


@dataclass(frozen=True, slots=True, eq=False)
class MultiplyShift:
    """Per-channel constants of a multiply-shift requantization.

    Attributes:
        multiplier: M, shape (channels,), 0..2^31 - 1.
        offset: B, shape (channels,).
        shift: S, one for all channels, 1..52.
        word_bits: 32 or 64: every ``a * M + B`` of a reachable accumulator fits a signed word of so many bits.
    """

    multiplier: Codes
    offset: Codes
    shift: int
    word_bits: int = 32

    def apply(self, node: Threshold, accumulators: Codes) -> Codes:
        """Return the codes, shape (N, channels); shift rounds toward minus infinity, codes saturate."""
        shifted = (accumulators * self.multiplier + self.offset) >> self.shift
        codes: Codes = np.clip(shifted, node.lowest, node.lowest + node.levels)
        return codes


@dataclass(frozen=True, slots=True, eq=False)
class RoundingShift:
    """Constants of ``b = a + B`` divided by ``2^k``, rounded to the nearest integer.

    ``(b + 2^(k-1) - 1 + odd) >> k``, where ``odd`` is the lowest bit of ``b >> k``: half of the divisor is added for an
    odd quotient and one less for an even one, so a tie goes to the even code. With *to_odd* the bit is turned round.

    Attributes:
        offset: B, shape (channels,); every ``|a + B|`` of a reachable accumulator is below 2^31 - 2^k.
        shift: k, one for all channels, at least 1; every code times 2^k is below 2^31, too.
        to_odd: a tie goes to the odd code, as it does if codes are stored with an odd zero point.
    """

    offset: Codes
    shift: int
    to_odd: bool = False

    def apply(self, node: Threshold, accumulators: Codes) -> Codes:
        """Return the codes, shape (N, channels); the nearest integer, a tie to the even (odd) one, codes saturate."""
        moved = accumulators + self.offset
        bit = ((moved >> self.shift) & 1) ^ int(self.to_odd)
        rounded = (moved + (1 << (self.shift - 1)) - 1 + bit) >> self.shift
        codes: Codes = np.clip(rounded, node.lowest, node.lowest + node.levels)
        return codes


Requantization = MultiplyShift | RoundingShift


def solve_requantization(node: Threshold, reachable: Ranges) -> Requantization | None:
    """Return the cheapest form that equals *node* on every reachable accumulator; None: only the thresholds do.

    Multiply-shift in 32 bits comes first, then the rounding shift, then multiply-shift in 64 bits.
    """
    narrow = solve_multiply_shift(node, reachable, word_bits=32)
    if narrow is not None:
        return narrow
    rounding = solve_rounding_shift(node, reachable)
    return solve_multiply_shift(node, reachable, word_bits=64) if rounding is None else rounding


def solve_multiply_shift(node: Threshold, reachable: Ranges, *, word_bits: int) -> MultiplyShift | None:
    """Return constants that reproduce *node* on every reachable accumulator, or None if there are none.

    Every sum ``a * M + B`` fits a two's complement word of *word_bits* bits, 32 or 64. The smallest common shift is
    chosen, and the smallest M of each channel for it. Constants of S give constants of S + 1 (both doubled), so few
    shifts are tried.
    """
    if not _solvable(node, reachable):
        return None
    reached = Reached.of(node, reachable)
    low, high = 1, MAX_SHIFT[word_bits]
    best: tuple[int, Codes] | None = None
    while low <= high:
        shift = (low + high) // 2
        solved, too_wide = least_multipliers(reached, shift)
        if solved is not None:
            best = (shift, solved)
        if solved is None and not too_wide:
            low = shift + 1
        else:  # a larger shift needs larger multipliers still
            high = shift - 1
    if best is None:
        return None
    shift, multiplier = best
    offset = offsets_of(reached, multiplier, shift)
    limit = 1 << (word_bits - 1)
    ends = np.stack([multiplier * reached.lows + offset, multiplier * reached.highs + offset])
    if ends.min() < -limit or ends.max() >= limit:
        return None
    constants = MultiplyShift(multiplier, offset, shift, word_bits)
    require_equal(node, constants, reachable)
    return constants


def solve_rounding_shift(node: Threshold, reachable: Ranges) -> RoundingShift | None:
    """Return the rounding shift that reproduces *node* on every reachable accumulator, or None if there is none."""
    if not _solvable(node, reachable):
        return None
    reached = Reached.of(node, reachable)
    lows, highs, codes = reached.lows, reached.highs, reached.codes
    thresholds = np.clip(node.thresholds, lows[:, None], highs[:, None] + 1)
    inside = (thresholds > lows[:, None]) & (thresholds <= highs[:, None])
    pinned, level = inside.any(axis=1), inside.argmax(axis=1)
    largest_code = max(abs(node.lowest), abs(node.highest)) + 1
    for shift in range(1, LARGEST_ACCUMULATOR.bit_length() - largest_code.bit_length()):
        for to_odd in (False, True):
            # From b = i * 2^k - 2^(k-1) on, that number included iff the tie goes up to i, the code is at least i.
            edges = (codes << shift) - (1 << (shift - 1)) + ((codes + to_odd) & 1)
            offset = edges[level] - np.take_along_axis(thresholds, level[:, None], axis=1)[:, 0]
            never = edges[0] - 1 - highs
            always = edges[-1] - lows
            offset = np.where(pinned, offset, np.where(thresholds[:, 0] > highs, never, always))
            expected = np.clip(edges - offset[:, None], lows[:, None], highs[:, None] + 1)
            largest = np.abs(np.stack([lows + offset, highs + offset])).max() + (1 << shift)
            if (expected == thresholds).all() and largest < LARGEST_ACCUMULATOR:
                constants = RoundingShift(offset, shift, to_odd)
                require_equal(node, constants, reachable)
                return constants
    return None


def require_equal(node: Threshold, form: Requantization, reachable: Ranges) -> None:
    """Compare *form* with the thresholds at both ends of every run of one code: both are monotone, so that decides.

    Raises:
        StageError: they differ; the constants are wrong, and nothing may be made of them.
    """
    reached = Reached.of(node, reachable)
    points = np.concatenate([reached.lows[None], reached.reach.T, reached.below.T, reached.highs[None]])
    points = np.clip(points, reached.lows, reached.highs)
    differs = np.argwhere(node.apply(points) != form.apply(node, points))
    if isinstance(form, MultiplyShift) and (form.multiplier < 0).any():
        raise StageError(f"{node.name}: a multiplier is negative, so the form falls; report this as a bug")
    if len(differs):
        row, channel = (int(i) for i in differs[0])
        raise StageError(
            f"{node.name}: the constants of {type(form).__name__} give another code than the thresholds at accumulator "
            f"{points[row, channel]} of channel {channel}; report this as a bug"
        )


def _solvable(node: Threshold, reachable: Ranges) -> bool:
    """Tell whether codes are neighbours, and codes and accumulators so small that int64 holds all that is computed."""
    largest = max(interval.magnitude for interval in reachable)
    codes = max(abs(node.lowest), abs(node.highest))
    return node.step == 1 and largest < LARGEST_ACCUMULATOR and codes < LARGEST_CODE
