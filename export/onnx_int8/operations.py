"""The operations of the integer model in ONNX: standard operators that are exact in onnxruntime.

PlainIntegers are int32 if 32 bits hold them, else int64; products are in :mod:`bitproof.export.onnx_int8.products`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto

from bitproof.export.integer import (
    EXACT_FLOAT32,
    Add,
    Affine,
    Concat,
    Conv,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    hull,
)
from bitproof.export.onnx_int8.context import Context, Inputs
from bitproof.export.onnx_int8.graph import MAX_STORED, PlainIntegers, Stored, Value, column, is_wide
from bitproof.export.onnx_int8.products import conv, matmul, spatial, window_sums
from bitproof.export.onnx_int8.requantization import threshold
from bitproof.pipeline import StageError


def affine(context: Context, node: Affine, inputs: Inputs) -> Value:
    """Scale and move integers; one offset for all codes is a matter of their zero point alone."""
    graph, name = context.graph, node.name
    source, value = inputs[0]
    offsets = set(node.offsets.tolist())
    if isinstance(value, Stored) and node.is_bias and len(offsets) == 1:
        zero_point = value.zero_point - min(offsets)
        if 0 <= zero_point <= MAX_STORED:
            return Stored(value.tensor, zero_point)
    product = hull(replace(node, offsets=np.zeros_like(node.offsets)).ranges(context.ranges[source]))
    sums = graph.sums(value, wide=_any_wide(context, name, source) or is_wide(product))
    tensor, shape = sums.tensor, context.shapes[source]
    if not node.is_bias:
        factors = graph.constant(f"{name}.factors", column(node.factors, shape, wide=sums.wide))
        tensor = graph.operation("Mul", [tensor, factors], f"{name}.product")
    offset = graph.constant(f"{name}.offsets", column(node.offsets, shape, wide=sums.wide))
    return replace(sums, tensor=graph.operation("Add", [tensor, offset], f"{name}.sum"))


def _any_wide(context: Context, *names: str) -> bool:
    return any(is_wide(hull(context.ranges[name])) for name in names)


def add(context: Context, node: Add, inputs: Inputs) -> Value:
    """Add in 32 bits, or in 64."""
    sums = _as_sums(context, inputs, wide=_any_wide(context, node.name))
    tensor = context.graph.operation("Add", [value.tensor for value in sums], f"{node.name}.sum")
    return replace(sums[0], tensor=tensor)


def _as_sums(context: Context, inputs: Inputs, *, wide: bool = False) -> list[PlainIntegers]:
    """Return all values as integers of one width: of 64 bits if one of them is, or *wide*."""
    sums = [context.graph.sums(value) for _, value in inputs]
    return [context.graph.sums(value, wide=wide or any(each.wide for each in sums)) for value in sums]


def concat(context: Context, node: Concat, inputs: Inputs) -> Value:
    """Join channels: codes of one zero point as they are, all else as sums."""
    points = {value.zero_point if isinstance(value, Stored) else None for _, value in inputs}
    if len(points) == 1 and None not in points:
        tensors = [value.tensor for _, value in inputs]
        return Stored(context.graph.operation("Concat", tensors, f"{node.name}.joined", axis=1), points.pop() or 0)
    sums = _as_sums(context, inputs)
    tensor = context.graph.operation("Concat", [value.tensor for value in sums], f"{node.name}.joined", axis=1)
    return replace(sums[0], tensor=tensor)


def max_pool(context: Context, node: MaxPool, inputs: Inputs) -> Value:
    """Pool codes in uint8, and sums in floats that hold them exactly."""
    graph, name = context.graph, node.name
    source, value = inputs[0]
    padded = graph.is_made_by("Pad", value.tensor)
    if isinstance(value, Stored) and not padded:
        tensor = graph.operation("MaxPool", [value.tensor], f"{name}.largest", **spatial(node.window))
        return Stored(tensor, value.zero_point)
    reachable = hull(context.ranges[source])
    sums = graph.sums(value)
    floats, kind = graph.exact_float(sums, reachable, name)
    if padded:
        # onnxruntime merges Pad, with a Cast behind it or without, into the pool, where padding counts as the lowest
        # number and not as 0, and may not be as wide as the kernel. This keeps them apart and changes no number.
        real = np.float32 if kind == TensorProto.FLOAT else np.float64
        least = graph.constant(f"{name}.least", np.array(reachable.low, dtype=real))
        floats = graph.operation("Max", [floats, least], f"{name}.apart")
    largest = graph.operation("MaxPool", [floats], f"{name}.pooled", **spatial(node.window))
    return replace(sums, tensor=graph.cast(largest, sums.type, f"{name}.largest"))


def require_pads(node: MaxPool) -> None:
    """Check that onnxruntime loads the window of *node*, whose padding a dilation may make as wide as its kernel.

    Raises:
        StageError: it does not.
    """
    window = node.window
    if any(max(around) >= taps for *around, taps in zip(window.begin, window.end, window.kernel, strict=True)):
        raise StageError(
            f"onnx-int8: {node.name} ({node.op}) pads {window.begin} before and {window.end} after, with a kernel of "
            f"{window.kernel}; onnxruntime loads padding below the size of the kernel on each axis: pad less, or by a "
            "Pad node before it if none of its numbers is negative"
        )


def sum_pool(context: Context, node: SumPool, inputs: Inputs) -> Value:
    """Sum a whole plane, or windows by a convolution with ones: in floats that hold every sum exactly, or in bytes."""
    graph, name = context.graph, node.name
    source, value = inputs[0]
    total = hull(context.ranges[name])
    shape, window = context.shapes[source], node.window
    if window.kernel == shape[1:] and not window.padded:
        sums = graph.sums(value, wide=is_wide(total))
        axes = graph.constant(f"axes{len(shape) - 1}", np.arange(2, len(shape) + 1, dtype=np.int64))
        return replace(sums, tensor=graph.operation("ReduceSum", [sums.tensor, axes], f"{name}.sum", keepdims=1))
    if total.magnitude > EXACT_FLOAT32:  # onnxruntime has no convolution of doubles
        return window_sums(context, name, window, inputs[0])
    floats = graph.cast(graph.sums(value).tensor, TensorProto.FLOAT, f"{name}.float")
    weights = graph.constant(f"{name}.ones", np.ones((shape[0], 1, *window.kernel), dtype=np.float32))
    summed = graph.operation("Conv", [floats, weights], f"{name}.summed", group=shape[0], **spatial(window))
    return PlainIntegers(graph.cast(summed, TensorProto.INT32, f"{name}.sum"))


def reshape(context: Context, node: Reshape, inputs: Inputs) -> Value:
    """Give the same integers another shape; the batch stays."""
    sizes = context.graph.constant(f"{node.name}.sizes", np.array([0, *node.shape], dtype=np.int64))
    value = inputs[0][1]
    return replace(value, tensor=context.graph.operation("Reshape", [value.tensor, sizes], f"{node.name}.values"))


def transpose(context: Context, node: Transpose, inputs: Inputs) -> Value:
    """Permute the axes; the batch stays first."""
    value, order = inputs[0][1], [0, *(axis + 1 for axis in node.axes)]
    return replace(
        value, tensor=context.graph.operation("Transpose", [value.tensor], f"{node.name}.values", perm=order)
    )


def pad(context: Context, node: Pad, inputs: Inputs) -> Value:
    """Pad with what stands for the code 0."""
    graph, name, value = context.graph, node.name, inputs[0][1]
    if isinstance(value, Stored) and not value.is_operand:  # no byte stands for 0
        value = graph.sums(value)
    sizes = graph.constant(f"{name}.pads", np.array([0, 0, *node.begin, 0, 0, *node.end], dtype=np.int64))
    if isinstance(value, Stored):
        filler = graph.constant(f"{name}.filler", np.array(value.zero_point, dtype=np.uint8))
    else:
        filler = graph.integer(0, wide=value.wide)
    return replace(value, tensor=graph.operation("Pad", [value.tensor, sizes, filler], f"{name}.values"))


def top_k(context: Context, node: TopK, inputs: Inputs) -> Value:
    """Return the indices of the largest codes; of equal ones the lower index comes first, as in ONNX."""
    graph, name = context.graph, node.name
    sums = graph.sums(inputs[0][1])
    count = graph.constant(f"{name}.count", np.array([node.count], dtype=np.int64))
    values, indices = f"{name}.values", f"{name}.wide"
    graph.pair("TopK", [sums.tensor, count], values, indices, axis=1)
    return PlainIntegers(graph.cast(indices, TensorProto.INT32, f"{name}.indices"))


WRITERS: Mapping[type[Node], Callable[[Context, Any, Inputs], Value]] = {
    MatMul: matmul,
    Conv: conv,
    Threshold: threshold,
    Affine: affine,
    Add: add,
    Concat: concat,
    MaxPool: max_pool,
    SumPool: sum_pool,
    Reshape: reshape,
    Transpose: transpose,
    Pad: pad,
    TopK: top_k,
}
"""How each operation is written; removing a line makes this target refuse the operation."""
