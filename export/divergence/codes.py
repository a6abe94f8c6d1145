"""Activations that give other codes for the same accumulators: ties, ends of the type, float errors, thresholds.

A cause is one for the whole layer if it explains every channel that differs; only if none does, the first channel
is explained alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from bitproof.export.divergence.cause import Cause, Finding
from bitproof.export.divergence.channel import Channels, DivergingChannel, channel_of
from bitproof.export.divergence.locate import Evidence
from bitproof.export.divergence.too_narrow import find_saturation
from bitproof.export.integer import Activation, IntegerModel, Quantizer, Rounding, Threshold
from bitproof.export.proofs.float_order import near_boundaries

MAX_CHANNELS = 16
"""At most so many channels that differ must be explained."""

Test = Callable[[Channels], Finding | None]
"""Decides whether one cause explains all codes of some channels; what it says is of the first."""


def find_wrong_codes(
    model: IntegerModel, evidence: Evidence, activations: Sequence[Activation] | None, *, floats: bool
) -> Finding | None:
    """Decide why the activation gives other codes.

    Args:
        model: the integer model.
        evidence: at a :class:`~bitproof.export.integer.Threshold`.
        activations: the exact activation of each channel; None if it is not known.
        floats: the other executor computes with floats.
    """
    node = evidence.node
    assert isinstance(node, Threshold), "this is about activations"
    differs = np.moveaxis(evidence.actual != evidence.expected, 1, 0).reshape(node.channels, -1)
    numbers = np.flatnonzero(differs.any(axis=1)).tolist()[:MAX_CHANNELS]
    channels = [channel_of(evidence, node, number, activations) for number in numbers]
    tests: list[Test] = [_tie, find_saturation]
    if floats:
        tests.append(partial(_float_order, model))
    tests += [_other_rounding, _moved_thresholds]
    found = (test(chosen) for chosen in (channels, channels[:1]) for test in tests)
    return next((finding for finding in found if finding is not None), None)


def _tie(channels: Channels) -> Finding | None:
    """All accumulators at fault lie exactly on a boundary, by exact arithmetic, and another rounding explains all."""
    if not all(channel.is_function and channel.by_one_level and _only_ties(channel) for channel in channels):
        return None
    names = _roundings(channels)
    if not names and any(_rounded(channel.activation, Rounding.ROUND) is not None for channel in channels):
        return None  # it rounds, but by no rule that is known
    channel = channels[0]
    expected, actual = next((e, a) for accumulator, e, a in channel.differing if accumulator == channel.first)
    ways = {"up" if a > e else "down" for channel in channels for _, e, a in channel.differing}
    rule = f"as the rounding {' or '.join(names)} does" if names else f"every tie at fault goes {' or '.join(ways)}"
    return Finding(
        Cause.TIE_ROUNDING,
        f"{len(channel.differing)} accumulators of the channel, {channel.first} first, lie exactly on a boundary of "
        f"the quantizer; there the code is {expected} and becomes {actual}: {rule}",
        {"accumulators": [t[0] for t in channel.differing][:16], "roundings": names},
    )


def _only_ties(channel: DivergingChannel) -> bool:
    activation = channel.activation
    return activation is not None and all(_on_boundary(activation, *triple) for triple in channel.differing)


def _on_boundary(activation: Activation, accumulator: int, expected: int, actual: int) -> bool:
    quantization = activation.quantization
    level = (max(expected, actual) - quantization.lowest) // quantization.step
    if not 1 <= level <= quantization.levels:
        return False
    return activation.is_on_boundary(level, accumulator)


def _roundings(channels: Channels) -> list[str]:
    """Return the names of the other roundings that give the other executor's code for every accumulator seen."""
    return [rounding.value for rounding in Rounding if all(_is_rounded_by(rounding, c) for c in channels)]


def _is_rounded_by(rounding: Rounding, channel: DivergingChannel) -> bool:
    activation = _rounded(channel.activation, rounding)
    if activation is None:
        return False
    return all(activation.code(accumulator) == actual for accumulator, _, actual in channel.decided)


