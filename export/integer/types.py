"""The elements of the integer model: integer types, intervals, and the shapes of one sample."""

from __future__ import annotations

from dataclasses import dataclass

INPUT = "input"
"""What a node's wiring calls the input of the model."""

EXACT_FLOAT32, EXACT_FLOAT64 = 1 << 24, 1 << 53
"""Every integer of at most this magnitude, and every sum that stays within it, is exact in binary32, in binary64."""


@dataclass(frozen=True, slots=True)
class IntegerType:
    """Integers of *bits* bits in two's complement (*signed*) or offset-free unsigned form."""

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        if self.bits < 1:
            raise ValueError(f"an integer type has at least 1 bit, not {self.bits}")

    @property
    def minimum(self) -> int:
        """Smallest representable integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest representable integer."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def holds(self, low: int, high: int) -> bool:
        """Tell whether every integer from *low* to *high* is representable."""
        return self.minimum <= low and high <= self.maximum

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"

    @classmethod
    def smallest_for(cls, low: int, high: int) -> IntegerType:
        """Return the narrowest type that holds every integer from *low* to *high*; signed iff *low* < 0."""
        if low > high:
            raise ValueError(f"empty range [{low}, {high}]")
        if low >= 0:
            return cls(max(1, high.bit_length()), signed=False)
        return cls(max((-low - 1).bit_length(), high.bit_length() if high > 0 else 0) + 1, signed=True)


@dataclass(frozen=True, slots=True)
class Interval:
    """All integers from *low* to *high*, inclusive."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"empty interval [{self.low}, {self.high}]")

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high

    @property
    def magnitude(self) -> int:
        """Largest absolute value."""
        return max(-self.low, self.high)

    def with_zero(self) -> Interval:
        """Return the smallest interval that also holds 0, the code that padding adds."""
        return Interval(min(self.low, 0), max(self.high, 0))


CARRIED_ROUNDINGS = 8
"""Beside its additions, on the path of a sum that is multiplied without having become codes: both scalings, the
product, the bias, two divisions of a mean, an offset, and one to spare."""

Shape = tuple[int, ...]
"""Sizes of one sample, channels first, the batch left out: (C,), (C, L) or (C, H, W)."""

Ranges = tuple[Interval, ...]
"""One interval per channel, that is, for each index of a value's first axis."""


def hull(ranges: Ranges) -> Interval:
    """Return the smallest interval that holds all of *ranges*."""
    return Interval(min(r.low for r in ranges), max(r.high for r in ranges))


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums behind one value, by channel: what a float evaluation of it depends on.

    Attributes:
        magnitudes: a bound on each channel's sum of the magnitudes of its terms, in its codes' unit: no partial sum
            exceeds it, whatever the order.
        terms: how many terms are added at most.
    """

    magnitudes: tuple[int, ...]
    terms: int

    @classmethod
    def of_codes(cls, ranges: Ranges) -> Sums:
        """Return those of values that are no sums but codes, in *ranges*."""
        return cls(tuple(interval.magnitude for interval in ranges), 1)

    def terms_of_products(self, products: int) -> int:
        """Return how many roundings a sum of *products* of these values with weights counts as terms.

        Codes are exact. A sum that goes into the products as it is brings its own terms, and the roundings of its
        scales, its mean and its offset.
        """
        return products if self.terms == 1 else products + self.terms + CARRIED_ROUNDINGS


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of one value."""

    ranges: Ranges
    sums: Sums
