"""The proof that thresholds equal the exported activation on every reachable accumulator, decided in two ways.

1. **By monotony.** Thresholds cut a channel's accumulators into runs of one code. The activation does not fall, so the
   two are equal iff the activation reaches the run's code at its first accumulator and no higher one at its last:
   two exact signs per run, whatever the length.
2. **By enumeration**, for channels of at most 2^20 accumulators, and 2^28 per layer: the activation of every
   accumulator is evaluated in binary64 with a bound on its error, which decides all but the few next to a boundary;
   those are decided exactly.

Neither looks at how the thresholds were derived. Each finds every fault alone; that they agree checks the provers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer.activation import Activation
from bitproof.export.integer.curve import Curve
from bitproof.export.integer.types import Interval
from bitproof.pipeline import Codes
from bitproof.pipeline.ledger import ProofEntry

ENUMERATED = 1 << 20
"""Channels of at most this many accumulators are enumerated."""
ENUMERATED_OF_LAYER = 1 << 28
"""At most so many accumulators of a layer are enumerated, channel by channel: three seconds of a processor."""

UNIT = 2.0**-53
"""Largest relative error of one rounding to binary64."""
NO_UNDERFLOW = 2.0**-1000
"""More than all errors of gradual underflow in one affine map of integers below 2^63."""


class Staircase(Protocol):
    """What is proven: ``code[c] = lowest + step * (number of thresholds[c] that are <= accumulator[c])``."""

    @property
    def name(self) -> str:
        """Name of the layer."""
        ...

    @property
    def thresholds(self) -> Codes:
        """Shape (channels, levels), each row ascending."""
        ...

    @property
    def lowest(self) -> int:
        """The code below the first threshold."""
        ...

    @property
    def step(self) -> int:
        """Distance of two codes."""
        ...


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What one method found in one channel.

    Attributes:
        cases: how many cases it decided.
        wrong: accumulators at which the codes differ, ascending; empty if they are equal on all.
        failing: how many cases contradict equality.
    """

    cases: int
    failing: int
    wrong: int | None = None


def prove_thresholds(node: Staircase, activations: Sequence[Activation], reachable: Sequence[Interval]) -> ProofEntry:
    """Decide whether *node* equals the exact *activations* on every reachable accumulator.

    Args:
        node: the thresholds.
        activations: one per channel, in the sign convention of *node*: none falls.
        reachable: one interval per channel.

    Raises:
        ValueError: an activation falls, or there is not one activation and one interval per channel.
    """
    runs = enumerated = failing = channels = 0
    first, left_out = None, ""
    for channel, (row, activation, interval) in enumerate(zip(node.thresholds, activations, reachable, strict=True)):
        if activation.chain.direction < 0:
            raise ValueError(f"the activation of {node.name!r}, channel {channel}, falls; negate it like its channel")
        verdicts = [_by_monotony(node, row, activation, interval)]
        runs += verdicts[0].cases
        size = interval.high - interval.low + 1
        if size <= ENUMERATED and enumerated + size <= ENUMERATED_OF_LAYER:
            verdicts.append(_by_enumeration(node, row, activation, interval))
            enumerated, channels = enumerated + verdicts[1].cases, channels + 1
        elif size <= ENUMERATED:
            left_out = ", while they are at most 2^28 together"
        assert len({verdict.failing > 0 for verdict in verdicts}) == 1, f"{node.name}, channel {channel}: {verdicts}"
        failing += sum(verdict.failing for verdict in verdicts)
        if first is None and verdicts[-1].wrong is not None:
            at = verdicts[-1].wrong
            actual = node.lowest + node.step * bisect_right(row.tolist(), at)
            first = {"channel": channel, "accumulator": at, "expected": activation.code(at), "actual": actual}
    return ProofEntry(
        layer=node.name,
        claim="the integer thresholds equal the exported activation in exact arithmetic on every reachable accumulator",
        method=f"two ways that agree: exact signs at both ends of every run of one code ({runs} cases; both sides are "
        f"monotone), and every accumulator of {channels} of {len(activations)} channels, those of at most 2^20"
        f"{left_out} ({enumerated} cases; binary64 with an error bound, exactly where that does not decide)",
        cases=runs + enumerated,
        holds=failing == 0,
        first=first,
        failing=failing,
    )


def _runs(row: list[int], interval: Interval) -> Iterator[tuple[int, int, int]]:
    """Return (first, last, thresholds met) of each run of one code within *interval*."""
    edges = [interval.low, *sorted({t for t in row if interval.low < t <= interval.high}), interval.high + 1]
    return ((start, stop - 1, bisect_right(row, start)) for start, stop in pairwise(edges))


