"""The proof that an executor's activations equal the thresholds, on every reachable accumulator, not on samples.

Three methods, and the ledger says which: every accumulator is run; or, if the executor says why its activation is
monotone, the two ends of every run of one code are (:mod:`bitproof.export.proofs.boundaries`); or, of ranges too wide
to be run if nothing is said, stretches are, and then nothing is claimed of the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import Activation, IntegerModel, Ranges, Threshold, hull
from bitproof.export.proofs.boundaries import differing, ends_of, values_at
from bitproof.export.proofs.float_bounds import ActivationBounds, Seen
from bitproof.pipeline import Codes, FloatReference, PointRequantizer, Requantizer, StageError
from bitproof.pipeline.ledger import ProofEntry
from bitproof.pipeline.progress import Progress, silent

ROWS_AT_ONCE = 1 << 17
CODES_AT_ONCE = 1 << 20
ALWAYS_RUN = 1 << 20
"""Activations of at most so many accumulators in all channels together are run on each of them, monotone or not."""
MOST_ROWS = 1 << 20
"""Channels of at most so many accumulators are run on each of them where nothing is known of the activation."""
SAMPLED_ROWS = 1 << 12
"""Of wider ones, stretches of this length are run."""
SHOWN_POINTS = 1 << 20
"""Of so many differing accumulators each is looked at; beyond, they are counted."""

NAMED_CHANNELS = 8
TOO_MANY = 10_000
"""An executor with more wrong codes than this is wrong; the rest is not run."""

Mask = NDArray[np.bool_]
Activations = Mapping[str, Sequence[Activation]]
"""For each activation of a model the exact activation of every channel, all rising."""


class NamedRequantizer(Requantizer, Protocol):
    """A requantizer that has a name in the ledger."""

    @property
    def name(self) -> str:
        """Name in the ledger."""
        ...


class NamedPoints(PointRequantizer, NamedRequantizer, Protocol):
    """A requantizer that takes any accumulators."""


@runtime_checkable
class PartialRequantizer(Protocol):
    """A requantizer some of whose activations cannot be run alone."""

    def requantizes(self, node: str) -> bool:
        """Tell whether the activation *node* can be run alone."""
        ...


def prove_requantization(
    model: IntegerModel,
    executor: NamedRequantizer,
    activations: Callable[[], Activations] | None = None,
    progress: Progress = silent,
) -> list[ProofEntry]:
    """Compare every activation of *executor* with the model on every reachable accumulator of every channel.

    Args:
        model: the integer model.
        executor: what is compared.
        activations: gives the exact activations of the model; asked only if a float reference differs, whose rounding
            errors they bound. None: they are not known, and nothing that differs is explained.
        progress: is told how far the proofs are.

    Raises:
        StageError: the executor returned codes of another shape.
    """
    entries = []
    reached = [(node, model.values[model.sources(node.name)[0]].ranges) for node in model.nodes_of(Threshold)]
    costs = [_cost(node, reachable) for node, reachable in reached]
    for number, (node, reachable) in enumerate(reached):
        progress(f"activation {node.name}", sum(costs[:number]), sum(costs))
        if isinstance(executor, PartialRequantizer) and not executor.requantizes(node.name):
            entries.append(_not_alone(node, executor.name))
        else:
            sweep = _Sweep(node, _rounding(node, executor, activations))
            entries.append(_prove(node, reachable, executor, sweep))
    return entries


def _rounding(
    node: Threshold, executor: NamedRequantizer, activations: Callable[[], Activations] | None
) -> Callable[[], ActivationBounds | None]:
    """Return what gives the rounding errors of *node* in *executor*; None of one that is no float reference."""

    def bounds() -> ActivationBounds | None:
        exact = None if activations is None else activations().get(node.name)
        if exact is None or not isinstance(executor, FloatReference):
            return None
        return ActivationBounds.of(node, exact, executor.precision_bits)

    return cache(bounds)


def _cost(node: Threshold, reachable: Ranges) -> int:
    """Return about how many codes the proof of *node* asks for, if its activation is monotone."""
    total = hull(reachable)
    return node.channels * min(total.high - total.low + 1, max(ALWAYS_RUN // node.channels, 2 * node.levels + 2))


def _not_alone(node: Threshold, name: str) -> ProofEntry:
    return ProofEntry(
        layer=node.name,
        claim=f"nothing is claimed: {name} cannot run this activation alone, so whole samples alone compare it",
        method="none",
        cases=0,
        holds=True,
        actual=name,
    )


@dataclass
class _Sweep:
    """What was found so far about one activation of one executor; *bounds* gives its rounding errors, if it has any."""

    node: Threshold
    bounds: Callable[[], ActivationBounds | None]
    cases: int = 0
    failing: int = 0
    first: dict[str, int] | None = None
    by_channel: Counter[int] = field(default_factory=Counter)
    explained: bool = True
    """All differing codes lie within the rounding errors of the floats that gave them."""

    def add(self, accumulators: Codes, expected: Codes, actual: Codes, reachable: Mask) -> None:
        """Compare codes, shape (N, channels), at *accumulators*, shape (N, 1), where *reachable*."""
        self.cases += int(reachable.sum())
        rows, channels = np.nonzero((actual != expected) & reachable)
        codes = expected[rows, channels], actual[rows, channels]
        self.explain(channels, accumulators[rows, 0], *codes)
        self.note(channels, accumulators[rows, 0], *codes)

    def explain(self, channel: Codes, at: Codes, expected: Codes, actual: Codes) -> None:
        """Decide whether rounding errors explain differing codes, each shape (N,)."""
        if not len(channel) or not self.explained:
            return
        bounds = self.bounds()
        seen = Seen(channel, at, np.abs(at), expected, actual)
        self.explained = bounds is not None and bool(bounds.explain(seen, terms=1).all())

    def note(self, channel: Codes, at: Codes, expected: Codes, actual: Codes) -> None:
        """Take down differing codes, each shape (N,), in the order in which they are to be told."""
        self.failing += len(channel)
        self.by_channel.update(channel.tolist())
        if self.first is None and len(channel):
            values = (int(values[0]) for values in (channel, at, expected, actual))
            self.first = dict(zip(("channel", "accumulator", "expected", "actual"), values, strict=True))


def _prove(node: Threshold, reachable: Ranges, executor: NamedRequantizer, sweep: _Sweep) -> ProofEntry:
    total = hull(reachable)
    rows = total.high - total.low + 1
    if rows * node.channels > ALWAYS_RUN and takes_points(executor):
        why = _why_monotone(node, reachable, executor)
        if why is not None:
            return _by_boundaries(reachable, executor, why, sweep)
    return _by_running(reachable, executor, sweep, sampled=rows > MOST_ROWS)


def takes_points(executor: object) -> TypeGuard[NamedPoints]:
    """Tell whether *executor* can run an activation on any accumulators; every executor has a name."""
    return isinstance(executor, PointRequantizer)


def _why_monotone(node: Threshold, reachable: Ranges, executor: NamedPoints) -> str | None:
    lows, highs = ends_of(reachable)
    turned = _turned(node, executor)
    return executor.why_monotone(node.name, np.where(turned, -highs, lows), np.where(turned, -lows, highs))


def _by_boundaries(reachable: Ranges, executor: NamedPoints, why: str, sweep: _Sweep) -> ProofEntry:
    """Decide every reachable accumulator at the ends of the runs of one code."""
    node = sweep.node

    def run(accumulators: Codes) -> Codes:
        rows = max(1, CODES_AT_ONCE // node.channels)
        starts = range(0, len(accumulators), rows)
        return np.concatenate([rising_codes_at(node, accumulators[s : s + rows], executor) for s in starts])

    found = differing(node, reachable, run)
    sweep.cases = sum(interval.high - interval.low + 1 for interval in reachable)
    lengths = found.last - found.first + 1
    shown = found.count <= SHOWN_POINTS
    kept = lengths if shown else np.minimum(lengths, 1)
    channel = np.repeat(found.channel, kept)
    at = np.repeat(found.first, kept) + np.arange(len(channel)) - np.repeat(np.cumsum(kept) - kept, kept)
    order = np.lexsort((channel, at))
    channel, at = channel[order], at[order]
    lows, _ = ends_of(reachable)
    sweep.note(channel, at, values_at(node.apply, lows, channel, at), values_at(run, lows, channel, at))
    sweep.failing = found.count
    # Of a stretch beside a boundary the ends are furthest from it; at 0 the bound is smallest.
    for points in (found.first, found.last, np.clip(0, found.first, found.last)):
        pair = (values_at(function, lows, found.channel, points) for function in (node.apply, run))
        sweep.explain(found.channel, points, *pair)
    method = (
        f"decided at the boundaries: the {found.evaluations} accumulators at both ends of every run of one code were "
        f"run through it; between them nothing can differ: {why}"
    )
    return _entry(node, executor, sweep, method, "on every reachable accumulator")


def _by_running(reachable: Ranges, executor: NamedRequantizer, sweep: _Sweep, *, sampled: bool) -> ProofEntry:
    lows, highs = ends_of(reachable)
    node, total = sweep.node, hull(reachable)
    rows = max(1, min(ROWS_AT_ONCE, 16 * CODES_AT_ONCE // node.channels))
    for start, stop in _stretches(total.low, total.high, rows, sampled=sampled):
        accumulators = np.arange(start, stop + 1, dtype=np.int64)[:, None]
        expected = node.apply(np.broadcast_to(accumulators, (len(accumulators), node.channels)))
        actual = rising_codes(node, start, stop, executor)
        _require_shape(node, expected.shape, actual, executor)
        sweep.add(accumulators, expected, actual, (accumulators >= lows) & (accumulators <= highs))
        if sweep.failing > TOO_MANY:
            break
    method, where = "every reachable accumulator of every channel was run through it", "on every reachable accumulator"
    if sampled:
        every = sum(interval.high - interval.low + 1 for interval in reachable)
        where = f"on {sweep.cases} of the {every} reachable accumulators; nothing is claimed of the others"
        method = (
            f"sampled: {MOST_ROWS // SAMPLED_ROWS} stretches of {SAMPLED_ROWS} accumulators, evenly spaced from the "
            f"least to the largest; channels of over {MOST_ROWS} are run whole only where their activation is known "
            "to be monotone"
        )
    return _entry(node, executor, sweep, method, where)


def _stretches(low: int, high: int, rows: int, *, sampled: bool) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of what is run: all of *low*..*high*, or evenly spaced stretches, both ends included."""
    if not sampled:
        yield from ((start, min(start + rows - 1, high)) for start in range(low, high + 1, rows))
        return
    count = MOST_ROWS // SAMPLED_ROWS
    for number in range(count):
        start = low + (high - low + 1 - SAMPLED_ROWS) * number // (count - 1)
        yield start, start + SAMPLED_ROWS - 1


