"""The matrix product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Self

import numpy as np

from bitproof.export.integer.ops.node import Node, linear_ranges, require_int64
from bitproof.export.integer.ops.product import exact_type
from bitproof.export.integer.types import Bounds, IntegerType, Ranges, Shape, Sums
from bitproof.pipeline import Codes


def require_weights(name: str, weights: Codes, kind: IntegerType) -> None:
    """Refuse *weights* that do not lie in *kind*.

    Raises:
        ValueError: with the name and both ranges.
    """
    low, high = int(weights.min()), int(weights.max())
    if not kind.holds(low, high):
        raise ValueError(f"weights of {name!r} span [{low}, {high}], outside {kind}")


@dataclass(frozen=True, slots=True, eq=False)
class MatMul(Node):
    """``accumulators = codes @ weights.T``, exact, from shape (inputs,) to (outputs,).

    Attributes:
        weights: shape (outputs, inputs), every element within *weight_type*.
        weight_type: the narrowest type that holds every weight.
    """

    op: ClassVar[str] = "matmul"
    adds: ClassVar[bool] = True

    weights: Codes
    weight_type: IntegerType

    def __post_init__(self) -> None:
        require_int64(self.weights, f"weights of {self.name!r}", ndim=2)
        require_weights(self.name, self.weights, self.weight_type)

    @property
    def steps(self) -> int:
        """One per weight of an output."""
        return prod(self.weights.shape[1:])

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return int(self.weights.shape[1])

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return int(self.weights.shape[0])

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (outputs,)."""
        self.require(shapes == ((self.inputs,),), f"takes {self.inputs} channels and is given {shapes[0]}")
        return (self.outputs,)

    def apply(self, *codes: Codes) -> Codes:
        """Return the accumulators, shape (N, outputs)."""
        (source,) = codes
        kind = exact_type(self.weights, source)
        accumulators: Codes = (source.astype(kind) @ self.weights.T.astype(kind)).astype(np.int64)
        return accumulators

    def of_magnitudes(self) -> Self:
        """Return this with the magnitudes of the weights."""
        magnitudes = np.abs(self.weights)
        kind = IntegerType.smallest_for(0, int(magnitudes.max()))
        return replace(self, weights=magnitudes, weight_type=kind)

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Bound every accumulator from the real weights."""
        (source,) = inputs
        return linear_ranges(self.weights, [i.low for i in source], [i.high for i in source])

    def sums(self, *inputs: Bounds) -> Sums:
        """A sum over the inputs."""
        before = inputs[0].sums
        magnitudes = np.abs(self.weights).astype(object) @ np.array(before.magnitudes, dtype=object)
        return Sums(tuple(int(magnitude) for magnitude in magnitudes), before.terms_of_products(self.inputs))
