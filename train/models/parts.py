"""The parts of the networks whose shape is given: each network is written once, over quantized parts or float ones.

A maker hands out the layers in the order in which they are asked for. That order numbers them: entry ``i`` of
``weight_bits`` and of ``act_bits`` belongs to the ``i``-th layer with weights and the ``i``-th activation quantizer.
"""

from __future__ import annotations

from typing import Protocol

import brevitas.nn as qnn
import torch
from torch import Tensor, nn

from bitproof.pipeline import InputError
from bitproof.pipeline.config import ModelConfig
from bitproof.train.models.blocks import dropout, quantized_input
from bitproof.train.quantizers import Granularity, Injector, activation_quantizer, residual_quantizer, weight_quantizer

Size = int | tuple[int, int]


class Parts(Protocol):
    """Makes the layers of one network, in execution order."""

    def entry(self) -> list[nn.Module]:
        """Return what is done to the inputs, values in [0, 1)."""

    def convolution(
        self, inputs: int, outputs: int, kernel: Size, *, stride: int = 1, padding: Size = 0, groups: int = 1
    ) -> list[nn.Module]:
        """Return a convolution without bias and its batch norm."""

    def activation(self) -> nn.Module:
        """Return a ReLU, with its quantizer if there is one."""

    def linear(self, inputs: int, outputs: int) -> list[nn.Module]:
        """Return a hidden linear layer: matrix product, batch norm, activation, dropout if the configuration asks."""

    def residual(self, branch: list[nn.Module], shortcut: list[nn.Module]) -> nn.Module:
        """Return the sum of *branch* and *shortcut* (empty: the input itself), for an activation to follow."""

    def average(self) -> list[nn.Module]:
        """Return the mean over height and width, quantized, as features of shape (N, C); then dropout, if any."""

    def output(self, inputs: int, outputs: int) -> nn.Module:
        """Return the output layer, a plain matrix product."""


