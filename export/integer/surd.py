"""Exact real numbers of the form ``sum of q_k * sqrt(r_k)``, as batch norms make them.

Scales, biases and weights are binary fractions; batch normalization divides by the square root of one. Sums of
rational multiples of square roots hold every constant of such a chain, and two facts make them decidable:

* square roots of rationals no two of which differ by the square of a rational are linearly independent over the
  rationals (Besicovitch, On the linear independence of fractional powers of integers, 1940). A sum in which such roots
  are merged is therefore zero iff it has no term left;
* a sum that is not zero (not rational) is told from zero (from every integer) by intervals of integers that shrink
  until they decide, which they do after finitely many steps.

All of it is integer arithmetic: the floor of ``c * sqrt(r)`` is an integer square root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt, lcm

Terms = Sequence[tuple[int, int]]
"""Pairs (r, c) that stand for the sum of ``c * sqrt(r)``; c != 0, no two r differ by the square of a rational, and the
only r that is a square is 1."""

FIRST_BITS = 64


def sign_of(terms: Terms) -> int:
    """Return the sign of the sum of *terms*: -1, 0 or 1; exact."""
    if not terms:
        return 0
    if all(c > 0 for _, c in terms):
        return 1
    if all(c < 0 for _, c in terms):
        return -1
    if len(terms) == 2:
        (r, c), (s, d) = terms  # of opposite signs: the larger square decides
        return 1 if (c * c * r > d * d * s) == (c > 0) else -1
    bits = FIRST_BITS
    while True:
        low, spread = _enclose(terms, bits)
        if low >= 0 or low + spread <= 0:
            return 1 if low >= 0 else -1
        bits *= 2


def floor_of(terms: Terms, denominator: int) -> int:
    """Return the largest integer that is at most the sum of *terms* over *denominator* > 0; exact."""
    bits = 0
    while True:
        low, spread = _enclose(terms, bits)
        unit = denominator << bits
        # The sum lies strictly between low and low + spread, or is low: its floor is at most low + spread - 1.
        if (low + max(spread - 1, 0)) // unit == low // unit:
            return low // unit
        bits = 2 * bits or FIRST_BITS


def _enclose(terms: Terms, bits: int) -> tuple[int, int]:
    """Return integers (low, spread) with ``low <= 2^bits * sum <= low + spread``; strictly unless spread is 0."""
    low = spread = 0
    for r, c in terms:
        if r == 1:
            low += c << bits
        else:
            root = isqrt((c * c * r) << (2 * bits))
            low += root if c > 0 else -root - 1
            spread += 1
    return low, spread


def _reduce(radicand: int) -> tuple[int, int]:
    """Return (r, s) with ``radicand = r * s^2``, free of fours, and r = 1 if *radicand* is a square."""
    half_twos = ((radicand & -radicand).bit_length() - 1) // 2
    radicand >>= 2 * half_twos
    root = isqrt(radicand)
    return (1, root << half_twos) if root * root == radicand else (radicand, 1 << half_twos)


def _express(radicand: int, known: Iterable[int]) -> tuple[int, Fraction]:
    """Return (s, f) with ``sqrt(radicand) = f * sqrt(s)``: s the one in *known* that allows it, else the radicand."""
    for s in known:
        root = s if radicand == s else isqrt(radicand * s)
        if root * root == radicand * s:
            return s, Fraction(root, s)
    return radicand, Fraction(1)


def _merge(pairs: Iterable[tuple[int, Fraction]]) -> Surd:
    """Return the sum of ``q * sqrt(r)`` over pairs (r, q) with r as :func:`_reduce` leaves it."""
    classes: dict[int, Fraction] = {}
    for r, q in pairs:
        s, factor = _express(r, classes)
        classes[s] = classes[s] + q * factor if s in classes else q
    kept = sorted((r, q) for r, q in classes.items() if q)
    denominator = lcm(*(q.denominator for _, q in kept))
    return Surd(tuple((r, q.numerator * (denominator // q.denominator)) for r, q in kept), denominator)


def _pairs(surd: Surd) -> list[tuple[int, Fraction]]:
    return [(r, Fraction(c, surd.denominator)) for r, c in surd.terms]


def _product(one: tuple[int, Fraction], two: tuple[int, Fraction]) -> tuple[int, Fraction]:
    (r, p), (s, q) = one, two
    radicand, root = (1, r) if r == s else _reduce(r * s)
    return radicand, p * q * root


@dataclass(frozen=True, slots=True, eq=False)
class Surd:
    """An exact real number; make one with :meth:`of` and arithmetic.

    >>> root = Surd.of(1).over_root(Fraction(1, 2))
    >>> (root * root == 2, root.sign(), float(root), (root + -1).floor())
    (True, 1, 1.4142135623730951, 0)

    Attributes:
        terms: the value is their sum over *denominator*; ordered by radicand, the rational part (radicand 1) first.
        denominator: > 0, in lowest terms with the coefficients.
    """

    terms: tuple[tuple[int, int], ...]
    denominator: int

    @classmethod
    def of(cls, value: Fraction | int) -> Surd:
        """Return *value*."""
        return cls(((1, value.numerator),) if value else (), value.denominator)

    @classmethod
    def root(cls, radicand: int) -> Surd:
        """Return the square root of *radicand* >= 0."""
        return _merge([(r, Fraction(s)) for r, s in [_reduce(radicand)]]) if radicand else cls((), 1)

    def over(self, radicand: int) -> tuple[Fraction, Fraction] | None:
        """Return rationals (q, p) with ``self = q * sqrt(radicand) + p``; None if there are none.

        q is 0 if *radicand*, > 0, is 1.
        """
        q = p = Fraction(0)
        for r, coefficient in _pairs(self):
            root = isqrt(r * radicand)
            if r == 1:
                p += coefficient
            elif root * root == r * radicand:
                q += coefficient * Fraction(root, radicand)
            else:
                return None
        return q, p

    def __add__(self, other: Surd | Fraction | int) -> Surd:
        if self.is_rational and (not isinstance(other, Surd) or other.is_rational):
            return Surd.of(self.fraction() + (other.fraction() if isinstance(other, Surd) else other))
        return _merge([*_pairs(self), *_pairs(_surd(other))])

    def __neg__(self) -> Surd:
        return Surd(tuple((r, -c) for r, c in self.terms), self.denominator)

    def __sub__(self, other: Surd | Fraction | int) -> Surd:
        return self + -_surd(other)

    def __mul__(self, other: Surd | Fraction | int) -> Surd:
        if self.is_rational and (not isinstance(other, Surd) or other.is_rational):
            return Surd.of(self.fraction() * (other.fraction() if isinstance(other, Surd) else other))
        if isinstance(other, Surd):
            return _merge(_product(one, two) for one in _pairs(self) for two in _pairs(other))
        return _merge((r, q * other) for r, q in _pairs(self))

    def over_root(self, variance: Fraction) -> Surd:
        """Return this over the square root of *variance*.

        Raises:
            ValueError: *variance* is not positive.
        """
        if variance <= 0:
            raise ValueError(f"divides by the square root of {variance}; it must be positive")
        radicand, root = _reduce(variance.numerator * variance.denominator)
        return self * Surd(((radicand, root),), variance.numerator)

    def inverse(self) -> Surd:
        """Return one over this, which must have one term.

        Raises:
            ValueError: it has none (it is zero) or several.
        """
        if len(self.terms) != 1:
            raise ValueError(f"inverts {self}; needs exactly one term")
        ((r, c),) = self.terms
        return _merge([(r, Fraction(self.denominator, c * r))])

    def sign(self) -> int:
        """Return -1, 0 or 1; exact."""
        return sign_of(self.terms)

    def sign_beyond(self, number: Fraction) -> int:
        """Return the sign of this minus *number*; exact."""
        rational = sum(c for r, c in self.terms if r == 1)
        difference = rational * number.denominator - number.numerator * self.denominator
        roots = [(r, c * number.denominator) for r, c in self.terms if r != 1]
        return sign_of([(1, difference), *roots] if difference else roots)

    def floor(self) -> int:
        """Return the largest integer that is at most this; exact."""
        return floor_of(self.terms, self.denominator)

    @property
    def is_rational(self) -> bool:
        """It has no square root."""
        return all(r == 1 for r, _ in self.terms)

    def fraction(self) -> Fraction:
        """Return this as a rational number.

        Raises:
            ValueError: it is irrational.
        """
        if not self.is_rational:
            raise ValueError(f"{self} is not rational")
        return Fraction(sum(c for _, c in self.terms), self.denominator)

    def interval(self, bits: int) -> tuple[Fraction, Fraction]:
        """Return rationals (low, high) that enclose this, no further apart than the number of roots over 2^bits."""
        low, spread = _enclose(self.terms, bits)
        unit = self.denominator << bits
        return Fraction(low, unit), Fraction(low + spread, unit)

    def __float__(self) -> float:
        """Return the nearest float, as ``float(Fraction)`` does."""
        bits = FIRST_BITS
        while True:
            low, high = map(float, self.interval(bits))
            if low == high:  # ends: only a rational can lie on the midpoint of two floats
                return low
            bits *= 2

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Surd | Fraction | int):
            return NotImplemented
        return not (self - other).terms

    __hash__ = None  # type: ignore[assignment]  # equal numbers may be written with different radicands

    def __lt__(self, other: Surd | Fraction | int) -> bool:
        return (self - other).sign() < 0

    def __le__(self, other: Surd | Fraction | int) -> bool:
        return (self - other).sign() <= 0

    def __gt__(self, other: Surd | Fraction | int) -> bool:
        return (self - other).sign() > 0

    def __ge__(self, other: Surd | Fraction | int) -> bool:
        return (self - other).sign() >= 0

    def __abs__(self) -> Surd:
        return -self if self.sign() < 0 else self

    def __str__(self) -> str:
        roots = (str(c) if r == 1 else f"{c}*sqrt({r})" for r, c in self.terms)
        return f"({' + '.join(roots) or 0})/{self.denominator}"


def _surd(value: Surd | Fraction | int) -> Surd:
    return value if isinstance(value, Surd) else Surd.of(value)


@dataclass(frozen=True, slots=True)
class Line:
    """The exact map ``x -> slope * x + intercept`` of rational numbers, for many values of x.

    Attributes:
        terms: triples (r, a, b) that stand for the sum of ``(a * x + b) * sqrt(r)`` over *denominator*; the first r
            is 1.
        denominator: > 0.
    """

    terms: tuple[tuple[int, int, int], ...]
    denominator: int

    @classmethod
    def through(cls, *, slope: Surd, intercept: Surd) -> Line:
        """Return the line of that *slope* and *intercept*, on one set of radicands and one denominator."""
        pairs: dict[int, list[Fraction]] = {1: [Fraction(0), Fraction(0)]}
        for which, surd in enumerate((slope, intercept)):
            for r, q in _pairs(surd):
                s, factor = _express(r, pairs)
                pairs.setdefault(s, [Fraction(0), Fraction(0)])[which] += q * factor
        denominator = lcm(slope.denominator, intercept.denominator, *(q.denominator for p in pairs.values() for q in p))
        scaled = {r: [int(q * denominator) for q in pair] for r, pair in pairs.items()}
        return cls(tuple((r, a, b) for r, (a, b) in scaled.items()), denominator)

    def sign_beyond(self, x: int, numerator: int, denominator: int) -> int:
        """Return the sign of the value at the integer *x* minus the rational *numerator* / *denominator* (> 0)."""
        terms = [(r, denominator * (a * x + b)) for r, a, b in self.terms]
        terms[0] = (1, terms[0][1] - numerator * self.denominator)
        return sign_of([term for term in terms if term[1]])

    def least_integer(self, numerator: int, denominator: int, *, inclusive: bool) -> int:
        """Return the smallest integer > (>= if *inclusive*) the value at the rational *numerator* / *denominator*."""
        terms = [(r, a * numerator + b * denominator) for r, a, b in self.terms]
        terms = [term for term in terms if term[1]]
        unit = self.denominator * denominator
        least = floor_of(terms, unit)
        whole = all(r == 1 for r, _ in terms) and sum(c for _, c in terms) % unit == 0
        return least if inclusive and whole else least + 1
