"""Nodes that make codes by a staircase of their own: Trunc and MultiThreshold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import onnx

from bitproof.export.integer import Chain, IntegerType, Truncation
from bitproof.export.lowering.activation import quantize
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes, value_range
from bitproof.export.lowering.known import GraphInput, Known, unit_of
from bitproof.export.lowering.quantizer_constants import (
    MAX_LEVELS,
    bit_width,
    limits_of,
    one_number,
    rounding_of,
    whole_number,
)
from bitproof.export.lowering.quantizers import input_codes

INT8 = IntegerType(8, signed=True)


def trunc(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Trunc, both versions of the operator."""
    tensor = lowering.tensor(node, 0)
    given = attributes(node)
    rounding = rounding_of(given.get("rounding_mode", "FLOOR"))
    scale, zero = one_number(lowering, node, 1, "scale"), whole_number(lowering, node, 2, "zero point")
    input_bits = bit_width(lowering, node, 3, "input bit width")
    version = lowering.opset.get(node.domain, 1)
    try:
        if version >= 2 and len(node.input) == 6:
            output_scale, bits = (
                one_number(lowering, node, 4, "output scale"),
                bit_width(lowering, node, 5, "bit width"),
            )
            kind = IntegerType(bits, signed=bool(given.get("signed", 1)))
            lowest, highest = limits_of(kind, narrow=bool(given.get("narrow", 0)))
            quantization = Truncation.version_2(
                scale=scale, output_scale=output_scale, zero_point=zero, limits=(lowest, highest), rounding=rounding
            )
        else:
            bits, output_scale = bit_width(lowering, node, 4, "output bit width"), scale
            ends = value_range(lowering, tensor, scale)
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
    """The staircase of one row of a MultiThreshold: the code rises by *step* at each of *at*, that number included."""

    at: tuple[Fraction, ...]
    lowest: int
    step: int

    @property
    def levels(self) -> int:
        return len(self.at)

    @property
    def offset(self) -> Fraction:
        return Fraction(0)

    def boundary(self, level: int) -> tuple[Fraction, bool]:
        return self.at[level - 1], True


def multi_threshold(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower MultiThreshold: ``out_scale * (thresholds met) + out_bias``."""
    rows = lowering.reals(node, 1)
    if rows.ndim != 2 or not 1 <= rows.shape[1] <= MAX_LEVELS:
        raise UnsupportedError(f"thresholds of shape {rows.shape}; supported: (channels, 1 to {MAX_LEVELS})")
    lowest, step, worth = _coded(node, rows.shape[1])
    # The node counts, so the order of its thresholds does not matter.
    steps = [_Steps(tuple(sorted(row)), lowest, step) for row in rows.tolist()]
    kind = IntegerType.smallest_for(lowest, lowest + step * rows.shape[1])
    (scale, bias), source = worth, lowering.known[node.input[0]]
    if isinstance(source, GraphInput):
        if bias or scale < 0:
            raise UnsupportedError(
                "out_scale and out_bias of the network's input make no codes; supported: out_scale "
                "> 0 of which out_bias is a multiple, or both of few bits, as 2 and -1 are"
            )
        return input_codes(lowering, node, source, kind, scale, steps[0])
    tensor = lowering.tensor(node, 0)
    axis = _threshold_axis(attributes(node).get("data_layout", ""), len(tensor.axes) + 1)
    if len(steps) > 1 and (tensor.axes[axis - 1] != 0 or len(steps) != len(tensor.chains)):
        raise UnsupportedError(
            f"{len(steps)} rows of thresholds along axis {axis} of (N, {', '.join(map(str, lowering.shape(tensor)))}); "
            "supported: one row, or one per channel"
        )
    codes = quantize(lowering, node.output[0], tensor, kind, steps, [scale])
    return replace(codes, chains=(Chain.of(scale, bias),) * len(codes.chains))


def _coded(node: onnx.NodeProto, levels: int) -> tuple[int, int, tuple[Fraction, Fraction]]:
    """Return the lowest code of a MultiThreshold, the distance of two codes, and the (scale, bias) of a code.

    If the bias is a multiple of the scale, or both are multiples of one number that leave 8 bits to the codes (2 and
    -1, FINN's form of codes -1 and 1), a code stands for ``scale * code``. Else the codes count from 0.

    Raises:
        UnsupportedError: ``out_scale`` is 0.
    """
    given = attributes(node)
    scale = Fraction(float(np.float32(given.get("out_scale", 1.0))))
    bias = Fraction(float(np.float32(given.get("out_bias", 0.0))))
    if not scale:
        raise UnsupportedError("out_scale = 0, which makes one constant of all numbers")
    if scale > 0:
        unit = scale if (bias / scale).denominator == 1 else unit_of([scale, bias])
        lowest, step = int(bias / unit), int(scale / unit)
        if unit == scale or INT8.holds(lowest, lowest + step * levels):
            return lowest, step, (unit, Fraction(0))
    return 0, 1, (scale, bias)


def _threshold_axis(layout: str, rank: int) -> int:
    """Return which axis the rows of a MultiThreshold follow, as QONNX does: without a layout three axes are N, W, C."""
    layout = layout or {3: "NWC"}.get(rank, "NC")
    axis = layout.find("C")
    if axis == 0 or axis >= rank:
        raise UnsupportedError(f"data_layout = {layout!r} of {rank} axes; supported: the batch first, as in NCHW")
    return axis if axis > 0 else 1
