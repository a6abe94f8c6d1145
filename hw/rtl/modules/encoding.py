"""How the bits of a code or of a weight stand for an integer: unsigned, in two's complement, or bipolar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitproof.export.integer import IntegerType
from bitproof.pipeline import Codes

Kind = Literal["unsigned", "signed", "bipolar"]
NUMBERS: dict[Kind, int] = {"unsigned": 0, "signed": 1, "bipolar": 2}
"""What ``CODE_KIND`` and ``WEIGHT_KIND`` of the modules are."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The *bits* of an element; one bipolar bit is 1 for +1 and 0 for -1."""

    bits: int
    kind: Kind

    def __post_init__(self) -> None:
        if self.bits < 1 or (self.kind == "bipolar" and self.bits != 1):
            raise ValueError(f"an encoding has at least 1 bit, a bipolar one exactly 1, not {self.bits}")

    @classmethod
    def of(cls, kind: IntegerType) -> Encoding:
        """Return that of the integers of type *kind*."""
        return cls(kind.bits, "signed" if kind.signed else "unsigned")

    @property
    def number(self) -> int:
        """Value of ``CODE_KIND`` or ``WEIGHT_KIND``."""
        return NUMBERS[self.kind]

    @property
    def minimum(self) -> int:
        """Smallest integer that an element can stand for."""
        return {"unsigned": 0, "signed": -(1 << (self.bits - 1)), "bipolar": -1}[self.kind]

    @property
    def maximum(self) -> int:
        """Largest integer that an element can stand for."""
        return {"unsigned": (1 << self.bits) - 1, "signed": (1 << (self.bits - 1)) - 1, "bipolar": 1}[self.kind]

    @property
    def stream(self) -> IntegerType:
        """Type of the elements of a stream: a bipolar code is the bit itself there."""
        return IntegerType(self.bits, self.kind == "signed")

    def holds(self, integers: Codes) -> bool:
        """Tell whether an element can stand for each of *integers*."""
        if self.kind == "bipolar":
            return bool(np.isin(integers, (-1, 1)).all())
        return bool((integers >= self.minimum).all() and (integers <= self.maximum).all())

    def elements(self, integers: Codes) -> Codes:
        """Return the elements of a stream that stand for *integers*."""
        return (integers + 1) // 2 if self.kind == "bipolar" else integers

    def integers(self, elements: Codes) -> Codes:
        """Return what *elements* of a stream stand for."""
        return 2 * elements - 1 if self.kind == "bipolar" else elements

    def __str__(self) -> str:
        return "bipolar" if self.kind == "bipolar" else str(self.stream)


BIPOLAR = Encoding(1, "bipolar")


def accumulator_type(codes: Encoding, weights: Encoding, terms: int) -> IntegerType:
    """Return the narrowest signed type for every sum of *terms* products of any codes and any weights.

    >>> str(accumulator_type(Encoding(4, "unsigned"), Encoding(2, "signed"), 9))
    'int10'
    """
    ends = [c * w for c in (codes.minimum, codes.maximum) for w in (weights.minimum, weights.maximum)]
    return IntegerType.smallest_for(min(*ends, -1) * terms, max(ends) * terms)


def reachable_sums(codes: Encoding, weights: Codes) -> tuple[int, int]:
    """Return the least and the greatest sum of products of *weights*, shape (outputs, terms), with any codes."""
    low, high = weights * codes.minimum, weights * codes.maximum
    return int(np.minimum(low, high).sum(axis=1).min()), int(np.maximum(low, high).sum(axis=1).max())
