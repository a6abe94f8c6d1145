"""QuantizeLinear and DequantizeLinear of ONNX, which together are a quantizer (QDQ; QCDQ with a Clip between them).

A pair on what is computed gives thresholds. DequantizeLinear of a constant is weights whose codes stand in the file:
nothing is rounded.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import numpy as np
import onnx
from onnx import TensorProto

from bitproof.export.integer import Chain, IntegerType, Quantizer, Rounding
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes, axis_of, has_input, require_only
from bitproof.export.lowering.known import (
    Constant,
    GraphInput,
    Known,
    QuantizedConstant,
    Rationals,
    Rounded,
    Tensor,
)
from bitproof.export.lowering.quantizer_constants import MAX_ACTIVATION_BITS, MAX_LEVELS, positive_scales
from bitproof.export.lowering.quantizers import per_channel, quantize_computed
from bitproof.pipeline import Codes

TYPES = {
    0: IntegerType(8, signed=False),
    TensorProto.UINT8: IntegerType(8, signed=False),
    TensorProto.INT8: IntegerType(8, signed=True),
    TensorProto.UINT16: IntegerType(16, signed=False),
    TensorProto.INT16: IntegerType(16, signed=True),
}
"""What QuantizeLinear may round to, by the number that ONNX gives the type; 0: it says none."""


def quantize_linear(lowering: Lowering, node: onnx.NodeProto) -> Rounded:
    """Lower QuantizeLinear of what is computed; DequantizeLinear makes the codes of it."""
    require_only(node, block_size=0)
    source = lowering.known[node.input[0]]
    if not isinstance(source, GraphInput | Tensor):
        raise UnsupportedError("quantizes a constant that could not be evaluated; store the integers in the file")
    rank = 1 + len(source.shape if isinstance(source, GraphInput) else source.axes)
    scales, zeros = _scales(lowering, node, rank), _zero_points(lowering, node, rank)
    kind = _type_of(lowering, node)
    return Rounded(source, scales, zeros, kind.minimum, kind.maximum, kind)


def clipped(integers: Rounded, low: Fraction | None, high: Fraction | None) -> Rounded:
    """Return *integers* behind a Clip to [*low*, *high*]; None: unbounded.

    Raises:
        UnsupportedError: fewer than two integers are left.
    """
    lowest = integers.lowest if low is None else max(integers.lowest, ceil(low))
    highest = integers.highest if high is None else min(integers.highest, floor(high))
    if lowest >= highest:
        raise UnsupportedError(f"leaves the integers {lowest} to {highest} of a QuantizeLinear; supported: two or more")
    return replace(integers, lowest=lowest, highest=highest)


def dequantize_linear(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower DequantizeLinear: of constants, which are codes as they stand, or of what QuantizeLinear gives."""
    require_only(node, block_size=0)
    taken = lowering.known.get(node.input[0])
    if isinstance(taken, Constant):
        return _constant(lowering, node, taken)
    if taken is not None:
        raise UnsupportedError(
            f"takes {node.input[0]!r}, which no QuantizeLinear gives; supported: constants, or QuantizeLinear, perhaps "
            "with a Clip between the two"
        )
    known = lowering.rounded[node.input[0]]
    if known.highest - known.lowest > MAX_LEVELS:
        raise UnsupportedError(
            f"integers from {known.lowest} to {known.highest} on an activation; supported: up to "
            f"{MAX_ACTIVATION_BITS} bits"
        )
    codes = lowering.dequantized.get(known) or _codes(lowering, node, known)
    lowering.dequantized[known] = codes
    rank = 1 + len(codes.axes)
    scales, zeros = _scales(lowering, node, rank), _zero_points(lowering, node, rank)
    if np.array_equal(scales, known.scales) and np.array_equal(zeros, known.zero_points):
        return replace(codes, private=lowering.private(node.output[0]))
    return _worth(lowering, replace(codes, private=False), known, scales, zeros)