def _rounded(activation: Activation | None, rounding: Rounding) -> Activation | None:
    """Return *activation* with another rounding; None if it is not known, or does not round."""
    quantization = None if activation is None else _rounded_quantization(activation.quantization, rounding)
    return None if activation is None or quantization is None else replace(activation, quantization=quantization)


def _rounded_quantization(quantization: Any, rounding: Rounding) -> Any:  # noqa: ANN401  perhaps without lower levels
    if isinstance(quantization, Quantizer):
        return replace(quantization, rounding=rounding)
    inner = getattr(quantization, "whole", None)
    changed = None if inner is None else _rounded_quantization(inner, rounding)
    return None if changed is None else replace(quantization, whole=changed)


def _other_rounding(channels: Channels) -> Finding | None:
    names = _roundings(channels) if all(channel.is_function for channel in channels) else []
    if not names:
        return None
    return Finding(
        Cause.WRONG_THRESHOLD,
        f"{len(channels[0].differing)} accumulators of the channel get the code that the rounding "
        f"{' or '.join(names)} gives",
        {"roundings": names},
    )


def _float_order(model: IntegerModel, channels: Channels) -> Finding | None:
    """All accumulators at fault lie within the float32 error of a boundary."""
    (source,) = model.sources(channels[0].node.name)
    value = model.values[source]
    for channel in channels:
        if channel.activation is None or not channel.by_one_level:
            return None
        magnitude = value.sums.magnitudes[channel.number]
        try:
            near = near_boundaries(channel.activation, value.ranges[channel.number], magnitude, value.sums.terms)
        except ValueError:
            return None  # no float form, or no bound: nothing can be said
        if not all(any(accumulator in interval for interval in near) for accumulator, _, _ in channel.differing):
            return None
    channel = channels[0]
    both = "" if channel.is_function else "; one accumulator gets both codes, depending on its terms"
    return Finding(
        Cause.FLOAT_ORDER,
        f"{len({t[0] for t in channel.differing})} accumulators of the channel, {channel.first} first, lie "
        f"within the float32 error of a boundary, where the order of a sum decides{both}",
        {"accumulators": [t[0] for t in channel.differing][:16]},
    )


@dataclass(frozen=True, slots=True)
class _Moved:
    """A threshold that moved: to an integer above *below* (None: any) and at most *reached* (None: not seen)."""

    level: int
    expected: int
    below: int | None
    reached: int | None


def _moved_thresholds(channels: Channels) -> Finding | None:
    """The codes rise with the accumulator, as other thresholds would make them."""
    moved = [_moved(channel) for channel in channels]
    if not all(moved):
        return None
    node, number = channels[0].node, channels[0].number
    first = moved[0][0]
    lies = "above every accumulator seen" if first.reached is None else f"at most {first.reached}"
    lies = lies if first.below is None or first.reached is None else f"from {first.below + 1} to {first.reached}"
    more = f"; {len(moved[0]) - 1} more thresholds of the channel are moved" if len(moved[0]) > 1 else ""
    return Finding(
        Cause.WRONG_THRESHOLD,
        f"threshold {first.level - 1} of {node.name}, channel {number}: expected {first.expected}, actual {lies}{more}",
        {
            "levels": [entry.level for entry in moved[0]],
            "expected": first.expected,
            "above": first.below,
            "at_most": first.reached,
        },
    )


def _moved(channel: DivergingChannel) -> list[_Moved]:
    """Return the thresholds of the channel that must have moved; none if no thresholds explain its codes."""
    node = channel.node
    allowed = range(node.lowest, node.highest + 1, node.step)
    if not channel.is_function or any(actual not in allowed for _, _, actual in channel.triples):
        return []
    moved = []
    for level, threshold in enumerate(node.thresholds[channel.number].tolist(), start=1):
        code = node.lowest + node.step * level
        below = max((a for a, _, actual in channel.triples if actual < code), default=None)
        reached = min((a for a, _, actual in channel.triples if actual >= code), default=None)
        if below is not None and reached is not None and reached <= below:
            return []
        if (below is not None and threshold <= below) or (reached is not None and threshold > reached):
            moved.append(_Moved(level, threshold, below, reached))
    return moved
