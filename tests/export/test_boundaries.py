"""Deciding a monotone activation at its boundaries finds exactly what running every accumulator finds."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.export.integer import (
    Activation,
    Chain,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    Quantizer,
    Ranges,
    Rounding,
    Threshold,
    thresholds_of,
)
from bitproof.export.proofs import prove_requantization, requantization
from bitproof.export.proofs.boundaries import differing
from bitproof.pipeline import Codes, Observation, WeightSign
from bitproof.pipeline.ledger import ProofEntry


def threshold(rows: list[list[int]], step: int = 1) -> Threshold:
    kind = IntegerType.smallest_for(0, max(1, step * len(rows[0])))
    return Threshold("act0", np.array(rows, dtype=np.int64), kind, 0, np.zeros(len(rows), dtype=np.bool_), step)


def model_of(node: Threshold, low: int, high: int) -> IntegerModel:
    """A product of one input, 0 or 1, whose weights make the accumulators of every channel *low*..*high*."""
    weights = np.array([[high, low]] * node.channels, dtype=np.int64)
    product = MatMul("fc0", weights, IntegerType(40, signed=True))
    return IntegerModel("m", IntegerType(1, signed=False), Fraction(1), (2,), (product, node), Fraction(1))


@dataclass
class Staircase:
    """An executor that holds *node*, says why it is monotone, and counts what it was asked for."""

    node: Threshold
    why: str | None = "each step rises"
    weight_sign: WeightSign = "lowered"
    name: str = "stairs"
    asked: Counter[str] = field(default_factory=Counter)

    def requantize(self, node: str, first: int, last: int) -> Codes:
        accumulators = np.arange(first, last + 1, dtype=np.int64)[:, None]
        self.asked["rows"] += len(accumulators)
        return self._signed(np.repeat(accumulators, self.node.channels, axis=1))

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        self.asked["points"] += accumulators.size
        return self._signed(accumulators)

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str | None:
        assert (lows <= highs).all()
        return self.why

    def _signed(self, accumulators: Codes) -> Codes:
        turned = self.node.flipped & (self.weight_sign == "trained")
        return self.node.apply(np.where(turned, -accumulators, accumulators))


class FloatStaircase(Staircase):
    """A float reference: what it gives otherwise may be a rounding error."""

    precision_bits = 24

    def observe(self, codes: Codes) -> Observation:
        raise AssertionError("proofs run single activations alone")


LOW, HIGH = -20, 20
row = st.lists(st.integers(LOW, HIGH + 1), min_size=3, max_size=3).map(sorted)
wider = st.lists(st.integers(LOW - 9, HIGH + 9), min_size=3, max_size=3).map(sorted)


def both_ways(node: Threshold, executor: Staircase, monkeypatch: pytest.MonkeyPatch) -> tuple[ProofEntry, ProofEntry]:
    model = model_of(node, LOW, HIGH)
    (run,) = prove_requantization(model, executor)
    monkeypatch.setattr(requantization, "ALWAYS_RUN", 0)
    (decided,) = prove_requantization(model, executor)
    monkeypatch.undo()
    assert run.method.startswith("every reachable accumulator")
    assert decided.method.startswith("decided at the boundaries: ")
    return run, decided


@given(st.lists(st.tuples(row, wider), min_size=1, max_size=3), st.booleans(), st.sampled_from([1, 2]))
@settings(max_examples=300, deadline=None)
def test_boundaries_find_what_running_everything_finds(
    channels: list[tuple[list[int], list[int]]], reference: bool, step: int
) -> None:
    node = threshold([expected for expected, _ in channels], step)
    other = threshold([actual for _, actual in channels], step)
    executor = FloatStaircase(other) if reference else Staircase(other)
    with pytest.MonkeyPatch.context() as patch:
        run, decided = both_ways(node, executor, patch)
    assert decided.model_copy(update={"method": run.method}) == run


def test_every_threshold_that_is_off_by_one_is_found_in_either_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    node = replace(threshold([[-7, 0, 9], [1, 2, 3]]), flipped=np.array([True, False]))
    for channel, level, delta in np.ndindex(2, 3, 2):
        moved = node.thresholds.copy()
        moved[channel, level] += 2 * delta - 1
        faulty = Staircase(replace(node, thresholds=np.sort(moved, axis=1)), weight_sign="trained")
        run, decided = both_ways(node, faulty, monkeypatch)
        assert run.failing == decided.failing >= 1
        assert not decided.holds
        assert decided.first == run.first


STEP, LEAST = 4_000_000, -500_000_000


def exact() -> dict[str, list[Activation]]:
    """The activation whose thresholds are ``STEP * k + LEAST``, k from 0 to 254."""
    chain = Chain.of(Fraction(1, STEP)).plus(Fraction(1, 2) - Fraction(LEAST, STEP))
    return {"act0": [Activation(chain, Quantizer(Fraction(1), 0, 0, 255, Rounding.HALF_UP))]}


def wide_proof(executor: Staircase, node: Threshold) -> ProofEntry:
    """Prove *executor* on 1.2 thousand million accumulators; it must be a matter of moments."""
    started = time.process_time()
    (proof,) = prove_requantization(model_of(node, -600_000_000, 600_000_000), executor, exact)
    assert time.process_time() - started < 5
    return proof


def test_a_thousand_million_accumulators_are_decided_at_once_and_differences_are_counted_exactly() -> None:
    rows = [[STEP * k + LEAST for k in range(255)]]
    assert thresholds_of(exact()["act0"][0], Interval(-600_000_000, 600_000_000)) == rows[0]
    node = threshold(rows)
    right = Staircase(node)
    proof = wide_proof(right, node)
    assert proof.holds
    assert proof.cases == 1_200_000_001
    assert right.asked == {"points": 2 * 256}
    late = [[t + (1000 if k == 17 else 0) - (3 if k == 200 else 0) for k, t in enumerate(rows[0])]]
    proof = wide_proof(Staircase(threshold(late)), node)
    assert (proof.failing, proof.holds) == (1003, False)
    assert proof.first == {"channel": 0, "accumulator": rows[0][17], "expected": 18, "actual": 17}
    proof = wide_proof(FloatStaircase(threshold(late)), node)
    assert not proof.holds, "a thousand accumulators off is more than rounding gives"
    beside = [[t + (k == 17) for k, t in enumerate(rows[0])]]
    proof = wide_proof(FloatStaircase(threshold(beside)), node)
    assert (proof.failing, proof.holds) == (1, True)


def test_what_is_sampled_is_called_so() -> None:
    node = threshold([[0, 100]])
    silent = Staircase(node, why=None)
    proof = wide_proof(silent, node)
    assert proof.method.startswith("sampled: 256 stretches of 4096 accumulators")
    assert proof.claim.endswith("on 1048576 of the 1200000001 reachable accumulators; nothing is claimed of the others")
    assert proof.cases == silent.asked["rows"] == 1 << 20
    high = wide_proof(Staircase(threshold([[0, 600_000_001]]), why=None), node)
    assert not high.holds
    assert high.failing > 0


def test_a_reason_that_is_not_given_means_running_everything() -> None:
    node = threshold([[0, 3]] * 8)
    silent = Staircase(node, why=None)
    (proof,) = prove_requantization(model_of(node, -100_000, 100_000), silent)
    assert proof.method.startswith("every reachable accumulator")
    assert silent.asked == {"rows": 200_001}


def test_runs_of_no_accumulator_and_channels_of_one_are_decided() -> None:
    node = threshold([[5, 5, 5], [6, 6, 6], [5, 6, 6]])
    ranges: Ranges = (Interval(5, 5),) * 3
    assert differing(node, ranges, node.apply).count == 0
    found = differing(node, ranges, lambda accumulators: node.apply(accumulators) * 0 + 1)
    assert found.channel.tolist() == [0, 1]
    assert found.count == 2


def test_a_search_in_any_table_is_decided_by_the_ends_of_the_runs() -> None:
    """The reason that C and RTL give, for every table of three entries, ascending or not, and all right thresholds."""
    low, high = 0, 5
    entries = range(low, high + 2)
    tables = np.array([(a, b, c) for a in entries for b in entries for c in entries])
    accumulators = np.arange(low, high + 1)
    first = tables[:, [1]] <= accumulators  # half = 2, then half = 1, as the kernel does
    second = np.where(first, tables[:, [2]], tables[:, [0]]) <= accumulators
    found = 2 * first + second  # shape (tables, accumulators)
    equal_somewhere = 0
    for row in (table for table in tables if (np.diff(table) >= 0).all()):
        right = (row[:, None] <= accumulators).sum(axis=0)
        ends = [a for a in accumulators.tolist() if a in (low, high) or {a, a + 1} & set(row.tolist())]
        decided = (found[:, ends] == right[ends]).all(axis=1)
        assert (found[decided] == right).all()
        equal_somewhere += int(decided.sum())
    assert equal_somewhere > 84, "more tables than the ascending ones give the right codes"
