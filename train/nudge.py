"""Keep quantization boundaries away from integer accumulators, so that no float chain can round one the other way.

A channel's boundary of code ``i``, in accumulator units, is the real number

    t_i = (mean + ((i - 1/2) * output_scale - beta) * sqrt(variance + epsilon) / gamma) / accumulator_scale

A float32 evaluation of the same chain decides an integer accumulator wrongly only within a few roundings of ``t_i``.
Moving ``beta`` moves all boundaries of the channel together, so the least shift that clears all of them is taken. It is
less than one accumulator unit; afterwards torch, onnxruntime and the exact thresholds agree, and the proofs of the run
show it. With many codes and wide accumulators there may be no such shift: the channel is moved to where the nearest
boundary is farthest, and the boundaries still within the error bound are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline import InputError
from train.layers import QuantizedLayer, quantized_layers

Reals = NDArray[np.float64]

ROUNDINGS = 8 * 2.0**-24
"""Relative error granted to a float32 chain (x * alpha + (beta - mean * alpha)): eight roundings of half a unit."""
LEAST_MARGIN = 1e-3
"""No boundary is left nearer to an integer than this, in accumulator units, where a shift can help it."""
SLACK = 1.25
"""A shift clears a little more than the margin, since beta is rounded to float32 afterwards."""
SHIFTS = 500
"""How many shifts are tried, from -1/2 to 1/2 accumulator units, where none clears a channel."""


@dataclass(frozen=True, slots=True)
class NudgeReport:
    """How many channels were *moved*, and how many reachable boundaries are *left* within the float32 error."""

    moved: int
    left: int


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel's chain from accumulator to code; reals as float64, *low* and *high* the reachable accumulators."""

    mean: float
    gamma: float
    beta: float
    deviation: float
    accumulator_scale: float
    output_scale: float
    levels: int
    low: int
    high: int

    @property
    def boundaries(self) -> Reals:
        """``t_i`` of every code from 1 to *levels* that a reachable accumulator, or one beside, can cross."""
        codes = np.arange(1, self.levels + 1, dtype=np.float64)
        reals = (codes - 0.5) * self.output_scale - self.beta
        boundaries = (self.mean + reals * self.deviation / self.gamma) / self.accumulator_scale
        return boundaries[(boundaries >= self.low - 1) & (boundaries <= self.high + 1)]

    @property
    def float_errors(self) -> Reals:
        """Bound on the error of a float32 chain at every boundary, in accumulator units."""
        offset = (abs(self.mean) + abs(self.beta * self.deviation / self.gamma)) / self.accumulator_scale
        return ROUNDINGS * (np.abs(self.boundaries) + offset)

    @property
    def near(self) -> int:
        """How many boundaries lie within the float32 error of an integer."""
        return int((_distances(self.boundaries) <= self.float_errors).sum())

    def is_clear(self) -> bool:
        """Tell whether every boundary keeps its margin from the nearest integer."""
        return bool((_distances(self.boundaries) > np.maximum(self.float_errors, LEAST_MARGIN)).all())

    def shifted(self, accumulators: float) -> Channel:
        """Return the channel with its boundaries moved by *accumulators*, as far as a float32 beta can say it."""
        beta = self.beta - accumulators * self.accumulator_scale * self.gamma / self.deviation
        return replace(self, beta=float(np.float32(beta)))

    @property
    def room(self) -> float:
        """Least distance of a boundary from an integer, in units of its float32 error; above 1 none is near."""
        return float((_distances(self.boundaries) / self.float_errors).min(initial=np.inf))

    def nudged(self) -> Channel:
        """Return the channel moved by the least shift that clears it, or to where it has most room if none does."""
        margins = SLACK * np.maximum(self.float_errors, LEAST_MARGIN)
        offsets = self.boundaries - np.rint(self.boundaries)
        edges = np.concatenate([margins - offsets, -margins - offsets])  # where a boundary enters or leaves its margin
        for edge in sorted(edges[np.abs(edges) <= 0.5].tolist(), key=abs):
            moved = self.shifted(edge)
            if moved.is_clear():
                return moved
        return max((self, *map(self.shifted, np.linspace(-0.5, 0.5, SHIFTS).tolist())), key=lambda c: c.room)


def _distances(boundaries: Reals) -> Reals:
    distances: Reals = np.abs(boundaries - np.rint(boundaries))
    return distances


@torch.no_grad()
def nudge(network: nn.Module) -> NudgeReport:
    """Move batch-norm biases of *network* (in evaluation mode) where a boundary is too near to an integer."""
    moved = left = 0
    for layer in quantized_layers(network):
        if layer.norm is None:
            continue
        for index, channel in enumerate(channels_of(layer)):
            if channel is None or channel.is_clear():
                continue
            better = channel.nudged()
            layer.norm.bias[index] = better.beta
            moved += better is not channel
            left += better.near
    return NudgeReport(moved, left)


def nudge_metrics(network: nn.Module) -> dict[str, object]:
    """Nudge *network* (in evaluation mode) and return what ``metrics.json`` says of it, or why it cannot be nudged.

    Only a chain of linear layers with scales that are powers of two can be: the boundaries of any other are met by
    accumulators that a float sum has rounded already.
    """
    try:
        layers = quantized_layers(network)
    except InputError as error:
        return {"nudge_not_applied": str(error)}
    scales = {scale for layer in layers for scale in layer.accumulator_scales}
    if any(math.frexp(scale)[0] != 0.5 for scale in scales):
        return {"nudge_not_applied": "the scales are free: a float sum rounds, and how depends on its order"}
    report = nudge(network)
    return {"nudged_channels": report.moved, "near_boundaries": report.left}


def channels_of(layer: QuantizedLayer) -> list[Channel | None]:
    """Return the chain of every channel of a hidden *layer*; None for one whose slope is 0 (it has no boundary)."""
    norm = layer.norm
    assert norm is not None, "only hidden layers have boundaries"
    codes = layer.weight_codes
    deviations = (norm.running_var.double() + float(norm.eps)).sqrt()
    columns = (
        norm.running_mean,
        norm.weight,
        norm.bias,
        deviations,
        codes.clamp(max=0).sum(1),
        codes.clamp(min=0).sum(1),
    )
    output_scale, levels = layer.output_scale, layer.levels
    return [
        Channel(
            mean,
            gamma,
            beta,
            deviation,
            scale,
            output_scale,
            levels,
            int(negative) * layer.input_levels,
            int(positive) * layer.input_levels,
        )
        if gamma != 0
        else None
        for scale, mean, gamma, beta, deviation, negative, positive in zip(
            layer.accumulator_scales, *(c.tolist() for c in columns), strict=True
        )
    ]
