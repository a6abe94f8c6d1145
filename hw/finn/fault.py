"""Flip one bit of a weight or a threshold of stitched RTL: the negative controls of its checks."""

from __future__ import annotations

from pathlib import Path

from bitproof.hw.finn.memory import Field, threshold_field, weight_field
from bitproof.hw.rtl_node import RtlNode, read_description
from bitproof.pipeline import InputError


def flip_weight_bit(folder: Path, *, layer: int, row: int, column: int) -> str:
    """Flip the lowest bit of weight [*row*, *column*] of matrix unit *layer*, in the artifact copy *folder*.

    Returns:
        What was changed, with the old and the new weight.

    Raises:
        InputError: there is no such weight.
    """
    node = _node(read_description(folder).matrix_units, layer, "matrix unit")
    return _flip(weight_field(node, row, column), folder, f"weight [{row}, {column}] of {node.name}")


def flip_threshold_bit(folder: Path, *, layer: int, channel: int, index: int) -> str:
    """Flip the lowest bit of threshold *index* of *channel* of activation *layer*, in the artifact copy *folder*.

    Returns:
        What was changed, with the old and the new threshold.

    Raises:
        InputError: there is no such threshold.
    """
    node = _node(read_description(folder).activations, layer, "activation")
    return _flip(threshold_field(node, channel, index), folder, f"threshold [{channel}, {index}] of {node.name}")


def _node(nodes: tuple[RtlNode, ...], layer: int, what: str) -> RtlNode:
    if not 0 <= layer < len(nodes):
        raise InputError(f"there is no {what} {layer}; the RTL has {len(nodes)}, counted from 0")
    return nodes[layer]


def _flip(field: Field, folder: Path, what: str) -> str:
    old, new = field.flip_lowest_bit(folder)
    return f"{what} in {field.file}: {old} became {new}"
