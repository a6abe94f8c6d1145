"""The integer model: a small typed graph of integer operations, the one definition of what a network computes.

Every other form of the network is compared with it. A value is an array of integer *codes*; the real number that
a code stands for is ``code * scale``. Thresholds are the canonical form of a quantized activation: code ``i`` of
channel ``c`` is reached when the accumulator is at least ``thresholds[c, i - 1]``, counting codes from the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline import Codes


@dataclass(frozen=True, slots=True)
class IntegerType:
    """Integers of *bits* bits in two's complement (*signed*) or offset-free unsigned form."""

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        if self.bits < 1:
            raise ValueError(f"an integer type has at least 1 bit, not {self.bits}")

    @property
    def minimum(self) -> int:
        """Smallest representable integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest representable integer."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"

    @classmethod
    def smallest_for(cls, low: int, high: int) -> IntegerType:
        """Return the narrowest type that holds every integer from *low* to *high*; signed iff *low* < 0."""
        if low > high:
            raise ValueError(f"empty range [{low}, {high}]")
        if low >= 0:
            return cls(max(1, high.bit_length()), signed=False)
        return cls(max((-low - 1).bit_length(), high.bit_length() if high > 0 else 0) + 1, signed=True)


@dataclass(frozen=True, slots=True, eq=False)
class MatMul:
    """``accumulators = codes @ weights.T``, exact.

    Attributes:
        name: unique within the model.
        weights: shape (outputs, inputs), every element within *weight_type*.
        weight_type: the narrowest type that holds every weight.
    """

    name: str
    weights: Codes
    weight_type: IntegerType

    def __post_init__(self) -> None:
        _check_integer_matrix(self.weights, f"weights of {self.name!r}")
        low, high = int(self.weights.min()), int(self.weights.max())
        if low < self.weight_type.minimum or high > self.weight_type.maximum:
            raise ValueError(f"weights of {self.name!r} span [{low}, {high}], outside {self.weight_type}")

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return int(self.weights.shape[1])

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return int(self.weights.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Threshold:
    """``code[c] = lowest + number of thresholds[c] that are <= accumulator[c]``.

    A threshold outside the channel's reachable accumulators is kept as one of two finite integers: the smallest
    reachable accumulator (always met) or the largest plus one (never met).

    Attributes:
        name: unique within the model.
        thresholds: shape (channels, levels), each row ascending (repeats allowed).
        output: type of the output codes; ``lowest + levels`` is at most its maximum.
        lowest: the output code below the first threshold.
        flipped: shape (channels,); True where the slope of the original activation was negative and the
            channel's weights and thresholds were negated so that the code rises with the accumulator.
    """

    name: str
    thresholds: Codes
    output: IntegerType
    lowest: int
    flipped: NDArray[np.bool_]

    def __post_init__(self) -> None:
        _check_integer_matrix(self.thresholds, f"thresholds of {self.name!r}")
        if (np.diff(self.thresholds, axis=1) < 0).any():
            channel = int(np.argwhere(np.diff(self.thresholds, axis=1) < 0)[0][0])
            raise ValueError(f"thresholds of {self.name!r}, channel {channel}, do not ascend")
        if self.lowest < self.output.minimum or self.lowest + self.levels > self.output.maximum:
            raise ValueError(
                f"{self.name!r} has codes {self.lowest}..{self.lowest + self.levels}, outside {self.output}"
            )
        if self.flipped.shape != (self.channels,) or self.flipped.dtype != np.bool_:
            raise ValueError(f"flipped of {self.name!r} must be {self.channels} booleans")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.thresholds.shape[0])

    @property
    def inputs(self) -> int:
        """Number of input channels: as many as output channels."""
        return self.channels

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.channels

    @property
    def levels(self) -> int:
        """Number of thresholds of a channel."""
        return int(self.thresholds.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Bias:
    """``outputs[c] = codes[c] + offsets[c]``, exact: what calibration adds to the output accumulators.

    Attributes:
        name: unique within the model.
        offsets: int64, shape (channels,).
    """

    name: str
    offsets: Codes

    def __post_init__(self) -> None:
        if self.offsets.dtype != np.int64 or self.offsets.ndim != 1 or not self.offsets.size:
            raise ValueError(
                f"offsets of {self.name!r} must be a non-empty int64 vector, not "
                f"{self.offsets.dtype} {self.offsets.shape}"
            )

    @property
    def inputs(self) -> int:
        """Number of input channels: as many as output channels."""
        return len(self.offsets)

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return len(self.offsets)


Node = MatMul | Threshold | Bias


@dataclass(frozen=True, slots=True, eq=False)
class IntegerModel:
    """A chain of integer operations from input codes to output codes.

    Attributes:
        name: the network's name.
        input: type of the input codes.
        input_scale: real value of one input code.
        inputs: number of input channels.
        nodes: the operations in execution order; each consumes the output of the one before it.
        output_scale: real value of one output code.
    """

    name: str
    input: IntegerType
    input_scale: Fraction
    inputs: int
    nodes: tuple[Node, ...] = field(repr=False)
    output_scale: Fraction

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("an integer model has at least one node")
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names):
            raise ValueError(f"node names repeat: {names}")
        width = self.inputs
        for node in self.nodes:
            if node.inputs != width:
                raise ValueError(f"{node.name!r} takes {node.inputs} channels and is given {width}")
            width = node.outputs

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.nodes[-1].outputs

    @property
    def matmuls(self) -> tuple[MatMul, ...]:
        """The matrix products, in execution order."""
        return tuple(node for node in self.nodes if isinstance(node, MatMul))

    @property
    def activations(self) -> tuple[Threshold, ...]:
        """The requantizing layers, in execution order."""
        return tuple(node for node in self.nodes if isinstance(node, Threshold))


def _check_integer_matrix(array: Codes, what: str) -> None:
    if array.dtype != np.int64 or array.ndim != 2 or array.size == 0:
        raise ValueError(f"{what} must be a non-empty int64 matrix, not {array.dtype} {array.shape}")
