"""The cut of a function that never falls at a boundary: all numbers from one on, which may be an inverse tanh."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor

from bitproof.export.integer.surd import FIRST_BITS, Surd
from bitproof.export.integer.transcendental import atanh


@dataclass(frozen=True, slots=True, eq=False)
class InverseTanh:
    """The real number ``gain * atanh(of) + shift``, which is transcendental.

    Attributes:
        of: between -1 and 1, not 0.
        gain: not 0.
        shift: added.
    """

    of: Surd
    gain: Surd
    shift: Surd

    def interval(self, bits: int) -> tuple[Fraction, Fraction]:
        """Return rationals that enclose this, the closer the more *bits*."""
        while True:
            low, high = self.of.interval(bits)
            if low > -1 and high < 1:
                break
            bits *= 2
        gains, shifts = self.gain.interval(bits), self.shift.interval(bits)
        products = [gain * end for gain in gains for end in atanh(low, high, bits)]
        return min(products) + shifts[0], max(products) + shifts[1]

    def floor(self) -> int:
        """Return the largest integer below this, which is no integer."""
        bits = FIRST_BITS
        while True:
            low, high = (floor(end) for end in self.interval(bits))
            if low == high:
                return low
            bits *= 2


Real = Surd | InverseTanh


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """The real numbers > *at* (>= if *inclusive*); :data:`ALWAYS` and :data:`NEVER` stand for all and for none."""

    at: Real
    inclusive: bool

    def holds(self, number: Surd) -> bool:
        """Tell whether *number* is one of them."""
        sign = -side(self.at, number)
        return sign > 0 or (sign == 0 and self.inclusive)

    def least_integer(self) -> int:
        """Return the smallest integer of them."""
        below = self.at.floor()
        if isinstance(self.at, Surd) and self.inclusive and self.at == below:
            return below
        return below + 1


ALWAYS, NEVER = Cut(Surd.of(0), inclusive=True), Cut(Surd.of(0), inclusive=False)
"""Told by identity: what they hold as numbers has no meaning."""


def side(number: Real, other: Surd) -> int:
    """Return the sign of *number* - *other*; exact."""
    if isinstance(number, Surd):
        return (number - other).sign()
    bits = FIRST_BITS
    while True:  # ends: they are not equal, one is algebraic and the other is not
        mine, its = number.interval(bits), other.interval(bits)
        if mine[1] < its[0] or mine[0] > its[1]:
            return -1 if mine[1] < its[0] else 1
        bits *= 2


def moved(number: Real, gain: Surd, shift: Surd) -> Real:
    """Return ``gain * number + shift``."""
    if isinstance(number, Surd):
        return gain * number + shift
    return InverseTanh(number.of, gain * number.gain, gain * number.shift + shift)
