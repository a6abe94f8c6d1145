"""Shapes that a network computes while it runs (Shape, Gather, Concat, ...), followed with the batch left open."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from bitproof.export.importer.graph import Array, input_of, integer
from bitproof.export.importer.shapes import BATCH, Shape, number_of

Sizes = NDArray[np.object_]
"""A scalar or vector of sizes: numbers, the batch, or None for one that is not known."""


def sizes_of(
    node: onnx.NodeProto, sizes: Mapping[str, Sizes], constants: Mapping[str, Array], shapes: Mapping[str, Shape]
) -> Sizes | None:
    """Return the sizes that *node* computes; None if it computes something else."""
    if node.domain:
        return None
    try:
        if node.op_type == "Shape":
            shape = shapes.get(node.input[0])
            if shape is None:
                return None
            first, last = integer(node, "start", 0), integer(node, "end", len(shape))
            return _vector(list(shape[first:last]))
        if node.op_type not in _RULES or not any(name in sizes for name in node.input):
            return None
        operands = [_operand(name, sizes, constants) for name in node.input]
        return _RULES[node.op_type](node, operands)
    except (ValueError, IndexError, KeyError, TypeError):
        return None


def _vector(entries: list[Any]) -> Sizes:
    vector = np.empty(len(entries), dtype=object)
    vector[:] = entries
    return vector


def _operand(name: str, sizes: Mapping[str, Sizes], constants: Mapping[str, Array]) -> Sizes:
    if name in sizes:
        return sizes[name]
    value = constants[name]
    if value.size > 64 or value.dtype.kind not in "iu":
        raise ValueError("no sizes")
    return value.astype(object)


def _gather(node: onnx.NodeProto, operands: list[Sizes]) -> Sizes:
    if integer(node, "axis", 0) not in (0, -1) or operands[0].ndim != 1:
        raise ValueError("no vector")
    index = operands[1].astype(np.int64)
    return np.asarray(operands[0][index], dtype=object)


def _slice(node: onnx.NodeProto, operands: list[Sizes]) -> Sizes:
    if operands[0].ndim != 1 or any(operand.size != 1 for operand in operands[1:]):
        raise ValueError("no vector")
    start, stop = (int(operand.reshape(-1)[0]) for operand in operands[1:3])
    step = int(operands[4].reshape(-1)[0]) if input_of(node, 4) else 1
    if step < 1:
        raise ValueError("backwards")
    return operands[0][start:stop:step]


def _cast(node: onnx.NodeProto, operands: list[Sizes]) -> Sizes:
    if integer(node, "to", 0) not in (TensorProto.INT64, TensorProto.INT32):
        raise ValueError("no sizes")
    return operands[0]


def _concat(_node: onnx.NodeProto, operands: list[Sizes]) -> Sizes:
    return np.concatenate(operands)


def _flat(_node: onnx.NodeProto, operands: list[Sizes]) -> Sizes:
    """Unsqueeze makes a vector of a scalar."""
    if operands[0].size != 1 or operands[0].ndim:
        raise ValueError("no scalar")
    return operands[0].reshape(1)


def _scalar(_node: onnx.NodeProto, operands: list[Sizes]) -> Sizes:
    """Squeeze makes a scalar of a vector of one."""
    return operands[0].reshape(())


def _product(_node: onnx.NodeProto, operands: list[Sizes]) -> Sizes:
    left, right = np.broadcast_arrays(*operands)
    entries = [_times(a, b) for a, b in zip(left.reshape(-1), right.reshape(-1), strict=True)]
    return _vector(entries).reshape(left.shape)


def _times(left: Any, right: Any) -> Any:  # noqa: ANN401  sizes are numbers, the batch or None
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    if left == 1 or right == 1:
        return right if left == 1 else left
    return None


def _all(node: onnx.NodeProto, operands: list[Sizes]) -> Sizes:
    """ReduceProd over a whole vector."""
    total: Any = 1
    for entry in operands[0].reshape(-1):
        total = _times(total, entry)
    return np.array(total, dtype=object).reshape((1,) if integer(node, "keepdims", 1) else ())


_RULES: Mapping[str, Callable[[onnx.NodeProto, list[Sizes]], Sizes]] = {
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "Identity": lambda _node, operands: operands[0],
    "Mul": _product,
    "ReduceProd": _all,
    "Slice": _slice,
    "Squeeze": _scalar,
    "Unsqueeze": _flat,
}


def target_of(given: list[Any], source: Shape, batch: int | None) -> list[int] | None:
    """Return the sizes to reshape a tensor of shape *source* to, with the batch open; None if they are not known.

    Args:
        given: what the file asks for: numbers (0: as in *source*, -1: what is left), the batch, None.
        source: begins with the batch.
        batch: the number of samples that the file was written for; None if it leaves it open.

    Raises:
        ValueError: the samples would not stay apart.
    """
    if None in given:
        return None
    sizes = [source[axis] if size == 0 and axis < len(source) else size for axis, size in enumerate(given)]
    if not sizes or BATCH in sizes[1:] or None in sizes[1:]:
        raise ValueError("the batch is not the first axis")
    rest = [int(size) for size in sizes[1:] if size is not None]
    elements = number_of(source[1:])
    named = math.prod(size for size in rest if size != -1)
    if rest.count(-1) > 1 or named < 0 or (sizes[0] == -1 and -1 in rest):
        raise ValueError("more than one axis is left open")
    # With an open batch a first size of 1 was written down while one sample ran through the network.
    traced = 1 if batch is None and -1 not in rest else batch
    if sizes[0] not in (BATCH, -1, traced):
        raise ValueError(f"the first axis has size {sizes[0]}")
    if elements is None:
        return [0, *rest] if sizes[0] == BATCH else None
    if -1 in rest and named and elements % named == 0:
        rest = [elements // named if size == -1 else size for size in rest]
        named = elements
    if named != elements:
        raise ValueError(f"a sample has {elements} numbers")
    return [-1, *rest]
