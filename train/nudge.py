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

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bitproof.pipeline.float_error import NORMALIZATION_ROUNDINGS, PRODUCT_ROUNDINGS, QUANTIZER_ROUNDINGS
from bitproof.train.activations import ActivationLayer, activations_of
from bitproof.train.nudged_channel import NudgedChannel
from bitproof.train.whole_offsets import has_whole_offset, with_whole_offset


@dataclass(frozen=True, slots=True)
class NudgeReport:
    """What was done.

    Attributes:
        moved: channels whose batch norm was changed.
        left: boundaries of channels with a batch norm that are left within the float32 error of an integer.
        order_dependent: for each activation, by its number, how many accumulators a float32 sum may still decide
            differently by its order; those with none are left out.
        unknown: numbers of the activations of which it is not known what they take.
        without_whole_offset: channels with a batch norm that no quantized operator with an integer bias equals; None:
            not asked for.
    """

    moved: int
    left: int
    order_dependent: dict[int, int]
    unknown: tuple[int, ...]
    without_whole_offset: int | None


@torch.no_grad()
def nudge(network: nn.Module, inputs: int, *, whole_offsets: bool = False) -> NudgeReport:
    """Move batch norms of *network* (in evaluation mode, on the CPU) if a boundary is too near to an integer.

    Args:
        network: is changed.
        inputs: how many values a sample has.
        whole_offsets: also give every channel boundaries that a quantized operator with an integer bias can have.
    """
    moved = left = without = 0
    dependent: dict[int, int] = {}
    layers = activations_of(network, inputs)
    for number, layer in enumerate(layers):
        if layer is None:
            continue
        channels = channels_of(layer)
        if layer.norm is not None:
            better = [
                None if channel is None else _better(channel, whole_offsets=whole_offsets) for channel in channels
            ]
            moved += _write(layer.norm, zip(channels, better, strict=True))
            left += sum(channel.near for channel in better if channel is not None)
            without += sum(not has_whole_offset(channel) for channel in better if channel is not None)
            channels = better
        count = sum(channel.order_dependent for channel in channels if channel is not None)
        dependent |= {number: count} if count else {}
    unknown = tuple(number for number, layer in enumerate(layers) if layer is None)
    return NudgeReport(moved, left, dependent, unknown, without if whole_offsets else None)


def _better(channel: NudgedChannel, *, whole_offsets: bool) -> NudgedChannel:
    """Return *channel*, moved if it must be; one without a place for a whole offset is cleared alone."""
    moved = with_whole_offset(channel) if whole_offsets else channel
    if moved is not channel or channel.is_clear():
        return moved
    return channel.nudged()


def _write(norm: nn.Module, pairs: Iterable[tuple[NudgedChannel | None, NudgedChannel | None]]) -> int:
    """Give *norm* what changed from the first of each of *pairs* to the second, and return how many did."""
    moved = 0
    for index, (old, new) in enumerate(pairs):
        if new is not None and new is not old:
            norm.weight[index], norm.bias[index] = new.gamma, new.beta
            moved += 1
    return moved


def nudge_metrics(network: nn.Module, inputs: int, *, whole_offsets: bool = False) -> dict[str, object]:
    """Nudge *network* (in evaluation mode, on the CPU) and return what ``metrics.json`` says of it."""
    report = nudge(network, inputs, whole_offsets=whole_offsets)
    metrics: dict[str, object] = {
        "nudged_channels": report.moved,
        "near_boundaries": report.left,
        "order_dependent_left": sum(report.order_dependent.values()),
    }
    if report.order_dependent:
        metrics["order_dependent_layers"] = {f"act{number}": n for number, n in report.order_dependent.items()}
    if report.without_whole_offset is not None:
        metrics["without_whole_offset"] = report.without_whole_offset
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
