"""How each operation of the integer model is written in ONNX: standard operators that are exact in onnxruntime.

Weights stay unsigned with a zero point: MatMulInteger and ConvInteger on uint8 x uint8 are exact on every x86 kernel of
onnxruntime, while uint8 x int8 saturates in 16 bits on processors without VNNI.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto

from export.integer import (
    Add,
    Affine,
    Concat,
    Conv,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    Window,
    hull,
)
from export.onnx_int8.context import Context, Inputs
from export.onnx_int8.graph import Graph, Stored, Sums, Value, column, require_32_bits
from export.onnx_int8.packing import FieldLayout, pack
from export.onnx_int8.requantization import threshold
from pipeline import Codes


def matmul(context: Context, node: MatMul, inputs: Inputs) -> Value:
    """Multiply stored codes by unpacked weights."""
    graph, name = context.graph, node.name
    codes = graph.stored(inputs[0][1], hull(context.ranges[inputs[0][0]]), name)
    matrix, points = _weights(graph, name, node.weights, node.weight_type, codes)
    return Sums(graph.operation("MatMulInteger", [codes.tensor, matrix, *points], f"{name}.accumulators"))


def conv(context: Context, node: Conv, inputs: Inputs) -> Value:
    """Convolve stored codes with unpacked weights; onnxruntime pads with the codes' zero point, which is code 0."""
    graph, name = context.graph, node.name
    codes = graph.stored(inputs[0][1], hull(context.ranges[inputs[0][0]]), name)
    matrix, points = _weights(graph, name, node.weights.reshape(node.outputs, -1), node.weight_type, codes)
    turned = graph.operation("Transpose", [matrix], f"{name}.turned", perm=[1, 0])
    shape = graph.constant(f"{name}.kernel", np.array(node.weights.shape, dtype=np.int64))
    filters = graph.operation("Reshape", [turned, shape], f"{name}.filters")
    parts = [codes.tensor, filters, *points]
    spatial = _spatial(node.window)
    return Sums(graph.operation("ConvInteger", parts, f"{name}.accumulators", group=node.groups, **spatial))


def _spatial(window: Window) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.strides),
        "pads": [*window.begin, *window.end],
        "dilations": list(window.dilations),
    }


def _weights(graph: Graph, name: str, weights: Codes, kind: IntegerType, codes: Stored) -> tuple[str, list[str]]:
    """Unpack the fields of *weights*, shape (outputs, inputs), into a matrix of shape (inputs, outputs).

    onnxruntime folds this into a constant when it loads the file.

    Returns:
        The matrix, and the zero points of *codes* and weights.
    """
    layout = FieldLayout.of(name, kind, *weights.shape)
    fields = graph.constant(f"{name}.packed", pack(weights, layout).reshape(-1, 1))
    if layout.per_byte > 1:
        shifts = np.arange(layout.per_byte, dtype=np.uint8) * np.uint8(layout.bits)
        distance = graph.constant(f"{name}.shifts", shifts.reshape(1, -1))
        shifted = graph.operation("BitShift", [fields, distance], f"{name}.shifted", direction="RIGHT")
        mask = graph.constant(f"{name}.mask", np.array((1 << layout.bits) - 1, dtype=np.uint8))
        fields = graph.operation("BitwiseAnd", [shifted, mask], f"{name}.fields")
    flat = graph.operation("Reshape", [fields, graph.constant(f"{name}.flat", np.array([-1]))], f"{name}.row")
    bounds = [graph.constant(f"{name}.{k}", np.array([v])) for k, v in (("from", 0), ("to", weights.size))]
    cut = graph.operation("Slice", [flat, *bounds], f"{name}.used")
    shape = graph.constant(f"{name}.shape", np.array([layout.rows, layout.columns]))
    matrix = graph.operation("Reshape", [cut, shape], f"{name}.weights")
    points = (("code_zero", codes.zero_point), ("weight_zero", layout.zero_point))
    return matrix, [graph.constant(f"{name}.{part}", np.array(value, dtype=np.uint8)) for part, value in points]


def affine(context: Context, node: Affine, inputs: Inputs) -> Value:
    """Scale and move 32-bit integers; one offset for all codes is a matter of their zero point alone."""
    graph, name = context.graph, node.name
    source, value = inputs[0]
    offsets = set(node.offsets.tolist())
    if isinstance(value, Stored) and node.is_bias and len(offsets) == 1:
        zero_point = value.zero_point - min(offsets)
        if 0 <= zero_point <= 255:
            return Stored(value.tensor, zero_point)
    total = hull(context.ranges[name])
    require_32_bits(total, name)
    tensor, shape = graph.sums(value).tensor, context.shapes[source]
    if not node.is_bias:
        product = hull(replace(node, offsets=np.zeros_like(node.offsets)).ranges(context.ranges[source]))
        require_32_bits(product, name)
        factors = graph.constant(f"{name}.factors", column(node.factors, shape))
        tensor = graph.operation("Mul", [tensor, factors], f"{name}.product")
    offset = graph.constant(f"{name}.offsets", column(node.offsets, shape))
    return Sums(graph.operation("Add", [tensor, offset], f"{name}.sum"))


