"""The classes with the largest codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitproof.export.integer.ops.node import Node
from bitproof.export.integer.types import Bounds, Interval, Ranges, Shape, Sums
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True, eq=False)
class TopK(Node):
    """Indices of the *count* largest codes of a vector, the largest first; of equal codes the lower index comes first.

    Attributes:
        channels: length of the vector.
        count: how many indices, at most *channels*.
    """

    op: ClassVar[str] = "top-k"

    channels: int
    count: int

    def __post_init__(self) -> None:
        self.require(1 <= self.count <= self.channels, f"takes {self.count} of {self.channels} codes")

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (count,)."""
        self.require(shapes == ((self.channels,),), f"takes {self.channels} channels and is given {shapes[0]}")
        return (self.count,)

    def apply(self, *codes: Codes) -> Codes:
        """Return the indices, shape (N, count)."""
        order: Codes = np.argsort(-codes[0], axis=1, kind="stable")
        return order[:, : self.count].astype(np.int64)

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Return [0, channels - 1] for each."""
        del inputs
        return (Interval(0, self.channels - 1),) * self.count

    def sums(self, *inputs: Bounds) -> Sums:
        """None: indices begin anew."""
        return Sums.of_codes(self.ranges(inputs[0].ranges))
