"""The analysis of a model: what can be said of its values without running it, found in one pass and kept with it.

Ranges follow from exact interval arithmetic in Python integers, per channel, from the real weights: the interval of a
value holds every code that any allowed input can cause (Moore, Interval Analysis, 1966), so a width that holds it
cannot overflow. Sums tell how large the partial sums of a value may become, whatever their order: float32 evaluation
depends on that. How an operation bounds its output and carries on the sums behind its inputs is in
:mod:`bitproof.export.integer.ops`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

from bitproof.export.integer.ops import Affine, Concat, MaxPool, Node, Reshape, Threshold, TopK, Transpose
from bitproof.export.integer.types import INPUT, Bounds, IntegerType, Ranges, Shape, Sums, hull


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of one value: the input of a model, or the output of a node.

    Attributes:
        shape: of one sample.
        ranges: for each channel the interval of the codes that occur.
        type: of the codes: that of the input, of a threshold's output, of an accumulator or of an index; a value that
            is moved or chosen from others keeps theirs.
        codes: of the type, those that occur; in steps of 2 for bipolar codes -1 and 1.
        sums: the sums behind it.
        operations: multiplications or comparisons that give it for one sample; 0 for the input.
    """

    shape: Shape
    ranges: Ranges
    type: IntegerType
    codes: range
    sums: Sums
    operations: int

    @property
    def resting(self) -> int:
        """The code of inputs that are not looked at: 0, or the least code if 0 is not among them."""
        return 0 if 0 in self.codes else self.codes[0]


class WiredNodes(Protocol):
    """What is analysed: the input, and nodes in execution order; :class:`~bitproof.export.integer.ir.IntegerModel`."""

    @property
    def input(self) -> IntegerType:
        """Type of the input codes."""
        ...

    @property
    def shape(self) -> Shape:
        """Shape of one input sample."""
        ...

    @property
    def allowed_codes(self) -> range:
        """The input codes that occur."""
        ...

    @property
    def input_ranges(self) -> Ranges:
        """An interval for each input channel that holds its codes."""
        ...

    def shapes(self) -> Mapping[str, Shape]:
        """Return the shape of one sample of every value."""
        ...

    def wired(self) -> Iterable[tuple[Node, tuple[str, ...]]]:
        """Return each node with the names of what it takes."""
        ...


def analyse(model: WiredNodes) -> Mapping[str, Value]:
    """Return what is known of every value of *model*, by node name, ``input`` included.

    :attr:`IntegerModel.values` keeps it.
    """
    shapes, ranges = model.shapes(), model.input_ranges
    values = {INPUT: Value(model.shape, ranges, model.input, model.allowed_codes, Sums.of_codes(ranges), 0)}
    for node, sources in model.wired():
        given = [values[source] for source in sources]
        reached = node.ranges(*(value.ranges for value in given))
        shape = shapes[node.name]
        values[node.name] = Value(
            shape,
            reached,
            _type_of(node, reached, [value.type for value in given]),
            _codes_of(node, reached, {value.codes for value in given}),
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


def _codes_of(node: Node, reached: Ranges, given: set[range]) -> range:
    if isinstance(node, Threshold):
        return range(node.lowest, node.highest + 1, node.step)
    total = hull(reached)
    if isinstance(node, Affine) and len(set(node.factors.tolist())) == len(set(node.offsets.tolist())) == 1:
        (codes,) = given
        factor, offset = int(node.factors[0]), int(node.offsets[0])
        if factor > 0:
            mapped = range(factor * codes[0] + offset, factor * codes[-1] + offset + 1, factor * codes.step)
            return mapped[-((mapped.start - total.low) // mapped.step) : (total.high - mapped.start) // mapped.step + 1]
    if isinstance(node, Reshape | Transpose | MaxPool | Concat) and len(given) == 1:
        return next(iter(given))
    return range(total.low, total.high + 1)


def accumulator_type(ranges: Ranges) -> IntegerType:
    """Return the narrowest two's complement type that holds every accumulator of *ranges*."""
    total = hull(ranges)
    narrowest = IntegerType.smallest_for(total.low, total.high)
    return narrowest if narrowest.signed else IntegerType(narrowest.bits + 1, signed=True)