class Residual(nn.Module):  # type: ignore[misc]  # torch is not followed
    """``quantizer(branch(x)) + quantizer(shortcut(x))``: one quantizer, so that the sum is one of integers.

    Attributes:
        branch: the long way.
        shortcut: the short way; empty: the input itself.
        quantizer: on both ways; its scale starts from the statistics of both.
    """

    def __init__(self, branch: list[nn.Module], shortcut: list[nn.Module], quantizer: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        self.shortcut = nn.Sequential(*shortcut)
        self.quantizer = quantizer

    def forward(self, values: Tensor) -> Tensor:
        """Return sums of the shape of the branch's output, (N, C, H, W)."""
        return torch.add(self.quantizer(self.branch(values)), self.quantizer(self.shortcut(values)))


class QuantizedParts:
    """Quantized layers with the bit widths of *model*, layer by layer."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._weighted = self._activations = 0

    def entry(self) -> list[nn.Module]:
        """Return the layer that tells the others what one input code is worth."""
        return [quantized_input(self._model)]

    def convolution(
        self, inputs: int, outputs: int, kernel: Size, *, stride: int = 1, padding: Size = 0, groups: int = 1
    ) -> list[nn.Module]:
        """Return a quantized convolution without bias and its batch norm."""
        layer = qnn.QuantConv2d(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=padding,
            groups=groups,
            bias=False,
            weight_quant=self._weights(),
        )
        return [layer, nn.BatchNorm2d(outputs)]

    def activation(self) -> nn.Module:
        """Return a ReLU with an unsigned quantizer."""
        layer: nn.Module = qnn.QuantReLU(act_quant=self._unsigned(), return_quant_tensor=True)
        return layer

    def linear(self, inputs: int, outputs: int) -> list[nn.Module]:
        """Return a quantized linear layer, batch norm, activation and perhaps dropout."""
        layer = qnn.QuantLinear(inputs, outputs, bias=False, weight_quant=self._weights())
        return [layer, nn.BatchNorm1d(outputs), self.activation(), *dropout(self._model)]

    def residual(self, branch: list[nn.Module], shortcut: list[nn.Module]) -> nn.Module:
        """Return the sum of both ways behind one signed quantizer, which counts as one activation."""
        quantizer = residual_quantizer(self._next_act_bits(), self._model.scale)
        return Residual(branch, shortcut, qnn.QuantIdentity(act_quant=quantizer, return_quant_tensor=False))

    def average(self) -> list[nn.Module]:
        """Return the mean over height and width behind an unsigned quantizer, flat."""
        quantizer = qnn.QuantIdentity(act_quant=self._unsigned(), return_quant_tensor=True)
        return [nn.AdaptiveAvgPool2d(1), quantizer, nn.Flatten(), *dropout(self._model)]

    def output(self, inputs: int, outputs: int) -> nn.Module:
        """Return a quantized linear layer with one weight scale: outputs are compared by their codes."""
        layer: nn.Module = qnn.QuantLinear(
            inputs, outputs, bias=False, weight_quant=self._weights(granularity="tensor")
        )
        return layer

    def _weights(self, granularity: Granularity | None = None) -> Injector:
        model, number = self._model, self._weighted
        self._weighted += 1
        chosen = granularity or model.granularity
        return weight_quantizer(model.weight_bits_of(number), model.scale, chosen, model.surrogate)

    def _unsigned(self) -> Injector:
        return activation_quantizer(self._next_act_bits(), self._model.scale)

    def _next_act_bits(self) -> int:
        self._activations += 1
        return self._model.act_bits_of(self._activations - 1)


class FloatParts:
    """The same layers in float."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model

    def entry(self) -> list[nn.Module]:
        """Return nothing: the inputs are used as they are."""
        return []

    def convolution(
        self, inputs: int, outputs: int, kernel: Size, *, stride: int = 1, padding: Size = 0, groups: int = 1
    ) -> list[nn.Module]:
        """Return a convolution without bias and its batch norm."""
        layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False)
        return [layer, nn.BatchNorm2d(outputs)]

    def activation(self) -> nn.Module:
        """Return a ReLU."""
        return nn.ReLU()

    def linear(self, inputs: int, outputs: int) -> list[nn.Module]:
        """Return a linear layer, batch norm, ReLU and perhaps dropout."""
        layer = nn.Linear(inputs, outputs, bias=False)
        return [layer, nn.BatchNorm1d(outputs), nn.ReLU(), *dropout(self._model)]

    def residual(self, branch: list[nn.Module], shortcut: list[nn.Module]) -> nn.Module:
        """Return the sum of both ways."""
        return Residual(branch, shortcut, nn.Identity())

    def average(self) -> list[nn.Module]:
        """Return the mean over height and width, flat."""
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *dropout(self._model)]

    def output(self, inputs: int, outputs: int) -> nn.Module:
        """Return a linear layer without bias."""
        return nn.Linear(inputs, outputs, bias=False)


def require_image(name: str, shape: tuple[int, ...], least: int = 1) -> tuple[int, int, int]:
    """Return *shape* as (channels, height, width).

    Raises:
        InputError: it is not that of an image of *least* x *least* pixels or more.
    """
    if len(shape) != 3:
        raise InputError(
            f"model.name = {name!r} needs images, (channels, height, width); a sample of the data set has shape "
            f"{shape}. Use 'mlp', or a data set that says the shape of its images"
        )
    channels, height, width = shape
    if min(height, width) < least:
        raise InputError(
            f"model.name = {name!r} needs images of {least} x {least} or more; a sample of the data set has shape "
            f"{shape}. Use 'cnn' or 'mlp', or larger images"
        )
    return channels, height, width


def scaled(channels: int, width: float) -> int:
    """Return *channels* times *width*, rounded half to even, at least 1."""
    return max(1, round(channels * width))
