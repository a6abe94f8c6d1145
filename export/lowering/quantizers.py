"""Quant, IntQuant and BipolarQuant, on weights, on the input and on activations."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import onnx

from bitproof.export.integer import (
    Bipolar,
    Chain,
    IntegerType,
    Interval,
    Quantization,
)
from bitproof.export.lowering.activation import quantize
from bitproof.export.lowering.effort import WEIGHTS
from bitproof.export.lowering.graph import InputCoding, Lowering, UnsupportedError, along_channels, value_range
from bitproof.export.lowering.known import (
    Constant,
    GraphInput,
    Known,
    QuantizedConstant,
    Rationals,
    Tensor,
    linear_of,
)
from bitproof.export.lowering.quantizer_constants import (
    MAX_ACTIVATION_BITS,
    MAX_LEVELS,
    QuantConstants,
    positive_scales,
    read_quant,
)
from bitproof.export.lowering.weights import round_weights, weight_signs
from bitproof.pipeline import Codes


def quant(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Quant, IntQuant."""
    constants = read_quant(lowering, node)
    source = lowering.known[node.input[0]]
    if isinstance(source, Constant):
        return _weights(lowering, node, source, constants)
    if isinstance(source, QuantizedConstant):
        raise UnsupportedError("quantizes weights that are quantized already; keep one of the two quantizers")
    if constants.kind.bits > MAX_ACTIVATION_BITS:
        kept = _unchanged(lowering, source, constants)
        if kept is not None:
            return kept
        raise UnsupportedError(
            f"{constants.kind.bits} bits on an activation; supported: 1 to {MAX_ACTIVATION_BITS}, or more where they "
            "change no number that can occur"
        )
    scales, zeros = constants.scales, constants.zero_points
    return quantize_computed(lowering, node, source, constants.kind, scales, zeros, constants.at)


