"""Thresholds against the definition of the activation, decided by plain rational arithmetic."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.integer import Activation, Interval, threshold_of
from export.integer.thresholds import smallest_integer_beyond

REACHABLE = Interval(-40, 40)

fractions = st.fractions(min_value=-8, max_value=8, max_denominator=64)
positive = st.fractions(min_value=Fraction(1, 64), max_value=8, max_denominator=64)
# Squares make sqrt(variance) rational, so that exact ties occur; others make it irrational.
variances = st.one_of(positive, positive.map(lambda root: root * root))
grid = st.integers(min_value=-32, max_value=32).map(lambda n: Fraction(n, 4))
activations = st.one_of(
    st.builds(Activation, positive, fractions, fractions, fractions, variances, positive),
    # Everything on a coarse power-of-two grid, batch norm the identity: ties at every other accumulator.
    st.builds(
        Activation,
        st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(1, 4)]),
        st.sampled_from([Fraction(1), Fraction(-1), Fraction(2), Fraction(-1, 2), Fraction(0)]),
        grid,
        grid,
        st.just(Fraction(1)),
        st.sampled_from([Fraction(1), Fraction(1, 2)]),
    ),
)


def code_by_definition(activation: Activation, accumulator: int) -> int:
    """Round half to even in 60-digit decimals, and by hand where the decimal lies within 1e-40 of a tie."""
    with localcontext() as context:
        context.prec = 60
        gain = Decimal(activation.variance.denominator).sqrt() / Decimal(activation.variance.numerator).sqrt()
        affine = activation.gamma * (activation.scale * accumulator - activation.mean)
        pre = gain * Decimal(affine.numerator) / Decimal(affine.denominator)
        pre += Decimal(activation.beta.numerator) / Decimal(activation.beta.denominator)
        steps = pre / (Decimal(activation.output_scale.numerator) / Decimal(activation.output_scale.denominator))
        tie = (steps * 2).to_integral_value()
        if abs(steps * 2 - tie) < Decimal("1e-40"):
            return round(Fraction(int(tie), 2))
        return int(steps.to_integral_value())


@given(activations, st.integers(1, 8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_counting_thresholds_gives_the_rounded_and_saturated_code(
    activation: Activation, bits: int, signed: bool
) -> None:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    flip = activation.gamma < 0
    rising = activation.negated() if flip else activation
    thresholds = [threshold_of(rising, code, REACHABLE) for code in range(low + 1, high + 1)]
    assert thresholds == sorted(thresholds)
    for accumulator in range(REACHABLE.low, REACHABLE.high + 1):
        counted = low + sum(t <= accumulator for t in thresholds)
        original = -accumulator if flip else accumulator
        assert counted == min(max(code_by_definition(activation, original), low), high)


@given(activations, st.integers(-8, 8), st.integers(-40, 40))
@settings(max_examples=300, deadline=None)
def test_reaching_a_code_is_rounding_to_at_least_it(activation: Activation, code: int, accumulator: int) -> None:
    assert activation.reaches(code, accumulator) is (code_by_definition(activation, accumulator) >= code)


@pytest.mark.parametrize(("code", "expected"), [(1, 2), (2, 3), (3, 6), (4, 7)])
def test_a_tie_goes_to_the_even_code(code: int, expected: int) -> None:
    # y = a / 2, one code a unit: a = 1 is 0.5 (rounds to 0), a = 3 is 1.5 (rounds to 2), a = 5 is 2.5 (rounds to 2).
    activation = Activation(Fraction(1, 2), Fraction(1), Fraction(0), Fraction(0), Fraction(1), Fraction(1))
    assert threshold_of(activation, code, REACHABLE) == expected


def test_a_dead_channel_is_constant() -> None:
    activation = Activation(Fraction(1), Fraction(0), Fraction(3), Fraction(5), Fraction(2), Fraction(1))
    assert [threshold_of(activation, code, REACHABLE) for code in (2, 3, 4)] == [-40, -40, 41]


def test_thresholds_outside_the_reachable_accumulators_become_its_ends() -> None:
    activation = Activation(Fraction(1), Fraction(1), Fraction(0), Fraction(0), Fraction(1), Fraction(1))
    assert threshold_of(activation, -100, REACHABLE) == -40
    assert threshold_of(activation, 100, REACHABLE) == 41


def test_a_negative_slope_is_refused() -> None:
    activation = Activation(Fraction(1), Fraction(-1), Fraction(0), Fraction(0), Fraction(1), Fraction(1))
    with pytest.raises(ValueError, match="negate a channel of negative slope"):
        threshold_of(activation, 1, REACHABLE)


@given(
    st.fractions(min_value=-50, max_value=50, max_denominator=30),
    st.fractions(min_value=0, max_value=900, max_denominator=30),
    st.sampled_from([-1, 1]),
    st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_smallest_integer_beyond_a_quadratic_irrational(
    rational: Fraction, root: Fraction, sign: int, inclusive: bool
) -> None:
    found = smallest_integer_beyond(rational=rational, root=root, sign=sign, inclusive=inclusive)

    def beyond(integer: int) -> bool:
        # integer - rational >= sign * sqrt(root), by sign and square
        left = integer - rational
        difference = left * abs(left) - sign * root
        return difference > 0 or (inclusive and difference == 0)

    assert beyond(found)
    assert not beyond(found - 1)
