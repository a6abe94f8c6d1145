"""Matrix products and convolutions of codes with weights."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx

from bitproof.export.integer import Chain, Conv, IntegerType, MatMul, Product, Shape, Window
from bitproof.export.lowering.biases import bias_offsets
from bitproof.export.lowering.builder import Origin, weight_type
from bitproof.export.lowering.codes import codes_of, in_order, off_grid
from bitproof.export.lowering.effort import Effort
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes, has_input, require_only
from bitproof.export.lowering.known import Constant, Known, QuantizedConstant, Rationals, Tensor, unit_of
from bitproof.export.lowering.windows import window_of
from bitproof.pipeline import Codes

MAX_WEIGHT = 1 << 31
"""Weights that different input scales would make larger than this are refused."""


def matmul(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower MatMul of a vector, or of the last axis of a sequence or image, by weights, shape (inputs, outputs)."""
    weights = _weights(lowering, node, 1, axes=2)
    turned = QuantizedConstant(weights.codes.T, weights.scales.T)
    if len(lowering.tensor(node, 0).axes) == 1:
        return _product(lowering, node, turned)
    return _pointwise(lowering, node, turned)


def gemm(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Gemm: a matrix product with a bias."""
    require_only(node, alpha=1.0, beta=1.0, transA=0)
    weights = _weights(lowering, node, 1, axes=2)
    if not attributes(node).get("transB", 0):
        weights = QuantizedConstant(weights.codes.T, weights.scales.T)
    return _product(lowering, node, weights)


def _product(lowering: Lowering, node: onnx.NodeProto, weights: QuantizedConstant) -> Tensor:
    given = lowering.tensor(node, 0)
    source, scales = codes_of(lowering, given)
    if len(source.axes) != 1:
        raise UnsupportedError(f"multiplies values of shape {lowering.shape(source)}; supported: vectors, (channels,)")
    _require_columns(weights, len(scales))
    codes, units = _merged(lowering, given, weights, np.array(scales, dtype=object)[None, :])
    made = MatMul(lowering.builder.name(MatMul), codes, weight_type(codes, _declared(codes)))
    return _finish(lowering, node, made, source, units)


def _pointwise(lowering: Lowering, node: onnx.NodeProto, weights: QuantizedConstant) -> Tensor:
    """Lower the product of each position's last axis: a convolution by one tap, whose channels are that axis."""
    tensor = lowering.tensor(node, 0)
    axes = len(tensor.axes) - 1
    if axes > 2:
        raise UnsupportedError(f"multiplies values of shape {lowering.shape(tensor)}; supported: up to three axes")
    channels_first = replace(tensor, axes=(tensor.axes[-1], *tensor.axes[:-1]))
    source, scales = codes_of(lowering, in_order(lowering, channels_first))
    _require_columns(weights, len(scales))
    codes, units = _merged(lowering, tensor, weights, np.array(scales, dtype=object)[None, :])
    ones, zeros = (1,) * axes, (0,) * axes
    kernels = codes.reshape(*codes.shape, *ones)
    window = Window(ones, ones, zeros, zeros, ones)
    made = Conv(lowering.builder.name(Conv), kernels, weight_type(codes, _declared(codes)), window, 1)
    return _finish(lowering, node, made, source, units, axes=(*range(1, axes + 1), 0))


def _require_columns(weights: QuantizedConstant, channels: int) -> None:
    if weights.codes.shape[1] != channels:
        raise UnsupportedError(f"{weights.codes.shape[1]} weight columns for {channels} input channels")


def conv(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Conv over one or two spatial axes."""
    given = attributes(node)
    tensor = lowering.tensor(node, 0)
    source, scales = codes_of(lowering, in_order(lowering, tensor))
    sizes = lowering.shape(source)
    axes = len(sizes) - 1
    weights = _weights(lowering, node, 1, axes=axes + 2)
    if axes not in (1, 2):
        raise UnsupportedError(f"{axes} spatial axes; supported: 1 and 2")
    kernel = tuple(weights.codes.shape[2:])
    require_only(node, kernel_shape=list(kernel))
    groups = int(given.get("group", 1))
    outputs, members = weights.codes.shape[:2]
    if groups < 1 or outputs % groups or members * groups != sizes[0]:
        raise UnsupportedError(f"group = {groups} with weights {weights.codes.shape} on {sizes[0]} channels")
    window = window_of(node, kernel, sizes[1:])
    seen = np.array(scales, dtype=object).reshape(groups, 1, members)
    each = np.broadcast_to(seen, (groups, outputs // groups, members)).reshape(outputs, members, *(1,) * axes)
    codes, units = _merged(lowering, tensor, weights, each, pads=window.padded)
    made = Conv(lowering.builder.name(Conv), codes, weight_type(codes, _declared(codes)), window, groups)
    return _finish(lowering, node, made, source, units)


def _finish(
    lowering: Lowering,
    node: onnx.NodeProto,
    made: Product,
    source: Tensor,
    units: list[Fraction],
    axes: Shape | None = None,
) -> Tensor:
    """Append *made* and return the node's output, whose axes are *axes* of the integer value, in order unless given."""
    builder = lowering.builder
    builder.emit(made, source.node)
    bias = has_input(node, 2)
    offsets = _biases(lowering, node, units) if bias else [Fraction(0)] * made.outputs
    shared = {pair: Chain.of(*pair) for pair in set(zip(units, offsets, strict=True))}
    chains = tuple(shared[pair] for pair in zip(units, offsets, strict=True))
    axes = axes or tuple(range(len(builder.shapes[made.name])))
    builder.origins[made.name] = Origin(node.output[0], axes, tuple(units), tuple(offsets))
    return Tensor(made.name, axes, chains, private=lowering.private(node.output[0]))


def _biases(lowering: Lowering, node: onnx.NodeProto, units: list[Fraction]) -> list[Fraction]:
    reals, outputs = lowering.reals(node, 2), len(units)
    if reals.size not in (1, outputs):
        raise UnsupportedError(f"{reals.size} biases for {outputs} output channels")
    return bias_offsets(lowering.known[node.input[2]], list(reals.reshape(-1)), units)


def _declared(codes: Codes) -> IntegerType:
    return IntegerType.smallest_for(int(codes.min()), int(codes.max()))


def _weights(lowering: Lowering, node: onnx.NodeProto, index: int, *, axes: int) -> QuantizedConstant:
    """Return the quantized weights at input *index*; constants that are whole multiples of one number count as such."""
    known = lowering.known[node.input[index]]
    if isinstance(known, Constant):
        known = integers_of(lowering.reals(node, index))
    if not isinstance(known, QuantizedConstant):
        raise UnsupportedError(
            f"input {index} ({node.input[index]!r}) is computed; supported: constant weights behind a Quant node"
        )
    if known.codes.ndim != axes:
        raise UnsupportedError(f"weights of shape {known.codes.shape}; supported: {axes} axes")
    return known


MAX_UNQUANTIZED = 1 << 15


def integers_of(reals: Rationals) -> QuantizedConstant:
    """Return *reals*, which stand in the file without a quantizer, as small multiples of one number.

    Raises:
        UnsupportedError: there is no such number.
    """
    unit = unit_of(list(reals.reshape(-1)))
    codes = reals / unit
    if codes.size and max(abs(code) for code in codes.reshape(-1)) >= MAX_UNQUANTIZED:
        raise UnsupportedError(
            "its weights are not quantized: put a Quant node between them and the product (or give multiples of one "
            f"number, below {MAX_UNQUANTIZED} of it)"
        )
    return QuantizedConstant(codes.astype(np.int64), np.full((1,) * reals.ndim, unit, dtype=object))


def _merged(
    lowering: Lowering, given: Tensor, weights: QuantizedConstant, inputs: Rationals, *, pads: bool = False
) -> tuple[Codes, list[Fraction]]:
    """Merge the scales of *inputs* into *weights*; a refusal says what the network is *given*, not what became of it.

    Raises:
        UnsupportedError: the ratios make weights of more than 31 bits.
    """
    try:
        return merge_scales(weights, inputs, lowering.builder.effort)
    except UnsupportedError as error:
        said = off_grid(given, pads=pads)
        raise error if said is None else UnsupportedError(said) from error


def merge_scales(weights: QuantizedConstant, inputs: Rationals, effort: Effort) -> tuple[Codes, list[Fraction]]:
    """Return integer weights and the real unit of each output, for input codes with the scales *inputs*.

    An output's accumulator is a sum of ``weight code * weight scale * input code * input scale``. If the scales of its
    terms differ, their largest common measure becomes the unit and the ratios go into the weights: exact.

    Args:
        weights: outputs first.
        inputs: scales of the input codes, broadcast to the weights.
        effort: counts what the merging takes.

    Raises:
        UnsupportedError: the ratios make weights of more than 31 bits.
    """
    codes, outputs = weights.codes, weights.codes.shape[0]
    if weights.scales.size in (1, weights.scales.shape[0]) and len(set(inputs.reshape(-1).tolist())) == 1:
        units = weights.scales.reshape(-1) * inputs.reshape(-1)[0]
        return codes.copy(), list(units) * (outputs if len(units) == 1 else 1)
    effort.spend(codes.size, f"{codes.size} weights of different scales")
    measures = np.broadcast_to(weights.scales * inputs, codes.shape).reshape(outputs, -1)
    flat = codes.reshape(outputs, -1)
    merged, found = np.zeros(flat.shape, dtype=np.int64), []
    for output, row in enumerate(measures):
        unit = unit_of(list(row))
        exact = [int(code) * measure / unit for code, measure in zip(flat[output], row, strict=True)]
        if max(abs(weight) for weight in exact) >= MAX_WEIGHT:
            raise UnsupportedError(
                f"adds terms of scales such as {float(min(row)):.6g} and {float(max(row)):.6g}, whose ratio is no "
                "small fraction; give its inputs one scale, or scales that are powers of two"
            )
        merged[output] = [int(weight) for weight in exact]
        found.append(unit)
    return merged.reshape(codes.shape), found
