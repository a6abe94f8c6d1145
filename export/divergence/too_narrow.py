"""Integers beyond the end of a type: accumulators that wrap or are clipped, codes that are clipped too early or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitproof.export.divergence.cause import Cause, Finding
from bitproof.export.divergence.channel import Channels, DivergingChannel
from bitproof.export.divergence.locate import Evidence
from bitproof.export.integer import IntegerType, Quantizer
from bitproof.pipeline import Codes

CODE_BITS = range(16, 0, -1)
WIDTHS = range(32, 6, -1)
"""Widths that an accumulator may be narrowed to; the widest that explains all is the one."""


def wrapped(codes: Codes, kind: IntegerType) -> Codes:
    """Return *codes* modulo 2^bits, within *kind*."""
    return (codes - kind.minimum) % (1 << kind.bits) + kind.minimum


def find_narrow_accumulator(evidence: Evidence) -> Finding | None:
    """Decide whether all accumulators of the channel are the expected ones in a narrower type, wrapped or clipped."""
    expected, actual = evidence.channel(evidence.expected), evidence.channel(evidence.actual)
    count = int((expected != actual).sum())
    for bits in WIDTHS:
        for kind in (IntegerType(bits, signed=True), IntegerType(bits, signed=False)):
            facts: dict[str, object] = {"type": str(kind), "accumulators": count}
            where = f"{count} accumulators of the channel lie outside {kind} and are"
            if np.array_equal(actual, wrapped(expected, kind)):
                return Finding(Cause.ACCUMULATOR_WRAP, f"{where} wrapped modulo 2^{bits}", facts)
            if np.array_equal(actual, np.clip(expected, kind.minimum, kind.maximum)):
                return Finding(Cause.SATURATION, f"{where} clipped to {kind.minimum}..{kind.maximum}", facts)
    return None


def find_saturation(channels: Channels) -> Finding | None:
    """Decide whether the ends of a type explain all codes of *channels*."""
    if not all(channel.is_function for channel in channels):
        return None
    node = channels[0].node
    differing = [triple for channel in channels for triple in channel.differing]
    if all(expected in (node.lowest, node.highest) for _, expected, _ in differing):
        found = _wrapped_codes(channels)
        if found is not None:
            return found
    low = {actual for _, expected, actual in differing if actual > expected}
    high = {actual for _, expected, actual in differing if actual < expected}
    if len(low) > 1 or len(high) > 1 or not all(map(_is_low_end, low)) or not all(map(_is_high_end, high)):
        return None
    limits = min(low, default=node.lowest), max(high, default=node.highest)
    triples = [triple for channel in channels for triple in channel.triples]
    # One code that becomes its neighbour may as well be a threshold that moved.
    if len({expected for _, expected, _ in differing}) < 2 and all(c.by_one_level for c in channels):
        return None
    if any(actual != min(max(expected, limits[0]), limits[1]) for _, expected, actual in triples):
        return None
    return Finding(
        Cause.SATURATION,
        f"codes are clipped to {limits[0]}..{limits[1]}; the model has {node.lowest}..{node.highest}",
        {"actual": list(limits), "expected": [node.lowest, node.highest]},
    )


def _is_high_end(code: int) -> bool:
    return code > 0 and code & (code + 1) == 0


def _is_low_end(code: int) -> bool:
    return code == 0 or (code < 0 and (-code & (-code - 1) == 0 or _is_high_end(-code)))


def _wrapped_codes(channels: Channels) -> Finding | None:
    """Codes that the model clips at an end of its type and the other executor wraps, or keeps."""
    unsaturated = [_unsaturated(channel) for channel in channels]
    known = [codes for codes in unsaturated if codes is not None]
    if len(known) < len(channels):
        return None
    true_codes = np.concatenate(known)
    wanted = np.array([actual for channel in channels for _, _, actual in channel.decided], dtype=np.int64)
    channel = channels[0]
    true_code = int(known[0][[accumulator for accumulator, _, _ in channel.decided].index(channel.first)])
    where = f"the true code of accumulator {channel.first} is {true_code}, beyond {channel.node.output}"
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


def _unsaturated(channel: DivergingChannel) -> Codes | None:
    """Return the code of each decided accumulator as if the type had no end; None if that is not known."""
    activation = channel.activation
    if activation is None:
        return None
    quantization = getattr(activation.quantization, "whole", activation.quantization)
    if not isinstance(quantization, Quantizer):
        return None
    room = 8 * (quantization.highest - quantization.lowest + 1)
    wide = replace(quantization, lowest=quantization.lowest - room, highest=quantization.highest + room)
    unbounded = replace(activation, quantization=wide)
    return np.array([unbounded.code(accumulator) for accumulator, _, _ in channel.decided], dtype=np.int64)