def _codes(lowering: Lowering, node: onnx.NodeProto, rounded: Rounded) -> Tensor:
    """Append the thresholds of *rounded*; a code is the integer less its zero point, so that 0 stands for 0."""

    def make(scale: Fraction, zero: int) -> Quantizer:
        return Quantizer(scale, 0, rounded.lowest - zero, rounded.highest - zero, Rounding.ROUND)

    scales, zeros = rounded.scales, rounded.zero_points
    made = quantize_computed(lowering, node, rounded.source, rounded.kind, scales, zeros, make)
    assert isinstance(made, Tensor), "what is computed is quantized to a tensor"
    return made


def _worth(lowering: Lowering, codes: Tensor, rounded: Rounded, scales: Rationals, zeros: Codes) -> Tensor:
    """Return *codes* as DequantizeLinear values them, whose *scales* or *zeros* are not those of QuantizeLinear."""
    channels = len(codes.chains)
    taken = per_channel(lowering, codes, rounded.zero_points.astype(object), "zero points")
    given = per_channel(lowering, codes, zeros.astype(object), "zero points")
    worth = per_channel(lowering, codes, scales, "scales")
    each = zip(*(values * channels if len(values) == 1 else values for values in (taken, given, worth)), strict=True)
    chains = [Chain.of(scale, (int(before) - int(after)) * scale) for before, after, scale in each]
    lowering.builder.effort.elementwise(chains)
    return replace(codes, chains=tuple(chains))


def _constant(lowering: Lowering, node: onnx.NodeProto, constant: Constant) -> QuantizedConstant:
    values = constant.values
    if values.dtype.kind not in "iu":
        raise UnsupportedError(f"takes constants of the type {values.dtype}; supported: integers")
    scales, zeros = _scales(lowering, node, values.ndim), _zero_points(lowering, node, values.ndim)
    try:
        fits = np.broadcast_shapes(values.shape, scales.shape, zeros.shape) == values.shape
    except ValueError:
        fits = False
    if not fits:
        raise UnsupportedError(
            f"{scales.size} scales for constants of shape {values.shape}; one, or one along the axis"
        )
    return QuantizedConstant(values.astype(np.int64) - zeros, scales)


def _scales(lowering: Lowering, node: onnx.NodeProto, rank: int) -> Rationals:
    known = lowering.known[node.input[1]]
    if isinstance(known, Constant) and known.values.dtype != np.float32:
        raise UnsupportedError(f"scales of the type {known.values.dtype}; supported: float32")
    return np.asarray(_along_axis(node, positive_scales(lowering, node, 1), rank), dtype=object)


def _zero_points(lowering: Lowering, node: onnx.NodeProto, rank: int) -> Codes:
    if not has_input(node, 2):
        return np.zeros((1,) * rank, dtype=np.int64)
    zeros = lowering.reals(node, 2)
    if any(zero.denominator != 1 for zero in zeros.reshape(-1)):
        raise UnsupportedError("zero point is not a whole number; supported: integers")
    return _along_axis(node, zeros, rank).astype(np.int64)


def _along_axis(node: onnx.NodeProto, numbers: Rationals, rank: int) -> Rationals:
    """Return *numbers*, one or one along the axis that *node* names, with *rank* axes."""
    if numbers.size == 1:
        return numbers.reshape((1,) * rank)
    if numbers.ndim != 1:
        raise UnsupportedError(f"scales or zero points of shape {numbers.shape}; supported: one, or one along an axis")
    axis = axis_of(int(attributes(node).get("axis", 1)), rank)
    return numbers.reshape([-1 if index == axis else 1 for index in range(rank)])


def _type_of(lowering: Lowering, node: onnx.NodeProto) -> IntegerType:
    """Return the type that QuantizeLinear rounds to: that of its zero point, or what it says, or uint8."""
    declared = int(attributes(node).get("output_dtype", 0))
    if has_input(node, 2):
        known = lowering.known[node.input[2]]
        assert isinstance(known, Constant), "zero points are constants"
        declared = onnx.helper.np_dtype_to_tensor_dtype(known.values.dtype)
    if declared not in TYPES:
        raise UnsupportedError(
            f"rounds to {TensorProto.DataType.Name(declared)}; supported: int8, uint8, int16, uint16"
        )
    return TYPES[declared]
