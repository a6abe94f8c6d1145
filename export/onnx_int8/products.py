"""Matrix products and convolutions in ONNX: packed weights, and codes of any width as bytes.

Weights stay unsigned with a zero point: MatMulInteger and ConvInteger on uint8 x uint8 are exact on every x86 kernel of
onnxruntime, while uint8 x int8 saturates in 16 bits on processors without VNNI. Where floats are allowed, a float32
convolution whose partial sums are exact is faster. Integers that no byte holds (a sum that
goes straight into a product) are taken apart into bytes, ``x = sum of 256^k * digit k``, and so is the product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from bitproof.export.integer import EXACT_FLOAT32, Conv, IntegerType, Interval, MatMul, Product, Ranges, Window, hull
from bitproof.export.onnx_int8.context import Context, Inputs
from bitproof.export.onnx_int8.graph import INT32, MAX_STORED, GraphWriter, PlainIntegers, Stored, Value, is_wide
from bitproof.export.onnx_int8.packing import FieldLayout, pack, packed_name
from bitproof.pipeline import Codes, StageError

NATIVE = {2: TensorProto.UINT2, 4: TensorProto.UINT4}
"""Types of ONNX that hold fields of so many bits."""
FLOAT_SUMS = ".float_sums"
"""Ends the name of the exact sums of a float32 convolution."""


def matmul(context: Context, node: MatMul, inputs: Inputs) -> Value:
    """Multiply stored codes by unpacked weights."""
    graph = context.graph
    matrix, zero = unpacked(graph, node)

    def multiply(digit: Stored, name: str) -> str:
        parts = [digit.tensor, matrix, code_zero(graph, digit), zero]
        return graph.operation("MatMulInteger", parts, f"{name}.accumulators")

    return _by_digits(context, node, inputs[0], multiply)


def conv(context: Context, node: Conv, inputs: Inputs) -> Value:
    """Convolve stored codes with unpacked weights; onnxruntime pads with the codes' zero point, which is code 0."""
    exact = _float_conv(context, node, inputs[0])
    if exact is not None:
        return exact
    graph = context.graph
    filters, zero = unpacked(graph, node)

    def convolve(digit: Stored, at: str) -> str:
        parts = [digit.tensor, filters, code_zero(graph, digit), zero]
        return graph.operation("ConvInteger", parts, f"{at}.accumulators", group=node.groups, **spatial(node.window))

    return _by_digits(context, node, inputs[0], convolve)


def _float_conv(context: Context, node: Conv, source: tuple[str, Value]) -> PlainIntegers | None:
    """Convolve in float32, which is faster than ConvInteger, if that holds every partial sum; None: it need not."""
    graph, name, (given, value) = context.graph, node.name, source
    if context.construction != "fastest" or not isinstance(value, Stored) or not value.is_operand:
        return None
    if partial_sums(node, context.ranges[given]) > EXACT_FLOAT32:
        return None
    filters, zero = unpacked(graph, node)
    signed = []
    for tensor, point in ((value.tensor, code_zero(graph, value)), (filters, zero)):
        floats = graph.cast(tensor, TensorProto.FLOAT, f"{tensor}.float")
        centre = graph.cast(point, TensorProto.FLOAT, f"{point}.float")
        keeps = tensor == value.tensor and not value.zero_point
        signed.append(floats if keeps else graph.operation("Sub", [floats, centre], f"{tensor}.signed{point}"))
    attributes = spatial(node.window)
    sums = graph.operation("Conv", signed, f"{name}{FLOAT_SUMS}", group=node.groups, **attributes)
    return PlainIntegers(graph.cast(sums, TensorProto.INT32, f"{name}.accumulators"))


def partial_sums(product: Conv | MatMul, ranges: Ranges) -> int:
    """Return a bound on the magnitude of every partial sum of *product*, in whatever order, for codes in *ranges*."""
    weights = product.weights.reshape(product.outputs, -1)
    largest = hull(ranges).magnitude
    ups, downs = (np.clip(sign * weights, 0, None).sum(axis=1).max() for sign in (1, -1))
    return int(max(ups, downs)) * largest


def window_sums(context: Context, name: str, window: Window, source: tuple[str, Value]) -> Value:
    """Sum the windows of each channel, whatever their width: a convolution of bytes with ones."""
    graph, channels = context.graph, context.shapes[source[0]][0]
    weights = np.ones((channels, 1, *window.kernel), dtype=np.int64)
    ones = graph.constant(f"{name}.ones", weights.astype(np.uint8))
    zero = graph.constant("zero", np.array(0, dtype=np.uint8))

    def convolve(digit: Stored, at: str) -> str:
        parts = [digit.tensor, ones, code_zero(graph, digit), zero]
        return graph.operation("ConvInteger", parts, f"{at}.accumulators", group=channels, **spatial(window))

    return _by_digits(context, Conv(name, weights, IntegerType(2, signed=True), window, channels), source, convolve)


def spatial(window: Window) -> dict[str, list[int]]:
    """Return *window* as attributes of ONNX."""
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.strides),
        "pads": [*window.begin, *window.end],
        "dilations": list(window.dilations),
    }


