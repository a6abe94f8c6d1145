"""Codes as unsigned bytes, as every kernel reads and writes them.

Codes that are not negative and lie side by side are stored as they are; of all others the byte is the code's number
among those that occur, counted from 0: ``code = lowest + step * byte``. So 4-bit signed codes -8..7 are the bytes
0..15, and the bipolar codes -1 and 1 are 0 and 1.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from pydantic import Field

from bitproof.pipeline import Codes
from bitproof.pipeline.record import Record

MOST_CODES = 256


class ByteCodes(Record):
    """Which code a byte stands for.

    Attributes:
        lowest: the code of the byte 0.
        step: the distance of the codes of two neighbouring bytes.
        count: how many bytes stand for a code: 0 to count - 1.
    """

    lowest: int
    step: int = Field(ge=1)
    count: int = Field(ge=1, le=MOST_CODES)

    @classmethod
    def of(cls, codes: range) -> ByteCodes:
        """Return how the *codes* that occur are stored.

        Raises:
            ValueError: they are more than 256.
        """
        if codes[0] >= 0 and codes.step == 1 and codes[-1] < MOST_CODES:
            return cls(lowest=0, step=1, count=codes[-1] + 1)
        if len(codes) > MOST_CODES:
            raise ValueError(f"{len(codes)} codes from {codes[0]} to {codes[-1]}; a byte holds {MOST_CODES}")
        return cls(lowest=codes[0], step=codes.step, count=len(codes))

    @property
    def codes(self) -> range:
        """The codes of the bytes from 0 on."""
        return range(self.lowest, self.lowest + self.step * self.count, self.step)

    @property
    def as_they_are(self) -> bool:
        """Each byte is its code."""
        return self.lowest == 0 and self.step == 1

    @property
    def fit_int8(self) -> bool:
        """The codes themselves fit a signed byte."""
        return self.codes[0] >= -128 and self.codes[-1] <= 127

    def with_zero(self) -> ByteCodes:
        """Return codes of which these are some, and 0 is one: as few as there can be.

        Raises:
            ValueError: a byte does not hold them all.
        """
        if 0 in self.codes:
            return self
        lowest, highest = min(self.codes[0], 0), max(self.codes[-1], 0)
        step = gcd(self.step, self.codes[0])
        count = (highest - lowest) // step + 1
        if count > MOST_CODES:
            raise ValueError(f"{count} codes from {lowest} to {highest}; a byte holds {MOST_CODES}")
        return ByteCodes(lowest=lowest, step=step, count=count)

    def recoded(self, factor: int, offset: int) -> ByteCodes:
        """Return what the same bytes stand for if each code c is replaced by ``factor * c + offset``; factor > 0."""
        return ByteCodes(lowest=factor * self.lowest + offset, step=factor * self.step, count=self.count)

    def to_bytes(self, codes: Codes) -> Codes:
        """Return the bytes of *codes*.

        Raises:
            ValueError: one of them is not among :attr:`codes`.
        """
        numbers, rest = np.divmod(codes - self.lowest, self.step)
        if codes.size and (rest.any() or numbers.min() < 0 or numbers.max() >= self.count):
            steps = f" in steps of {self.step}" if self.step > 1 else ""
            raise ValueError(
                f"codes {codes.min()} to {codes.max()}; allowed are {self.codes[0]} to {self.codes[-1]}{steps}"
            )
        return numbers

    def from_bytes(self, stored: Codes) -> Codes:
        """Return the codes of *stored* bytes."""
        return self.lowest + self.step * stored
