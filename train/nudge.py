"""The nudge of quantization boundaries away from integer accumulators: no float chain can round one the other way.

A channel's boundary between two codes lies, in accumulator units, at the real number

    t_i = (mean + (y_i - beta) * sqrt(variance + epsilon) / gamma) / accumulator_scale

where ``y_i`` is the boundary of the quantizer. A float32 evaluation decides an integer accumulator wrongly only within
a few roundings of ``t_i``; if scales are free, its sum is rounded too, and the error grows with the number of terms
and their magnitudes (:mod:`bitproof.pipeline.float_error`). Both follow from the types of the codes alone, so that one
layer's nudge changes nothing for the next.

Moving ``beta`` moves all boundaries of a channel together: the least shift that clears all of them is taken, of half an
accumulator unit at most. With many codes there may be no such shift, since each boundary has a fraction of its own.
Then ``gamma`` is changed, too, by the little that makes their distance a multiple of ``1/p``: all fractions are then
odd multiples of ``1/2p``, and any error below that is cleared. No boundary is moved by an output step or more. What an
error of half a unit or more reaches, or what no batch norm stands before (sums of shortcuts, means), is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from bitproof.pipeline.float_error import (
    NORMALIZATION_ROUNDINGS,
    OUTWARD,
    PRODUCT_ROUNDINGS,
    QUANTIZER_ROUNDINGS,
    relative_error,
)
from bitproof.train.activations import ActivationLayer, Reals, activations_of

LEAST_MARGIN = 1e-3
"""No boundary is left nearer to an integer than this, in accumulator units, where a shift can help it."""
SLACK = 1.25
"""A shift clears a little more than the margin, since gamma and beta are rounded to float32 afterwards."""
SHIFTS = 500
"""How many shifts are tried, from -1/2 to 1/2 accumulator units, where nothing clears a channel."""
PARTS = 64
"""Boundaries are brought to a lattice of 1/64 accumulator unit at the finest."""


@dataclass(frozen=True, slots=True)
class NudgeReport:
    """What was done.

    Attributes:
        moved: channels whose batch norm was changed.
        left: boundaries of channels with a batch norm that are left within the float32 error of an integer.
        order_dependent: for each activation, by its number, how many accumulators a float32 sum may still decide
            differently by its order; those with none are left out.
        unknown: numbers of the activations of which it is not known what they take.
    """

    moved: int
    left: int
    order_dependent: dict[int, int]
    unknown: tuple[int, ...]


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
    def boundaries(self) -> Reals:
        """``t_i`` of every boundary that a reachable accumulator, or one within the error of it, can cross."""
        values = (self.mean + (self.reals - self.beta) * self.deviation / self.gamma) / self.accumulator_scale
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
        return int((_distances(self.boundaries) <= self.float_errors).sum())

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
        return float((_distances(self.boundaries) / self.float_errors).min(initial=np.inf))

    def is_clear(self) -> bool:
        """Tell whether every boundary keeps its margin from the nearest integer."""
        return bool((_distances(self.boundaries) > self._margins).all())

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
        free = (_distances(offsets + edges[:, None]) >= margins * (1 - 1e-9)).all(axis=1)
        edges = edges[free]
        yield from map(self._shifted, edges[np.argsort(np.abs(edges))].tolist())

    def _lattices(self) -> Iterator[NudgedChannel]:
        """Yield the channel with its boundaries on a lattice between the integers, finest first."""
        boundaries, margin = self.boundaries, SLACK * float(self._margins.max(initial=0))
        middle = float(boundaries[len(boundaries) // 2])
        reach = float(np.abs(boundaries - middle).max(initial=0))
        real = (middle * self.accumulator_scale - self.mean) * self.gamma / self.deviation + self.beta
        for parts in range(min(PARTS, int(0.5 / margin)), 0, -1):
            spacing = round(self.spacing * parts) / parts
            if spacing and reach * abs(spacing / self.spacing - 1) + 0.5 / parts < self.spacing:
                target = (np.floor(middle * parts) + 0.5) / parts
                yield self._through(real, float(target), self.gamma * self.spacing / spacing)

    def _through(self, real: float, accumulator: float, gamma: float) -> NudgedChannel:
        """Return the channel with another *gamma* that gives *real* at *accumulator*, both as far as float32 can."""
        rounded = float(np.float32(gamma))
        beta = real - (accumulator * self.accumulator_scale - self.mean) * rounded / self.deviation
        return replace(self, gamma=rounded, beta=float(np.float32(beta)))


def _distances(boundaries: Reals) -> Reals:
    distances: Reals = np.abs(boundaries - np.rint(boundaries))
    return distances


@torch.no_grad()
def nudge(network: nn.Module, inputs: int) -> NudgeReport:
    """Move batch norms of *network* (in evaluation mode, on the CPU) if a boundary is too near to an integer.

    Args:
        network: is changed.
        inputs: how many values a sample has.
    """
    moved = left = 0
    dependent: dict[int, int] = {}
    layers = activations_of(network, inputs)
    for number, layer in enumerate(layers):
        if layer is None:
            continue
        channels = channels_of(layer)
        if layer.norm is not None:
            better = [channel if channel is None or channel.is_clear() else channel.nudged() for channel in channels]
            moved += _write(layer.norm, zip(channels, better, strict=True))
            left += sum(channel.near for channel in better if channel is not None)
            channels = better
        count = sum(channel.order_dependent for channel in channels if channel is not None)
        dependent |= {number: count} if count else {}
    unknown = tuple(number for number, layer in enumerate(layers) if layer is None)
    return NudgeReport(moved, left, dependent, unknown)


def _write(norm: nn.Module, pairs: Iterable[tuple[NudgedChannel | None, NudgedChannel | None]]) -> int:
    """Give *norm* what changed from the first of each of *pairs* to the second, and return how many did."""
    moved = 0
    for index, (old, new) in enumerate(pairs):
        if new is not None and new is not old:
            norm.weight[index], norm.bias[index] = new.gamma, new.beta
            moved += 1
    return moved


def nudge_metrics(network: nn.Module, inputs: int) -> dict[str, object]:
    """Nudge *network* (in evaluation mode, on the CPU) and return what ``metrics.json`` says of it."""
    report = nudge(network, inputs)
    metrics: dict[str, object] = {
        "nudged_channels": report.moved,
        "near_boundaries": report.left,
        "order_dependent_left": sum(report.order_dependent.values()),
    }
    if report.order_dependent:
        metrics["order_dependent_layers"] = {f"act{number}": n for number, n in report.order_dependent.items()}
    if report.unknown:
        metrics["nudge_not_applied"] = (
            f"activations {', '.join(map(str, report.unknown))} take neither a product of codes without bias, perhaps "
            "normalized, nor a sum of two, a mean or codes"
        )
    return metrics


def channels_of(layer: ActivationLayer) -> list[NudgedChannel | None]:
    """Return the chain of every channel of *layer*; None for one whose slope is 0 (it has no boundary)."""
    taken, output, count = layer.accumulators, layer.output, len(layer.accumulators.scales)
    divisor = 1 if layer.pool is None else int(np.prod(taken.sizes))
    step = 2 * output.scale if output.bipolar else output.scale
    columns = [[0.0] * count, [1.0] * count, [0.0] * count, [1.0] * count]
    after_sum = QUANTIZER_ROUNDINGS
    if layer.norm is not None:
        norm = layer.norm
        deviations = (norm.running_var.double() + float(np.float32(norm.eps))).sqrt()
        columns = [column.tolist() for column in (norm.running_mean, norm.weight, norm.bias, deviations)]
        after_sum += NORMALIZATION_ROUNDINGS
    per_channel = zip(taken.scales, taken.lows, taken.highs, taken.magnitudes, taken.exact, *columns, strict=True)
    return [
        None
        if gamma == 0
        else NudgedChannel(
            mean,
            gamma,
            beta,
            deviation,
            scale / divisor,
            output.boundaries,
            step,
            low,
            high,
            magnitude,
            after_sum if exact else PRODUCT_ROUNDINGS + taken.terms + after_sum,
            exact,
        )
        for scale, low, high, magnitude, exact, mean, gamma, beta, deviation in per_channel
    ]