def _entry(node: Threshold, executor: NamedRequantizer, sweep: _Sweep, method: str, where: str) -> ProofEntry:
    reference = isinstance(executor, FloatReference)
    return ProofEntry(
        layer=node.name,
        claim=_reference_claim(executor.name, sweep, where)
        if reference
        else f"the activation that {executor.name} runs equals the integer thresholds {where}",
        method=method,
        cases=sweep.cases,
        holds=sweep.cases > 0 and (sweep.failing == 0 or (reference and sweep.explained)),
        actual=executor.name,
        first=sweep.first,
        failing=sweep.failing,
    )


def _reference_claim(name: str, sweep: _Sweep, where: str) -> str:
    """A float chain may round a boundary the other way; the exact thresholds are the definition, the count is told."""
    if not sweep.failing:
        return f"the float32 chain of {name} gives the codes of the exact thresholds {where}"
    channels = ", ".join(f"{channel} ({count})" for channel, count in sorted(sweep.by_channel.items())[:NAMED_CHANNELS])
    return (
        f"the float32 chain of {name} rounds {sweep.failing} of {sweep.cases} reachable accumulators to another code "
        f"than the exact thresholds, {'each' if sweep.explained else 'not each'} within its rounding errors of a "
        f"boundary; channels (accumulators): {channels}"
    )


