"""How each operation of the integer model is written in ONNX: standard operators that are exact in onnxruntime.

Weights stay unsigned with a zero point: MatMulInteger and ConvInteger on uint8 x uint8 are exact on every x86 kernel of
onnxruntime, while uint8 x int8 saturates in 16 bits on processors without VNNI.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    MultiplyShift,
    Node,
    Pad,
    Ranges,
    Reshape,
    Shape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    Window,
    hull,
    solve_multiply_shift,
)
from export.onnx_int8.graph import Graph, Stored, Sums, Value, code_type, column, require_32_bits
from export.onnx_int8.packing import FieldLayout, pack
from pipeline import Codes, StageError

WORD_BITS = 32


@dataclass
class Context:
    """What writing a node needs beside the node.

    Attributes:
        graph: the ONNX graph under construction.
        ranges: of every value of the model, by name.
        shapes: of one sample of every value, by name.
        activations: for each activation its tensors, shape and method, in order.
    """

    graph: Graph
    ranges: Mapping[str, Ranges]
    shapes: Mapping[str, Shape]
    activations: list[dict[str, Any]] = field(default_factory=list)


Inputs = Sequence[tuple[str, Value]]
"""The names of what a node takes, each with its form in the ONNX graph."""


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


def threshold(context: Context, node: Threshold, inputs: Inputs) -> Value:
    """Requantize by multiply-shift where it is exact, else by comparison; negative codes are stored from 0."""
    graph = context.graph
    source, value = inputs[0]
    if code_type(node.lowest, node.highest) is None:
        raise StageError(
            f"onnx-int8: layer {node.name!r} has codes {node.lowest}..{node.highest}; supported: 0..255 and -128..127"
        )
    zero_point = max(-node.lowest, 0)
    lowest = node.lowest + zero_point
    kind = IntegerType.smallest_for(lowest, lowest + node.levels)
    counting = replace(node, lowest=lowest, step=1, output=kind)
    constants = solve_multiply_shift(counting, context.ranges[source], word_bits=WORD_BITS) if node.step == 1 else None
    tensor, shape = graph.sums(value).tensor, context.shapes[source]
    if constants is not None:
        made = _multiply_shift(graph, counting, constants, tensor, shape)
        method = f"multiply-shift by {constants.shift}"
    else:
        made = _compare(graph, counting, node.step, tensor, shape)
        method = "comparison with every threshold"
    entry = {"layer": node.name, "source": tensor, "target": made, "zero_point": zero_point, "method": method}
    context.activations.append({**entry, "shape": [node.channels, *(1,) * (len(shape) - 1)]})
    return Stored(made, zero_point)


def _multiply_shift(graph: Graph, node: Threshold, constants: MultiplyShift, source: str, shape: Shape) -> str:
    """``clip((a * M + B) >> S)`` in 32 bits: saturated first, then shifted as unsigned, which rounds down."""
    name, shift = node.name, constants.shift
    multiplier = graph.constant(f"{name}.multiplier", column(constants.multiplier, shape))
    offset = graph.constant(f"{name}.offset", column(constants.offset, shape))
    product = graph.operation("Mul", [source, multiplier], f"{name}.product")
    total = graph.operation("Add", [product, offset], f"{name}.sum")
    low = graph.constant(f"{name}.low", np.array(node.lowest << shift, dtype=np.int32))
    high_value = ((node.lowest + node.levels + 1) << shift) - 1
    high = graph.constant(f"{name}.high", np.array(min(high_value, (1 << 31) - 1), dtype=np.int32))
    clipped = graph.operation("Clip", [total, low, high], f"{name}.clipped")
    unsigned = graph.cast(clipped, TensorProto.UINT32, f"{name}.unsigned")
    distance = graph.constant(f"{name}.shift", np.array(shift, dtype=np.uint32))
    shifted = graph.operation("BitShift", [unsigned, distance], f"{name}.shifted", direction="RIGHT")
    return graph.cast(shifted, TensorProto.UINT8, f"{name}.codes")


def _compare(graph: Graph, node: Threshold, step: int, source: str, shape: Shape) -> str:
    """Count the thresholds that the accumulator meets: exact by definition, used where no multiply-shift exists."""
    name = node.name
    axis = graph.constant(f"{name}.axis", np.array([-1]))
    last = graph.operation("Unsqueeze", [source, axis], f"{name}.column")
    rows = node.thresholds.astype(np.int32).reshape(node.channels, *(1,) * (len(shape) - 1), node.levels)
    met = graph.operation("GreaterOrEqual", [last, graph.constant(f"{name}.thresholds", rows)], f"{name}.met")
    ones = graph.cast(met, TensorProto.INT32, f"{name}.ones")
    count = graph.operation("ReduceSum", [ones, axis], f"{name}.count", keepdims=0)
    if step != 1:
        factor = graph.constant(f"{name}.step", np.array(step, dtype=np.int32))
        count = graph.operation("Mul", [count, factor], f"{name}.steps")
    lowest = graph.constant(f"{name}.lowest", np.array(node.lowest, dtype=np.int32))
    code = graph.operation("Add", [count, lowest], f"{name}.code")
    return graph.cast(code, TensorProto.UINT8, f"{name}.codes")


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
