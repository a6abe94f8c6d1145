"""The float32 error bound against float32 itself, in many orders, and against its own definition in exact numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from bitproof.export.integer import Interval
from bitproof.export.integer.activation import Activation, Bipolar, Chain, Quantizer, Rounding
from bitproof.export.integer.surd import Surd
from bitproof.export.lowering.pools import _averaged
from bitproof.export.proofs import float_order, near_boundaries, order_dependent, prove_order

TERMS = 64
TRIALS = 300
QUANTIZER = Quantizer(Fraction(float(np.float32(0.3))), 0, 0, 15, Rounding.ROUND)
F32 = NDArray[np.float32]


def exact(value: np.float32 | float) -> Fraction:
    return Fraction(float(np.float32(value)))


def sums(products: F32, bias: np.float32, generator: np.random.Generator) -> list[np.float32]:
    """Sum in binary32 one by one, backwards, pairwise, in random orders; the bias first or last."""
    totals = []
    for order_of in (np.arange(TERMS), np.arange(TERMS)[::-1], *(generator.permutation(TERMS) for _ in range(3))):
        totals.append(np.cumsum(np.concatenate([[bias], products[order_of]]), dtype=np.float32)[-1])
        totals.append(np.float32(np.cumsum(products[order_of], dtype=np.float32)[-1] + bias))
    totals.append(np.float32(products.sum(dtype=np.float32) + bias))
    return totals


def one_trial(generator: np.random.Generator) -> tuple[Activation, int, int, set[int]]:
    """Return an activation with a boundary near one accumulator, that accumulator, its magnitude, and float codes."""
    codes, weights = generator.integers(0, 16, TERMS), generator.integers(-8, 8, TERMS)
    accumulator, magnitude = int(codes @ weights), int(codes @ np.abs(weights))
    scales = generator.uniform(0.01, 0.1, 2).astype(np.float32)
    gamma, mean = np.float32(generator.uniform(0.2, 3)), np.float32(generator.normal())
    variance, epsilon, bias = np.float32(generator.uniform(0.1, 3)), np.float32(1e-5), np.float32(generator.normal())
    gain = np.float32(gamma / np.sqrt(np.float32(variance + epsilon)))
    raw = Chain.of(exact(scales[0]) * exact(scales[1]), exact(bias))
    norm = {"gamma": exact(gamma), "mean": exact(mean), "variance": exact(variance) + exact(epsilon)}
    level = int(generator.integers(1, 16))
    beta = np.float32(
        float(-raw.normalized(beta=0, **norm).value(accumulator) + (level - Fraction(1, 2)) * QUANTIZER.scale)
    )
    chain = raw.normalized(beta=exact(beta), **norm).clamped(0, None)
    found = set()
    products = (codes.astype(np.float32) * scales[0]) * (weights.astype(np.float32) * scales[1])
    for total in sums(products, bias, generator):
        for output in ((total - mean) * gain + beta, total * gain + (beta - mean * gain)):
            steps = np.round(max(output, np.float32(0)) / np.float32(0.3))
            found.add(int(np.clip(steps, 0, 15)))
    return Activation(chain, QUANTIZER), accumulator, magnitude, found


@pytest.mark.parametrize("bounded", [True, False])
def test_every_accumulator_that_float32_decides_otherwise_is_counted(
    bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not bounded:  # without the bound some are missed: the trials do reach beyond the boundaries
        monkeypatch.setattr(float_order, "_error_bound", lambda *_: Surd.of(0))
    generator = np.random.default_rng(5)
    otherwise = missed = torn = 0
    for _ in range(TRIALS):
        activation, accumulator, magnitude, found = one_trial(generator)
        reachable = Interval(accumulator - 5, accumulator + 5)
        torn += len(found) > 1
        if found != {activation.code(accumulator)}:
            otherwise += 1
            near = near_boundaries(activation, reachable, magnitude, TERMS)
            missed += not any(accumulator in interval for interval in near)
    assert torn > TRIALS // 4
    assert otherwise > TRIALS // 3
    assert (missed == 0) is bounded


def distance(activation: Activation, accumulator: int) -> Surd:
    """Distance of the value from the nearest boundary within the clamps, before the clamps."""
    value = activation.chain.slope * accumulator + activation.chain.intercept
    levels = range(1, activation.quantization.levels + 1)
    return min(abs(value - activation.quantization.boundary(level)[0]) for level in levels)


@pytest.mark.slow
@pytest.mark.parametrize("rising", [True, False])
def test_the_count_is_that_of_the_exact_bound(rising: bool) -> None:
    generator = np.random.default_rng(6)
    reachable = Interval(-60, 90)
    for _ in range(12):
        chain = Chain.of(exact(generator.uniform(1e-3, 1e-2)), exact(generator.normal()))
        norm = {"gamma": exact(generator.uniform(0.5, 2)), "beta": exact(generator.normal())}
        chain = chain.normalized(mean=exact(generator.normal()), variance=exact(generator.uniform(0.1, 3)), **norm)
        activation = Activation(chain if rising else chain.negated(), QUANTIZER)
        magnitude, terms = int(generator.integers(300, 1 << 16)), int(generator.integers(1, 5000))
        assert chain.floats is not None
        bound = float_order._error_bound(activation, chain.floats, magnitude, terms)
        near = near_boundaries(activation, reachable, magnitude, terms)
        assert all(one.high < two.low for one, two in pairwise(near))
        for accumulator in range(reachable.low, reachable.high + 1):
            counted = any(accumulator in interval for interval in near)
            assert counted is (distance(activation, accumulator) <= bound)
        assert order_dependent([activation], [reachable], [magnitude], [terms]) == (
            sum(interval.high - interval.low + 1 for interval in near),
        )


def test_the_bound_is_gamma_times_the_magnitudes() -> None:
    # |y| of two products of magnitude 3 units of 1/3, bias 1, then * 2, + 5, and a zero point worth 4.
    chain = Chain.of(Fraction(1, 3), Fraction(-1)).times(-2).plus(5)
    activation = Activation(chain, Quantizer(Fraction(2), -2, 0, 3, Rounding.ROUND))
    assert chain.floats is not None
    roundings = 3 + 2 + 2 + 4
    expected = Fraction(roundings, (1 << 24) - roundings) * (3 * Fraction(2, 3) + 2 * 1 + 5 + 4)
    assert float_order._error_bound(activation, chain.floats, 3, 2) == expected
    # A clamp to [1, 2] can make a number larger, by its distance from 0; one to [-1, 2] cannot.
    for low, high, more in ((1, 2, 1), (-1, 2, 0), (-3, -1, 1), (None, -2, 2), (3, None, 3)):
        floats = chain.clamped(low, high).floats
        assert floats is not None
        assert floats.constants - chain.floats.constants == more
    # The longest path through a folded batch norm: epsilon, sum, root, reciprocal, gamma, times mean, beta, sum.
    norm = chain.normalized(gamma=Fraction(-3), beta=Fraction(-7), mean=Fraction(2), variance=Fraction(4)).floats
    assert norm is not None
    assert norm.roundings - chain.floats.roundings >= 8
    assert norm.constants == (chain.floats.constants + 2) * Fraction(3, 2) + 7


@pytest.mark.parametrize(
    ("unit", "bias", "magnitude", "exactly"),
    [
        (Fraction(1, 8), Fraction(0), 1 << 24, True),
        (Fraction(-1, 8), Fraction(0), 1 << 24, True),
        (Fraction(1, 8), Fraction(0), (1 << 24) + 1, False),
        (Fraction(1, 8), Fraction(3, 8), (1 << 24) - 3, True),
        (Fraction(1, 8), Fraction(-3, 8), (1 << 24) - 2, False),
        (Fraction(1, 8), Fraction(1, 16), 1 << 10, False),
        (Fraction(3, 4), Fraction(0), 1 << 10, False),
        (Fraction(1, 3), Fraction(0), 1 << 10, False),
        (Fraction(1, 1 << 127), Fraction(0), 1 << 10, False),
    ],
)
def test_sums_are_exact_iff_their_unit_is_a_power_of_two_and_24_bits_hold_them(
    unit: Fraction, bias: Fraction, magnitude: int, exactly: bool
) -> None:
    chain = Chain.of(unit, bias)
    assert chain.floats is not None
    assert float_order.sums_exactly(chain.floats, magnitude) is exactly
    # With one boundary at the value of accumulator 100 the count is 0 only where sums are exact.
    activation = Activation(chain.plus(-unit * 100 - bias), Bipolar())
    assert (order_dependent([activation], [Interval(-128, 128)], [magnitude], [9]) == (0,)) is exactly


def test_a_mean_of_powers_of_two_is_summed_exactly_before_it_is_divided() -> None:
    for scale, exactly in ((Fraction(1, 8), True), (Fraction(1, 3), False)):
        mean = _averaged(Chain.of(scale, 3 * scale), 49)
        assert mean == Chain.of(scale / 49, 3 * scale)
        assert mean.floats is not None
        assert float_order.sums_exactly(mean.floats, 49 * 255) is exactly


def test_only_boundaries_that_the_clamps_leave_open_count() -> None:
    reachable, quantizer = Interval(-100, 100), Quantizer(Fraction(1), 0, -50, 50, Rounding.ROUND)
    chain = Chain.of(Fraction(1, 3))
    open_to_all = order_dependent([Activation(chain, quantizer)], [reachable], [100], [9])[0]
    clamped = order_dependent([Activation(chain.clamped(0, 10), quantizer)], [reachable], [100], [9])[0]
    # Ties of y = a / 3 at half integers: a = 3 c - 3/2 is never an integer, so move by half a unit of it.
    assert (open_to_all, clamped) == (0, 0)
    shifted = Chain.of(Fraction(1, 3), Fraction(1, 2))
    open_to_all = order_dependent([Activation(shifted, quantizer)], [reachable], [100], [9])[0]
    clamped = order_dependent([Activation(shifted.clamped(0, 10), quantizer)], [reachable], [100], [9])[0]
    assert (open_to_all, clamped) == (67, 10)  # multiples of 3; 0.5, 1.5, ..., 9.5
    # A clamp closer to a boundary than the error settles nothing.
    for low, high in ((Fraction(1, 2) + Fraction(1, 1 << 40), None), (None, Fraction(1, 2) - Fraction(1, 1 << 40))):
        beside = Activation(shifted.clamped(low, high), Quantizer(Fraction(1), 0, 0, 1, Rounding.ROUND))
        assert near_boundaries(beside, reachable, 100, 9) == [Interval(0, 0)]


def test_a_constant_channel_depends_on_nothing_and_a_bound_beyond_everything_counts_all() -> None:
    dead = Activation(Chain.of(Fraction(1, 3)).times(0).plus(Fraction(1, 2)), QUANTIZER)
    assert near_boundaries(dead, Interval(0, 9), 9, 1) == []
    drowned = Activation(Chain.of(Fraction(1, 3)).plus(1 << 40).plus(-(1 << 40)), QUANTIZER)
    assert near_boundaries(drowned, Interval(0, 9), 9, 1) == [Interval(0, 9)]
    huge = Activation(Chain.of(Fraction(3 << 2000)), QUANTIZER)
    assert near_boundaries(huge, Interval(0, 9), 9, 1) == [Interval(0, 9)]
    tiny = Activation(Chain.of(Fraction(1, 3 << 2000)), QUANTIZER)
    assert near_boundaries(tiny, Interval(0, 9), 9, 1) in ([], [Interval(0, 9)])


def test_the_entry_counts_and_names_the_channels() -> None:
    near = Activation(Chain.of(Fraction(1, 3), Fraction(1, 2)), Quantizer(Fraction(1), 0, 0, 2, Rounding.ROUND))
    far = Activation(Chain.of(Fraction(1, 2)), near.quantization)
    reachable = [Interval(0, 9)] * 10
    proof = prove_order("act0", [far] + [near] * 9, reachable, [9] * 10, [4] * 10)
    assert proof.holds
    assert (proof.layer, proof.cases, proof.order_dependent) == ("act0", 100, 18)
    assert proof.claim == (
        "float32 sums decide at most 18 of 100 accumulators differently by their order; channels (accumulators): "
        "1 (2), 2 (2), 3 (2), 4 (2), 5 (2), 6 (2), 7 (2), 8 (2) and 1 more"
    )
    exact_only = prove_order("act0", [far], reachable[:1], [9], [4])
    assert exact_only.order_dependent == 0
    assert exact_only.claim == "float32 sums decide at most 0 of 10 accumulators differently by their order"


def test_what_bounds_nothing_is_refused() -> None:
    activation = Activation(Chain.of(Fraction(1, 3)), QUANTIZER)
    with pytest.raises(ValueError, match="float32 has no error bound for sums of over 8388608 roundings"):
        near_boundaries(activation, Interval(0, 9), 9, 1 << 23)
    unknown = replace(activation, chain=replace(activation.chain, floats=None))
    with pytest.raises(ValueError, match="does not know its float form"):
        near_boundaries(unknown, Interval(0, 9), 9, 1)
