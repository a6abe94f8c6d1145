"""The codes that the rounding errors of floats let an activation take at one accumulator.

The theorem is that of :mod:`bitproof.export.proofs.float_order`, for one accumulator instead of all: its sum of
magnitudes is that of the codes that are really multiplied, ``M = sum |weight * code|``, not the largest possible one. A
float evaluation computes a number within ``gamma_N * M`` of the exact one. If it gives another code, the two codes are
therefore neighbours and the exact number lies no further than that from the boundary between them; any other difference
is a fault.

Bounds are evaluated in binary64 and widened by every error of that, so a difference that rounding can cause is never
called a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import Activation, Threshold
from bitproof.export.integer.surd import Surd
from bitproof.pipeline import Codes
from bitproof.pipeline.float_error import OUTWARD, PRODUCT_ROUNDINGS, QUANTIZER_ROUNDINGS, largest_exact_sum

UNIT = 2.0**-53
NO_UNDERFLOW = 2.0**-1000
CURVE_ROUNDINGS = 64
"""A curve is taken to be off by so many roundings of its largest constant: IEEE 754 bounds no tanh, and those of torch
and onnxruntime stay within a few."""

Mask = NDArray[np.bool_]
Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Some codes of one activation; all arrays have the same length.

    Attributes:
        channels: of which channel.
        accumulators: the exact accumulator.
        magnitudes: the sum of the magnitudes of its terms.
        expected: the exact code.
        actual: the other executor's code.
    """

    channels: Codes
    accumulators: Codes
    magnitudes: Codes
    expected: Codes
    actual: Codes


@dataclass(frozen=True, slots=True, eq=False)
class ActivationBounds:
    """The float errors of one activation; all arrays but *boundaries* hold one number per channel, in binary64.

    Attributes:
        node: the thresholds.
        slopes: of the chain, as *intercepts*, *lows* and *highs*; no clamp is infinite.
        constants: sum of the magnitudes of all constants, that of the quantizer included.
        boundaries: real numbers at which the code rises, shape (channels, levels).
        roundings: of a path from the sum to the code.
        exact_sums: up to which sum of magnitudes floats sum without rounding; -1: never.
        known: the float form of the chain is known, or of what enters its curve.
        curved: the activations of the channels with a curve, by channel.
        precision: bits of the floats' significand.
    """

    node: Threshold
    slopes: Reals
    intercepts: Reals
    lows: Reals
    highs: Reals
    constants: Reals
    boundaries: Reals
    roundings: Codes
    exact_sums: Codes
    known: Mask
    curved: Mapping[int, Activation]
    precision: int

    @classmethod
    def of(cls, node: Threshold, activations: Sequence[Activation], precision: int) -> ActivationBounds:
        """Return the bounds of *node*, whose channels have the exact *activations*, in floats of *precision* bits."""
        chains = [activation.chain for activation in activations]
        forms = [chain.floats if chain.curve is None else chain.entering for chain in chains]
        ladders: dict[int, list[float]] = {}
        for activation in activations:
            if id(activation.boundaries) not in ladders:
                ladders[id(activation.boundaries)] = [_quotient(n, d) for n, d, _ in activation.boundaries]
        return cls(
            node=node,
            slopes=_reals(chain.slope for chain in chains),
            intercepts=_reals(chain.intercept for chain in chains),
            lows=_reals(-np.inf if chain.low is None else chain.low for chain in chains),
            highs=_reals(np.inf if chain.high is None else chain.high for chain in chains),
            constants=_reals(
                np.inf if form is None else form.constants + activation.quantization.offset
                for form, activation in zip(forms, activations, strict=True)
            ),
            boundaries=np.array([ladders[id(activation.boundaries)] for activation in activations]),
            roundings=np.array([0 if form is None else form.roundings for form in forms], dtype=np.int64),
            exact_sums=np.array(
                [-1 if form is None else largest_exact_sum(abs(form.unit), form.bias, precision) for form in forms],
                dtype=np.int64,
            ),
            known=np.array([form is not None for form in forms]),
            curved={number: each for number, each in enumerate(activations) if each.chain.curve is not None},
            precision=precision,
        )

    def explain(self, seen: Seen, terms: int) -> Mask:
        """Tell for each code of *seen* whether floats that add *terms* terms may give it in the place of the exact one.

        If every partial sum is exact, the rounding of the chain alone is left, on the accumulator itself.
        """
        node, at = self.node, seen.channels
        higher = np.maximum(seen.expected, seen.actual)
        levels = (higher - node.lowest) // node.step
        beside = (np.abs(seen.expected - seen.actual) == node.step) & (levels >= 1) & (levels <= node.levels)
        beside &= (higher - node.lowest) % node.step == 0
        exact = seen.magnitudes <= self.exact_sums[at]
        roundings = self.roundings[at] + PRODUCT_ROUNDINGS + QUANTIZER_ROUNDINGS + np.where(exact, 1, terms)
        magnitudes = np.where(exact, np.abs(seen.accumulators), seen.magnitudes).astype(np.float64)
        with np.errstate(all="ignore"):
            gamma = roundings / ((1 << self.precision) - roundings)
            scaled, intercepts = self.slopes[at] * seen.accumulators, self.intercepts[at]
            values = np.clip(scaled + intercepts, self.lows[at], self.highs[at])
            boundaries = self.boundaries[at, np.clip(levels - 1, 0, node.levels - 1)]
            total = np.abs(self.slopes[at]) * magnitudes + self.constants[at]
            own = 8 * UNIT * (np.abs(scaled) + np.abs(intercepts) + np.abs(values)) + 4 * UNIT * np.abs(boundaries)
            bound = gamma * total * OUTWARD + own + NO_UNDERFLOW
            near = np.abs(values - boundaries) <= bound
        for place in np.flatnonzero(np.isin(at, list(self.curved)) & beside & np.isfinite(bound)).tolist():
            activation = self.curved[int(at[place])]
            error = Fraction(float(gamma[place] * total[place] * OUTWARD + own[place]))
            near[place] = self._reaches(activation, int(seen.accumulators[place]), int(levels[place]), error)
        bounded: Mask = (2 * roundings < 1 << self.precision) & np.isfinite(bound) & np.isfinite(values)
        explained: Mask = beside & near & bounded & self.known[at]
        return explained

    def _reaches(self, activation: Activation, accumulator: int, level: int, error: Fraction) -> bool:
        """Tell whether the curve of *activation* reaches the boundary of *level* from within *error* of its number."""
        curve, (boundary, _) = activation.chain.curve, activation.quantization.boundary(level)
        assert curve is not None, "this channel has a curve"
        constants: list[Fraction] = [_above(abs(constant)) for constant in curve.constants]
        total = sum(constants, abs(boundary) + activation.quantization.offset + 1)
        slack = total * Fraction(CURVE_ROUNDINGS, 1 << self.precision)
        number = activation.chain.value(accumulator)
        highest, lowest = curve.image(number + error), curve.image(number - error)
        return highest.sign_beyond(boundary - slack) >= 0 >= lowest.sign_beyond(boundary + slack)


def _above(number: Surd) -> Fraction:
    return number.interval(64)[1]


def _reals(numbers: Iterable[Surd | Fraction | float]) -> Reals:
    return np.array([_float(number) for number in numbers])


def _float(number: Surd | Fraction | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("nan")


def _quotient(numerator: int, denominator: int) -> float:
    try:
        return numerator / denominator
    except OverflowError:
        return float("nan")
