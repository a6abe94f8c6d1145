"""The distance of binary32 from the exact value of what a network computes: one bound for all float executors.

Each path from a number to the result multiplies it by N factors ``(1 + d)^(+-1)``, ``|d| <= u = 2^-24``. Whatever the
order of a sum and with or without fused multiply-add, the result therefore lies within ``gamma_N * M`` of the exact
one, ``gamma_N = N u / (1 - N u)``, where M is the sum of the magnitudes of all terms (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, lemmas 3.1 and 3.3).
"""

from __future__ import annotations

from fractions import Fraction

PRECISION = 24
"""Bits of a binary32 significand: every whole number up to 2^24 is one."""
DOUBLE_PRECISION = 53
"""Bits of a binary64 significand."""
PRODUCT_ROUNDINGS = 3
"""At most so many lie on the path through one product: the scaling of the code, that of the weight, the product."""
NORMALIZATION_ROUNDINGS = 10
"""At most so many lie on any path through a batch norm, as ``(x - mean) * g + beta`` or folded into
``x * g + (beta - mean * g)``: epsilon 1, its addition 1, root 1, reciprocal 1, gamma 1, then at most 4."""
QUANTIZER_ROUNDINGS = 4
"""Reciprocal of the scale, product with it, zero point, the half of a rounding."""
SUM_ROUNDINGS = 8
"""Beside its terms' additions, on a path to a decoded sum: both scalings, the product, the bias, two divisions of a
mean, and the reading of the value in binary64."""
OUTWARD = 1 + 2.0**-20
"""Covers every binary64 rounding in the use of a bound: those are 2^-50 of M at most, the bound at least 2^-24 M."""


def relative_error(roundings: int, precision: int = PRECISION) -> Fraction:
    """Return gamma_N for N = *roundings* of significands of *precision* bits; binary32 unless given.

    Raises:
        ValueError: they are so many that such floats bound nothing.
    """
    if 2 * roundings >= 1 << precision:
        name = "float32" if precision == PRECISION else f"a significand of {precision} bits"
        raise ValueError(f"{roundings} roundings: {name} has no error bound for over {1 << (precision - 1)}")
    return Fraction(roundings, (1 << precision) - roundings)


def is_power_of_two(number: Fraction) -> bool:
    """Tell whether *number*, above 0, is 2 to a whole power."""
    ends = number.numerator, number.denominator
    return number > 0 and all(end & (end - 1) == 0 for end in ends)


def sums_exactly(unit: Fraction, offset: Fraction, magnitude: int) -> bool:
    """Decide whether binary32 sums without any rounding, in any order.

    Args:
        unit: real value of one unit of the sum, above 0.
        offset: bias, a real value.
        magnitude: a bound on the sum of the magnitudes of the terms, in units.
    """
    return magnitude <= largest_exact_sum(unit, offset)


def largest_exact_sum(unit: Fraction, offset: Fraction, precision: int = PRECISION) -> int:
    """Return up to which sum of magnitudes, in units, floats of *precision* bits sum without any rounding; -1: never.

    The other arguments are those of :func:`sums_exactly`.
    """
    if not (is_power_of_two(unit) and Fraction(1, 1 << 126) <= unit <= 1 << 100):  # neither underflow nor overflow
        return -1
    bias = abs(offset / unit)
    return max(-1, (1 << precision) - int(bias)) if bias.denominator == 1 else -1


def sum_error(unit: Fraction, offset: Fraction, magnitude: int, terms: int) -> float:
    """Return how far a binary32 sum of *terms* products may lie from the exact one; 0 if it is exact in any order.

    The other arguments are those of :func:`sums_exactly`.

    >>> sum_error(Fraction(1, 8), Fraction(0), 1 << 24, 100)
    0.0
    >>> 0.0001 < sum_error(Fraction(1, 10), Fraction(0), 1000, 10) < 0.00011
    True
    """
    if sums_exactly(unit, offset, magnitude):
        return 0.0
    return float(relative_error(terms + SUM_ROUNDINGS) * (unit * magnitude + abs(offset))) * OUTWARD
