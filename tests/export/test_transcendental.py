"""Enclosures of tanh and its inverse hold what mpmath calculates with twice the digits, and are as narrow as asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction

import mpmath
import pytest

from bitproof.export.integer.transcendental import atanh, logarithm, tanh

Enclosure = Callable[[Fraction, Fraction, int], tuple[Fraction, Fraction]]


def arguments() -> Iterator[Fraction]:
    """Yield numbers of every size, with denominators of all kinds, and those between -1 and 1."""
    chosen = random.Random(1)
    yield from map(Fraction, ("0", "1/2", "-1/2", "1/3", "1000000", "-1000000", "1/1000000000000000000000000"))
    for _ in range(500):
        yield Fraction(chosen.randint(-(10**9), 10**9), chosen.choice([1, 7, 10**6, 3 * 10**9, 10**12, 1 << 80]))


def number(value: Fraction) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator


@pytest.mark.parametrize("bits", [1, 20, 64, 200])
@pytest.mark.parametrize(("enclose", "function"), [(tanh, mpmath.tanh), (atanh, mpmath.atanh)])
def test_enclosures_hold_the_number_and_are_narrow(enclose: Enclosure, function: object, bits: int) -> None:
    assert callable(function)
    with mpmath.workprec(600):
        for any_number in arguments():
            argument = any_number / (abs(any_number) + 1) if enclose is atanh else any_number
            low, high = enclose(argument, argument, bits)
            assert number(low) <= function(number(argument)) <= number(high), argument
            assert high - low <= Fraction(1, 1 << bits), argument


@pytest.mark.parametrize("bits", [5, 64])
def test_logarithms(bits: int) -> None:
    with mpmath.workprec(300):
        for argument in arguments():
            if argument > 0:
                low, high = logarithm(argument, bits)
                assert number(low) <= mpmath.log(number(argument)) <= number(high)
                assert high - low <= Fraction(1, 1 << bits)


def test_a_number_without_a_logarithm_is_refused() -> None:
    with pytest.raises(ValueError, match="takes the logarithm of -3, which must be positive"):
        logarithm(Fraction(-3), 10)


def test_an_interval_is_enclosed_from_end_to_end() -> None:
    low, high = tanh(Fraction(-1), Fraction(2), 40)
    assert low <= tanh(Fraction(-1), Fraction(-1), 80)[0]
    assert tanh(Fraction(2), Fraction(2), 80)[1] <= high
