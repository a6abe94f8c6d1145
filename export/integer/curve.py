"""Curves that a number passes between a chain and its quantizer: LeakyRelu, PRelu, Sign, Tanh, Sigmoid, and such.

A curve is a composition of steps that never fall. What it makes of a number is decided in two directions that share
nothing: *forward*, the number's image is compared with a boundary (what the proofs do); *backward*, a boundary is taken
to the number from which on the image lies beyond it (what thresholds are derived from).

All steps but Tanh map sums of square roots to such sums, exactly. The image of such a sum by Tanh is transcendental
unless it is 0 (:mod:`bitproof.export.integer.transcendental`), so it never equals a boundary, and enclosures decide.
With a second Tanh behind the first, equality could not be excluded any more: a curve has one at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from bitproof.export.integer.cut import ALWAYS, NEVER, Cut
from bitproof.export.integer.monotone import Floats, Scaled, Step, Tanh
from bitproof.export.integer.surd import FIRST_BITS, Surd
from bitproof.export.integer.transcendental import tanh


@dataclass(frozen=True, eq=False)
class Curve:
    """The *steps*, one after the other, the first on the number itself.

    >>> from export.integer.monotone import Bent
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
