"""The multilayer perceptron, quantized (Brevitas) and in float, layer for layer the same."""

from __future__ import annotations

from torch import nn

from bitproof.pipeline.config import ModelConfig
from bitproof.train.models.blocks import float_classifier, quantized_classifier, quantized_input


def mlp(model: ModelConfig, inputs: int, classes: int) -> nn.Module:
    """Return the quantized network: input quantizer, then linear, batch norm and quantized ReLU, then linear.

    It takes values of shape (N, inputs) in [0, 1) and returns logits of shape (N, classes).
    """
    return nn.Sequential(quantized_input(model), *quantized_classifier(model, inputs, classes))


def float_mlp(model: ModelConfig, inputs: int, classes: int) -> nn.Module:
    """Return the same network in float, the baseline that the quantized one is compared with."""
    return nn.Sequential(*float_classifier(model, inputs, classes))
