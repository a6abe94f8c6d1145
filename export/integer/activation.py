"""A quantized activation, decided exactly, and the integer thresholds that equal it.

An activation is a chain from an accumulator to a real number, then a quantizer. It reaches a level iff the number is
beyond the level's boundary, which is the sign of a sum of square roots: no float takes part, and ties are decided by
the quantizer's rule, not by error. If the chain does not fall, each level has one smallest accumulator that reaches it:
``(boundary - intercept) / slope``, rounded up to an integer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache

from bitproof.export.integer.chain import Chain, FloatForm
from bitproof.export.integer.curve import Curve, Image
from bitproof.export.integer.cut import ALWAYS, NEVER, Cut, moved
from bitproof.export.integer.monotone import Clamped
from bitproof.export.integer.quantizer import Bipolar, Quantization, Quantizer, Truncation
from bitproof.export.integer.rounding import Rounding
from bitproof.export.integer.surd import Line, Surd
from bitproof.export.integer.types import Interval

__all__ = [
    "Activation",
    "Bipolar",
    "Chain",
    "FloatForm",
    "Quantization",
    "Quantizer",
    "Rounding",
    "Truncation",
    "thresholds_of",
]


@dataclass(frozen=True)
class Activation:
    """One channel's map from an accumulator to a code.

    Attributes:
        chain: from the accumulator to a real number.
        quantization: from the real number to the code.

    A chain's curve is looked at forward here, and backward when thresholds are derived.
    """

    chain: Chain
    quantization: Quantization

    def reaches(self, level: int, accumulator: int) -> bool:
        """Decide whether the code of *accumulator* is at least ``lowest + step * level``; exact, any slope."""
        always, possible = self.clamp_levels
        return always >= level or (level <= possible and self._passes(level, accumulator))

    def level(self, accumulator: int) -> int:
        """Return how many levels *accumulator* reaches; exact, any slope."""
        always, possible = self.clamp_levels
        if self.chain.curve is not None:
            image = self.chain.curve.image(self.chain.value(accumulator))
            return _bisect(always, possible, lambda level: self._is_passed_by(image, level))
        return _bisect(always, possible, lambda level: self._passes(level, accumulator))

    def code(self, accumulator: int) -> int:
        """Return the code of *accumulator*; exact, any slope."""
        return self.quantization.lowest + self.quantization.step * self.level(accumulator)

    def is_on_boundary(self, level: int, accumulator: int) -> bool:
        """Decide whether the real number of *accumulator* is the boundary of *level*; exact."""
        boundary, _ = self.quantization.boundary(level)
        value = self.chain.value(accumulator)
        if self.chain.curve is not None:
            return self.chain.curve.image(value).sign_beyond(boundary) == 0
        return value == boundary

    def negated(self) -> Activation:
        """Return the activation that gives the same code for the negated accumulator."""
        return replace(self, chain=self.chain.negated())

    @cached_property
    def clamp_levels(self) -> tuple[int, int]:
        """How many levels the chain's least value reaches, and its largest; every accumulator lies between."""
        low, high, levels = self.chain.low, self.chain.high, self.quantization.levels
        always = 0 if low is None else self._level_of(low)
        return always, levels if high is None else self._level_of(high)

    @cached_property
    def boundaries(self) -> tuple[tuple[int, int, bool], ...]:
        """The boundary of each level from 1: numerator, denominator (> 0), inclusive."""
        return _boundaries(self.quantization)

    @cached_property
    def _fractions(self) -> tuple[tuple[Fraction, bool], ...]:
        return _fractions_of(self.quantization)

    @cached_property
    def _line(self) -> Line:
        return Line.through(slope=self.chain.slope, intercept=self.chain.intercept)

    def _passes(self, level: int, accumulator: int) -> bool:
        """Decide *level* by the chain; its clamps, which :attr:`clamp_levels` stands for, matter only to a curve."""
        if self.chain.curve is not None:
            return self._is_passed_by(self.chain.curve.image(self.chain.value(accumulator)), level)
        numerator, denominator, inclusive = self.boundaries[level - 1]
        sign = self._line.sign_beyond(accumulator, numerator, denominator)
        return sign > 0 or (sign == 0 and inclusive)

    def _is_passed_by(self, image: Image, level: int) -> bool:
        boundary, inclusive = self._fractions[level - 1]
        sign = image.sign_beyond(boundary)
        return sign > 0 or (sign == 0 and inclusive)

    def _level_of(self, value: Surd) -> int:
        constant = replace(self, chain=Chain(Surd.of(0), value, curve=self.chain.curve))
        return constant.level(0)


@lru_cache(maxsize=256)
def _boundaries(quantization: Quantization) -> tuple[tuple[int, int, bool], ...]:
    return tuple((at.numerator, at.denominator, inclusive) for at, inclusive in _fractions_of(quantization))


@lru_cache(maxsize=256)
def _fractions_of(quantization: Quantization) -> tuple[tuple[Fraction, bool], ...]:
    return tuple(quantization.boundary(level) for level in range(1, quantization.levels + 1))


@lru_cache(maxsize=256)
def _cuts(curve: Curve, quantization: Quantization) -> tuple[Cut, ...]:
    """Return for each level from 1 the numbers whose images by *curve* reach it."""
    return tuple(curve.cut(at, inclusive=inclusive) for at, inclusive in _fractions_of(quantization))


def _curved_thresholds(activation: Activation, curve: Curve, reachable: Interval) -> list[int]:
    """Return the thresholds behind *curve*, taken back through it, of a chain that rises."""
    per_unit, intercept = activation.chain.slope.inverse(), activation.chain.intercept
    never = reachable.high + 1
    ends = Clamped(activation.chain.low, activation.chain.high)
    thresholds = []
    for met in _cuts(curve, activation.quantization):
        cut = met if met in (ALWAYS, NEVER) else ends.cut(met)
        if cut in (ALWAYS, NEVER):
            thresholds.append(reachable.low if cut is ALWAYS else never)
            continue
        at = moved(cut.at, per_unit, -(intercept * per_unit))
        thresholds.append(min(max(Cut(at, inclusive=cut.inclusive).least_integer(), reachable.low), never))
    return thresholds


def _bisect(low: int, high: int, reached: Callable[[int], bool]) -> int:
    """Return the largest level from *low* (reached) to *high* that is *reached*, which never changes back."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if reached(middle) else (low, middle - 1)
    return low


def thresholds_of(activation: Activation, reachable: Interval) -> list[int]:
    """Return for each level the smallest accumulator in *reachable* that reaches it, ascending.

    Returns:
        One integer a level; ``reachable.low`` if every accumulator reaches it, ``reachable.high + 1`` if none.

    Raises:
        ValueError: the chain falls (negate the channel first).
    """
    chain, levels = activation.chain, activation.quantization.levels
    if chain.direction < 0:
        raise ValueError("thresholds ascend with the accumulator: negate a channel of negative slope")
    never = reachable.high + 1
    if chain.direction == 0:
        reached = activation.level(reachable.low)
        return [reachable.low] * reached + [never] * (levels - reached)
    if chain.curve is not None:
        return _curved_thresholds(activation, chain.curve, reachable)
    per_unit = chain.slope.inverse()
    accumulator = Line.through(slope=per_unit, intercept=-(chain.intercept * per_unit))
    always, possible = activation.clamp_levels
    between = (
        accumulator.least_integer(numerator, denominator, inclusive=inclusive)
        for numerator, denominator, inclusive in activation.boundaries[always:possible]
    )
    clipped = [min(max(threshold, reachable.low), never) for threshold in between]
    return [reachable.low] * always + clipped + [never] * (levels - possible)
