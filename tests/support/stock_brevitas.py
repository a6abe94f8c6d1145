"""Random networks of the layers that Brevitas ships, with its own quantizers, as users build them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import numpy as np
import onnx
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int8WeightPerTensorFloat,
    Int16Bias,
    Int32Bias,
    ShiftedUint8ActPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    SignedTernaryWeightPerTensorConst,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from numpy.random import Generator
from torch import Tensor, nn

from bitproof.pipeline import Codes, Observation
from bitproof.train.watch import watched_quantizers

FREE_WEIGHTS = (Int8WeightPerTensorFloat, Int8WeightPerChannelFloat)
BIASES = (None, "float", Int32Bias, Int16Bias)


@dataclass(frozen=True, slots=True)
class Style:
    """What all layers of one network share.

    Attributes:
        power_of_two: scales are powers of two; else free.
        asymmetric: activations have zero points.
        weight_bits: of all weights, as *act_bits* of activations.
        bias: the quantizer of biases, ``float`` for none, None for no biases.
        per_channel: weight scales, where they are free.
    """

    power_of_two: bool
    asymmetric: bool
    weight_bits: int
    act_bits: int
    bias: Any
    per_channel: bool

    @classmethod
    def drawn(cls, generator: Generator) -> Style:
        power_of_two = bool(generator.integers(3) == 0)
        return cls(
            power_of_two=power_of_two,
            asymmetric=not power_of_two and bool(generator.integers(4) == 0),
            weight_bits=int(generator.integers(1, 9)),
            act_bits=int(generator.integers(1, 9)),
            bias=BIASES[generator.integers(len(BIASES))],
            per_channel=bool(generator.integers(2)),
        )

    @property
    def weights(self) -> dict[str, Any]:
        quantizer = Int8WeightPerTensorFixedPoint if self.power_of_two else FREE_WEIGHTS[self.per_channel]
        if self.weight_bits == 1:
            quantizer = SignedTernaryWeightPerTensorConst if self.per_channel else SignedBinaryWeightPerTensorConst
        bias = None if self.bias == "float" else self.bias
        options = {"weight_quant": quantizer, "bias": self.bias is not None, "bias_quant": bias}
        return options if self.weight_bits == 1 else {**options, "weight_bit_width": self.weight_bits}

    def identity(self) -> nn.Module:
        if self.act_bits == 1:
            return qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst, return_quant_tensor=True)
        if self.asymmetric:
            quantizer = ShiftedUint8ActPerTensorFloat
        else:
            quantizer = Int8ActPerTensorFixedPoint if self.power_of_two else Int8ActPerTensorFloat
        return qnn.QuantIdentity(act_quant=quantizer, bit_width=self.act_bits, return_quant_tensor=True)

    def relu(self) -> nn.Module:
        if self.act_bits == 1:
            return self.identity()
        quantizer = Uint8ActPerTensorFixedPoint if self.power_of_two else Uint8ActPerTensorFloat
        return qnn.QuantReLU(act_quant=quantizer, bit_width=self.act_bits, return_quant_tensor=True)

    def activation(self, generator: Generator) -> nn.Module:
        return self.relu() if generator.integers(3) else self.identity()


class Residual(nn.Module):  # type: ignore[misc]  # torch is not followed
    """The sum of a value and of a convolution of it, both through one quantizer, as Brevitas asks for."""

    def __init__(self, inside: nn.Module, quantizer: nn.Module) -> None:
        super().__init__()
        self.inside, self.quantizer = inside, quantizer

    def forward(self, values: Any) -> Any:  # noqa: ANN401  plain or a QuantTensor
        return self.quantizer(values) + self.quantizer(self.inside(values))


class Joined(nn.Module):  # type: ignore[misc]
    """The channels of a value beside those of a convolution of it, through one quantizer."""

    def __init__(self, inside: nn.Module, quantizer: nn.Module) -> None:
        super().__init__()
        self.inside, self.quantizer = inside, quantizer

    def forward(self, values: Any) -> Any:  # noqa: ANN401  plain or a QuantTensor
        return torch.cat([self.quantizer(values), self.quantizer(self.inside(values))], dim=1)


def _convolution(style: Style, channels: tuple[int, int], kernel: int, groups: int = 1, stride: int = 1) -> nn.Module:
    options = {"padding": kernel // 2, "groups": groups, "stride": stride, **style.weights}
    return qnn.QuantConv2d(*channels, kernel, **options)


def image_network(generator: Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a small convolutional network and the shape of its samples."""
    style, channels, size = Style.drawn(generator), int(generator.integers(1, 4)), int(generator.integers(5, 9))
    shape = (channels, size, size)
    layers: list[nn.Module] = [style.identity()]
    for _ in range(int(generator.integers(1, 4))):
        kind = generator.integers(6)
        if kind == 0 and channels > 1:  # depthwise
            layers += [_convolution(style, (channels, channels), 3, groups=channels)]
        elif kind == 1:
            layers += [Residual(_convolution(style, (channels, channels), 3), style.identity())]
        elif kind == 2:
            layers += [Joined(_convolution(style, (channels, 2), 1), style.identity())]
            channels += 2
        else:
            wider, kernel = int(generator.integers(2, 6)), int(generator.choice([1, 3]))
            layers += [_convolution(style, (channels, wider), kernel, stride=int(generator.integers(1, 3)))]
            channels, size = wider, -(-size // 2) if layers[-1].stride == (2, 2) else size
        if generator.integers(2) and not isinstance(layers[-1], Residual | Joined):
            layers.append(nn.BatchNorm2d(channels))
        layers.append(style.activation(generator))
        if size >= 4 and generator.integers(3) == 0:
            layers.append(nn.MaxPool2d(2))
            size //= 2
    if generator.integers(2):
        layers += [nn.AvgPool2d(size), style.identity()]
        size = 1
    layers += [nn.Flatten(), qnn.QuantLinear(channels * size * size, int(generator.integers(2, 6)), **style.weights)]
    return nn.Sequential(*layers), shape


def vector_network(generator: Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a small perceptron and the shape of its samples."""
    style = Style.drawn(generator)
    widths = [int(width) for width in generator.integers(3, 40, size=int(generator.integers(2, 5)))]
    layers: list[nn.Module] = [style.identity()]
    for inputs, outputs in pairwise(widths):
        layers.append(qnn.QuantLinear(inputs, outputs, **style.weights))
        if generator.integers(2):
            layers.append(nn.BatchNorm1d(outputs))
        layers.append(style.activation(generator))
    layers.append(qnn.QuantLinear(widths[-1], int(generator.integers(2, 6)), **style.weights))
    return nn.Sequential(*layers), (widths[0],)


def stock_network(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a random network in evaluation mode, its statistics taken from random samples, and its samples' shape."""
    generator = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, shape = (image_network if generator.integers(3) else vector_network)(generator)
        for _ in range(3):
            network.train()(torch.randn(16, *shape))
    return network.eval(), shape


def exported(network: nn.Module, shape: Sequence[int], path: Path) -> onnx.ModelProto:
    """Export *network* as its users do, by ``export_qonnx``, to *path*."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from its import on
        from brevitas.export import export_qonnx

        export_qonnx(network, args=torch.randn(1, *shape), export_path=str(path), dynamo=False)
    return onnx.load(path)


@torch.no_grad()  # type: ignore[untyped-decorator]  # torch is not followed
def observed(network: nn.Module, values: Tensor, names: Sequence[str], outputs: Codes) -> Observation:
    """Return what torch gives for *values*; *outputs* are replaced by the nearest codes by who knows their scales."""
    with watched_quantizers(network) as shown:
        made = network(values)
    real = np.asarray(getattr(made, "value", made), dtype=np.float64).reshape(len(values), -1)
    layers = shown.layers(1)[1:]  # the first is the input's
    return Observation(dict(zip(names, layers, strict=True)), real, outputs)
