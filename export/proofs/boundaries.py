"""The differences of a monotone activation from thresholds, found at the boundaries alone.

Thresholds cut the accumulators of a channel into runs of one code. An activation that does not fall and has that code
at both ends of a run has it on the whole run. If it has a lower code at the first accumulator, it is lower on a
beginning of the run, and if it has a higher one at the last, higher on an end of it: bisection finds how far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import Ranges, Threshold
from bitproof.pipeline import Codes

RunAt = Callable[[Codes], Codes]
"""From accumulators, shape (N, channels), to codes of that shape; it does not fall with the accumulator."""


@dataclass(frozen=True, slots=True, eq=False)
class Differing:
    """Stretches of accumulators on which an activation differs from the thresholds; one entry each.

    Attributes:
        channel: where.
        first: least accumulator.
        last: largest.
        evaluations: codes that the activation was asked for in all.
    """

    channel: Codes
    first: Codes
    last: Codes
    evaluations: int

    @property
    def count(self) -> int:
        """How many accumulators they hold."""
        return int((self.last - self.first + 1).sum())


def ends_of(reachable: Ranges) -> tuple[Codes, Codes]:
    """Return the least and the largest accumulator of each channel, shape (channels,)."""
    lows = np.array([interval.low for interval in reachable], dtype=np.int64)
    return lows, np.array([interval.high for interval in reachable], dtype=np.int64)


def differing(node: Threshold, reachable: Ranges, run: RunAt) -> Differing:
    """Return every reachable accumulator at which *run* differs from *node*."""
    lows, highs = ends_of(reachable)
    starts = np.concatenate([lows[None], np.clip(node.thresholds.T, lows, highs + 1)])  # (levels + 1, channels)
    lasts = np.concatenate([starts[1:] - 1, highs[None]])
    codes = node.lowest + node.step * np.arange(node.levels + 1, dtype=np.int64)[:, None]
    held = lasts >= starts
    at_first, at_last = run(np.minimum(starts, highs)), run(np.maximum(lasts, lows))
    asked = at_first.size + at_last.size
    parts = []
    for low, cut in (
        (True, held & (at_first < codes)),  # a beginning is too low: find the first accumulator that is not
        (False, held & (at_last > codes)),  # an end is too high: find its first accumulator
    ):
        level, channel = np.nonzero(cut)
        begin, end, code = starts[level, channel], lasts[level, channel], codes[level, 0]
        turn, more = _turns(run, lows, channel, begin, end, code + (0 if low else 1))
        asked += more
        parts.append((channel, begin if low else turn, turn - 1 if low else end))
    channel, first, last = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((channel, first))
    return Differing(channel[order], first[order], last[order], asked)


def _turns(run: RunAt, lows: Codes, channel: Codes, begin: Codes, end: Codes, code: Codes) -> tuple[Codes, int]:
    """Return for each entry the first accumulator of *begin*..*end* with *code*, else ``end + 1``; and the cost."""
    first, beyond, asked = begin.copy(), end + 1, 0
    while (first < beyond).any():
        middle = (first + beyond) // 2  # below beyond where they differ, so at most end
        reached = values_at(run, lows, channel, np.minimum(middle, end)) >= code
        asked += len(middle)
        open_ = first < beyond
        beyond = np.where(open_ & reached, middle, beyond)
        first = np.where(open_ & ~reached, middle + 1, first)
    return first, asked


def values_at(run: RunAt, lows: Codes, channel: Codes, accumulators: Codes) -> Codes:
    """Return the code of each of *accumulators*, shape (N,), in the channel of that place."""
    if not len(channel):
        return np.zeros(0, dtype=np.int64)
    order = np.argsort(channel, kind="stable")
    counts = np.bincount(channel, minlength=len(lows))
    row = np.empty(len(channel), dtype=np.int64)
    row[order] = np.arange(len(channel)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.repeat(lows[None], int(counts.max()), axis=0)
    table[row, channel] = accumulators
    values: NDArray[np.int64] = run(table)[row, channel]
    return values
