"""Sums of square roots against two other representations: square-free radicands, and decimals of 120 digits."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import reduce
from math import isqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.export.integer.surd import Line, Surd

fractions = st.fractions(min_value=-20, max_value=20, max_denominator=60)
radicands = st.fractions(min_value=Fraction(1, 12), max_value=60, max_denominator=12)
sums = st.lists(st.tuples(fractions, radicands), max_size=4)
Written = list[tuple[Fraction, Fraction]]
"""Pairs (q, r) that stand for the sum of q * sqrt(r)."""


def root(radicand: Fraction | int) -> Surd:
    return Surd.of(1).over_root(1 / Fraction(radicand))


def surd_of(written: Written) -> Surd:
    return reduce(lambda total, term: total + root(term[1]) * term[0], written, Surd.of(0))


def square_free(written: Written) -> dict[int, Fraction]:
    """Coefficients by square-free radicand, found by trial division; zero iff there is none."""
    coefficients: dict[int, Fraction] = {}
    for q, r in written:
        inside, outside = r.numerator * r.denominator, Fraction(q, r.denominator)
        for factor in range(2, isqrt(inside) + 1):
            while inside % (factor * factor) == 0:
                inside, outside = inside // (factor * factor), outside * factor
        coefficients[inside] = coefficients.get(inside, Fraction(0)) + outside
    return {r: q for r, q in coefficients.items() if q}


def decimal_of(written: Written) -> Decimal:
    total = Decimal(0)
    for r, q in square_free(written).items():
        total += Decimal(q.numerator) / Decimal(q.denominator) * Decimal(r).sqrt()
    return total


@pytest.mark.slow
@given(sums)
@settings(max_examples=200, deadline=None)
def test_a_sum_is_zero_iff_its_square_free_form_is_and_has_the_sign_of_its_decimals(written: Written) -> None:
    surd, expected = surd_of(written), square_free(written)
    assert len(surd.terms) == len(expected)
    assert surd.is_rational is (set(expected) <= {1})
    with localcontext() as context:
        context.prec = 120
        value = decimal_of(written)
        assert surd.sign() == (value > 0) - (value < 0)
        assert abs(surd).sign() == (value != 0)


@given(sums, sums)
@settings(max_examples=150, deadline=None)
def test_arithmetic_and_order_are_those_of_the_square_free_forms(one: Written, two: Written) -> None:
    left, right = surd_of(one), surd_of(two)
    negated = [(-q, r) for q, r in two]
    assert left + right == surd_of(one + two)
    assert left - right == surd_of(one + negated)
    assert left * right == surd_of([(p * q, r * s) for p, r in one for q, s in two])
    assert (left == right) is (not square_free(one + negated))
    with localcontext() as context:
        context.prec = 120
        difference = decimal_of(one + negated)
        assert (left < right, left <= right) == (difference < 0, difference <= 0)
        assert (left > right, left >= right) == (difference > 0, difference >= 0)


@given(sums, st.integers(0, 90))
@settings(max_examples=150, deadline=None)
def test_floor_float_and_interval_are_those_of_the_decimals(written: Written, bits: int) -> None:
    surd = surd_of(written)
    low, high = surd.interval(bits)
    with localcontext() as context:
        context.prec = 120
        value = decimal_of(written)
        if surd.is_rational:
            exact = sum(square_free(written).values(), Fraction(0))
            assert (surd.floor(), float(surd)) == (exact.numerator // exact.denominator, float(exact))
            assert low <= exact <= high
            assert surd.fraction() == exact
        else:
            assert surd.floor() == int(value.to_integral_value(rounding="ROUND_FLOOR"))
            assert float(surd) == float(value)
            assert Decimal(low.numerator) / Decimal(low.denominator) < value
            assert value < Decimal(high.numerator) / Decimal(high.denominator)
    assert high - low <= Fraction(len(written), 1 << bits)


@pytest.mark.parametrize("size", [10**3, 10**12, 10**40])
def test_close_calls_are_decided(size: int) -> None:
    assert (root(size * size + 1) - size).sign() == 1  # 1 / (2 * size)
    assert (root(size * size - 1) - size).sign() == -1
    assert (root(size * size) - size).sign() == 0
    assert root(size * size - 1).floor() == size - 1
    assert (-root(size * size + 1)).floor() == -size - 1
    # sqrt(n - 1) + sqrt(n + 1) < 2 sqrt(n), by about n^-1.5 / 4
    assert (root(size - 1) + root(size + 1) - root(size) * 2).sign() == -1
    # A rational that agrees with sqrt(2) + sqrt(3) to many digits, from either side.
    exact = root(2) + root(3)
    low, high = exact.interval(size.bit_length() * 5)
    assert ((exact - low).sign(), (exact - high).sign()) == (1, -1)


def test_floors_are_exact_where_those_of_the_roots_do_not_add_up() -> None:
    for p in range(-12, 13):
        for q in range(-12, 13):
            written = [(Fraction(p), Fraction(2)), (Fraction(q), Fraction(3))]
            with localcontext() as context:
                context.prec = 60
                expected = int(decimal_of(written).to_integral_value(rounding="ROUND_FLOOR"))
            assert surd_of(written).floor() == expected
    assert (root(2) + root(3)).floor() == 3  # 1 + 1, and more than 1 between them


def test_radicands_that_differ_by_a_square_are_one_term() -> None:
    assert (root(8) + root(18)) == root(50)
    assert (root(27) - root(3) * 3).terms == ()
    assert (root(Fraction(3, 4)) + root(12) + root(Fraction(1, 3))).terms == ((3, 17),)
    large = (10**9 + 7) * 5
    assert (root(large * 49) - root(large) * 7).sign() == 0


@given(fractions.filter(bool), radicands)
def test_the_inverse_of_one_term_times_it_is_one(q: Fraction, r: Fraction) -> None:
    assert (root(r) * q).inverse() * (root(r) * q) == 1


@given(sums, radicands)
@settings(max_examples=100, deadline=None)
def test_dividing_twice_by_a_root_divides_by_the_variance(written: Written, variance: Fraction) -> None:
    assert surd_of(written).over_root(variance).over_root(variance) == surd_of(written) * (1 / variance)


@pytest.mark.slow
@given(sums, sums, st.integers(-50, 50), fractions)
@settings(max_examples=150, deadline=None)
def test_a_line_decides_as_its_value_does(one: Written, two: Written, x: int, at: Fraction) -> None:
    slope, intercept = surd_of(one), surd_of(two)
    line = Line.through(slope=slope, intercept=intercept)
    beyond = slope * x + intercept - at
    assert line.sign_beyond(x, at.numerator, at.denominator) == beyond.sign()
    value = slope * at + intercept
    for inclusive in (True, False):
        least = line.least_integer(at.numerator, at.denominator, inclusive=inclusive)
        assert (value <= least, value <= least - 1) == (True, False) if inclusive else value < least
        assert inclusive or value >= least - 1


def test_what_has_no_meaning_is_refused() -> None:
    for variance in (Fraction(0), Fraction(-1, 2)):
        with pytest.raises(ValueError, match=rf"divides by the square root of {variance}; it must be positive"):
            Surd.of(1).over_root(variance)
    for several in (Surd.of(0), root(2) + 1):
        with pytest.raises(ValueError, match="needs exactly one term"):
            several.inverse()
    with pytest.raises(ValueError, match="is not rational"):
        root(2).fraction()
    with pytest.raises(TypeError, match="unhashable"):
        hash(root(2))
    assert root(2) != "root"
    assert str(root(2) * Fraction(3, 4) - 1) == "(-4 + 3*sqrt(2))/4"
