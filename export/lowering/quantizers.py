"""Nodes that make codes: Quant and IntQuant, BipolarQuant, Trunc, MultiThreshold; on weights, input and activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx

from export.integer import (
    Bipolar,
    Chain,
    IntegerType,
    Interval,
    Quantization,
    Quantizer,
    Rounding,
    Truncation,
)
from export.lowering.activation import quantize
from export.lowering.graph import InputCoding, Lowering, UnsupportedError, along_channels, attributes
from export.lowering.meaning import Constant, GraphInput, Meaning, QuantizedConstant, Rationals, Tensor, linear_of
from export.lowering.weights import round_weights
from pipeline import Codes

MAX_WEIGHT_BITS = 32
MAX_ACTIVATION_BITS = 8
MAX_LEVELS = (1 << MAX_ACTIVATION_BITS) - 1


@dataclass(frozen=True, slots=True, eq=False)
class _Quant:
    """The constants of a Quant node; *scales* and *zero_points* are arrays that broadcast to its input."""

    scales: Rationals
    zero_points: Codes
    kind: IntegerType
    lowest: int  # of q, the zero point not subtracted
    highest: int
    rounding: Rounding
    bipolar: bool

    def at(self, scale: Fraction, zero_point: int) -> Quantization:
        """Return the quantization of a channel with this *scale* and *zero_point*."""
        if self.bipolar:
            return Bipolar(scale, zero_point)
        return Quantizer(scale, zero_point, self.lowest - zero_point, self.highest - zero_point, self.rounding)


def quant(lowering: Lowering, node: onnx.NodeProto) -> Meaning:
    """Lower Quant, IntQuant."""
    constants = _read_quant(lowering, node)
    source = lowering.meaning[node.input[0]]
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
    return _activation(lowering, node, source, constants.kind, scales, zeros, constants.at)


def bipolar_quant(lowering: Lowering, node: onnx.NodeProto) -> Meaning:
    """Lower BipolarQuant: 1 where the number is at least 0, else -1, times the scale."""
    scales, source = _positive(lowering, node, 1), lowering.meaning[node.input[0]]
    kind, zeros = IntegerType(2, signed=True), np.zeros((), dtype=np.int64)
    if isinstance(source, Constant):
        codes = np.where(lowering.reals(node, 0) >= 0, 1, -1).astype(np.int64)
        return QuantizedConstant(codes, _aligned(scales, codes.ndim))
    if isinstance(source, QuantizedConstant):
        raise UnsupportedError("quantizes weights that are quantized already; keep one of the two quantizers")
    return _activation(lowering, node, source, kind, scales, zeros, lambda *_: Bipolar())


def trunc(lowering: Lowering, node: onnx.NodeProto) -> Meaning:
    """Lower Trunc, both versions of the operator."""
    tensor = lowering.tensor(node, 0)
    given = attributes(node)
    rounding = _rounding(given.get("rounding_mode", "FLOOR"))
    scale, zero = _one(lowering, node, 1, "scale"), _whole(lowering, node, 2, "zero point")
    input_bits = _whole(lowering, node, 3, "input bit width")
    version = lowering.opset.get(node.domain, 1)
    try:
        if version >= 2 and len(node.input) == 6:
            output_scale, bits = _one(lowering, node, 4, "output scale"), _whole(lowering, node, 5, "bit width")
            kind = IntegerType(bits, signed=bool(given.get("signed", 1)))
            lowest, highest = _limits(kind, narrow=bool(given.get("narrow", 0)))
            quantization = Truncation.version_2(
                scale=scale, output_scale=output_scale, zero_point=zero, limits=(lowest, highest), rounding=rounding
            )
        else:
            bits, output_scale = _whole(lowering, node, 4, "output bit width"), scale
            ends = _value_range(lowering, tensor, scale)
            quantization = Truncation.version_1(
                scale=scale, zero_point=zero, dropped_bits=input_bits - bits, inputs=ends, rounding=rounding
            )
    except ValueError as error:
        raise UnsupportedError(str(error)) from error
    if quantization.levels > MAX_LEVELS:
        raise UnsupportedError(f"gives {quantization.levels + 1} codes; supported: up to {MAX_LEVELS + 1}")
    kind = IntegerType.smallest_for(quantization.lowest, quantization.lowest + quantization.levels)
    return quantize(lowering, node.output[0], tensor, kind, [quantization], [output_scale])


@dataclass(frozen=True, slots=True)
class _Steps:
    """The staircase of one row of a MultiThreshold: the code rises by 1 at each of *at*, that number included."""

    at: tuple[Fraction, ...]
    lowest: int

    @property
    def step(self) -> int:
        return 1

    @property
    def levels(self) -> int:
        return len(self.at)

    @property
    def offset(self) -> Fraction:
        return Fraction(0)

    def boundary(self, level: int) -> tuple[Fraction, bool]:
        return self.at[level - 1], True


def multi_threshold(lowering: Lowering, node: onnx.NodeProto) -> Meaning:
    """Lower MultiThreshold: ``out_scale * (thresholds met) + out_bias``."""
    given = attributes(node)
    scale = Fraction(float(np.float32(given.get("out_scale", 1.0))))
    bias = Fraction(float(np.float32(given.get("out_bias", 0.0))))
    if scale <= 0 or (bias / scale).denominator != 1:
        raise UnsupportedError(f"out_scale = {float(scale)}, out_bias = {float(bias)}; the bias must be a multiple")
    rows = lowering.reals(node, 1)
    if rows.ndim != 2 or not 1 <= rows.shape[1] <= MAX_LEVELS:
        raise UnsupportedError(f"thresholds of shape {rows.shape}; supported: (channels, 1 to {MAX_LEVELS})")
    lowest = int(bias / scale)
    # The node counts, so the order of its thresholds does not matter.
    steps = [_Steps(tuple(sorted(row)), lowest) for row in rows.tolist()]
    tensor = lowering.tensor(node, 0)
    axis = _threshold_axis(given.get("data_layout", ""), len(tensor.axes) + 1)
    if len(steps) > 1 and (tensor.axes[axis - 1] != 0 or len(steps) != len(tensor.chains)):
        raise UnsupportedError(
            f"{len(steps)} rows of thresholds along axis {axis} of (N, {', '.join(map(str, lowering.shape(tensor)))}); "
            "supported: one row, or one a channel"
        )
    kind = IntegerType.smallest_for(lowest, lowest + rows.shape[1])
    return quantize(lowering, node.output[0], tensor, kind, steps, [scale])


def _threshold_axis(layout: str, rank: int) -> int:
    """Return which axis the rows of a MultiThreshold follow, as QONNX does: without a layout three axes are N, W, C."""
    layout = layout or {3: "NWC"}.get(rank, "NC")
    axis = layout.find("C")
    if axis == 0 or axis >= rank:
        raise UnsupportedError(f"data_layout = {layout!r} of {rank} axes; supported: the batch first, as in NCHW")
    return axis if axis > 0 else 1


def _read_quant(lowering: Lowering, node: onnx.NodeProto) -> _Quant:
    given = attributes(node)
    scales = _positive(lowering, node, 1)
    zeros = lowering.reals(node, 2)
    if any(zero.denominator != 1 for zero in zeros.reshape(-1)):
        raise UnsupportedError("zero point is not a whole number; 0 would have no code")
    bits, signed = _whole(lowering, node, 3, "bit width"), bool(given.get("signed", 1))
    if not 1 <= bits <= MAX_WEIGHT_BITS:
        raise UnsupportedError(f"bit width {bits}; supported: 1 to {MAX_WEIGHT_BITS}")
    kind = IntegerType(bits, signed=signed)
    lowest, highest = _limits(kind, narrow=bool(given.get("narrow", 0)))
    bipolar = bits == 1 and signed
    if not bipolar and lowest >= highest:
        raise UnsupportedError(f"{kind} with narrow = 1 has the single code {lowest}; use more bits or narrow = 0")
    rounding = _rounding(given.get("rounding_mode", "ROUND"))
    if bipolar:
        lowest, highest, kind = -1, 1, IntegerType(2, signed=True)
    return _Quant(scales, zeros.astype(np.int64), kind, lowest, highest, rounding, bipolar)


def _limits(kind: IntegerType, *, narrow: bool) -> tuple[int, int]:
    """Return the smallest and the largest q: narrow leaves out the most negative one, or the largest unsigned one."""
    if kind.signed:
        return kind.minimum + narrow, kind.maximum
    return 0, kind.maximum - narrow


def _rounding(mode: str) -> Rounding:
    try:
        return Rounding.parse(mode)
    except ValueError as error:
        raise UnsupportedError(str(error)) from error


def _positive(lowering: Lowering, node: onnx.NodeProto, index: int) -> Rationals:
    scales = lowering.reals(node, index)
    if not scales.size or min(scales.reshape(-1)) <= 0:
        raise UnsupportedError("a scale is 0 or negative; it must be positive")
    return scales


def _one(lowering: Lowering, node: onnx.NodeProto, index: int, what: str) -> Fraction:
    numbers = lowering.reals(node, index).reshape(-1)
    if len(numbers) != 1:
        raise UnsupportedError(f"{what} has {len(numbers)} values; supported: one")
    number: Fraction = numbers[0]
    return number


def _whole(lowering: Lowering, node: onnx.NodeProto, index: int, what: str) -> int:
    number = _one(lowering, node, index, what)
    if number.denominator != 1:
        raise UnsupportedError(f"{what} {float(number)}; supported: whole numbers")
    return int(number)


def _aligned(scales: Rationals, axes: int) -> Rationals:
    """Return *scales* with as many axes as what they scale, as NumPy broadcasts them."""
    return scales.reshape((1,) * (axes - scales.ndim) + scales.shape) if scales.ndim <= axes else scales


def _weights(lowering: Lowering, node: onnx.NodeProto, source: Constant, quant: _Quant) -> QuantizedConstant:
    values = source.values
    try:
        scales = _aligned(quant.scales, values.ndim)
        zeros = np.broadcast_to(quant.zero_points, values.shape)
        np.broadcast_shapes(scales.shape, values.shape)
        if scales.ndim != values.ndim or np.broadcast_shapes(scales.shape, values.shape) != values.shape:
            raise ValueError
    except ValueError:
        message = f"scales of shape {quant.scales.shape} for weights of shape {values.shape}; they must broadcast"
        raise UnsupportedError(message) from None
    reals = lowering.reals(node, 0) if quant.bipolar or not np.isfinite(values).all() else None
    if reals is not None:
        codes = np.where(reals / scales + zeros >= 0, 1, -1).astype(np.int64)
    else:
        codes, unequal = round_weights(values, scales, zeros, quant.rounding, quant.lowest, quant.highest)
        lowering.unequal_weights.append((node.output[0], values.size, unequal))
    return QuantizedConstant(codes - zeros, scales)


def _unchanged(lowering: Lowering, source: Meaning, quant: _Quant) -> Tensor | None:
    """Return *source* where all its real numbers are codes of *quant* already: wide accumulators pass unchanged."""
    if not isinstance(source, Tensor) or quant.scales.size != 1 or quant.zero_points.any() or quant.bipolar:
        return None
    scale = quant.scales.reshape(-1)[0]
    for chain in source.chains:
        linear = linear_of(chain)
        if linear is None or any((number / scale).denominator != 1 for number in linear):
            return None
    low, high = _value_range(lowering, source, scale)
    return source if quant.lowest <= low and high <= quant.highest else None


def _activation(
    lowering: Lowering,
    node: onnx.NodeProto,
    source: Meaning,
    kind: IntegerType,
    scales: Rationals,
    zeros: Codes,
    make: Callable[[Fraction, int], Quantization],
) -> Meaning:
    """Quantize *source* by what *make* gives for the scale and zero point of each channel."""
    if isinstance(source, GraphInput):
        if scales.size != 1 or zeros.size != 1:
            raise UnsupportedError("several scales or zero points on the network's input; supported: one")
        scale, zero = scales.reshape(-1)[0], int(zeros.reshape(-1)[0])
        return _input(lowering, node, source, kind, scale, make(scale, zero))
    tensor = lowering.tensor(node, 0)
    scale_list = _per_channel(lowering, tensor, scales, "scales")
    zero_list = _per_channel(lowering, tensor, zeros.astype(object), "zero points")
    channels = max(len(scale_list), len(zero_list))
    scale_list, zero_list = (v * channels if len(v) == 1 else v for v in (scale_list, zero_list))
    quantizations = [make(scale, int(zero)) for scale, zero in zip(scale_list, zero_list, strict=True)]
    lowest = min(q.lowest for q in quantizations)
    highest = max(q.lowest + q.step * q.levels for q in quantizations)
    held = kind if kind.holds(lowest, highest) else IntegerType.smallest_for(lowest, highest)
    return quantize(lowering, node.output[0], tensor, held, quantizations, scale_list)


def _per_channel(lowering: Lowering, tensor: Tensor, constants: Rationals, what: str) -> list[Fraction]:
    """Return *constants* of a node for each channel of the integer value behind *tensor*, or the one for all."""
    if constants.size == 1:
        return [constants.reshape(-1)[0]]
    values = along_channels(lowering, tensor, constants)
    if values is None:
        raise UnsupportedError(f"{what} of shape {constants.shape} do not follow the channels of its input")
    return values


def _input(
    lowering: Lowering,
    node: onnx.NodeProto,
    source: GraphInput,
    kind: IntegerType,
    scale: Fraction,
    quantization: Quantization,
) -> Tensor:
    if lowering.input is not None:
        raise UnsupportedError(f"quantizes the graph's input, which {lowering.input.tensor!r} did already; keep one")
    lowest, step = quantization.lowest, quantization.step
    codes = range(lowest, lowest + step * quantization.levels + 1, step)
    held = kind if kind.holds(codes[0], codes[-1]) else IntegerType.smallest_for(codes[0], codes[-1])
    lowering.input = InputCoding(node.output[0], held, codes, source.shape)
    lowering.builder.begin(source.shape, (Interval(codes[0], codes[-1]),) * source.shape[0])
    chain = Chain.of(scale)
    axes = tuple(range(len(source.shape)))
    return Tensor("input", axes, (chain,) * source.shape[0], private=lowering.private(node.output[0]))


def _value_range(lowering: Lowering, tensor: Tensor, scale: Fraction) -> tuple[int, int]:
    """Return the smallest and the largest number of *tensor* over *scale*, rounded outwards."""
    ends: list[Fraction] = []
    for chain, interval in zip(tensor.chains, lowering.builder.ranges[tensor.node], strict=True):
        for code in (interval.low, interval.high):
            low, high = chain.value(code).interval(64)
            ends += [low / scale, high / scale]
    return int(min(ends).__floor__()), int(max(ends).__ceil__())
