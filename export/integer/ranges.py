"""Accumulator ranges by exact interval arithmetic in Python integers, per channel, from the real weights.

The interval of a value holds every code that any allowed input can cause (Moore, Interval Analysis, 1966), so a width
that holds it cannot overflow. How an operation bounds its output is in :mod:`bitproof.export.integer.ops`.
"""

from __future__ import annotations

from bitproof.export.integer.ir import INPUT, IntegerModel
from bitproof.export.integer.types import IntegerType, Ranges, hull


def propagate(model: IntegerModel) -> dict[str, Ranges]:
    """Return the per-channel interval of every value of *model*, by node name, ``input`` included."""
    ranges = {INPUT: model.input_ranges}
    for node, sources in model.wired():
        ranges[node.name] = node.ranges(*(ranges[source] for source in sources))
    return ranges


def accumulator_type(ranges: Ranges) -> IntegerType:
    """Return the narrowest two's complement type that holds every accumulator of *ranges*."""
    total = hull(ranges)
    narrowest = IntegerType.smallest_for(total.low, total.high)
    return narrowest if narrowest.signed else IntegerType(narrowest.bits + 1, signed=True)
