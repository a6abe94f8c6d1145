"""Integer scaling and offset of each channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from bitproof.export.integer.ops.node import Node, require_int64
from bitproof.export.integer.types import Bounds, Interval, Ranges, Shape, Sums
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True, eq=False)
class Affine(Node):
    """``outputs[c] = factors[c] * codes[c] + offsets[c]``, exact; any shape (C, ...).

    It brings branches with different scales to a common one, and adds a bias that the codes can express.

    Attributes:
        factors: shape (channels,).
        offsets: shape (channels,).
    """

    op: ClassVar[str] = "affine"
    adds: ClassVar[bool] = True

    factors: Codes
    offsets: Codes

    def __post_init__(self) -> None:
        for field in ("factors", "offsets"):
            require_int64(getattr(self, field), f"{field} of {self.name!r}", ndim=1)
        self.require(self.factors.shape == self.offsets.shape, "has another number of factors than of offsets")

    @classmethod
    def bias(cls, name: str, offsets: Codes) -> Affine:
        """Return the node that adds *offsets*, int64, shape (channels,)."""
        require_int64(offsets, f"offsets of {name!r}", ndim=1)
        return cls(name, np.ones_like(offsets), offsets)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.factors)

    @property
    def is_bias(self) -> bool:
        """It multiplies by nothing."""
        return bool((self.factors == 1).all())

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        self.require(shapes[0][0] == self.channels, f"takes {self.channels} channels and is given {shapes[0]}")
        return shapes[0]

    def apply(self, *codes: Codes) -> Codes:
        """Return the outputs, shape that of *codes*."""
        column = (self.channels,) + (1,) * (codes[0].ndim - 2)
        return codes[0] * self.factors.reshape(column) + self.offsets.reshape(column)

    def of_magnitudes(self) -> Self:
        """Return this with the magnitudes of factors and offsets."""
        return replace(self, factors=np.abs(self.factors), offsets=np.abs(self.offsets))

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Bound every output."""
        bounds = []
        for factor, offset, source in zip(self.factors.tolist(), self.offsets.tolist(), inputs[0], strict=True):
            ends = sorted((factor * source.low + offset, factor * source.high + offset))
            bounds.append(Interval(*ends))
        return tuple(bounds)

    def sums(self, *inputs: Bounds) -> Sums:
        """One term more, the offset."""
        before = inputs[0].sums
        constants = zip(self.factors.tolist(), self.offsets.tolist(), before.magnitudes, strict=True)
        return Sums(tuple(abs(f) * m + abs(o) for f, o, m in constants), before.terms + 1)