def add(context: Context, node: Add, inputs: Inputs) -> Value:
    """Add in 32 bits."""
    require_32_bits(hull(context.ranges[node.name]), node.name)
    tensors = [context.graph.sums(value).tensor for _, value in inputs]
    return Sums(context.graph.operation("Add", tensors, f"{node.name}.sum"))


def concat(context: Context, node: Concat, inputs: Inputs) -> Value:
    """Join channels: codes of one zero point as they are, all else as 32-bit integers."""
    points = {value.zero_point if isinstance(value, Stored) else None for _, value in inputs}
    if len(points) == 1 and None not in points:
        tensors = [value.tensor for _, value in inputs]
        return Stored(context.graph.operation("Concat", tensors, f"{node.name}.joined", axis=1), points.pop() or 0)
    tensors = [context.graph.sums(value).tensor for _, value in inputs]
    return Sums(context.graph.operation("Concat", tensors, f"{node.name}.joined", axis=1))


def max_pool(context: Context, node: MaxPool, inputs: Inputs) -> Value:
    """Pool codes in uint8, and 32-bit integers in floats that hold them exactly."""
    graph, name = context.graph, node.name
    source, value = inputs[0]
    padded = graph.is_made_by("Pad", value.tensor)
    if isinstance(value, Stored) and not padded:
        tensor = graph.operation("MaxPool", [value.tensor], f"{name}.largest", **_spatial(node.window))
        return Stored(tensor, value.zero_point)
    reachable = hull(context.ranges[source])
    floats, kind = graph.exact_float(graph.sums(value), reachable, name)
    if padded:
        # onnxruntime merges Pad, with a Cast behind it or without, into the pool, where padding counts as the lowest
        # number and not as 0, and may not be as wide as the kernel. This keeps them apart and changes no number.
        real = np.float32 if kind == TensorProto.FLOAT else np.float64
        least = graph.constant(f"{name}.least", np.array(reachable.low, dtype=real))
        floats = graph.operation("Max", [floats, least], f"{name}.apart")
    largest = graph.operation("MaxPool", [floats], f"{name}.pooled", **_spatial(node.window))
    return Sums(graph.cast(largest, TensorProto.INT32, f"{name}.largest"))


def sum_pool(context: Context, node: SumPool, inputs: Inputs) -> Value:
    """Sum a whole plane, or windows by a convolution with ones in floats that hold every sum exactly."""
    graph, name = context.graph, node.name
    source, value = inputs[0]
    total = hull(context.ranges[name])
    require_32_bits(total, name)
    sums, shape, window = graph.sums(value), context.shapes[source], node.window
    if window.kernel == shape[1:] and not window.padded:
        axes = graph.constant(f"axes{len(shape) - 1}", np.arange(2, len(shape) + 1, dtype=np.int64))
        return Sums(graph.operation("ReduceSum", [sums.tensor, axes], f"{name}.sum", keepdims=1))
    floats, kind = graph.exact_float(sums, total, name)
    ones = np.ones((shape[0], 1, *window.kernel), dtype=np.float32 if kind == TensorProto.FLOAT else np.float64)
    weights = graph.constant(f"{name}.ones", ones)
    summed = graph.operation("Conv", [floats, weights], f"{name}.summed", group=shape[0], **_spatial(window))
    return Sums(graph.cast(summed, TensorProto.INT32, f"{name}.sum"))


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
    sizes = graph.constant(f"{name}.pads", np.array([0, 0, *node.begin, 0, 0, *node.end], dtype=np.int64))
    zero = np.array(value.zero_point, dtype=np.uint8) if isinstance(value, Stored) else np.array(0, dtype=np.int32)
    filler = graph.constant(f"{name}.filler", zero)
    return replace(value, tensor=graph.operation("Pad", [value.tensor, sizes, filler], f"{name}.values"))


def top_k(context: Context, node: TopK, inputs: Inputs) -> Value:
    """Return the indices of the largest codes; of equal ones the lower index comes first, as in ONNX."""
    graph, name = context.graph, node.name
    sums = graph.sums(inputs[0][1])
    count = graph.constant(f"{name}.count", np.array([node.count], dtype=np.int64))
    values, indices = f"{name}.values", f"{name}.wide"
    graph.pair("TopK", [sums.tensor, count], values, indices, axis=1)
    return Sums(graph.cast(indices, TensorProto.INT32, f"{name}.indices"))


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
