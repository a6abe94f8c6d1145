"""Nodes that map each number by constants: batch norm, Mul, Add, Sub, Div, Neg, ReLU, Clip."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx

from bitproof.export.integer import Chain, Product
from bitproof.export.lowering.biases import bias_offsets
from bitproof.export.lowering.effort import CHAIN, NODE
from bitproof.export.lowering.graph import Lowering, UnsupportedError, along_channels, attributes, has_input
from bitproof.export.lowering.joins import add_tensors
from bitproof.export.lowering.known import Constant, GraphInput, Known, QuantizedConstant, Rounded, Tensor
from bitproof.export.lowering.linear_quantizers import clipped


def constants_of(lowering: Lowering, tensor: Tensor, node: onnx.NodeProto, index: int) -> list[Fraction]:
    """Return the constants at input *index* of *node* for each channel of the integer value behind *tensor*.

    Raises:
        UnsupportedError: they differ along another axis.
    """
    _spend(lowering, tensor, node)
    constants = lowering.reals(node, index)
    values = along_channels(lowering, tensor, constants)
    if values is None:
        raise UnsupportedError(
            f"input {index} ({node.input[index]!r}) has shape {constants.shape} for samples of shape "
            f"{lowering.shape(tensor)}; supported: one number, or one per channel"
        )
    return values


def _spend(lowering: Lowering, tensor: Tensor, node: onnx.NodeProto) -> None:
    channels = len(tensor.chains)
    lowering.builder.effort.spend(NODE + channels * CHAIN, f"the constants of {channels} channels of {node.op_type}")


def kept(lowering: Lowering, node: onnx.NodeProto, tensor: Tensor, chains: list[Chain]) -> Tensor:
    """Return *tensor* with *chains*, behind *node*; their constants are counted."""
    private = tensor.private and lowering.private(node.output[0])
    lowering.builder.effort.elementwise(chains)
    return replace(tensor, chains=tuple(chains), private=private)


def batch_normalization(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower BatchNormalization in evaluation mode."""
    given = attributes(node)
    if given.get("training_mode", 0) or len([name for name in node.output if name]) > 1:
        raise UnsupportedError("is in training mode; export the network in evaluation mode")
    arrays = [lowering.reals(node, index) for index in range(1, 5)]
    known = lowering.known[node.input[0]]
    if isinstance(known, GraphInput):
        return known.changed()
    tensor = lowering.tensor(node, 0)
    _spend(lowering, tensor, node)
    channels = lowering.shape(tensor)[0]
    if any(array.shape != (channels,) for array in arrays):
        raise UnsupportedError(
            f"has parameters of the shapes {[array.shape for array in arrays]}; {channels} channels need ({channels},)"
        )
    parameters = [list(array) for array in arrays]
    if tensor.axes[0] != 0:
        raise UnsupportedError("normalizes an axis that is not the channels'; put a Quant node before the transpose")
    epsilon = Fraction(float(np.float32(given.get("epsilon", 1e-5))))
    if min(parameters[3]) + epsilon <= 0:
        raise UnsupportedError(f"variance + epsilon = {float(min(parameters[3]) + epsilon)}; it must be positive")
    chains = [
        chain.normalized(gamma=gamma, beta=beta, mean=mean, variance=variance + epsilon)
        for chain, gamma, beta, mean, variance in zip(tensor.chains, *parameters, strict=True)
    ]
    return kept(lowering, node, tensor, chains)


