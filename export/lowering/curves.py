"""Nodes whose function never falls, before a quantizer: LeakyRelu, PRelu, HardSigmoid, Sign, Tanh, Sigmoid."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import onnx

from bitproof.export.integer import Chain
from bitproof.export.integer.monotone import Bent, Sign, Step, Tanh
from bitproof.export.lowering.elementwise import constants_of, kept
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes
from bitproof.export.lowering.heads import drop_at_the_end
from bitproof.export.lowering.known import Known, Tensor

HALF = Fraction(1, 2)


def leaky_relu(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower LeakyRelu of a slope that is not negative."""
    slope = _attribute(node, "alpha", 0.01)
    tensor = lowering.tensor(node, 0)
    return _bent(lowering, node, tensor, [slope] * len(tensor.chains))


def prelu(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower PRelu: one slope, or one per channel, none negative."""
    tensor = lowering.tensor(node, 0)
    return _bent(lowering, node, tensor, constants_of(lowering, tensor, node, 1))


def _bent(lowering: Lowering, node: onnx.NodeProto, tensor: Tensor, slopes: list[Fraction]) -> Tensor:
    if min(slopes) < 0:
        raise UnsupportedError(
            f"has the slope {float(min(slopes))} for negative numbers; supported: 0 or more, with which it never falls"
        )
    steps = {slope: Bent(slope, Fraction(1)) for slope in set(slopes)}
    return _each(lowering, node, tensor, [steps[slope] for slope in slopes])


def hard_sigmoid(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower HardSigmoid: ``clip(alpha * x + beta, 0, 1)``."""
    alpha, beta = _attribute(node, "alpha", 0.2), _attribute(node, "beta", 0.5)
    tensor = lowering.tensor(node, 0).mapped(lambda chain: chain.times(alpha).plus(beta).clamped(0, 1))
    return kept(lowering, node, tensor, list(tensor.chains))


def sign(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Sign: -1, 0 or 1."""
    tensor = lowering.tensor(node, 0)
    return _each(lowering, node, tensor, [Sign()] * len(tensor.chains))


def tanh(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Tanh; as the last node it is left out."""
    return _transcendental(lowering, node, lambda chain: chain.curved(Tanh()))


def sigmoid(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Sigmoid, ``tanh(x / 2) / 2 + 1 / 2``; as the last node it is left out."""
    return _transcendental(lowering, node, lambda chain: chain.times(HALF).curved(Tanh()).times(HALF).plus(HALF))


def _transcendental(lowering: Lowering, node: onnx.NodeProto, change: Callable[[Chain], Chain]) -> Known:
    if node.output[0] in {value.name for value in lowering.graph.output}:
        return drop_at_the_end(lowering, node)
    tensor = lowering.tensor(node, 0)
    if any(chain.curve is not None and chain.curve.is_transcendental for chain in tensor.chains):
        raise UnsupportedError(
            "follows another Tanh or Sigmoid, so that equality with a boundary cannot be decided; put a Quant node "
            "between the two"
        )
    tensor = tensor.mapped(change)
    return kept(lowering, node, tensor, list(tensor.chains))


def _each(lowering: Lowering, node: onnx.NodeProto, tensor: Tensor, steps: list[Step]) -> Tensor:
    chains = [chain.curved(step) for chain, step in zip(tensor.chains, steps, strict=True)]
    return kept(lowering, node, tensor, chains)


def _attribute(node: onnx.NodeProto, name: str, default: float) -> Fraction:
    return Fraction(float(np.float32(attributes(node).get(name, default))))
