"""The chain of one channel from accumulator to code, and where its boundaries can be moved to.

See :mod:`bitproof.train.nudge` for what a boundary is, and why it is moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bitproof.pipeline.float_error import OUTWARD, relative_error
from bitproof.train.activations import Reals

LEAST_MARGIN = 1e-3
"""No boundary is left nearer to an integer than this, in accumulator units, where a shift can help it."""
SLACK = 1.25
"""A shift clears a little more than the margin, since gamma and beta are rounded to float32 afterwards."""
SHIFTS = 500
"""How many shifts are tried, from -1/2 to 1/2 accumulator units, where nothing clears a channel."""
PARTS = 64
"""Boundaries are brought to a lattice of 1/64 accumulator unit at the finest."""


@dataclass(frozen=True, slots=True, eq=False)
class NudgedChannel:
    """One channel's chain from accumulator to code.

    Attributes:
        mean: of its batch norm, like the three that follow; 0 without one.
        gamma: not 0; 1 without a batch norm.
        beta: 0 without one.
        deviation: square root of variance and epsilon; 1 without one.
        accumulator_scale: real value of one accumulator unit in front of the batch norm.
        reals: boundaries of the quantizer, ascending and equally far from each other.
        step: real value of one output code.
        low: least accumulator.
        high: largest.
        magnitude: a bound on the sum of the magnitudes of the terms, in accumulator units.
        roundings: at most so many lie on any path from a term to the quantizer's decision.
        exact: the sum itself is exact in any order.
    """

    mean: float
    gamma: float
    beta: float
    deviation: float
    accumulator_scale: float
    reals: Reals
    step: float
    low: int
    high: int
    magnitude: int
    roundings: int
    exact: bool

    @property
    def spacing(self) -> float:
        """Distance of two boundaries in accumulator units: what one output step is worth."""
        return self.step * self.deviation / abs(self.gamma) / self.accumulator_scale

    @property
    def sign(self) -> int:
        """-1 if codes fall while accumulators rise, else 1."""
        return -1 if self.gamma < 0 else 1

    @property
    def rising(self) -> Reals:
        """``t_i`` of all boundaries, whether reachable or not, negated if codes fall: so they rise with the codes."""
        return self.sign * self._places()

    def _places(self) -> Reals:
        places: Reals = (self.mean + (self.reals - self.beta) * self.deviation / self.gamma) / self.accumulator_scale
        return places

    @property
    def boundaries(self) -> Reals:
        """``t_i`` of every boundary that a reachable accumulator, or one within the error of it, can cross."""
        values = self._places()
        reach = 1.0 if self.exact else 1.0 + self._error_of_sum()
        return values[(values >= self.low - reach) & (values <= self.high + reach)]

    @property
    def float_errors(self) -> Reals:
        """Bound on the error of a float32 evaluation at every boundary, in accumulator units."""
        boundaries = self.boundaries
        if self.exact:
            errors: Reals = self._relative * (np.abs(boundaries) + 1 + self._constants)
            return errors
        return np.full(boundaries.shape, self._error_of_sum())

    @property
    def near(self) -> int:
        """How many boundaries lie within the float32 error of an integer."""
        return int((distances(self.boundaries) <= self.float_errors).sum())

    @property
    def order_dependent(self) -> int:
        """How many accumulators lie so near to a boundary that the order of a float32 sum may decide them."""
        if self.exact:
            return 0
        boundaries, errors = np.sort(self.boundaries), self.float_errors
        first = np.maximum(np.ceil(boundaries - errors), self.low)
        last = np.minimum(np.floor(boundaries + errors), self.high)
        covered = np.concatenate([[self.low - 1], np.maximum.accumulate(last)[:-1]]) if len(last) else last
        return int(np.maximum(last - np.maximum(first, covered + 1) + 1, 0).sum())

    @property
    def room(self) -> float:
        """Least distance of a boundary from an integer, in units of its float32 error; above 1 none is near."""
        return float((distances(self.boundaries) / self.float_errors).min(initial=np.inf))

    def is_clear(self) -> bool:
        """Tell whether every boundary keeps its margin from the nearest integer."""
        return bool((distances(self.boundaries) > self._margins).all())

    def nudged(self) -> NudgedChannel:
        """Return the channel moved by the least that clears it; else to where it has most room; else itself."""
        if self._margins.max(initial=0) * SLACK >= 0.5:
            return self
        moved = next((channel for channel in (*self._shifts(), *self._lattices()) if channel.is_clear()), None)
        if moved is not None:
            return moved
        most = min(0.5, self.spacing)
        others = map(self._shifted, np.linspace(-most, most, SHIFTS).tolist())
        return max((self, *others), key=lambda channel: channel.room)

    @property
    def _margins(self) -> Reals:
        return np.maximum(self.float_errors, LEAST_MARGIN)

    def _error_of_sum(self) -> float:
        return self._relative * (self.magnitude + self._constants)

    @property
    def _relative(self) -> float:
        return float(relative_error(self.roundings)) * OUTWARD

    @property
    def _constants(self) -> float:
        """Magnitudes of what the batch norm adds, in accumulator units."""
        return (abs(self.mean) + abs(self.beta * self.deviation / self.gamma)) / self.accumulator_scale

    def _shifted(self, accumulators: float) -> NudgedChannel:
        """Return the channel with its boundaries moved by *accumulators*, as far as a float32 beta can say it."""
        beta = self.beta - accumulators * self.accumulator_scale * self.gamma / self.deviation
        return replace(self, beta=float(np.float32(beta)))

    def _shifts(self) -> Iterator[NudgedChannel]:
        """Yield the channel moved by each shift that lets a boundary out of its margin and none in, least first."""
        margins, offsets = SLACK * self._margins, self.boundaries - np.rint(self.boundaries)
        edges = np.concatenate([margins - offsets, -margins - offsets])
        edges = edges[np.abs(edges) <= min(0.5, self.spacing)]
        free = (distances(offsets + edges[:, None]) >= margins * (1 - 1e-9)).all(axis=1)
        edges = edges[free]
        yield from map(self._shifted, edges[np.argsort(np.abs(edges))].tolist())

    def _lattices(self) -> Iterator[NudgedChannel]:
        """Yield the channel with its boundaries on a lattice between the integers, finest first."""
        boundaries, margin = self.boundaries, SLACK * float(self._margins.max(initial=0))
        middle = float(boundaries[len(boundaries) // 2])
        reach = float(np.abs(boundaries - middle).max(initial=0))
        real = self.real_at(middle)
        for parts in range(min(PARTS, int(0.5 / margin)), 0, -1):
            spacing = round(self.spacing * parts) / parts
            if spacing and reach * abs(spacing / self.spacing - 1) + 0.5 / parts < self.spacing:
                target = (np.floor(middle * parts) + 0.5) / parts
                yield self.through(real, float(target), self.gamma * self.spacing / spacing)

    def real_at(self, accumulator: float) -> float:
        """Return what the batch norm makes of *accumulator*."""
        return (accumulator * self.accumulator_scale - self.mean) * self.gamma / self.deviation + self.beta

    def through(self, real: float, accumulator: float, gamma: float) -> NudgedChannel:
        """Return the channel with another *gamma* that gives *real* at *accumulator*, both as far as float32 can."""
        rounded = float(np.float32(gamma))
        beta = real - (accumulator * self.accumulator_scale - self.mean) * rounded / self.deviation
        return replace(self, gamma=rounded, beta=float(np.float32(beta)))


def distances(boundaries: Reals) -> Reals:
    """Return how far each of *boundaries* is from the nearest integer."""
    found: Reals = np.abs(boundaries - np.rint(boundaries))
    return found
