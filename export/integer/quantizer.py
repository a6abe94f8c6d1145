"""Quantizers as staircases: at which real numbers the code rises, and on which side a tie falls.

The boundaries are those of its rounding (:mod:`bitproof.export.integer.rounding`). Saturation only drops some. QONNX
saturates before it rounds, which is the same: its limits are integers, and every rounding keeps integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Protocol

from bitproof.export.integer.rounding import Rounding
from bitproof.pipeline.float_error import is_power_of_two


class Quantization(Protocol):
    """A non-falling staircase from real numbers to the codes ``lowest, lowest + step, ...``; hashable."""

    @property
    def lowest(self) -> int:
        """The code below the first boundary."""
        ...

    @property
    def step(self) -> int:
        """Distance of two codes, > 0."""
        ...

    @property
    def levels(self) -> int:
        """Number of boundaries: the highest code is ``lowest + step * levels``."""
        ...

    @property
    def offset(self) -> Fraction:
        """Magnitude of what is added to a real number on the way to its code, in units of that number."""
        ...

    def boundary(self, level: int) -> tuple[Fraction, bool]:
        """Return (y, inclusive): the code is at least ``lowest + step * level`` iff the number is > y (>= y).

        Boundaries never fall with *level*, 1 to *levels*.
        """
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Quantizer:
    """QONNX Quant: ``q = clip(round(y / scale + zero_point))``, stored as the code ``q - zero_point``.

    A tie of ROUND goes to the even ``q``, and up, down and their halves turn at ``q = 0``: neither is the code's.

    Attributes:
        scale: real value of one code, > 0.
        zero_point: the integer that stands for 0.
        lowest: smallest code, the smallest ``q`` minus *zero_point*.
        highest: largest code, the largest ``q`` minus *zero_point*.
        rounding: how ``y / scale + zero_point`` is rounded.
    """

    scale: Fraction
    zero_point: int
    lowest: int
    highest: int
    rounding: Rounding

    def __post_init__(self) -> None:
        _require_positive(self.scale)
        _require_range(self.lowest, self.highest)

    @property
    def step(self) -> int:
        """Distance of two codes."""
        return 1

    @property
    def levels(self) -> int:
        """Number of boundaries."""
        return self.highest - self.lowest

    @property
    def offset(self) -> Fraction:
        """Magnitude of the zero point, in units of ``y``."""
        return abs(self.zero_point) * self.scale

    def boundary(self, level: int) -> tuple[Fraction, bool]:
        """Return the boundary of the code ``lowest + level``."""
        at, inclusive = self.rounding.boundary(self.lowest + level + self.zero_point)
        return (at - self.zero_point) * self.scale, inclusive


@dataclass(frozen=True, slots=True)
class Bipolar:
    """QONNX BipolarQuant, and Quant with one signed bit: ``q`` is 1 if ``y / scale + zero_point >= 0``, else -1.

    BipolarQuant compares ``y`` itself with 0, whatever its scale: leave the defaults.

    Attributes:
        scale: real value of one code, > 0; matters only with a zero point.
        zero_point: the integer that stands for 0; codes are ``q - zero_point``.
    """

    scale: Fraction = Fraction(1)
    zero_point: int = 0

    def __post_init__(self) -> None:
        _require_positive(self.scale)

    @property
    def lowest(self) -> int:
        """Code of the negative numbers."""
        return -1 - self.zero_point

    @property
    def step(self) -> int:
        """Distance of the two codes."""
        return 2

    @property
    def levels(self) -> int:
        """Number of boundaries."""
        return 1

    @property
    def offset(self) -> Fraction:
        """Magnitude of the zero point, in units of ``y``."""
        return abs(self.zero_point) * self.scale

    def boundary(self, level: int) -> tuple[Fraction, bool]:
        """Return the only boundary."""
        assert level == 1, "two codes have one boundary"
        return -self.zero_point * self.scale, True


@dataclass(frozen=True, slots=True)
class Truncation:
    """QONNX Trunc: two roundings, ``n = round_half_even(y / scale + zero_point)``, ``q = clip(round(n / divisor))``.

    The code is ``q - output_zero_point``. The two versions of the operator differ in what the code is worth (which is
    not this class's business: *scale* is the input's), in the zero point taken off and in whether they saturate; make
    one with :meth:`version_1` or :meth:`version_2`.

    Attributes:
        scale: real value of one input code, > 0.
        zero_point: added before the first rounding.
        divisor: a power of two, > 0; below 1 it multiplies.
        output_zero_point: taken off after the second rounding.
        lowest: smallest code.
        highest: largest code.
        rounding: the second rounding.
    """

    scale: Fraction
    zero_point: int
    divisor: Fraction
    output_zero_point: int
    lowest: int
    highest: int
    rounding: Rounding

    def __post_init__(self) -> None:
        _require_positive(self.scale)
        _require_range(self.lowest, self.highest)
        if not is_power_of_two(self.divisor):
            raise ValueError(f"truncates by {self.divisor}; it must be a power of two")

    @classmethod
    def version_1(
        cls, *, scale: Fraction, zero_point: int, dropped_bits: int, inputs: tuple[int, int], rounding: Rounding
    ) -> Truncation:
        """Return Trunc of opset 1, whose codes are worth *scale*, not the scale times the divisor, and never saturate.

        Args:
            scale: real value of one input code and of one output code.
            zero_point: added before and taken off after, unchanged.
            dropped_bits: input bit width minus output bit width.
            inputs: smallest and largest input code that occurs, zero point not included: they bound the output.
            rounding: the second rounding.
        """
        divisor = Fraction(2) ** dropped_bits
        low, high = (rounding.apply((code + zero_point) / divisor) - zero_point for code in inputs)
        # Where all inputs give one code there is a second one, never reached: a quantization has at least two.
        return cls(scale, zero_point, divisor, zero_point, low, max(high, low + 1), rounding)

    @classmethod
    def version_2(
        cls, *, scale: Fraction, output_scale: Fraction, zero_point: int, limits: tuple[int, int], rounding: Rounding
    ) -> Truncation:
        """Return Trunc of opset 2, whose codes are worth *output_scale*.

        Args:
            scale: real value of one input code.
            output_scale: real value of one output code.
            zero_point: of the input; the output's is this over the ratio of the scales.
            limits: smallest and largest ``q``.
            rounding: the second rounding.

        Raises:
            ValueError: the ratio of the scales is not a power of two (QONNX would round it), or the output's zero
                point is not an integer (no integer code is then worth what QONNX computes).
        """
        _require_positive(scale)
        divisor = output_scale / scale
        if not is_power_of_two(divisor):
            raise ValueError(f"output scale over scale is {divisor}; Trunc needs a power of two")
        zero = zero_point / divisor
        if zero.denominator != 1:
            raise ValueError(f"zero point {zero_point} over {divisor} is {zero}; it must be an integer to have codes")
        shift = zero.numerator
        return cls(scale, zero_point, divisor, shift, limits[0] - shift, limits[1] - shift, rounding)

    @property
    def step(self) -> int:
        """Distance of two codes."""
        return 1

    @property
    def levels(self) -> int:
        """Number of boundaries."""
        return self.highest - self.lowest

    @property
    def offset(self) -> Fraction:
        """Magnitude of the zero point, in units of ``y``."""
        return abs(self.zero_point) * self.scale

    def boundary(self, level: int) -> tuple[Fraction, bool]:
        """Return the boundary of the code ``lowest + level``: that of the smallest ``n`` that reaches it."""
        at, inclusive = self.rounding.boundary(self.lowest + level + self.output_zero_point)
        at *= self.divisor
        least = ceil(at) if inclusive else floor(at) + 1
        at, inclusive = Rounding.ROUND.boundary(least)
        return (at - self.zero_point) * self.scale, inclusive


def _require_positive(scale: Fraction) -> None:
    if scale <= 0:
        raise ValueError(f"scale must be positive, not {scale}")


def _require_range(lowest: int, highest: int) -> None:
    if lowest > highest:
        raise ValueError(f"codes {lowest}..{highest} are none")
