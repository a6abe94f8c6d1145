"""Activations that give other codes for the same accumulators: ties, ends of the type, float errors, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from export.divergence.cause import Cause, Finding
from export.divergence.locate import Evidence
from export.divergence.sums import wrapped
from export.integer import Activation, IntegerModel, IntegerType, Quantizer, Rounding, Threshold, propagate
from export.integer.magnitudes import sums_of
from export.proofs.order import near_boundaries
from pipeline import Codes

MAX_EXACT = 4096
"""At most so many accumulators of a channel are decided exactly; those at fault come first."""
CODE_BITS = range(16, 0, -1)
Triples = list[tuple[int, int, int]]
"""An accumulator, the model's code and the other's; without repeats, ascending."""


@dataclass(frozen=True, slots=True, eq=False)
class _Channel:
    """The channel at fault of an activation; *first* is the accumulator of the first code at fault."""

    node: Threshold
    thresholds: list[int]
    first: int
    triples: Triples
    activation: Activation | None

    @property
    def differing(self) -> Triples:
        return [t for t in self.triples if t[1] != t[2]]

    @property
    def by_one_level(self) -> bool:
        return all(abs(expected - actual) == self.node.step for _, expected, actual in self.differing)

    @property
    def is_function(self) -> bool:
        """The other executor gives one code for each accumulator."""
        return len({accumulator for accumulator, _, _ in self.triples}) == len(self.triples)


def find_wrong_codes(
    model: IntegerModel, evidence: Evidence, activations: Sequence[Activation] | None, *, floats: bool
) -> Finding | None:
    """Decide why the activation gives other codes in the channel at fault.

    Args:
        model: the integer model.
        evidence: at a :class:`~export.integer.Threshold`.
        activations: the exact activation of each channel; None where it is not known.
        floats: the other executor computes with floats.
    """
    node = evidence.node
    assert isinstance(node, Threshold), "this is about activations"
    number = evidence.first.channel
    columns = [evidence.channel(v).reshape(-1) for v in (evidence.sources[0], evidence.expected, evidence.actual)]
    triples: Triples = [(int(a), int(b), int(c)) for a, b, c in np.unique(np.stack(columns, axis=1), axis=0).tolist()]
    exact = None if activations is None else activations[number]
    first = evidence.at(evidence.sources[0])
    channel = _Channel(node, node.thresholds[number].tolist(), first, triples, exact)
    return (
        _tie(channel, floats=floats)
        or _saturation(channel)
        or (_float_order(model, channel, number) if floats else None)
        or _other_rounding(channel)
        or _moved_thresholds(channel, number)
    )


def _tie(channel: _Channel, *, floats: bool) -> Finding | None:
    """All accumulators at fault lie exactly on a boundary, by exact arithmetic."""
    activation = channel.activation
    if activation is None or not channel.by_one_level or not channel.is_function:
        return None
    if not all(_on_boundary(activation, *triple) for triple in channel.differing):
        return None
    names = _roundings(channel)
    if not names and floats:
        return None  # some ties go one way and some the other: error, not a rule
    expected, actual = next((e, a) for accumulator, e, a in channel.differing if accumulator == channel.first)
    ways = {"up" if actual > expected else "down" for _, expected, actual in channel.differing}
    rule = f"as the rounding {' or '.join(names)} does" if names else f"every tie at fault goes {' or '.join(ways)}"
    return Finding(
        Cause.TIE_ROUNDING,
        f"{len(channel.differing)} accumulators of the channel, {channel.first} first, lie exactly on a boundary of "
        f"the quantizer; there the code is {expected} and becomes {actual}: {rule}",
        {"accumulators": [t[0] for t in channel.differing][:16], "roundings": names},
    )


def _on_boundary(activation: Activation, accumulator: int, expected: int, actual: int) -> bool:
    quantization = activation.quantization
    level = (max(expected, actual) - quantization.lowest) // quantization.step
    if not 1 <= level <= quantization.levels:
        return False
    boundary, _ = quantization.boundary(level)
    return activation.chain.value(accumulator) == boundary


def _roundings(channel: _Channel) -> list[str]:
    """Return the names of the other roundings that give the other executor's code for every accumulator seen."""
    activation = channel.activation
    assert activation is not None, "exact activations were asked for"
    chosen = [*channel.differing, *(t for t in channel.triples if t[1] == t[2])][:MAX_EXACT]
    names = []
    for rounding in Rounding:
        other = _rounded(activation.quantization, rounding)
        if other is None:
            continue
        candidate = replace(activation, quantization=other)
        if all(candidate.code(accumulator) == actual for accumulator, _, actual in chosen):
            names.append(rounding.value)
    return names


def _rounded(quantization: Any, rounding: Rounding) -> Any:  # noqa: ANN401  a quantization, perhaps without lower levels
    """Return *quantization* with another rounding; None where it does not round."""
    if isinstance(quantization, Quantizer):
        return replace(quantization, rounding=rounding)
    inner = getattr(quantization, "whole", None)
    changed = None if inner is None else _rounded(inner, rounding)
    return None if changed is None else replace(quantization, whole=changed)


def _other_rounding(channel: _Channel) -> Finding | None:
    names = _roundings(channel) if channel.activation is not None and channel.is_function else []
    if not names:
        return None
    return Finding(
        Cause.WRONG_THRESHOLD,
        f"{len(channel.differing)} accumulators get the code that the rounding {' or '.join(names)} gives",
        {"roundings": names},
    )