def _by_digits(
    context: Context, node: Product, source: tuple[str, Value], multiply: Callable[[Stored, str], str]
) -> Value:
    """Multiply each byte of *source* by the weights of *node*, and add up; 32 bits if every partial sum fits."""
    graph, name = context.graph, node.name
    reachable = hull(context.ranges[source[0]])
    digits = graph.digits(source[1], reachable, name)
    if len(digits) == 1:
        sums = hull(context.ranges[name])
        if is_wide(sums):
            raise _too_wide(name, sums)
        return PlainIntegers(multiply(digits[0], name))
    parts = [Interval(-digit.zero_point, MAX_STORED - digit.zero_point) for digit in digits]
    bounds = [hull(node.ranges((part,) * context.shapes[source[0]][0])) for part in parts]
    for bound in bounds:
        if is_wide(bound):
            raise _too_wide(name, bound)
    largest = sum(bound.magnitude << 8 * place for place, bound in enumerate(bounds))
    wide = largest > INT32.high
    total = graph.sums(PlainIntegers(multiply(digits[0], f"{name}.digit0")), wide=wide)
    for place, digit in enumerate(digits[1:], start=1):
        at = f"{name}.digit{place}"
        product = graph.sums(PlainIntegers(multiply(digit, at)), wide=wide)
        worth = graph.integer(1 << 8 * place, wide=wide)
        scaled = graph.operation("Mul", [product.tensor, worth], f"{at}.scaled")
        total = replace(total, tensor=graph.operation("Add", [total.tensor, scaled], f"{at}.total"))
    return total


def _too_wide(name: str, reachable: Interval) -> StageError:
    return StageError(
        f"onnx-int8: layer {name!r} has sums of products in [{reachable.low}, {reachable.high}], which onnxruntime "
        "adds up in 32 signed bits: use fewer inputs, or fewer bits"
    )


def code_zero(graph: GraphWriter, codes: Stored) -> str:
    """Return the constant of the zero point of *codes*."""
    return graph.constant(f"code_zero{codes.zero_point}", np.array(codes.zero_point, dtype=np.uint8))


def unpacked(graph: GraphWriter, node: Conv | MatMul) -> tuple[str, str]:
    """Unpack the weights of *node* in uint8, as an operator of ONNX takes them, and return them and their zero point.

    A matrix has the shape (inputs, outputs), filters that of the weights. onnxruntime folds this into a constant when
    it loads the file.
    """
    name = node.name
    matrix, zero = _weights(graph, name, node.weights.reshape(node.outputs, -1), node.weight_type)
    if isinstance(node, MatMul):
        return matrix, zero
    turned = graph.operation("Transpose", [matrix], f"{name}.turned", perm=[1, 0])
    shape = graph.constant(f"{name}.kernel", np.array(node.weights.shape, dtype=np.int64))
    return graph.operation("Reshape", [turned, shape], f"{name}.filters"), zero


def _weights(graph: GraphWriter, name: str, weights: Codes, kind: IntegerType) -> tuple[str, str]:
    """Unpack the fields of *weights*, shape (outputs, inputs), into a matrix of shape (inputs, outputs)."""
    layout = FieldLayout.of(name, weights, kind, whole=graph.native_weights)
    zero = graph.constant(f"{name}.weight_zero", np.array(layout.zero_point, dtype=np.uint8))
    shape = graph.constant(f"{name}.shape", np.array([layout.rows, layout.columns]))
    packed = pack(weights, layout)
    if graph.native_weights and layout.bits in NATIVE:
        made = graph.native(packed_name(name), NATIVE[layout.bits], (layout.rows, layout.columns), packed)
        return graph.cast(made, TensorProto.UINT8, f"{name}.weights"), zero
    stored = graph.constant(packed_name(name), packed.reshape(-1, 1))
    row, lowest = "", 0
    for place, width in enumerate(layout.parts):
        part = _part(graph, stored, layout, place, f"{name}.part{place}" if place else name)
        up = 1 if layout.bits == 1 else lowest
        if up:
            distance = graph.constant(f"distance{up}", np.array(up, dtype=np.uint8))
            part = graph.operation("BitShift", [part, distance], f"{name}.placed{place}", direction="LEFT")
        row = graph.operation("BitwiseOr", [row, part], f"{name}.joined{place}") if row else part
        lowest += width
    return graph.operation("Reshape", [row, shape], f"{name}.weights"), zero


def _part(graph: GraphWriter, stored: str, layout: FieldLayout, place: int, name: str) -> str:
    """Unpack the part *place* of every field from the bytes *stored*; the tensor has one element for each field."""
    width, fields = layout.parts[place], stored
    if len(layout.parts) > 1:
        fields = _slice(graph, stored, layout.regions[place], f"{name}.bytes")
    if width < 8:
        shifts = np.arange(0, 8, width, dtype=np.uint8)
        distance = graph.constant(f"shifts{width}", shifts.reshape(1, -1))
        shifted = graph.operation("BitShift", [fields, distance], f"{name}.shifted", direction="RIGHT")
        mask = graph.constant(f"mask{width}", np.array((1 << width) - 1, dtype=np.uint8))
        fields = graph.operation("BitwiseAnd", [shifted, mask], f"{name}.fields")
    if len(layout.parts) > 1 or layout.fields * width % 8:
        flat = graph.operation("Reshape", [fields, graph.constant("flat", np.array([-1]))], f"{name}.row")
        fields = _slice(graph, flat, (0, layout.fields), f"{name}.used")
    return fields


def _slice(graph: GraphWriter, tensor: str, region: tuple[int, int], name: str) -> str:
    """Return the rows of *tensor* in *region*, its first and the one behind its last."""
    bounds = [graph.constant(f"{name}.{end}", np.array([row])) for end, row in zip(("from", "to"), region, strict=True)]
    return graph.operation("Slice", [tensor, *bounds], name)
