"""The provers against 1,000 random faults of each kind: every one is caught, and what is right passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from bitproof.export.integer import IntegerModel, IntegerType, Interval, MatMul, Threshold
from bitproof.export.integer.activation import (
    Activation,
    Bipolar,
    Chain,
    Quantization,
    Quantizer,
    Rounding,
    Truncation,
    thresholds_of,
)
from bitproof.export.integer.surd import Surd
from bitproof.export.proofs import prove_thresholds, prove_widths
from bitproof.export.proofs import thresholds as thresholds_module
from bitproof.export.proofs.thresholds import _by_enumeration, _by_monotony, levels_of

CASES = 1000
CHANNELS = 2


@dataclass(frozen=True)
class Case:
    node: Threshold
    activations: list[Activation]
    reachable: list[Interval]

    def holds(self, node: Threshold | None = None) -> bool:
        """Prove, and check that each method alone comes to the same verdict and that the place named is a fault."""
        node = node or self.node
        proof = prove_thresholds(node, self.activations, self.reachable)
        channels = list(zip(node.thresholds, self.activations, self.reachable, strict=True))
        for method in (_by_monotony, _by_enumeration):
            assert proof.holds is not any(method(node, *channel).failing for channel in channels)
        if proof.first is None:
            assert proof.holds
        else:
            channel, accumulator = proof.first["channel"], proof.first["accumulator"]
            assert accumulator in self.reachable[channel]
            assert self.activations[channel].code(accumulator) == proof.first["expected"] != proof.first["actual"]
            met = int((node.thresholds[channel] <= accumulator).sum())
            assert proof.first["actual"] == node.lowest + node.step * met
        return proof.holds


def random_fraction(generator: np.random.Generator, low: int, high: int) -> Fraction:
    return Fraction(int(generator.integers(low, high)), 64)


def random_chain(generator: np.random.Generator) -> Chain:
    """A rising chain: one or two batch norms, with a ReLU before, between or behind them."""
    chain = Chain.of(random_fraction(generator, 1, 8), random_fraction(generator, -64, 64))
    relu = int(generator.integers(0, 4))
    for position in range(int(generator.integers(1, 3))):
        if position == relu:
            chain = chain.clamped(0, None)
        variance = random_fraction(generator, 1, 200)
        chain = chain.normalized(
            gamma=random_fraction(generator, 16, 128),
            beta=random_fraction(generator, -64, 128),
            mean=random_fraction(generator, -64, 64),
            variance=variance * variance if generator.random() < 0.3 else variance,
        )
    return chain.clamped(0, 6) if relu == 3 else chain


def random_quantization(generator: np.random.Generator) -> Quantization:
    if generator.random() < 0.1:
        return Bipolar()
    rounding = list(Rounding)[int(generator.integers(len(Rounding)))]
    zero_point, lowest = int(generator.integers(-2, 3)), int(generator.integers(-6, 1))
    scale, levels = random_fraction(generator, 8, 32), int(generator.integers(3, 16))
    if generator.random() < 0.1:
        return Truncation(scale, zero_point, Fraction(2), 0, lowest, lowest + levels, rounding)
    return Quantizer(scale, zero_point, lowest, lowest + levels, rounding)


def case_of(activations: list[Activation], reachable: list[Interval]) -> Case:
    rows = [thresholds_of(*channel) for channel in zip(activations, reachable, strict=True)]
    quantization = activations[0].quantization
    flipped = np.zeros(len(rows), dtype=np.bool_)
    wide = IntegerType(62, signed=True)
    thresholds = np.array(rows, dtype=np.int64)
    node = Threshold("act0", thresholds, wide, quantization.lowest, flipped, quantization.step)
    return Case(node, activations, reachable)


def random_case(generator: np.random.Generator) -> Case:
    quantization = random_quantization(generator)
    activations = [Activation(random_chain(generator), quantization) for _ in range(CHANNELS)]
    reachable = [Interval(-int(generator.integers(1, 200)), int(generator.integers(1, 200))) for _ in activations]
    return case_of(activations, reachable)


def off_by_one(case: Case, generator: np.random.Generator) -> Threshold | None:
    """Move one threshold that some reachable accumulators meet and others do not."""
    lows = np.array([[interval.low] for interval in case.reachable])
    highs = np.array([[interval.high] for interval in case.reachable])
    places = np.argwhere((case.node.thresholds > lows) & (case.node.thresholds <= highs))
    if not len(places):
        return None
    channel, level = places[int(generator.integers(len(places)))]
    moved = case.node.thresholds.copy()
    moved[channel, level] += 1 if generator.random() < 0.5 else -1
    return replace(case.node, thresholds=np.sort(moved, axis=1))


def swapped_channels(case: Case, generator: np.random.Generator) -> Threshold | None:
    """Exchange two channels that differ at an accumulator both can reach."""
    low = max(interval.low for interval in case.reachable)
    high = min(interval.high for interval in case.reachable)
    seen = np.clip(case.node.thresholds, low, high + 1)
    if (seen[0] == seen[1]).all():
        return None
    return replace(case.node, thresholds=case.node.thresholds[::-1].copy())


def wrong_codes(case: Case, generator: np.random.Generator) -> Threshold | None:
    """Count from another code, or by another step (which shows where a threshold is met)."""
    if generator.random() < 0.5:
        return replace(case.node, lowest=case.node.lowest + int(generator.choice([-1, 1])))
    met = case.node.thresholds <= np.array([[interval.high] for interval in case.reachable])
    return replace(case.node, step=3 - case.node.step) if met.any() else None


@pytest.mark.slow
@pytest.mark.parametrize("mutate", [off_by_one, swapped_channels, wrong_codes])
def test_every_wrong_node_is_caught_and_every_right_one_passes(
    mutate: Callable[[Case, np.random.Generator], Threshold | None],
) -> None:
    generator = np.random.default_rng(1)
    mutated = 0
    while mutated < CASES:
        case = random_case(generator)
        wrong = mutate(case, generator)
        if wrong is None:
            continue
        mutated += 1
        assert case.holds()
        assert not case.holds(wrong)


def tied_chain(generator: np.random.Generator, at: int, value: Fraction) -> Chain:
    """A rising chain with the rational *value* at the accumulator *at*; most slopes are irrational."""
    scale = random_fraction(generator, 1, 8)
    return Chain.of(scale).normalized(
        gamma=random_fraction(generator, 1, 128),
        beta=value,
        mean=scale * at,
        variance=random_fraction(generator, 1, 200),
    )


@pytest.mark.slow
def test_rounding_half_up_where_half_even_is_right_is_caught() -> None:
    generator = np.random.default_rng(2)
    for _ in range(CASES):
        scale, zero_point = random_fraction(generator, 8, 32), int(generator.integers(-3, 4))
        lowest = -int(generator.integers(1, 8)) - zero_point
        quantizer = Quantizer(scale, zero_point, lowest, lowest + 15, Rounding.ROUND)
        # Half to even and half away from zero part at the ties below odd positive integers and even other ones.
        choices = [q for q in range(lowest + zero_point + 1, lowest + zero_point + 16) if (q % 2 == 1) == (q >= 1)]
        tie = (choices[int(generator.integers(len(choices)))] - Fraction(1, 2) - zero_point) * scale
        reachable = [Interval(-int(generator.integers(0, 200)), int(generator.integers(0, 200)))]
        at = int(generator.integers(reachable[0].low, reachable[0].high, endpoint=True))
        activation = Activation(tied_chain(generator, at, tie), quantizer)
        case = case_of([activation], reachable)
        half_up = replace(activation, quantization=replace(quantizer, rounding=Rounding.HALF_UP))
        assert case.holds()
        assert not case.holds(case_of([half_up], reachable).node)


def matmul_model(weights: list[int]) -> IntegerModel:
    matrix = np.array([weights], dtype=np.int64)
    node = MatMul("fc0", matrix, IntegerType.smallest_for(int(matrix.min()), int(matrix.max())))
    return IntegerModel("m", IntegerType(1, signed=False), Fraction(1), (len(weights),), (node,), Fraction(1))


def parts_of(total: int, generator: np.random.Generator) -> list[int]:
    """Some positive integers that sum to *total* >= 1."""
    cuts = {int(cut) for cut in generator.integers(1, max(total, 2), size=4)} - {total}
    edges = [0, *sorted(cuts), total]
    return [high - low for low, high in pairwise(edges)]


def test_an_accumulator_is_as_wide_as_its_extremes_and_one_beyond_32_bits_is_caught() -> None:
    generator = np.random.default_rng(3)
    for trial in range(CASES):
        k = 31 if trial % 2 else int(generator.integers(2, 40))
        negative = bool(generator.random() < 0.5)
        for extreme, bits in (((1 << k) - 1, k + 1), (1 << k, k + 1 if negative else k + 2), ((1 << k) + 1, k + 2)):
            sign = -1 if negative else 1
            beside = -sign * int(generator.integers(1, 1 << (k - 1)))  # the other extreme, which needs fewer bits
            weights = [sign * part for part in parts_of(extreme, generator)] + [beside]
            proof = prove_widths(matmul_model([weights[i] for i in generator.permutation(len(weights))]))[0]
            assert f": {bits} bits, never over {32 if bits <= 32 else 64}" in proof.claim
            assert proof.holds


def test_levels_are_exact_at_every_accumulator() -> None:
    generator = np.random.default_rng(4)
    for _ in range(CASES // 5):
        case = random_case(generator)
        for activation, interval in zip(case.activations, case.reachable, strict=True):
            exact = [activation.level(a) for a in range(interval.low, interval.high + 1)]
            assert levels_of(activation, interval).tolist() == exact


@pytest.mark.parametrize(
    ("chain", "quantization"),
    [
        # A tie at each other accumulator.
        (Chain.of(Fraction(1, 2)), Quantizer(Fraction(1), 0, -40, 40, Rounding.ROUND)),
        # A constant on a boundary.
        (Chain.of(Fraction(0), Fraction(1, 2)), Quantizer(Fraction(1), 0, -2, 2, Rounding.ROUND)),
        # A slope so small that binary64 sees the boundary everywhere.
        (Chain.of(Fraction(1, 1 << 90), Fraction(1, 2)), Quantizer(Fraction(1), 0, -2, 2, Rounding.ROUND)),
        # Most accumulators clamped onto a boundary.
        (Chain.of(Fraction(1)).clamped(0, 2), Quantizer(Fraction(1), 0, -2, 4, Rounding.FLOOR)),
        (Chain.of(Fraction(1)).clamped(0, 2), Quantizer(Fraction(1), 0, -2, 4, Rounding.CEIL)),
        # Two levels with one boundary: a code that no number has.
        (Chain.of(Fraction(1, 4)), Truncation(Fraction(1), 0, Fraction(1, 2), 0, -8, 8, Rounding.FLOOR)),
        # Boundaries closer than the error.
        (
            Chain.of(Fraction(1), Fraction((1 << 60) + 1, 2)),
            Quantizer(Fraction(1), 0, (1 << 59) - 40, (1 << 59) + 40, Rounding.ROUND),
        ),
        # Beyond the range of binary64.
        (Chain.of(Fraction(1 << 2000), Fraction(-(3 << 2000))), Quantizer(Fraction(1), 0, -2, 2, Rounding.ROUND)),
    ],
)
def test_binary64_decides_nothing_that_it_cannot(chain: Chain, quantization: Quantization) -> None:
    activation, interval = Activation(chain, quantization), Interval(-90, 70)
    exact = [activation.level(a) for a in range(interval.low, interval.high + 1)]
    assert levels_of(activation, interval).tolist() == exact
    case = case_of([activation], [interval])
    assert case.holds()
    met = case.node.thresholds[0]
    if ((met > interval.low) & (met <= interval.high)).any():
        wrong = off_by_one(case, np.random.default_rng(0))
        assert wrong is not None
        assert not case.holds(wrong)


def test_thresholds_outside_the_reachable_accumulators_are_judged_by_what_they_do() -> None:
    case = case_of(
        [Activation(Chain.of(Fraction(1)), Quantizer(Fraction(1), 0, 0, 2, Rounding.ROUND))], [Interval(1, 1)]
    )
    assert case.node.thresholds.tolist() == [[1, 2]]
    for same in ([-5, 2], [1, 9], [0, 1000]):
        assert case.holds(replace(case.node, thresholds=np.array([same])))
    for other in ([-5, -5], [9, 9], [-5, 1], [2, 2]):
        assert not case.holds(replace(case.node, thresholds=np.array([other])))


def test_wide_channels_are_decided_by_monotony_alone_and_the_entry_counts_both_ways() -> None:
    activation = Activation(Chain.of(Fraction(1, 1 << 18)), Quantizer(Fraction(1), 0, 0, 3, Rounding.ROUND))
    case = case_of([activation] * 2, [Interval(0, (1 << 20) - 1), Interval(0, 1 << 20)])
    proof = prove_thresholds(case.node, case.activations, case.reachable)
    assert proof.holds
    assert proof.cases == 2 * 2 * 4 + (1 << 20)
    assert "(16 cases;" in proof.method
    assert f"1 of 2 channels, those of at most 2^20 ({1 << 20} cases;" in proof.method
    wrong = case.node.thresholds.copy()
    wrong[1, 1] += 1
    proof = prove_thresholds(replace(case.node, thresholds=wrong), case.activations, case.reachable)
    assert not proof.holds
    assert proof.first == {"channel": 1, "accumulator": 3 << 17, "expected": 2, "actual": 1}


def test_a_layer_of_many_channels_is_enumerated_as_far_as_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    activation = Activation(Chain.of(Fraction(1, 4)), Quantizer(Fraction(1), 0, 0, 3, Rounding.ROUND))
    case = case_of([activation] * 3, [Interval(0, 99)] * 3)
    whole = prove_thresholds(case.node, case.activations, case.reachable)
    assert "3 of 3 channels, those of at most 2^20 (300 cases;" in whole.method
    monkeypatch.setattr(thresholds_module, "ENUMERATED_OF_LAYER", 200)
    proof = prove_thresholds(case.node, case.activations, case.reachable)
    assert "2 of 3 channels, those of at most 2^20, while they are at most 2^28 together (200 cases;" in proof.method
    assert proof.cases == whole.cases - 100
    wrong = case.node.thresholds.copy()
    wrong[2, 1] += 1
    assert not prove_thresholds(replace(case.node, thresholds=wrong), case.activations, case.reachable).holds


def test_a_falling_activation_and_missing_channels_are_refused() -> None:
    case = case_of([Activation(Chain.of(Fraction(1)), Bipolar())], [Interval(0, 1)])
    with pytest.raises(ValueError, match="the activation of 'act0', channel 0, falls; negate it like its channel"):
        prove_thresholds(case.node, [case.activations[0].negated()], case.reachable)
    with pytest.raises(ValueError, match="shorter"):
        prove_thresholds(case.node, [], [])


def test_constants_are_compared_by_value() -> None:
    # A chain that a clamp makes constant equals one without a slope, and both prove one node.
    quantizer = Quantizer(Fraction(1), 0, 0, 3, Rounding.ROUND)
    clamped = Activation(Chain.of(Fraction(1)).clamped(2, 2), quantizer)
    constant = Activation(Chain(Surd.of(0), Surd.of(2)), quantizer)
    case = case_of([clamped, constant], [Interval(-9, 9)] * 2)
    assert case.node.thresholds.tolist() == [[-9, -9, 10]] * 2
    assert case.holds()