def _require_shape(node: Threshold, expected: tuple[int, ...], actual: Codes, executor: NamedRequantizer) -> None:
    if actual.shape != expected:
        raise StageError(
            f"{executor.name} returned shape {actual.shape} for activation {node.name}; expected {expected}"
        )


def rising_codes(node: Threshold, first: int, last: int, executor: Requantizer) -> Codes:
    """Return the executor's codes for accumulators first..last in the sign convention of the integer model."""
    codes = executor.requantize(node.name, first, last)
    if executor.weight_sign == "trained" and node.flipped.any():
        codes = codes.copy()
        codes[:, node.flipped] = executor.requantize(node.name, -last, -first)[::-1, node.flipped]
    return codes


def rising_codes_at(node: Threshold, accumulators: Codes, executor: NamedPoints) -> Codes:
    """Return the executor's codes for *accumulators*, shape (N, channels), in the signs of the integer model."""
    turned = np.where(_turned(node, executor), -accumulators, accumulators)
    codes = executor.requantize_at(node.name, turned)
    _require_shape(node, accumulators.shape, codes, executor)
    return codes


def _turned(node: Threshold, executor: Requantizer) -> Mask:
    """Return which channels the executor holds with the other sign."""
    return node.flipped if executor.weight_sign == "trained" else np.zeros_like(node.flipped)