def mul(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Mul by a constant."""
    first, second = (lowering.known[name] for name in node.input[:2])
    return _multiplied(lowering, node, _computed(first, second, "product"), divide=False)


def div(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Div by a constant."""
    if _computed(lowering.known[node.input[0]], lowering.known[node.input[1]], "quotient") == 1:
        raise UnsupportedError("divides by what is computed, which is not affine")
    return _multiplied(lowering, node, 0, divide=True)


def _computed(first: Known, second: Known, what: str) -> int:
    """Return which of two inputs is computed; the other is a constant."""
    constant = (Constant, QuantizedConstant)
    if isinstance(first, constant) and not isinstance(second, constant):
        return 1
    if isinstance(second, constant):
        return 0
    raise UnsupportedError(f"is a {what} of two computed values; supported: of one and a constant")


def _multiplied(lowering: Lowering, node: onnx.NodeProto, index: int, *, divide: bool) -> Known:
    known = lowering.known[node.input[index]]
    if isinstance(known, QuantizedConstant | Constant):
        return _scaled_weights(lowering, node, known, divide)
    if isinstance(known, GraphInput):
        if not lowering.reals(node, 1 - index).all() and divide:
            raise UnsupportedError("divides by 0")
        return known.changed()
    factors = constants_of(lowering, known, node, 1 - index)
    if divide:
        if not all(factors):
            raise UnsupportedError("divides by 0")
        factors = [1 / factor for factor in factors]
    chains = [chain.times(factor) for chain, factor in zip(known.chains, factors, strict=True)]
    return kept(lowering, node, known, chains)


def _scaled_weights(
    lowering: Lowering, node: onnx.NodeProto, known: QuantizedConstant | Constant, divide: bool
) -> QuantizedConstant:
    if isinstance(known, Constant):
        raise UnsupportedError("has two constant inputs; fold it before the import")
    factors = lowering.reals(node, 1)
    if factors.size != 1 or factors.reshape(-1)[0] <= 0:
        raise UnsupportedError("scales weights by more than one number, or by one that is not positive")
    factor = factors.reshape(-1)[0]
    scales = known.scales / factor if divide else known.scales * factor
    return QuantizedConstant(known.codes, np.asarray(scales, dtype=object))


def add(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Add of a constant, or of two computed values."""
    return _sum(lowering, node, sign=1)


def sub(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Sub."""
    return _sum(lowering, node, sign=-1)


def _sum(lowering: Lowering, node: onnx.NodeProto, *, sign: int) -> Known:
    first, second = (lowering.known[name] for name in node.input[:2])
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        negated = second if sign > 0 else second.mapped(lambda chain: chain.times(-1))
        return add_tensors(lowering, first, negated)
    index = _computed(first, second, "sum")
    known = lowering.known[node.input[index]]
    if isinstance(known, GraphInput):
        lowering.reals(node, 1 - index)
        return known.changed()
    tensor = lowering.tensor(node, index)
    offsets = constants_of(lowering, tensor, node, 1 - index)
    if sign < 0 and index == 1:  # constant minus computed
        tensor, sign = tensor.mapped(lambda chain: chain.times(-1)), 1
    offsets = _in_accumulator_units(lowering, tensor, lowering.known[node.input[1 - index]], offsets)
    chains = [chain.plus(sign * offset) for chain, offset in zip(tensor.chains, offsets, strict=True)]
    return kept(lowering, node, tensor, chains)


def _in_accumulator_units(lowering: Lowering, tensor: Tensor, bias: Known, offsets: list[Fraction]) -> list[Fraction]:
    """Return the *offsets* that the constant *bias* adds to a product, whole units if they are meant as such."""
    linear = tensor.linear()
    if linear is None or not isinstance(lowering.builder.nodes.get(tensor.node), Product):
        return offsets
    return bias_offsets(bias, offsets, [slope for slope, _ in linear])


def neg(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Neg."""
    known = lowering.known[node.input[0]]
    if isinstance(known, GraphInput):
        return known.changed()
    tensor = lowering.tensor(node, 0).mapped(lambda chain: chain.times(-1))
    return kept(lowering, node, tensor, list(tensor.chains))


def relu(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Relu; one before the quantizer of the input belongs to what turns real inputs into codes."""
    known = lowering.known[node.input[0]]
    if isinstance(known, GraphInput):
        return known.changed()
    tensor = lowering.tensor(node, 0).mapped(lambda chain: chain.clamped(0, None))
    return kept(lowering, node, tensor, list(tensor.chains))


def clip(lowering: Lowering, node: onnx.NodeProto) -> Known | Rounded:
    """Lower Clip to constant ends."""
    given = attributes(node)
    ends: list[Fraction | None] = []
    for index, name in ((1, "min"), (2, "max")):
        if has_input(node, index):
            numbers = lowering.reals(node, index).reshape(-1)
            if len(numbers) != 1:
                raise UnsupportedError(f"{name} has {len(numbers)} values; supported: one")
            ends.append(numbers[0])
        else:
            value = given.get(name)
            ends.append(None if value is None or not np.isfinite(value) else Fraction(float(value)))
    low, high = ends
    if low is not None and high is not None and low > high:
        raise UnsupportedError(f"min = {float(low)} is above max = {float(high)}")
    if node.input[0] in lowering.rounded:
        return clipped(lowering.rounded[node.input[0]], low, high)
    known = lowering.known[node.input[0]]
    if isinstance(known, GraphInput):
        return known.changed()
    tensor = lowering.tensor(node, 0).mapped(lambda chain: chain.clamped(low, high))
    return kept(lowering, node, tensor, list(tensor.chains))
