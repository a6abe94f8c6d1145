"""Convolution, one- and two-dimensional, grouped and depthwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Self

import numpy as np

from bitproof.export.integer.ops.matmul import require_weights
from bitproof.export.integer.ops.node import Node, linear_ranges, require_int64
from bitproof.export.integer.ops.product import exact_type
from bitproof.export.integer.ops.window import Window
from bitproof.export.integer.types import Bounds, IntegerType, Ranges, Shape, Sums
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True, eq=False)
class Conv(Node):
    """Cross-correlation as in ONNX Conv, exact, from (C, *sizes) to (outputs, *counts); padding adds the code 0.

    Attributes:
        weights: shape (outputs, C / groups, *kernel), every element within *weight_type*.
        weight_type: the narrowest type that holds every weight.
        window: where the kernel lies.
        groups: output channel ``o`` sees the input channels of group ``o // (outputs / groups)`` alone.
    """

    op: ClassVar[str] = "conv"
    adds: ClassVar[bool] = True

    weights: Codes
    weight_type: IntegerType
    window: Window
    groups: int

    def __post_init__(self) -> None:
        require_int64(self.weights, f"weights of {self.name!r}", ndim=2 + len(self.window.kernel))
        require_weights(self.name, self.weights, self.weight_type)
        self.require(self.weights.shape[2:] == self.window.kernel, f"has weights {self.weights.shape}, {self.window}")
        divides = self.groups >= 1 and self.outputs % self.groups == 0
        self.require(divides, f"cannot divide {self.outputs} outputs into {self.groups} groups")

    @property
    def steps(self) -> int:
        """One per weight of an output."""
        return prod(self.weights.shape[1:])

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return int(self.weights.shape[1]) * self.groups

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return int(self.weights.shape[0])

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return (outputs, *counts)."""
        (channels, *sizes), axes = shapes[0], len(self.window.kernel)
        fits = channels == self.channels and len(sizes) == axes
        self.require(fits, f"takes {self.channels} channels and {axes} spatial axes and is given {shapes[0]}")
        counts = self.window.output_sizes(tuple(sizes))
        self.require(min(counts) >= 1, f"has no window that fits into {shapes[0]}")
        return (self.outputs, *counts)

    def apply(self, *codes: Codes) -> Codes:
        """Return the accumulators, shape (N, outputs, *counts): for each tap one product over the channels."""
        (source,) = codes
        kind = exact_type(self.weights, source)
        counts = self.output_shape(source.shape[1:])[1:]
        padded = self.window.pad(source.astype(kind), 0)
        rows, positions = len(source), int(np.prod(counts))
        weights = self.weights.astype(kind).reshape(self.groups, -1, self.weights.shape[1], *self.window.kernel)
        total = np.zeros((rows, self.groups, weights.shape[1], positions), dtype=kind)
        for tap, met in self.window.taps(padded, counts):
            columns = met.reshape(rows, self.groups, self.weights.shape[1], positions)
            matrix = weights[:, :, :, tap[0]] if len(tap) == 1 else weights[:, :, :, tap[0], tap[1]]
            # A depthwise product has one term: broadcasting it is faster than a matrix product.
            total += matrix * columns if matrix.shape[2] == 1 else np.matmul(matrix, columns)
        accumulators: Codes = total.reshape(rows, self.outputs, *counts).astype(np.int64)
        return accumulators

    def of_magnitudes(self) -> Self:
        """Return this with the magnitudes of the weights."""
        magnitudes = np.abs(self.weights)
        kind = IntegerType.smallest_for(0, int(magnitudes.max()))
        return replace(self, weights=magnitudes, weight_type=kind)

    def ranges(self, *inputs: Ranges) -> Ranges:
        """Bound every accumulator from the real weights; a padded tap may be absent, that is, 0."""
        source = [i.with_zero() if self.window.padded else i for i in inputs[0]]
        taps, members = int(np.prod(self.window.kernel)), self.weights.shape[1]
        bounds: Ranges = ()
        for group, rows in enumerate(np.split(self.weights.reshape(self.outputs, -1), self.groups)):
            seen = [source[group * members + i // taps] for i in range(members * taps)]
            bounds += linear_ranges(rows, [i.low for i in seen], [i.high for i in seen])
        return bounds

    def sums(self, *inputs: Bounds) -> Sums:
        """A sum over the taps and the input channels of a group."""
        members, taps = int(self.weights.shape[1]), prod(self.window.kernel)
        each = np.abs(self.weights).reshape(self.groups, -1, members, taps).sum(axis=3).astype(object)
        before = inputs[0].sums
        behind = np.array(before.magnitudes, dtype=object).reshape(self.groups, members)
        magnitudes = [int(m) for group, source in zip(each, behind, strict=True) for m in group @ source]
        return Sums(tuple(magnitudes), before.terms_of_products(members * taps))
