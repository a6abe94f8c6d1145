"""The blocks of the built-in networks: quantized layers by number, each followed by batch norm and activation."""

from __future__ import annotations

from itertools import pairwise

import brevitas.nn as qnn
from torch import nn

from bitproof.pipeline.config import ModelConfig
from bitproof.train.quantizers import Injector, InputQuantizer, activation_quantizer, weight_quantizer


def quantized_input(model: ModelConfig) -> nn.Module:
    """Return the layer that tells the others what one input code is worth."""
    layer: nn.Module = qnn.QuantIdentity(act_quant=InputQuantizer, bit_width=model.input_bits, return_quant_tensor=True)
    return layer


def quantized_convolution(model: ModelConfig, number: int, inputs: int, outputs: int) -> list[nn.Module]:
    """Return convolution 3 x 3 that keeps height and width, batch norm and activation; *number* counts from 0."""
    quantizer = _weights(model, number)
    convolution = qnn.QuantConv2d(inputs, outputs, 3, padding=1, bias=False, weight_quant=quantizer)
    return [convolution, nn.BatchNorm2d(outputs), _activation(model, number)]


def quantized_classifier(model: ModelConfig, inputs: int, classes: int) -> list[nn.Module]:
    """Return the hidden linear layers, then the output layer, behind *inputs* features.

    The output layer has one weight scale even if the others have one per channel: classes are compared by their codes.
    """
    layers: list[nn.Module] = []
    widths = (inputs, *model.hidden)
    for number, (width, outputs) in enumerate(pairwise(widths), start=len(model.channels)):
        quantizer = _weights(model, number)
        layers += [
            qnn.QuantLinear(width, outputs, bias=False, weight_quant=quantizer),
            nn.BatchNorm1d(outputs),
            _activation(model, number),
            *dropout(model),
        ]
    quantizer = _weights(model, model.weighted_layers - 1)
    return [*layers, qnn.QuantLinear(widths[-1], classes, bias=False, weight_quant=quantizer)]


def float_classifier(model: ModelConfig, inputs: int, classes: int) -> list[nn.Module]:
    """Return the layers of :func:`quantized_classifier` in float."""
    layers: list[nn.Module] = []
    widths = (inputs, *model.hidden)
    for width, outputs in pairwise(widths):
        layers += [nn.Linear(width, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(), *dropout(model)]
    return [*layers, nn.Linear(widths[-1], classes, bias=False)]


def dropout(model: ModelConfig) -> list[nn.Module]:
    """Return the dropout layer, or nothing if none is asked for."""
    return [nn.Dropout(model.dropout)] if model.dropout else []


def _weights(model: ModelConfig, number: int) -> Injector:
    """Return the quantizer of the weights of layer *number*; the output layer has one scale for all classes."""
    granularity = "tensor" if number == model.weighted_layers - 1 else model.granularity
    return weight_quantizer(model.weight_bits_of(number), model.scale, granularity, model.surrogate)


def _activation(model: ModelConfig, number: int) -> nn.Module:
    quantizer = activation_quantizer(model.act_bits_of(number), model.scale)
    layer: nn.Module = qnn.QuantReLU(act_quant=quantizer, return_quant_tensor=True)
    return layer
