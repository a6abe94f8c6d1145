"""No integer overflows at the width that the targets use, and where float32 sums are exact."""

from __future__ import annotations

from export.integer import EXACT_FLOAT32, IntegerModel, accumulator_type, hull, propagate
from export.integer.magnitudes import sums_of
from pipeline.ledger import ProofEntry

WIDTH_BITS = 32
"""Accumulators of every target are two's complement integers of this many bits."""


def prove_widths(model: IntegerModel) -> list[ProofEntry]:
    """Decide, for every node that adds, whether its accumulators fit 32 bits; say where binary32 holds them exactly."""
    ranges, sums = propagate(model), sums_of(model)
    entries = []
    for node in model.nodes:
        if not node.adds:
            continue
        total, channels = hull(ranges[node.name]), len(ranges[node.name])
        kind = accumulator_type(ranges[node.name])
        entries.append(
            ProofEntry(
                layer=node.name,
                claim=f"accumulators lie in [{total.low}, {total.high}]: {kind.bits} bits, never over {WIDTH_BITS}",
                method="interval arithmetic in unbounded integers, per channel, from the real weights and offsets",
                cases=channels,
                holds=kind.bits <= WIDTH_BITS,
                failing=0 if kind.bits <= WIDTH_BITS else channels,
            )
        )
        largest = max(sums[node.name].magnitudes)
        exact = largest <= EXACT_FLOAT32
        entries.append(
            ProofEntry(
                layer=node.name,
                claim=f"partial sums are at most {largest} in magnitude: "
                + ("exact in binary32, in any order" if exact else "over 2^24, so float32 sums may round"),
                method="sum of magnitudes against 2^24, in unbounded integers",
                cases=channels,
                holds=True,
            )
        )
    return entries
