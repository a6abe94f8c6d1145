"""Accumulator ranges by exact interval arithmetic in Python integers, per channel, from the real weights.

The interval of an accumulator is the sum over inputs of ``weight * [low, high]`` (Moore, Interval Analysis, 1966):
it holds every value that any input of the declared type can cause, so a width that holds it cannot overflow.
"""

from __future__ import annotations

from dataclasses import dataclass

from export.integer.ir import Bias, IntegerModel, IntegerType, MatMul, Node, Threshold


@dataclass(frozen=True, slots=True)
class Interval:
    """All integers from *low* to *high*, inclusive."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"empty interval [{self.low}, {self.high}]")

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high


def matmul_ranges(node: MatMul, inputs: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """Return the interval of each output accumulator of *node*, given that of each input code."""
    ranges = []
    for row in node.weights.tolist():
        low = high = 0
        for weight, source in zip(row, inputs, strict=True):
            if weight > 0:
                low += weight * source.low
                high += weight * source.high
            elif weight < 0:
                low += weight * source.high
                high += weight * source.low
        ranges.append(Interval(low, high))
    return tuple(ranges)


def threshold_ranges(node: Threshold, inputs: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """Return the interval of each output code of *node*, given that of each accumulator."""
    ranges = []
    for row, source in zip(node.thresholds.tolist(), inputs, strict=True):
        met_at_low = sum(threshold <= source.low for threshold in row)
        met_at_high = sum(threshold <= source.high for threshold in row)
        ranges.append(Interval(node.lowest + met_at_low, node.lowest + met_at_high))
    return tuple(ranges)


def bias_ranges(node: Bias, inputs: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """Return the interval of each output of *node*, given that of each accumulator."""
    pairs = zip(node.offsets.tolist(), inputs, strict=True)
    return tuple(Interval(source.low + offset, source.high + offset) for offset, source in pairs)


def node_ranges(node: Node, inputs: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """Return the interval of each output of *node*, given that of each input."""
    if isinstance(node, MatMul):
        return matmul_ranges(node, inputs)
    return bias_ranges(node, inputs) if isinstance(node, Bias) else threshold_ranges(node, inputs)


def propagate(model: IntegerModel) -> dict[str, tuple[Interval, ...]]:
    """Return the per-channel output interval of every node of *model*, by node name."""
    current = (Interval(model.input.minimum, model.input.maximum),) * model.inputs
    ranges: dict[str, tuple[Interval, ...]] = {}
    for node in model.nodes:
        current = node_ranges(node, current)
        ranges[node.name] = current
    return ranges


def hull(ranges: tuple[Interval, ...]) -> Interval:
    """Return the smallest interval that holds all of *ranges*."""
    return Interval(min(r.low for r in ranges), max(r.high for r in ranges))


def accumulator_type(ranges: tuple[Interval, ...]) -> IntegerType:
    """Return the narrowest two's complement type that holds every accumulator of *ranges*."""
    total = hull(ranges)
    narrowest = IntegerType.smallest_for(total.low, total.high)
    return narrowest if narrowest.signed else IntegerType(narrowest.bits + 1, signed=True)
