"""A network of one's own for ``model.name``: a perceptron whose middle layer has weights of its own width.

Every layer of ``hidden`` has ``weight_bits`` but the middle one, which has one bit per weight: -1 or 1.
"""

from __future__ import annotations

from itertools import pairwise

import brevitas.nn as qnn
from torch import nn

from bitproof.pipeline.config import ModelConfig
from bitproof.train.models import activation_quantizer, quantized_input, weight_quantizer


def network(model: ModelConfig, inputs: int, classes: int) -> nn.Module:
    """Return the untrained network.

    Args:
        model: the section ``model`` of the configuration.
        inputs: numbers of a sample; values of shape (N, inputs) in [0, 1) come in.
        classes: classes of the data set; logits of shape (N, classes) go out.
    """
    # 1. The input quantizer: model.input_bits unsigned bits with the constant scale 2^-bits.
    layers: list[nn.Module] = [quantized_input(model)]
    # 2. Any layers between. return_quant_tensor=True hands the scale on to the layer behind.
    widths = (inputs, *model.hidden)
    middle = len(model.hidden) // 2
    for number, (width, outputs) in enumerate(pairwise(widths)):
        bits = 1 if number == middle else model.weight_bits_of(number)
        weights = weight_quantizer(bits, model.scale, model.granularity)
        activations = activation_quantizer(model.act_bits_of(number), model.scale)
        layers += [
            qnn.QuantLinear(width, outputs, bias=False, weight_quant=weights),
            nn.BatchNorm1d(outputs),
            qnn.QuantReLU(act_quant=activations, return_quant_tensor=True),
        ]
    # 3. The output layer: no bias, one weight scale, and nothing behind it.
    weights = weight_quantizer(model.weight_bits_of(len(model.hidden)), model.scale, "tensor")
    return nn.Sequential(*layers, qnn.QuantLinear(widths[-1], classes, bias=False, weight_quant=weights))
