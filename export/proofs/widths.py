"""The proof that no integer overflows at the width that the targets use, and the sums that float32 has exactly."""

from __future__ import annotations

from bitproof.export.integer import EXACT_FLOAT32, IntegerModel, hull
from bitproof.pipeline.ledger import ProofEntry

WIDTHS_BITS = (32, 64)
"""Accumulators of targets are two's complement integers of so many bits: of 64 if 32 do not hold them."""


def prove_widths(model: IntegerModel) -> list[ProofEntry]:
    """Decide, for every node that adds, which width its accumulators fit; say where binary32 holds them exactly."""
    entries = []
    for node in model.nodes:
        if not node.adds:
            continue
        value = model.values[node.name]
        total, channels, kind = hull(value.ranges), len(value.ranges), value.type
        width = next((width for width in WIDTHS_BITS if kind.bits <= width), WIDTHS_BITS[-1])
        entries.append(
            ProofEntry(
                layer=node.name,
                claim=f"accumulators lie in [{total.low}, {total.high}]: {kind.bits} bits, never over {width}",
                method="interval arithmetic in unbounded integers, per channel, from the real weights and offsets",
                cases=channels,
                holds=kind.bits <= width,
                failing=0 if kind.bits <= width else channels,
            )
        )
        largest = max(value.sums.magnitudes)
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
