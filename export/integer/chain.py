"""The exact real chain from an integer accumulator to the number that a quantizer rounds.

Scales, biases, batch norms (Ioffe & Szegedy 2015), ReLUs and other clamps compose to one form, whatever their order:

    y(a) = clip(slope * a + intercept, low, high)

An affine map of such a chain is one again, clamps and all, and so is its clamp, since
``clip(clip(x, l, h), p, q) = clip(x, clip(l, p, q), clip(h, p, q))``. Each constant is a sum of rational multiples of
square roots (:mod:`bitproof.export.integer.surd`); the slope is a product and has one term.

What a node such as Tanh does to the clipped number, and all that comes behind it, is a curve
(:mod:`bitproof.export.integer.curve`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from bitproof.export.integer.curve import Curve
from bitproof.export.integer.monotone import Clamped, Scaled, Step
from bitproof.export.integer.surd import Surd
from bitproof.pipeline.float_error import NORMALIZATION_ROUNDINGS


@dataclass(frozen=True, slots=True)
class FloatForm:
    """What a float evaluation of a chain adds up, as far as its rounding error depends on it.

    Attributes:
        unit: real value of one accumulator unit.
        bias: what may be added anywhere within the sum.
        constants: sum of the magnitudes of all constants added on the way, and of the distances of the clamps from
            0, as the output sees them.
        roundings: at most so many roundings lie on any path from the sum to the output.
    """

    unit: Fraction
    bias: Fraction
    constants: Surd
    roundings: int


@dataclass(frozen=True)
class Chain:
    """One channel's exact real value ``y(a) = curve(clip(slope * a + intercept, low, high))`` of an accumulator ``a``.

    >>> relu_then_norm = Chain.of(Fraction(1, 4)).clamped(0, None).normalized(
    ...     gamma=Fraction(-1), beta=Fraction(3), mean=Fraction(1), variance=Fraction(2)
    ... )
    >>> relu_then_norm.direction, [round(float(relu_then_norm.value(a)), 3) for a in (-9, 0, 4, 8)]
    (-1, [3.707, 3.707, 3.0, 2.293])

    Attributes:
        slope: real change of the output for one accumulator unit; at most one term.
        intercept: real output at accumulator 0, before the clamps.
        low: least output, or None.
        high: largest output, or None; at least *low*.
        floats: how floats evaluate it; not part of what the chain is. None if it is not known.
        curve: what is done to the clipped number, never falling; None: nothing.
        entering: how floats evaluate what enters the curve; None if it is not known.
    """

    slope: Surd
    intercept: Surd
    low: Surd | None = None
    high: Surd | None = None
    floats: FloatForm | None = field(default=None, compare=False)
    curve: Curve | None = None
    entering: FloatForm | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if len(self.slope.terms) > 1:
            raise ValueError(f"the slope {self.slope} has several terms; a product of scales and batch norms has one")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"clamps to [{self.low}, {self.high}], which is empty")

    @classmethod
    def of(cls, scale: Fraction, offset: Fraction | int = 0) -> Chain:
        """Return ``scale * a + offset``: an accumulator whose unit is worth *scale*, with a bias."""
        floats = FloatForm(Fraction(scale), Fraction(offset), Surd.of(_magnitude(offset)), roundings=0)
        return cls(Surd.of(scale), Surd.of(offset), floats=floats)

    def times(self, factor: Fraction | int) -> Chain:
        """Return this multiplied by *factor*; negative: the clamps change places; 0: the constant 0."""
        return self._mapped(Surd.of(factor), Surd.of(0), constants=Surd.of(0), roundings=1)

    def plus(self, offset: Fraction | int) -> Chain:
        """Return this plus *offset*."""
        return self._mapped(Surd.of(1), Surd.of(offset), constants=Surd.of(_magnitude(offset)), roundings=1)

    def normalized(
        self, *, gamma: Fraction | int, beta: Fraction | int, mean: Fraction | int, variance: Fraction
    ) -> Chain:
        """Return the batch norm ``gamma * (y - mean) / sqrt(variance) + beta`` of this.

        Args:
            gamma: weight; its sign is the sign of the map, 0 gives the constant *beta*.
            beta: bias.
            mean: running mean.
            variance: running variance plus epsilon.

        Raises:
            ValueError: *variance* is not positive.
        """
        gain = Surd.of(gamma).over_root(Fraction(variance))
        return self._mapped(
            gain,
            gain * -mean + beta,
            constants=abs(gain) * _magnitude(mean) + _magnitude(beta),
            roundings=NORMALIZATION_ROUNDINGS,
        )

    def clamped(self, low: Fraction | int | None, high: Fraction | int | None) -> Chain:
        """Return this clipped to [*low*, *high*]; None: unbounded. ReLU is ``clamped(0, None)``.

        Raises:
            ValueError: *low* is above *high*.
        """
        if low is not None and high is not None and low > high:
            raise ValueError(f"clamps to [{low}, {high}], which is empty")
        bounds = None if low is None else Surd.of(low), None if high is None else Surd.of(high)
        if self.curve is not None:
            return replace(self, curve=self.curve.then(Clamped(*bounds)))
        from_zero = max(0, low or 0, -(high or 0))
        return replace(
            self,
            low=bounds[0] if self.low is None else _clip(self.low, *bounds),
            high=bounds[1] if self.high is None else _clip(self.high, *bounds),
            floats=self.floats and replace(self.floats, constants=self.floats.constants + from_zero),
        )

    def curved(self, step: Step) -> Chain:
        """Return this with *step*, which never falls, behind it.

        Raises:
            ValueError: two steps of Tanh follow each other.
        """
        entering = self.floats if self.curve is None else self.entering
        return replace(self, floats=None, entering=entering, curve=(self.curve or Curve()).then(step))

    def negated(self) -> Chain:
        """Return the chain that gives the same output for the negated accumulator."""
        return replace(self, slope=-self.slope)

    @property
    def constants(self) -> tuple[Surd, ...]:
        """All numbers that it calculates with."""
        own = (self.slope, self.intercept, self.low, self.high)
        return *(part for part in own if part is not None), *(self.curve.constants if self.curve else ())

    @property
    def direction(self) -> int:
        """Sign of the slope: 1 if the output never falls, -1 if it never rises, 0 if it is constant."""
        return self.slope.sign()

    def value(self, accumulator: int) -> Surd:
        """Return the exact output for *accumulator*, before the curve."""
        return _clip(self.slope * accumulator + self.intercept, self.low, self.high)

    def _mapped(self, gain: Surd, shift: Surd, *, constants: Surd, roundings: int) -> Chain:
        """Return ``gain * y + shift`` of this chain's ``y``; a negative gain reflects a curve and what it takes."""
        if self.curve is not None and gain.sign():
            inner = replace(self, curve=None)
            if gain.sign() < 0:
                inner = inner.times(-1)
            curve = self.curve if gain.sign() > 0 else self.curve.reflected()
            return replace(inner, entering=self.entering, curve=curve.then(Scaled(abs(gain), shift)))
        floats = self.floats and FloatForm(
            self.floats.unit,
            self.floats.bias,
            self.floats.constants * abs(gain) + constants,
            self.floats.roundings + roundings,
        )
        if not gain.sign():
            return Chain(Surd.of(0), shift, floats=floats)
        bounds = [None if bound is None else gain * bound + shift for bound in (self.low, self.high)]
        low, high = bounds if gain.sign() > 0 else reversed(bounds)
        return Chain(gain * self.slope, gain * self.intercept + shift, low, high, floats)


def _magnitude(value: Fraction | int) -> Fraction:
    return abs(Fraction(value))


def _clip(value: Surd, low: Surd | None, high: Surd | None) -> Surd:
    if low is not None and value < low:
        return low
    return high if high is not None and value > high else value