def _saturation(channel: _Channel) -> Finding | None:
    """Codes beyond the end of a type: clipped earlier than in the model, or wrapped or kept where it clips."""
    if not channel.is_function:
        return None
    node, differing = channel.node, channel.differing
    low = {actual for _, expected, actual in differing if actual > expected}
    high = {actual for _, expected, actual in differing if actual < expected}
    if len(low) <= 1 and len(high) <= 1 and all(map(_is_low_end, low)) and all(map(_is_high_end, high)):
        limits = min(low, default=node.lowest), max(high, default=node.highest)
        if all(actual == min(max(expected, limits[0]), limits[1]) for _, expected, actual in channel.triples):
            return Finding(
                Cause.SATURATION,
                f"codes are clipped to {limits[0]}..{limits[1]}; the model has {node.lowest}..{node.highest}",
                {"actual": list(limits), "expected": [node.lowest, node.highest]},
            )
    if not all(expected in (node.lowest, node.highest) for _, expected, _ in differing):
        return None
    return _wrapped_codes(channel)


def _is_high_end(code: int) -> bool:
    return code > 0 and code & (code + 1) == 0


def _is_low_end(code: int) -> bool:
    return code == 0 or (code < 0 and (-code & (-code - 1) == 0 or _is_high_end(-code)))


def _wrapped_codes(channel: _Channel) -> Finding | None:
    """Codes that the model clips at an end of its type and the other executor wraps, or keeps."""
    node = channel.node
    true_codes = _unsaturated(channel)
    if true_codes is None:
        return None
    wanted = np.array([actual for _, _, actual in channel.triples], dtype=np.int64)
    true_code = int(true_codes[[accumulator for accumulator, _, _ in channel.triples].index(channel.first)])
    where = f"the true code of accumulator {channel.first} is {true_code}, beyond {node.output}"
    if np.array_equal(wanted, true_codes):
        return Finding(Cause.SATURATION, f"{where}; it is kept instead of clipped", {"true_code": true_code})
    for bits in CODE_BITS:
        for kind in (IntegerType(bits, signed=False), IntegerType(bits, signed=True)):
            if np.array_equal(wanted, wrapped(true_codes, kind)):
                return Finding(
                    Cause.SATURATION,
                    f"{where}; it is wrapped to {kind} instead of clipped",
                    {"true_code": true_code, "type": str(kind)},
                )
    return None


def _unsaturated(channel: _Channel) -> Codes | None:
    """Return the code of each accumulator as if the type had no end; None where that is not known."""
    activation = channel.activation
    if activation is None or len(channel.triples) > MAX_EXACT:
        return None
    quantization = getattr(activation.quantization, "whole", activation.quantization)
    if not isinstance(quantization, Quantizer):
        return None
    room = 8 * (quantization.highest - quantization.lowest + 1)
    wide = replace(quantization, lowest=quantization.lowest - room, highest=quantization.highest + room)
    unbounded = replace(activation, quantization=wide)
    return np.array([unbounded.code(accumulator) for accumulator, _, _ in channel.triples], dtype=np.int64)


def _float_order(model: IntegerModel, channel: _Channel, number: int) -> Finding | None:
    """All accumulators at fault lie within the float32 error of a boundary."""
    if channel.activation is None or not channel.by_one_level:
        return None
    (source,) = model.sources(channel.node.name)
    reachable, sums = propagate(model)[source][number], sums_of(model)[source]
    try:
        near = near_boundaries(channel.activation, reachable, sums.magnitudes[number], sums.terms)
    except ValueError:
        return None  # no float form, or no bound: nothing can be said
    outside = [t for t in channel.differing if not any(t[0] in interval for interval in near)]
    if outside:
        return None
    both = "" if channel.is_function else "; one accumulator gets both codes, depending on its terms"
    return Finding(
        Cause.FLOAT_ORDER,
        f"{len({t[0] for t in channel.differing})} accumulators of the channel, {channel.first} first, lie "
        f"within the float32 error of a boundary, where the order of a sum decides{both}",
        {"accumulators": [t[0] for t in channel.differing][:16]},
    )


def _moved_thresholds(channel: _Channel, number: int) -> Finding | None:
    """The codes rise with the accumulator, as other thresholds would make them."""
    node = channel.node
    if not channel.is_function:
        return None
    moved = []
    for level, threshold in enumerate(channel.thresholds, start=1):
        code = node.lowest + node.step * level
        below = max((a for a, _, actual in channel.triples if actual < code), default=None)
        reached = min((a for a, _, actual in channel.triples if actual >= code), default=None)
        if below is not None and reached is not None and reached <= below:
            return None
        if (below is not None and threshold <= below) or (reached is not None and threshold > reached):
            moved.append((level, threshold, below, reached))
    allowed = range(node.lowest, node.highest + 1, node.step)
    if not moved or any(actual not in allowed for _, _, actual in channel.triples):
        return None
    level, threshold, below, reached = moved[0]
    lies = "above every accumulator seen" if reached is None else f"at most {reached}"
    lies = lies if below is None or reached is None else f"from {below + 1} to {reached}"
    more = f"; {len(moved) - 1} more thresholds of the channel are moved" if len(moved) > 1 else ""
    return Finding(
        Cause.WRONG_THRESHOLD,
        f"threshold {level - 1} of {node.name}, channel {number}: expected {threshold}, actual {lies}{more}",
        {"levels": [entry[0] for entry in moved], "expected": threshold, "above": below, "at_most": reached},
    )
