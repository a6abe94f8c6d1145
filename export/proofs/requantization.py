"""An executor's activations equal the integer thresholds: each is run on every reachable accumulator."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from export.integer import IntegerModel, Ranges, Threshold, hull, propagate
from pipeline import Codes, FloatReference, Requantizer, StageError
from pipeline.ledger import ProofEntry

ROWS_AT_ONCE = 1 << 17


NAMED_CHANNELS = 8
TOO_MANY = 10_000
"""An executor with more wrong codes than this is wrong; the rest is not run."""

Mask = NDArray[np.bool_]


class NamedRequantizer(Requantizer, Protocol):
    """A requantizer that has a name in the ledger."""

    @property
    def name(self) -> str:
        """Name in the ledger."""
        ...


@runtime_checkable
class PartialRequantizer(Protocol):
    """A requantizer some of whose activations cannot be run alone."""

    def requantizes(self, layer: int) -> bool:
        """Tell whether activation *layer* can be run alone."""
        ...


def prove_requantization(model: IntegerModel, executor: NamedRequantizer) -> list[ProofEntry]:
    """Run every activation of *executor* on every reachable accumulator of every channel and compare with the model.

    Raises:
        StageError: the executor returned codes of another shape.
    """
    ranges = propagate(model)
    entries = []
    for layer, node in enumerate(model.activations):
        if isinstance(executor, PartialRequantizer) and not executor.requantizes(layer):
            entries.append(_not_alone(node, executor.name))
        else:
            (source,) = model.sources(node.name)
            entries.append(_sweep(node, layer, ranges[source], executor))
    return entries


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
    """What was found so far about one activation of one executor."""

    cases: int = 0
    failing: int = 0
    first: dict[str, int] | None = None
    by_channel: Counter[int] = field(default_factory=Counter)
    beside_boundaries: bool = True
    """All differing codes are one step off, at a threshold or one below: what a rounding error can do."""

    def add(self, node: Threshold, accumulators: Codes, expected: Codes, actual: Codes, reachable: Mask) -> None:
        """Compare codes, shape (N, channels), at *accumulators*, shape (N, 1), where *reachable*."""
        differs = (actual != expected) & reachable
        self.cases += int(reachable.sum())
        self.failing += int(differs.sum())
        for row, channel in np.argwhere(differs):
            at, codes = int(accumulators[row, 0]), (int(expected[row, channel]), int(actual[row, channel]))
            self.by_channel[int(channel)] += 1
            beside = bool(np.isin(node.thresholds[channel], (at, at + 1)).any())
            self.beside_boundaries &= beside and abs(codes[0] - codes[1]) == node.step
            if self.first is None:
                self.first = {"channel": int(channel), "accumulator": at, "expected": codes[0], "actual": codes[1]}


def _sweep(node: Threshold, layer: int, reachable: Ranges, executor: NamedRequantizer) -> ProofEntry:
    lows = np.array([interval.low for interval in reachable])
    highs = np.array([interval.high for interval in reachable])
    total, sweep = hull(reachable), _Sweep()
    for start in range(total.low, total.high + 1, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE - 1, total.high)
        accumulators = np.arange(start, stop + 1, dtype=np.int64)[:, None]
        expected = node.apply(np.broadcast_to(accumulators, (len(accumulators), node.channels)))
        actual = rising_codes(node, layer, start, stop, executor)
        if actual.shape != expected.shape:
            raise StageError(
                f"{executor.name} returned shape {actual.shape} for activation {node.name}; expected {expected.shape}"
            )
        sweep.add(node, accumulators, expected, actual, (accumulators >= lows) & (accumulators <= highs))
        if sweep.failing > TOO_MANY:
            break
    reference = isinstance(executor, FloatReference)
    return ProofEntry(
        layer=node.name,
        claim=_reference_claim(executor.name, sweep)
        if reference
        else f"the activation that {executor.name} runs equals the integer thresholds on every reachable accumulator",
        method="every reachable accumulator of every channel was run through it",
        cases=sweep.cases,
        holds=sweep.cases > 0 and (sweep.failing == 0 or (reference and sweep.beside_boundaries)),
        actual=executor.name,
        first=sweep.first,
        failing=sweep.failing,
    )


def _reference_claim(name: str, sweep: _Sweep) -> str:
    """A float chain may round a boundary the other way; the exact thresholds are the definition, the count is told."""
    if not sweep.failing:
        return f"the float32 chain of {name} gives the codes of the exact thresholds on every reachable accumulator"
    channels = ", ".join(f"{channel} ({count})" for channel, count in sorted(sweep.by_channel.items())[:NAMED_CHANNELS])
    return (
        f"the float32 chain of {name} rounds {sweep.failing} of {sweep.cases} reachable accumulators to a code beside "
        f"that of the exact thresholds, all others to the same; channels (accumulators): {channels}"
    )


def rising_codes(node: Threshold, layer: int, first: int, last: int, executor: Requantizer) -> Codes:
    """Return the executor's codes for accumulators first..last in the sign convention of the integer model."""
    codes = executor.requantize(layer, first, last)
    if executor.weight_sign == "trained" and node.flipped.any():
        codes = codes.copy()
        codes[:, node.flipped] = executor.requantize(layer, -last, -first)[::-1, node.flipped]
    return codes
