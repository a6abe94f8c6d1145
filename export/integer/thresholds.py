"""Integer thresholds of a quantized activation, decided in exact arithmetic.

An activation maps an accumulator ``a`` to ``clip(round_half_even(y(a) / output_scale))`` with

    y(a) = gamma * (scale * a + bias - mean) / sqrt(variance) + beta

(batch norm: Ioffe & Szegedy 2015; *variance* already holds epsilon; rounding: the QONNX Quant operator, ROUND).
``round_half_even(r) >= i`` holds iff ``r > i - 1/2``, or ``r == i - 1/2`` and ``i`` is even. With a positive slope the
boundary of code ``i`` therefore lies at the real number ``(mean - bias + R * sqrt(variance) / gamma) / scale`` with
``R = (i - 1/2) * output_scale - beta``: a rational plus or minus the square root of a rational. The smallest integer
beyond it is found with the integer square root, so no float takes part and ties are decided by the rule, not by error.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from export.integer.types import Interval


@dataclass(frozen=True, slots=True)
class Activation:
    """One channel's chain from accumulator to real pre-activation; all fields are exact.

    Attributes:
        scale: real value of one accumulator unit, > 0.
        gamma: batch-norm weight (1 without batch norm); its sign is the sign of the slope.
        beta: batch-norm bias.
        mean: batch-norm running mean minus any bias added before it.
        variance: batch-norm running variance plus epsilon, > 0.
        output_scale: real value of one output code, > 0.
    """

    scale: Fraction
    gamma: Fraction
    beta: Fraction
    mean: Fraction
    variance: Fraction
    output_scale: Fraction

    def __post_init__(self) -> None:
        for field in ("scale", "variance", "output_scale"):
            if getattr(self, field) <= 0:
                raise ValueError(f"{field} must be positive, not {getattr(self, field)}")

    def negated(self) -> Activation:
        """Return the chain that gives the same output for the negated accumulator."""
        return Activation(self.scale, -self.gamma, self.beta, -self.mean, self.variance, self.output_scale)

    def reaches(self, code: int, accumulator: int) -> bool:
        """Decide whether the rounded output is at least *code*; exact, any slope.

        With ``L = gamma * (scale * a - mean)`` and ``R = (code - 1/2) * output_scale - beta`` the question is whether
        ``L >= R * sqrt(variance)`` (``>`` where a tie rounds down); both sides are compared by sign, then by square.
        """
        left = self.gamma * (self.scale * accumulator - self.mean)
        right = (code - Fraction(1, 2)) * self.output_scale - self.beta
        difference = _signed_square(left) - _signed_square(right) * self.variance
        return difference > 0 or (difference == 0 and code % 2 == 0)


def _signed_square(value: Fraction) -> Fraction:
    return value * abs(value)


def threshold_of(activation: Activation, code: int, reachable: Interval) -> int:
    """Return the smallest accumulator in *reachable* whose output code is at least *code*.

    Returns:
        ``reachable.low`` where every accumulator reaches the code, ``reachable.high + 1`` where none does.

    Raises:
        ValueError: the slope is negative (negate the channel first).
    """
    if activation.gamma < 0:
        raise ValueError("thresholds ascend with the accumulator: negate a channel of negative slope")
    if activation.gamma == 0:
        return reachable.low if activation.reaches(code, reachable.low) else reachable.high + 1
    right = ((code - Fraction(1, 2)) * activation.output_scale - activation.beta) / activation.gamma
    boundary = smallest_integer_beyond(
        rational=activation.mean / activation.scale,
        root=right * right * activation.variance / (activation.scale * activation.scale),
        sign=(right > 0) - (right < 0),
        inclusive=code % 2 == 0,
    )
    return min(max(boundary, reachable.low), reachable.high + 1)


def smallest_integer_beyond(*, rational: Fraction, root: Fraction, sign: int, inclusive: bool) -> int:
    """Return the smallest integer ``a`` with ``a >= rational + sign * sqrt(root)`` (``>`` unless *inclusive*).

    With ``rational = m / n`` and ``root = p / q``, multiply by ``n * q``: the question is about
    ``n q a - m q`` and ``sign * sqrt(n^2 p q)``, an integer against the root of an integer.
    """
    m, n = rational.numerator, rational.denominator
    p, q = root.numerator, root.denominator
    square = n * n * p * q
    floor_root = isqrt(square)
    exact = floor_root * floor_root == square
    if sign >= 0:
        # Smallest integer X with X >= sqrt (X > sqrt): the ceiling, or the floor plus one.
        least = floor_root if exact and inclusive else floor_root + 1
    else:
        # Smallest integer X with X >= -sqrt (X > -sqrt).
        least = -floor_root if inclusive or not exact else -floor_root + 1
    numerator, denominator = m * q + least, n * q
    return -((-numerator) // denominator)
