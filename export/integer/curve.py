"""Curves that a number passes between a chain and its quantizer: LeakyRelu, PRelu, Sign, Tanh, Sigmoid, and such.

A curve is a composition of steps that never fall. What it makes of a number is decided in two directions that share
nothing: *forward*, the number's image is compared with a boundary (what the proofs do); *backward*, a boundary is taken
to the number from which on the image lies beyond it (what thresholds are derived from).

All steps but Tanh map sums of square roots to such sums, exactly. The image of such a sum by Tanh is transcendental
unless it is 0 (:mod:`export.integer.transcendental`), so it never equals a boundary, and enclosures decide. With a
second Tanh behind the first, equality could not be excluded any more: a curve has one at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from export.integer.cut import ALWAYS, NEVER, Cut, InverseTanh, moved, side
from export.integer.surd import FIRST_BITS, Surd
from export.integer.transcendental import tanh

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


@dataclass(frozen=True, eq=False)
class Curve:
    """The *steps*, one after the other, the first on the number itself.

    >>> leaky = Curve().then(Bent(Fraction(1, 4), Fraction(1))).then(Tanh())
    >>> leaky.image(Surd.of(-2)).sign_beyond(Fraction(-1, 2)), leaky.image(Surd.of(0)).sign_beyond(Fraction(0))
    (1, 0)
    """

    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> Curve:
        """Return this curve with *step* behind it.

        Raises:
            ValueError: it would hold two of Tanh.
        """
        if isinstance(step, Tanh) and self.is_transcendental:
            raise ValueError("two of Tanh and Sigmoid behind each other are not decided")
        last = self.steps[-1] if self.steps else None
        if isinstance(step, Scaled) and isinstance(last, Scaled):
            merged = Scaled(step.gain * last.gain, step.gain * last.shift + step.shift)
            return Curve((*self.steps[:-1], merged))
        return Curve((*self.steps, step))

    def reflected(self) -> Curve:
        """Return the curve ``x -> -curve(-x)``, which does not fall either."""
        return Curve(tuple(step.reflected() for step in self.steps))

    @property
    def is_transcendental(self) -> bool:
        """It has a Tanh."""
        return any(isinstance(step, Tanh) for step in self.steps)

    @property
    def constants(self) -> tuple[Surd, ...]:
        """All numbers that its steps calculate with."""
        return tuple(constant for step in self.steps for constant in step.constants)

    def image(self, number: Surd) -> Image:
        """Return what the curve makes of *number*: forward."""
        for index, step in enumerate(self.steps):
            if isinstance(step, Tanh):
                if number.sign():
                    return Image(number, self.steps[index + 1 :], is_tanh=True)
                continue  # tanh 0 = 0
            number = step.image(number)
        return Image(number)

    def cut(self, boundary: Fraction, *, inclusive: bool) -> Cut:
        """Return the numbers whose images are > *boundary* (>= if *inclusive*): backward."""
        cut = Cut(Surd.of(boundary), inclusive=inclusive)
        for step in reversed(self.steps):
            if cut in (ALWAYS, NEVER):
                return cut
            cut = step.cut(cut)
        return cut

    def approximate(self, numbers: Floats) -> Floats:
        """Return about the images of *numbers*: where to look first, not what is so."""
        for step in self.steps:
            numbers = step.approximate(numbers)
        return numbers

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What is equal for equal curves."""
        return tuple(step.key for step in self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(slots=True, eq=False)
class Image:
    """One real number: *number*, or what the steps *rest* make of its tanh."""

    number: Surd
    rest: Sequence[Step] = ()
    is_tanh: bool = False
    _ends: dict[int, tuple[_End, _End]] = field(default_factory=dict)

    def sign_beyond(self, boundary: Fraction) -> int:
        """Return the sign of this minus *boundary*; exact."""
        if not self.is_tanh:
            return self.number.sign_beyond(boundary)
        bits = FIRST_BITS
        while True:  # ends: a step that is flat there gives both ends one value, any other leaves it transcendental
            low, high = (end.sign_beyond(boundary) for end in self._enclosed(bits))
            if low == high:
                return low
            bits *= 2

    def _enclosed(self, bits: int) -> tuple[_End, _End]:
        if bits not in self._ends:
            low, high = tanh(*self.number.interval(bits), bits)
            self._ends[bits] = _End.of(low, 1, self.rest), _End.of(high, -1, self.rest)
        return self._ends[bits]


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """One end of an enclosure: *value*; *open*: what is enclosed is not equal to it, and lies on *side* of it.

    The ends -1 and 1 of a tanh are open. Without that, 1 could be told from the tanh of a large number only by as many
    bits as its exponential has.
    """

    value: Surd
    open: bool
    side: int

    @classmethod
    def of(cls, end: Fraction, side: int, steps: Sequence[Step]) -> _End:
        """Return what *steps* make of the *end* of an enclosure of a tanh that lies on *side* of it."""
        value, is_open = Surd.of(end), abs(end) == 1
        for step in steps:
            value, rises = step.beside(value, side) if is_open else (step.image(value), False)
            is_open = is_open and rises
        return cls(value, is_open, side)

    def sign_beyond(self, boundary: Fraction) -> int:
        """Return the sign of this minus *boundary*, as what is enclosed sees it."""
        sign = self.value.sign_beyond(boundary)
        return self.side if self.open and not sign else sign


def _form(number: Surd) -> tuple[object, ...]:
    return number.terms, number.denominator
