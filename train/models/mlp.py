"""The multilayer perceptron, quantized (Brevitas) and in float, layer for layer the same.

Scales are powers of two: every accumulator is then an exact multiple of a power of two, and a float chain that computes
it is a function of the integer. The weight scale is a trained parameter; scales that follow the largest weight jump by
octaves during training and cost about a point of accuracy.
"""

from __future__ import annotations

from itertools import pairwise

import brevitas.nn as qnn
from brevitas.inject.enum import ScalingImplType
from brevitas.quant import Int8WeightPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
from torch import nn

from pipeline.config import ModelConfig


class InputQuantizer(Uint8ActPerTensorFixedPoint):  # type: ignore[misc]  # brevitas is untyped
    """B bits at scale 2^-B: input codes divided by 2^B pass unchanged, so the host sends raw codes."""

    scaling_impl_type = ScalingImplType.CONST
    scaling_init = 255 / 256  # brevitas rounds it up to the power of two 1 and divides by 2^B


class WeightQuantizer(Int8WeightPerTensorFixedPoint):  # type: ignore[misc]  # brevitas is untyped
    """Narrow-range signed weights, one power-of-two scale a tensor, learned from its first statistics on."""

    narrow_range = True
    scaling_impl_type = ScalingImplType.PARAMETER_FROM_STATS


def mlp(model: ModelConfig, inputs: int, classes: int) -> nn.Module:
    """Return the quantized network: input quantizer, then linear, batch norm and quantized ReLU, then linear."""
    layers: list[nn.Module] = [
        qnn.QuantIdentity(act_quant=InputQuantizer, bit_width=model.input_bits, return_quant_tensor=True)
    ]
    for width, outputs in pairwise((inputs, *model.hidden)):
        layers += [
            _linear(model, width, outputs),
            nn.BatchNorm1d(outputs),
            qnn.QuantReLU(act_quant=Uint8ActPerTensorFixedPoint, bit_width=model.act_bits, return_quant_tensor=True),
        ]
    layers.append(_linear(model, (inputs, *model.hidden)[-1], classes))
    return nn.Sequential(*layers)


def _linear(model: ModelConfig, inputs: int, outputs: int) -> nn.Module:
    layer: nn.Module = qnn.QuantLinear(
        inputs, outputs, bias=False, weight_quant=WeightQuantizer, weight_bit_width=model.weight_bits
    )
    return layer


def float_mlp(model: ModelConfig, inputs: int, classes: int) -> nn.Module:
    """Return the same network in float, the baseline that the quantized one is compared with."""
    layers: list[nn.Module] = []
    for width, outputs in pairwise((inputs, *model.hidden)):
        layers += [nn.Linear(width, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    layers.append(nn.Linear((inputs, *model.hidden)[-1], classes, bias=False))
    return nn.Sequential(*layers)
