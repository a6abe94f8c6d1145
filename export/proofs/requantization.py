"""An executor's activations equal the integer thresholds: each is run on every reachable accumulator."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from export.integer import IntegerModel, Interval, Threshold, hull, propagate
from pipeline import Codes, Requantizer, StageError
from pipeline.ledger import ProofEntry

ROWS_AT_ONCE = 1 << 17


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


def _sweep(node: Threshold, layer: int, reachable: tuple[Interval, ...], executor: NamedRequantizer) -> ProofEntry:
    lows = np.array([interval.low for interval in reachable])
    highs = np.array([interval.high for interval in reachable])
    total = hull(reachable)
    cases = failing = 0
    first = None
    for start in range(total.low, total.high + 1, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE - 1, total.high)
        accumulators = np.arange(start, stop + 1, dtype=np.int64)[:, None]
        expected = node.apply(np.broadcast_to(accumulators, (len(accumulators), node.channels)))
        actual = _rising_codes(node, layer, start, stop, executor)
        if actual.shape != expected.shape:
            raise StageError(
                f"{executor.name} returned shape {actual.shape} for activation {node.name}; expected {expected.shape}"
            )
        mask = (accumulators >= lows) & (accumulators <= highs)
        differs = (actual != expected) & mask
        cases += int(mask.sum())
        failing += int(differs.sum())
        if first is None and differs.any():
            row, channel = (int(i) for i in np.argwhere(differs)[0])
            first = {
                "channel": channel,
                "accumulator": start + row,
                "expected": int(expected[row, channel]),
                "actual": int(actual[row, channel]),
            }
    return ProofEntry(
        layer=node.name,
        claim=f"the activation that {executor.name} runs equals the integer thresholds on every reachable accumulator",
        method="every reachable accumulator of every channel was run through it",
        cases=cases,
        holds=failing == 0 and cases > 0,
        actual=executor.name,
        first=first,
        failing=failing,
    )


def _rising_codes(node: Threshold, layer: int, first: int, last: int, executor: NamedRequantizer) -> Codes:
    """Return the executor's codes for accumulators first..last in the sign convention of the integer model."""
    codes = executor.requantize(layer, first, last)
    if executor.weight_sign == "trained" and node.flipped.any():
        codes = codes.copy()
        codes[:, node.flipped] = executor.requantize(layer, -last, -first)[::-1, node.flipped]
    return codes
