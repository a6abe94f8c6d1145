"""How many operations a network carries out for one sample: what running it costs."""

from __future__ import annotations

from math import prod

from bitproof.export.integer.ir import IntegerModel
from bitproof.export.integer.ops import MaxPool, Node, Product, SumPool
from bitproof.export.integer.types import Shape


def operations_of_node(node: Node, shape: Shape) -> int:
    """Return how many multiplications or comparisons give the output of *node*, of *shape* for one sample."""
    if isinstance(node, Product):
        return prod(shape) * prod(node.weights.shape[1:])
    return prod(shape) * (prod(node.window.kernel) if isinstance(node, MaxPool | SumPool) else 1)


def operations_of(model: IntegerModel) -> int:
    """Return how many operations *model* carries out for one sample."""
    shapes = model.shapes()
    return sum(operations_of_node(node, shapes[node.name]) for node in model.nodes)
