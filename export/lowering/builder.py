"""The integer model under construction: nodes, wiring, ranges, and which tensor of the graph each node equals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import INPUT, Affine, IntegerType, MaxPool, Node, Product, Ranges, Shape
from bitproof.export.lowering.effort import Effort
from bitproof.export.lowering.known import Tensor
from bitproof.pipeline import Codes

PREFIXES = {
    "matmul": "fc",
    "threshold": "act",
    "affine": "affine",
    "max-pool": "pool",
    "sum-pool": "sum",
    "top-k": "top",
}
"""What the names of an operation's nodes begin with, where it is not the operation's own name."""

MAX_SUM_BITS = 62
"""A model's integers stay within this, so that int64 arithmetic on them is exact."""


MAX_AXES = 16
"""Of a sample; arrays have at most 64, and some work on a sample takes several more."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A tensor of the graph whose real numbers are ``scales[c] * code + offsets[c]`` of a node's codes.

    Attributes:
        tensor: its name in the graph.
        axes: axis ``i`` of one of its samples is axis ``axes[i]`` of the node's output.
        scales: one per channel; negative if the node's channel was negated.
        offsets: one per channel.
    """

    tensor: str
    axes: tuple[int, ...]
    scales: tuple[Fraction, ...]
    offsets: tuple[Fraction, ...]


class Builder:
    """Collects nodes in execution order and knows the shape and range of every value."""

    def __init__(self, effort: Effort | None = None) -> None:
        self.effort = Effort() if effort is None else effort
        self.nodes: dict[str, Node] = {}
        self.wiring: dict[str, tuple[str, ...]] = {}
        self.ranges: dict[str, Ranges] = {}
        self.shapes: dict[str, Shape] = {}
        self.origins: dict[str, Origin] = {}
        self._counts: Counter[str] = Counter()

    def begin(self, shape: Shape, ranges: Ranges) -> None:
        """Declare the model's input."""
        self.shapes[INPUT], self.ranges[INPUT] = shape, ranges

    def name(self, operation: type[Node]) -> str:
        """Return the name of the next node of *operation*."""
        prefix = PREFIXES.get(operation.op, operation.op)
        self._counts[prefix] += 1
        return f"{prefix}{self._counts[prefix] - 1}"

    def emit(self, node: Node, *sources: str) -> str:
        """Append *node*, which takes the outputs of *sources*, and return its name.

        Raises:
            ValueError: it does not take values of these shapes, has too many axes, or its output may exceed 62 bits.
            TooLargeError: the network asks for too much.
        """
        self.shapes[node.name] = shape = node.output_shape(*(self.shapes[source] for source in sources))
        if len(shape) > MAX_AXES:
            raise ValueError(f"its samples have {len(shape)} axes; at most {MAX_AXES} are supported")
        self.effort.begin(node, shape)
        ranges = node.ranges(*(self.ranges[source] for source in sources))
        largest = max(interval.magnitude for interval in ranges)
        if largest.bit_length() > MAX_SUM_BITS:
            raise ValueError(f"its integers reach {largest.bit_length()} bits; at most {MAX_SUM_BITS} are exact here")
        self.ranges[node.name] = ranges
        self.nodes[node.name] = node
        self.wiring[node.name] = sources
        return node.name

    def accumulators(self, node: str) -> Origin | None:
        """Return the origin of what *node* picks its codes from: its own, or that of the node before a max pool."""
        while node not in self.origins and isinstance(self.nodes.get(node), MaxPool):
            (node,) = self.wiring[node]
        return self.origins.get(node)

    def rising(self, tensor: Tensor) -> tuple[Tensor, NDArray[np.bool_]]:
        """Return *tensor* on channels that all rise, and which were negated to that end in the weights behind them.

        Weights are negated in place if nothing else uses the product; else a node that negates is put between.
        """
        falling = np.array([chain.direction < 0 for chain in tensor.chains], dtype=np.bool_)
        unchanged = np.zeros_like(falling)
        if not falling.any():
            return tensor, unchanged
        flipped = tuple(c.negated() if flip else c for c, flip in zip(tensor.chains, falling, strict=True))
        node = self.nodes.get(tensor.node)
        if tensor.private and isinstance(node, Product):
            self._negate(node, falling)
            return replace(tensor, chains=flipped), falling
        factors = np.where(falling, -1, 1)
        negation = self.emit(Affine(self.name(Affine), factors, np.zeros_like(factors)), tensor.node)
        if tensor.node in self.origins:
            self.origins[negation] = _negated(self.origins[tensor.node], falling)
        return replace(tensor, node=negation, chains=flipped, private=True), unchanged

    def _negate(self, node: Product, channels: NDArray[np.bool_]) -> None:
        column = (-1,) + (1,) * (node.weights.ndim - 1)
        weights = np.where(channels.reshape(column), -node.weights, node.weights)
        changed = replace(node, weights=weights, weight_type=weight_type(weights, node.weight_type))
        self.nodes[node.name] = changed
        self.ranges[node.name] = changed.ranges(*(self.ranges[source] for source in self.wiring[node.name]))
        if node.name in self.origins:
            self.origins[node.name] = _negated(self.origins[node.name], channels)


def _negated(origin: Origin, channels: NDArray[np.bool_]) -> Origin:
    """Return *origin* of a node whose *channels* are negated."""
    scales = tuple(-s if flip else s for s, flip in zip(origin.scales, channels, strict=True))
    return replace(origin, scales=scales)


def weight_type(weights: Codes, declared: IntegerType) -> IntegerType:
    """Return *declared* if it holds all *weights*, else the narrowest type that does."""
    low, high = int(weights.min()), int(weights.max())
    return declared if declared.holds(low, high) else IntegerType.smallest_for(low, high)
