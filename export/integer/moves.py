"""Nodes that move no number in memory, which cost nothing on a target that runs a chain of vectors."""

from __future__ import annotations

from dataclasses import replace

from bitproof.export.integer.ir import IntegerModel, chain_wiring
from bitproof.export.integer.ops import Node, Reshape, Transpose


def without_moves(model: IntegerModel) -> IntegerModel:
    """Return *model* on vectors, without the nodes that only give a sample another shape.

    The codes of a sample, in C order, are the same: of the input, of every node that is left, of the output. A *model*
    that is no chain, or is none on vectors even so, is returned as it is.
    """
    kept = tuple(node for node in model.nodes if not moves_nothing(node))
    chained = model.wiring in (None, chain_wiring(model.nodes))
    if not chained or not kept or (len(kept) == len(model.nodes) and len(model.shape) == 1):
        return model
    try:
        flat = replace(model, shape=(model.inputs,), nodes=kept, wiring=None)
    except ValueError:  # a node works along axes that are no more
        return model
    return flat if flat.is_chain else model


def moves_nothing(node: Node) -> bool:
    """Tell whether *node* leaves the codes of a sample where they lie: a reshape, or axes of size 1 that move."""
    if isinstance(node, Transpose):
        moved = [axis for axis in node.axes if node.sizes[axis] > 1]
        return moved == sorted(moved)
    return isinstance(node, Reshape)
