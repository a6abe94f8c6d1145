"""Enclosures of tanh and its inverse by rational numbers, as narrow as is asked for; integer arithmetic alone.

``tanh`` of an algebraic number other than 0 is transcendental (Lindemann, 1882), and so is the inverse of one between
-1 and 1 other than 0: neither equals a rational number, a sum of square roots, or an integer. So comparing one of them
with those ends after finitely many halvings of the enclosure.

The two directions share nothing: tanh is calculated by the exponential series, its inverse by the logarithm.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil

GUARD_BITS = 16
"""Beyond those asked for: more than the last places that all roundings of one evaluation can cost."""
SMALL_BITS = 8
"""The exponential series begins with arguments below 2^-8."""


def tanh(low: Fraction, high: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Return rationals that enclose the tanh of every number from *low* to *high*, each within 2^-bits of its end."""
    return _tanh(low, bits)[0], _tanh(high, bits)[1]


def _tanh(number: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """``tanh x = (1 - e) / (1 + e)`` with ``e = exp(-2 x)``, which falls with e; x > 0."""
    if number < 0:
        opposite = _tanh(-number, bits)
        return -opposite[1], -opposite[0]
    places = bits + 2
    least, most = _exp_of_minus(2 * number, places)
    unit = 1 << places
    low, high = ((unit - most) << places) // (unit + most), -(-((unit - least) << places) // (unit + least))
    return Fraction(low, unit), Fraction(high, unit)


def _exp_of_minus(number: Fraction, places: int) -> tuple[int, int]:
    """Enclose ``2^places * exp(-number)``, *number* >= 0: a short series of it over 2^k, squared k times."""
    if number >= places:  # exp(-b) < 2^-b
        return 0, 1
    halvings = ceil(number).bit_length() + SMALL_BITS
    inner = places + halvings + GUARD_BITS
    argument = (number.numerator << (inner - halvings)) // number.denominator
    low, high = _series(argument + 1, 1 << inner)[0], _series(argument, 1 << inner)[1]  # it falls
    for _ in range(halvings):
        low, high = low * low >> inner, -(-high * high >> inner)
    spare = inner - places
    return low >> spare, -(-high >> spare)


def _series(argument: int, unit: int) -> tuple[int, int]:
    """Enclose ``unit * exp(-argument / unit)``, argument / unit < 1: terms alternate and shrink, so sums enclose."""
    low = high = unit
    term_low = term_high = unit
    order, sign = 0, 1
    while term_high > 1:
        order, sign = order + 1, -sign
        term_low = term_low * argument // (order * unit)
        term_high = -(-term_high * argument // (order * unit))
        low, high = (low + term_low, high + term_high) if sign > 0 else (low - term_high, high - term_low)
    return low - 2, high + 2  # what is left out is less than its first term, which is at most 1


def atanh(low: Fraction, high: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Return rationals that enclose the inverse tanh of every number from *low* to *high*, between -1 and 1."""
    return _atanh(low, bits)[0], _atanh(high, bits)[1]


def _atanh(number: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """``2 atanh x = ln((1 + x) / (1 - x))``."""
    low, high = logarithm((1 + number) / (1 - number), bits)
    return low / 2, high / 2


def logarithm(number: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Return rationals that enclose the natural logarithm of *number*, at most 2^-bits apart.

    Raises:
        ValueError: *number* is not positive.
    """
    if number <= 0:
        raise ValueError(f"takes the logarithm of {number}, which must be positive")
    exponent = number.numerator.bit_length() - number.denominator.bit_length()
    places = bits + exponent.bit_length() + GUARD_BITS
    mantissa = number / Fraction(2) ** exponent  # between 1/2 and 2
    low, high = _half_logarithm((mantissa - 1) / (mantissa + 1), places)
    two_low, two_high = _half_of_two(places)
    ends = sorted((exponent * two_low, exponent * two_high))
    unit = 1 << places
    return Fraction(2 * (low + ends[0]), unit), Fraction(2 * (high + ends[1]), unit)


@lru_cache(maxsize=64)
def _half_of_two(places: int) -> tuple[int, int]:
    return _half_logarithm(Fraction(1, 3), places)


def _half_logarithm(ratio: Fraction, places: int) -> tuple[int, int]:
    """Enclose ``2^places * ln((1 + w) / (1 - w)) / 2``, the sum of ``w^(2 k + 1) / (2 k + 1)``, |w| <= 1/3."""
    if ratio < 0:
        low, high = _half_logarithm(-ratio, places)
        return -high, -low
    below = (ratio.numerator << places) // ratio.denominator
    above = below + (below * ratio.denominator != ratio.numerator << places)
    low = high = 0
    power_low, power_high, order = below, above, 1
    while power_high > 1:
        low, high = low + power_low // order, high - (-power_high // order)
        power_low = power_low * below * below >> 2 * places
        power_high = -(-power_high * above * above >> 2 * places)
        order += 2
    return low, high + 2  # the terms left out are at most 1 and shrink by 9
