"""Accumulators that are too narrow: wrapped, or clipped at the end of a type."""

from __future__ import annotations

import numpy as np

from bitproof.export.divergence.cause import Cause, Finding
from bitproof.export.divergence.locate import Evidence
from bitproof.export.integer import IntegerType
from bitproof.pipeline import Codes

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
