"""Functions of the real numbers that never fall, of which a curve (:mod:`bitproof.export.integer.curve`) is composed.

Each maps numbers forward and cuts backward; the two directions share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer.cut import ALWAYS, NEVER, Cut, InverseTanh, moved, side
from bitproof.export.integer.surd import Surd

Floats = NDArray[np.float64]
ZERO = Surd.of(0)


class Step(Protocol):
    """A function of the real numbers that never falls."""

    def image(self, number: Surd) -> Surd:
        """Return what the step makes of *number*; exact."""
        ...

    def beside(self, number: Surd, side: int) -> tuple[Surd, bool]:
        """Return the limit of the images of what rises (*side* -1) or falls (1) to *number*; whether they change."""
        ...

    def cut(self, cut: Cut) -> Cut:
        """Return the numbers whose images lie beyond *cut*."""
        ...

    def approximate(self, numbers: Floats) -> Floats:
        """Return the images of *numbers* as binary64 calculates them, without a bound of the error."""
        ...

    def reflected(self) -> Step:
        """Return the step ``x -> -step(-x)``."""
        ...

    @property
    def key(self) -> tuple[object, ...]:
        """What is equal for equal steps, unless their constants are written in different forms."""
        ...

    @property
    def constants(self) -> tuple[Surd, ...]:
        """The numbers that the step calculates with."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """``gain * x + shift``, gain > 0, of one term."""

    gain: Surd
    shift: Surd

    def image(self, number: Surd) -> Surd:
        """Return what the step makes of *number*."""
        return self.gain * number + self.shift

    def beside(self, number: Surd, side: int) -> tuple[Surd, bool]:  # noqa: ARG002  the same on both sides
        """Return the limit of the images beside *number*, and whether they change there."""
        return self.image(number), True

    def approximate(self, numbers: Floats) -> Floats:
        """Return about the images of *numbers*."""
        return float(self.gain) * numbers + float(self.shift)

    def cut(self, cut: Cut) -> Cut:
        """Return the numbers whose images lie beyond *cut*."""
        inverse = self.gain.inverse()
        return Cut(moved(cut.at, inverse, -(self.shift * inverse)), inclusive=cut.inclusive)

    def reflected(self) -> Step:
        """Return ``x -> -step(-x)``."""
        return Scaled(self.gain, -self.shift)

    @property
    def key(self) -> tuple[object, ...]:
        """What is equal for equal steps."""
        return ("scaled", _form(self.gain), _form(self.shift))

    @property
    def constants(self) -> tuple[Surd, ...]:
        """The numbers that the step calculates with."""
        return self.gain, self.shift


@dataclass(frozen=True, slots=True, eq=False)
class Clamped:
    """``clip(x, low, high)``; None: unbounded."""

    low: Surd | None
    high: Surd | None

    def image(self, number: Surd) -> Surd:
        """Return what the step makes of *number*."""
        if self.low is not None and number < self.low:
            return self.low
        return self.high if self.high is not None and number > self.high else number

    def beside(self, number: Surd, side: int) -> tuple[Surd, bool]:
        """Return the limit of the images beside *number*, and whether they change there."""
        below, above = (self.low, self.high) if side < 0 else (self.high, self.low)
        at_once = below is not None and (number - below).sign() * -side <= 0
        beyond = above is not None and (number - above).sign() * -side > 0
        return self.image(number), not (at_once or beyond)

    def approximate(self, numbers: Floats) -> Floats:
        """Return about the images of *numbers*."""
        low, high = (end if end is None else float(end) for end in (self.low, self.high))
        return np.clip(numbers, low, high)

    def cut(self, cut: Cut) -> Cut:
        """Return the numbers whose images lie beyond *cut*."""
        if self.low is not None and cut.holds(self.low):
            return ALWAYS
        return NEVER if self.high is not None and not cut.holds(self.high) else cut

    def reflected(self) -> Step:
        """Return ``x -> -step(-x)``."""
        return Clamped(None if self.high is None else -self.high, None if self.low is None else -self.low)

    @property
    def key(self) -> tuple[object, ...]:
        """What is equal for equal steps."""
        return ("clamped", *(None if end is None else _form(end) for end in (self.low, self.high)))

    @property
    def constants(self) -> tuple[Surd, ...]:
        """The numbers that the step calculates with."""
        return tuple(end for end in (self.low, self.high) if end is not None)


@dataclass(frozen=True, slots=True)
class Bent:
    """``below * x`` for negative x, ``above * x`` for others; both slopes >= 0: LeakyRelu, PRelu."""

    below: Fraction
    above: Fraction

    def __post_init__(self) -> None:
        if self.below < 0 or self.above < 0:
            raise ValueError(f"slopes {self.below} and {self.above}; a curve that falls is none")

    def image(self, number: Surd) -> Surd:
        """Return what the step makes of *number*."""
        return number * (self.below if number.sign() < 0 else self.above)

    def beside(self, number: Surd, side: int) -> tuple[Surd, bool]:
        """Return the limit of the images beside *number*, and whether they change there."""
        slope = self.below if (number.sign() or side) < 0 else self.above
        return self.image(number), slope > 0

    def approximate(self, numbers: Floats) -> Floats:
        """Return about the images of *numbers*."""
        return numbers * np.where(numbers < 0, float(self.below), float(self.above))

    def cut(self, cut: Cut) -> Cut:
        """Return the numbers whose images lie beyond *cut*."""
        sign = side(cut.at, ZERO)
        if not sign:
            slope, otherwise = (self.below, ALWAYS) if cut.inclusive else (self.above, NEVER)
            return cut if slope else otherwise
        slope = self.above if sign > 0 else self.below
        if not slope:
            return NEVER if sign > 0 else ALWAYS
        return Cut(moved(cut.at, Surd.of(1 / slope), ZERO), inclusive=cut.inclusive)

    def reflected(self) -> Step:
        """Return ``x -> -step(-x)``."""
        return Bent(self.above, self.below)

    @property
    def key(self) -> tuple[object, ...]:
        """What is equal for equal steps."""
        return ("bent", self.below, self.above)

    @property
    def constants(self) -> tuple[Surd, ...]:
        """The numbers that the step calculates with."""
        return Surd.of(self.below), Surd.of(self.above)


@dataclass(frozen=True, slots=True)
class Sign:
    """-1, 0 or 1."""

    def image(self, number: Surd) -> Surd:
        """Return what the step makes of *number*."""
        return Surd.of(number.sign())

    def beside(self, number: Surd, side: int) -> tuple[Surd, bool]:
        """Return the limit of the images beside *number*, and whether they change there."""
        return Surd.of(number.sign() or side), False

    def approximate(self, numbers: Floats) -> Floats:
        """Return about the images of *numbers*."""
        return np.sign(numbers)

    def cut(self, cut: Cut) -> Cut:
        """Return the numbers whose images lie beyond *cut*."""
        beyond = [cut.holds(Surd.of(sign)) for sign in (-1, 0, 1)]
        if beyond[0]:
            return ALWAYS
        return Cut(ZERO, inclusive=beyond[1]) if beyond[2] else NEVER

    def reflected(self) -> Step:
        """Return ``x -> -step(-x)``."""
        return self

    @property
    def key(self) -> tuple[object, ...]:
        """What is equal for equal steps."""
        return ("sign",)

    @property
    def constants(self) -> tuple[Surd, ...]:
        """The numbers that the step calculates with."""
        return ()


@dataclass(frozen=True, slots=True)
class Tanh:
    """The hyperbolic tangent; ``1 / (1 + exp(-x)) = tanh(x / 2) / 2 + 1 / 2`` makes Sigmoid of it."""

    def image(self, number: Surd) -> Surd:
        """Return what the step makes of *number*."""
        raise ValueError(f"the tanh of {number} is transcendental")

    def beside(self, number: Surd, side: int) -> tuple[Surd, bool]:  # noqa: ARG002  the same on both sides
        """Return the limit of the images beside *number*, and whether they change there."""
        return self.image(number), True

    def approximate(self, numbers: Floats) -> Floats:
        """Return about the images of *numbers*."""
        return np.tanh(numbers)

    def cut(self, cut: Cut) -> Cut:
        """Return the numbers whose images lie beyond *cut*."""
        if isinstance(cut.at, InverseTanh):
            raise ValueError("two of Tanh behind each other are not decided")
        if cut.at >= 1 or cut.at <= -1:
            return NEVER if cut.at > 0 else ALWAYS
        return cut if not cut.at.sign() else Cut(InverseTanh(cut.at, Surd.of(1), ZERO), inclusive=True)

    def reflected(self) -> Step:
        """Return ``x -> -step(-x)``."""
        return self

    @property
    def key(self) -> tuple[object, ...]:
        """What is equal for equal steps."""
        return ("tanh",)

    @property
    def constants(self) -> tuple[Surd, ...]:
        """The numbers that the step calculates with."""
        return ()


def _form(number: Surd) -> tuple[object, ...]:
    return number.terms, number.denominator