def _by_monotony(node: Staircase, thresholds: Codes, activation: Activation, interval: Interval) -> _Verdict:
    quantization = activation.quantization
    cases = failing = 0
    wrong = None
    for start, last, met in _runs(thresholds.tolist(), interval):
        # A code that the quantizer does not have lies strictly between two levels or beyond all: then one test fails.
        level, beside = divmod(node.lowest + node.step * met - quantization.lowest, quantization.step)
        too_low = beside > 0 or not activation.reaches(level, start)
        too_high = activation.reaches(level + 1, last)
        cases += 2
        failing += too_low + too_high
        if wrong is None and (too_low or too_high):
            wrong = start if too_low else last
    return _Verdict(cases, failing, wrong)


def _by_enumeration(node: Staircase, thresholds: Codes, activation: Activation, interval: Interval) -> _Verdict:
    quantization, size = activation.quantization, interval.high - interval.low + 1
    steps = np.bincount(np.clip(thresholds - interval.low, 0, size), minlength=size + 1)
    actual = node.lowest + node.step * np.cumsum(steps[:-1])
    expected = quantization.lowest + quantization.step * levels_of(activation, interval)
    different = np.flatnonzero(actual != expected)
    return _Verdict(size, len(different), interval.low + int(different[0]) if len(different) else None)


def levels_of(activation: Activation, interval: Interval) -> Codes:
    """Return the exact level that *activation* reaches at each accumulator of *interval*, ascending."""
    always, possible = activation.clamp_levels
    if activation.chain.curve is not None:
        return _curved_levels(activation, activation.chain.curve, interval)
    levels, undecided = _filter(activation, interval, always, possible)
    for start, stop in _stretches(undecided):
        _decide(activation, interval.low, levels, start, stop)
    return levels


def _curved_levels(activation: Activation, curve: Curve, interval: Interval) -> Codes:
    """Return the levels behind a curve, of which no error bound in binary64 is known: all are decided exactly.

    Binary64 only guesses the stretches of one level; if both ends of one have one level, all of it has.
    """
    chain, size = activation.chain, interval.high - interval.low + 1
    levels = np.zeros(size, dtype=np.int64)
    edges = [0, size]
    try:
        accumulators = np.arange(interval.low, interval.high + 1, dtype=np.float64)
        low = -np.inf if chain.low is None else float(chain.low)
        high = np.inf if chain.high is None else float(chain.high)
        boundaries = np.array([n / d for n, d, _ in activation.boundaries])
        with np.errstate(all="ignore"):
            numbers = np.clip(float(chain.slope) * accumulators + float(chain.intercept), low, high)
            guess = np.searchsorted(boundaries, curve.approximate(numbers), side="right")
        edges = [0, *(np.flatnonzero(np.diff(guess)) + 1).tolist(), size]
    except OverflowError:
        pass  # constants beyond binary64: halves are looked at
    for start, stop in pairwise(edges):
        _decide(activation, interval.low, levels, start, stop)
    return levels


def _filter(activation: Activation, interval: Interval, always: int, possible: int) -> tuple[Codes, NDArray[np.bool_]]:
    """Return the levels as far as binary64 decides them, and where it does not.

    The computed ``s * a + i`` is off by at most ``5 u (|s a| + |i|)`` with ``u = 2^-53``: one rounding each of s, a, i,
    the product and the sum (Higham, Accuracy and Stability of Numerical Algorithms, 2002, lemma 3.1); a boundary b by
    ``u |b|``. Beyond ``8 u (|s a| + |i|) + 4 u |b|`` of a boundary the side is certain, the rounding of these bounds
    included.
    """
    size = interval.high - interval.low + 1
    levels = np.full(size, always, dtype=np.int64)
    try:
        slope, intercept = float(activation.chain.slope), float(activation.chain.intercept)
        boundaries = np.array([n / d for n, d, _ in activation.boundaries[always:possible]])
    except OverflowError:
        return levels, np.ones(size, dtype=np.bool_)
    largest = max(abs(interval.low), abs(interval.high))
    slack = 8 * UNIT * (abs(slope) * largest + abs(intercept)) + 4 * UNIT * np.abs(boundaries) + NO_UNDERFLOW
    edges = np.stack([boundaries - slack, boundaries + slack], axis=1).ravel()
    if not (np.isfinite(edges).all() and (np.diff(edges) > 0).all()):
        return levels, np.ones(size, dtype=np.bool_)
    values = slope * np.arange(interval.low, interval.high + 1, dtype=np.float64) + intercept
    passed = np.searchsorted(edges, values, side="right")
    levels += passed // 2
    return levels, passed % 2 == 1


def _stretches(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Return (start, stop) of each stretch of True."""
    changes = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return zip(changes[::2], changes[1::2], strict=True)


def _decide(activation: Activation, low: int, levels: Codes, start: int, stop: int) -> None:
    """Fill in levels[start:stop] exactly, from the ends inwards: between two equal levels all are equal."""
    pending = [(start, stop)]
    while pending:
        start, stop = pending.pop()
        ends = activation.level(low + start), activation.level(low + stop - 1)
        if ends[0] == ends[1]:
            levels[start:stop] = ends[0]
        elif stop - start == 2:
            levels[start:stop] = ends
        else:
            middle = (start + stop) // 2
            pending += [(start, middle), (middle, stop)]
