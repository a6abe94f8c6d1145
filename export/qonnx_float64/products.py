"""Products of codes with codes, integer biases, and sums of codes of one scale: exact in binary64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from bitproof.export.qonnx_float64.quantized import Attributes, Quantized, Reals, Value, reals_of
from bitproof.export.qonnx_float64.windows import convolve


def product(
    node: onnx.NodeProto, given: Attributes, arguments: list[Value | None], _opsets: Mapping[str, int]
) -> Value | None:
    """Multiply codes by codes; None if an input holds no codes of one scale, or weights of several an output."""
    source, weights = arguments[:2]
    if not isinstance(source, Quantized) or not isinstance(weights, Quantized) or not source.uniform:
        return None
    if node.op_type == "Conv":
        sums, axis, scales = convolve(source.codes, weights.codes, given), 1, _scale_along(weights, 0)
    else:
        turned = node.op_type == "Gemm" and bool(given.get("transB", 0))
        sums = source.codes @ (weights.codes.T if turned else weights.codes)
        axis, scales = sums.ndim - 1, _scale_along(weights, 0 if turned else 1)
    plain = node.op_type != "Gemm" or (given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0)
    if scales is None or not plain or given.get("transA", 0):
        return None
    column = tuple(-1 if index == axis else 1 for index in range(sums.ndim))
    made = Quantized(sums, (source.scale.reshape(-1)[0] * scales).reshape(column if scales.size > 1 else ()))
    bias = arguments[2] if len(arguments) > 2 else None
    return made if bias is None else _biased(made, _shaped(bias, column))


def _scale_along(weights: Quantized, axis: int) -> Reals | None:
    """Return the scale of the weights of each output, along *axis* of the codes; None if an output has several."""
    shape = (1,) * (weights.codes.ndim - weights.scale.ndim) + weights.scale.shape
    follows = all(size == 1 or index == axis for index, size in enumerate(shape))
    return weights.scale.reshape(-1) if follows else None


def _shaped(bias: Value, column: tuple[int, ...]) -> Value:
    if isinstance(bias, Quantized):
        scale = bias.scale.reshape(column) if bias.scale.size > 1 else bias.scale.reshape(())
        return Quantized(bias.codes.reshape(column), scale)
    return bias.reshape(column)


def _biased(product: Quantized, bias: Value) -> Value:
    """Add *bias*: as an integer if its scale is the binary32 number next to the accumulator's unit."""
    if isinstance(bias, Quantized) and bool((product.scale.astype(np.float32) == bias.scale.astype(np.float32)).all()):
        return Quantized(product.codes + bias.codes, product.scale)
    return np.asarray(product.reals + reals_of(bias))


def add(
    _node: onnx.NodeProto, _given: Attributes, arguments: list[Value | None], _opsets: Mapping[str, int]
) -> Value | None:
    """Add codes to codes of the same scale; None if one of the two holds no codes."""
    one, two = arguments
    if not isinstance(one, Quantized) or not isinstance(two, Quantized):
        return None
    first, second = (one, two) if one.codes.size >= two.codes.size else (two, one)
    return _biased(first, second)
