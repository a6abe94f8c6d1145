"""The operations of the integer model, one file per family: meaning, shape and range of an operation in one place."""

from collections.abc import Mapping

from bitproof.export.integer.ops.affine import Affine
from bitproof.export.integer.ops.conv import Conv
from bitproof.export.integer.ops.join import Add, Concat
from bitproof.export.integer.ops.layout import Pad, Reshape, Transpose
from bitproof.export.integer.ops.matmul import MatMul
from bitproof.export.integer.ops.node import Node
from bitproof.export.integer.ops.pool import MaxPool, SumPool
from bitproof.export.integer.ops.threshold import Threshold
from bitproof.export.integer.ops.top_k import TopK
from bitproof.export.integer.ops.window import Window

Product = MatMul | Conv
"""The operations that hold weights."""

OPERATIONS: Mapping[str, type[Node]] = {
    operation.op: operation
    for operation in (MatMul, Conv, Threshold, Affine, Add, Concat, MaxPool, SumPool, Reshape, Transpose, Pad, TopK)
}
"""Every operation by its name on disk."""

__all__ = [
    "OPERATIONS",
    "Add",
    "Affine",
    "Concat",
    "Conv",
    "MatMul",
    "MaxPool",
    "Node",
    "Pad",
    "Product",
    "Reshape",
    "SumPool",
    "Threshold",
    "TopK",
    "Transpose",
    "Window",
]
