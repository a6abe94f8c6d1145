"""Operations that join branches: the sum and the concatenation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitproof.export.integer.ops.node import Node
from bitproof.export.integer.types import Bounds, Interval, Ranges, Shape, Sums
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True, eq=False)
class Add(Node):
    """The sum of two values of one shape whose codes have one scale, exact."""

    op: ClassVar[str] = "add"
    adds: ClassVar[bool] = True
    arity: ClassVar[int | None] = 2

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the common shape."""
        self.require(len(set(shapes)) == 1, f"adds values of different shapes {shapes}")
        return shapes[0]

    def apply(self, *codes: Codes) -> Codes:
        """Return the sum."""
        return codes[0] + codes[1]

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Bound the sum; that the branches may depend on each other is not used."""
        return tuple(Interval(a.low + b.low, a.high + b.high) for a, b in zip(*inputs, strict=True))

    def sums(self, *inputs: Bounds) -> Sums:
        """The terms of both branches."""
        one, two = (value.sums for value in inputs)
        pairs = zip(one.magnitudes, two.magnitudes, strict=True)
        return Sums(tuple(a + b for a, b in pairs), one.terms + two.terms)


@dataclass(frozen=True, slots=True, eq=False)
class Concat(Node):
    """The channels of all values, one after the other."""

    op: ClassVar[str] = "concat"
    arity: ClassVar[int | None] = None

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (sum of channels, *sizes)."""
        self.require(len({shape[1:] for shape in shapes}) == 1, f"joins values of different sizes {shapes}")
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def apply(self, *codes: Codes) -> Codes:
        """Return the joined channels."""
        joined: Codes = np.concatenate(codes, axis=1)
        return joined

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Return all intervals."""
        return tuple(interval for ranges in inputs for interval in ranges)

    def sums(self, *inputs: Bounds) -> Sums:
        """Those of the values."""
        sums = [value.sums for value in inputs]
        return Sums(tuple(m for each in sums for m in each.magnitudes), max(each.terms for each in sums))