def bipolar_quant(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower BipolarQuant: 1 if the number is at least 0, else -1, times the scale."""
    scales, source = positive_scales(lowering, node, 1), lowering.known[node.input[0]]
    kind, zeros = IntegerType(2, signed=True), np.zeros((), dtype=np.int64)
    if isinstance(source, Constant):
        codes = np.where(lowering.reals(node, 0) >= 0, 1, -1).astype(np.int64)
        return QuantizedConstant(codes, _aligned(scales, codes.ndim))
    if isinstance(source, QuantizedConstant):
        raise UnsupportedError("quantizes weights that are quantized already; keep one of the two quantizers")
    return quantize_computed(lowering, node, source, kind, scales, zeros, lambda *_: Bipolar())


def _aligned(scales: Rationals, axes: int) -> Rationals:
    """Return *scales* with as many axes as what they scale, as NumPy broadcasts them."""
    return scales.reshape((1,) * (axes - scales.ndim) + scales.shape) if scales.ndim <= axes else scales


def _weights(lowering: Lowering, node: onnx.NodeProto, source: Constant, quant: QuantConstants) -> QuantizedConstant:
    values = source.values
    lowering.builder.effort.spend(values.size // WEIGHTS, f"{values.size} weights")
    try:
        scales = _aligned(quant.scales, values.ndim)
        zeros = np.broadcast_to(quant.zero_points, values.shape)
        np.broadcast_shapes(scales.shape, values.shape)
        if scales.ndim != values.ndim or np.broadcast_shapes(scales.shape, values.shape) != values.shape:
            raise ValueError
    except ValueError:
        message = f"scales of shape {quant.scales.shape} for weights of shape {values.shape}; they must broadcast"
        raise UnsupportedError(message) from None
    if not np.isfinite(values).all():
        lowering.reals(node, 0)  # refuses them
    if quant.bipolar:
        codes, unequal = weight_signs(values, scales, zeros)
    else:
        codes, unequal = round_weights(values, scales, zeros, quant.rounding, quant.lowest, quant.highest)
    lowering.unequal_weights.append((node.output[0], values.size, unequal))
    return QuantizedConstant(codes - zeros, scales)


def _unchanged(lowering: Lowering, source: Known, quant: QuantConstants) -> Tensor | None:
    """Return *source* if all its real numbers are codes of *quant* already: wide accumulators pass unchanged."""
    if not isinstance(source, Tensor) or quant.scales.size != 1 or quant.zero_points.any() or quant.bipolar:
        return None
    scale = quant.scales.reshape(-1)[0]
    for chain in source.chains:
        linear = linear_of(chain)
        if linear is None or any((number / scale).denominator != 1 for number in linear):
            return None
    low, high = value_range(lowering, source, scale)
    return source if quant.lowest <= low and high <= quant.highest else None


def quantize_computed(
    lowering: Lowering,
    node: onnx.NodeProto,
    source: Known,
    kind: IntegerType,
    scales: Rationals,
    zeros: Codes,
    make: Callable[[Fraction, int], Quantization],
) -> Known:
    """Quantize *source* by what *make* gives for the scale and zero point of each channel."""
    if isinstance(source, GraphInput):
        if scales.size != 1 or zeros.size != 1:
            raise UnsupportedError("several scales or zero points on the network's input; supported: one")
        scale, zero = scales.reshape(-1)[0], int(zeros.reshape(-1)[0])
        return input_codes(lowering, node, source, kind, scale, make(scale, zero))
    tensor = source if isinstance(source, Tensor) else lowering.tensor(node, 0)
    scale_list = per_channel(lowering, tensor, scales, "scales")
    zero_list = per_channel(lowering, tensor, zeros.astype(object), "zero points")
    channels = max(len(scale_list), len(zero_list))
    scale_list, zero_list = (v * channels if len(v) == 1 else v for v in (scale_list, zero_list))
    quantizations = [make(scale, int(zero)) for scale, zero in zip(scale_list, zero_list, strict=True)]
    lowest = min(q.lowest for q in quantizations)
    highest = max(q.lowest + q.step * q.levels for q in quantizations)
    held = kind if kind.holds(lowest, highest) else IntegerType.smallest_for(lowest, highest)
    return quantize(lowering, node.output[0], tensor, held, quantizations, scale_list)


def _rounds(quantization: Quantization, scale: Fraction) -> bool:
    """Tell whether *quantization* gives the code nearest to a number over *scale*, of two the even one."""
    if quantization.step != 1 or quantization.levels > MAX_LEVELS:
        return False
    codes = (quantization.lowest + level for level in range(1, quantization.levels + 1))
    nearest = (((code - Fraction(1, 2)) * scale, code % 2 == 0) for code in codes)
    return all(quantization.boundary(level) == at for level, at in enumerate(nearest, start=1))


def per_channel(lowering: Lowering, tensor: Tensor, constants: Rationals, what: str) -> list[Fraction]:
    """Return *constants* of a node for each channel of the integer value behind *tensor*, or the one for all."""
    if constants.size == 1:
        return [constants.reshape(-1)[0]]
    values = along_channels(lowering, tensor, constants)
    if values is None:
        raise UnsupportedError(f"{what} of shape {constants.shape} do not follow the channels of its input")
    return values


def input_codes(
    lowering: Lowering,
    node: onnx.NodeProto,
    source: GraphInput,
    kind: IntegerType,
    scale: Fraction,
    quantization: Quantization,
) -> Tensor:
    """Return the network's input behind *node*, its quantizer, whose codes, of *kind*, stand for ``scale * code``.

    Raises:
        UnsupportedError: another node quantized the input already.
    """
    if lowering.input is not None:
        raise UnsupportedError(f"quantizes the graph's input, which {lowering.input.tensor!r} did already; keep one")
    lowest, step = quantization.lowest, quantization.step
    codes = range(lowest, lowest + step * quantization.levels + 1, step)
    held = kind if kind.holds(codes[0], codes[-1]) else IntegerType.smallest_for(codes[0], codes[-1])
    rounds = not source.preprocessed and _rounds(quantization, scale)
    lowering.input = InputCoding(node.output[0], held, codes, source.shape, rounds)
    lowering.builder.begin(source.shape, (Interval(codes[0], codes[-1]),) * source.shape[0])
    chain = Chain.of(scale)
    axes = tuple(range(len(source.shape)))
    return Tensor("input", axes, (chain,) * source.shape[0], private=lowering.private(node.output[0]))
