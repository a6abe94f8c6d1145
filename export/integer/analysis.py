"""Everything that can be said of the values of a model without running it, found in one pass and kept with the model.

Ranges follow from exact interval arithmetic in Python integers, per channel, from the real weights: the interval of a
value holds every code that any allowed input can cause (Moore, Interval Analysis, 1966), so a width that holds it
cannot overflow. Sums tell how large the partial sums of a value may become, whatever their order: float32 evaluation
depends on that. How an operation bounds its output and carries on the sums behind its inputs is in
:mod:`bitproof.export.integer.ops`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from bitproof.export.integer.ops import Node, Threshold, TopK
from bitproof.export.integer.types import INPUT, Bounds, IntegerType, Ranges, Shape, Sums, hull

if TYPE_CHECKING:
    from bitproof.export.integer.ir import IntegerModel


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of one value: the input of a model, or the output of a node.

    Attributes:
        shape: of one sample.
        ranges: for each channel the interval of the codes that occur.
        type: of the codes: that of the input, of a threshold's output, of an accumulator or of an index; a value that
            is moved or chosen from others keeps theirs.
        sums: the sums behind it.
        operations: multiplications or comparisons that give it for one sample; 0 for the input.
    """

    shape: Shape
    ranges: Ranges
    type: IntegerType
    sums: Sums
    operations: int


def analyse(model: IntegerModel) -> Mapping[str, Value]:
    """Return what is known of every value of *model*, by node name, ``input`` included.

    :attr:`IntegerModel.values` keeps it.
    """
    shapes, ranges = model.shapes(), model.input_ranges
    values = {INPUT: Value(model.shape, ranges, model.input, Sums.of_codes(ranges), 0)}
    for node, sources in model.wired():
        given = [values[source] for source in sources]
        reached = node.ranges(*(value.ranges for value in given))
        shape = shapes[node.name]
        values[node.name] = Value(
            shape,
            reached,
            _type_of(node, reached, [value.type for value in given]),
            node.sums(*(Bounds(value.ranges, value.sums) for value in given)),
            prod(shape) * node.steps,
        )
    return values


def _type_of(node: Node, reached: Ranges, given: list[IntegerType]) -> IntegerType:
    if node.adds:
        return accumulator_type(reached)
    if isinstance(node, Threshold):
        return IntegerType.smallest_for(node.lowest, node.highest)
    if isinstance(node, TopK):  # indices
        total = hull(reached)
        return IntegerType.smallest_for(total.low, total.high)
    return IntegerType.smallest_for(min(kind.minimum for kind in given), max(kind.maximum for kind in given))


def accumulator_type(ranges: Ranges) -> IntegerType:
    """Return the narrowest two's complement type that holds every accumulator of *ranges*."""
    total = hull(ranges)
    narrowest = IntegerType.smallest_for(total.low, total.high)
    return narrowest if narrowest.signed else IntegerType(narrowest.bits + 1, signed=True)
