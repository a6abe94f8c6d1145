"""Networks as people have them, whose import is measured: Brevitas' own defaults, and ResNet-18 on full-size images.

``python -m benchmarks.lab.ordinary_networks KEY FILE`` writes one as QONNX. Weights are initialized, not trained;
scales come from the statistics of random inputs. The perceptrons have what Brevitas gives by default: 8 bits, free
scales, float biases. The residual sum joins two branches whose scales have no common unit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.lab.integer_networks import write_qonnx
from bitproof.pipeline.config import ModelConfig

RESNET18 = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
"""Channels and stride of the blocks of ResNet-18 (He et al., Deep Residual Learning for Image Recognition, 2015)."""


@dataclass(frozen=True, slots=True)
class Ordinary:
    """A network and what its import may take.

    Attributes:
        title: its name in tables.
        build: makes the initialized network; imports PyTorch.
        shape: of one sample.
        samples: how many drawn samples are compared; None: the command's default.
        goal_s: most processor seconds.
    """

    title: str
    build: Callable[[], Any]
    shape: tuple[int, ...]
    samples: int | None
    goal_s: int


def perceptron(*widths: int) -> Any:  # noqa: ANN401  torch is imported on use
    """Return a perceptron of Brevitas' default layers."""
    import brevitas.nn as qnn
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = [qnn.QuantIdentity(return_quant_tensor=True)]
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [qnn.QuantLinear(inputs, outputs, bias=True), qnn.QuantReLU(return_quant_tensor=True)]
    layers.append(qnn.QuantLinear(widths[-2], widths[-1], bias=True))
    return _settled(nn.Sequential(*layers), (widths[0],), samples=64)


def residual() -> Any:  # noqa: ANN401
    """Return the sum of two branches of 4 x 4 x 4 with scales of 0.0371 and 0.0519, and an output layer."""
    import brevitas.nn as qnn
    import torch
    from brevitas.quant import Int8ActPerTensorFloat
    from torch import Tensor, nn

    class Sum(nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            self.entry = qnn.QuantIdentity(return_quant_tensor=True)
            self.long = qnn.QuantConv2d(4, 4, 3, padding=1, bias=False)
            self.short = qnn.QuantConv2d(4, 4, 1, bias=False)
            fixed = {"act_quant": Int8ActPerTensorFloat, "scaling_impl_type": "const"}
            self.first = qnn.QuantIdentity(**fixed, scaling_init=0.0371 * 128)
            self.second = qnn.QuantIdentity(**fixed, scaling_init=0.0519 * 128)
            self.after = qnn.QuantIdentity(return_quant_tensor=True)
            self.output = qnn.QuantLinear(64, 6, bias=False)

        def forward(self, values: Tensor) -> Tensor:
            codes = self.entry(values)
            total = self.first(self.long(codes)) + self.second(self.short(codes))
            return self.output(self.after(total).flatten(1))

    torch.manual_seed(0)
    return _settled(Sum(), (4, 4, 4), samples=64)


def resnet18() -> Any:  # noqa: ANN401
    """Return ResNet-18 with 4-bit weights and activations and power-of-two scales, 8-bit images of 224 x 224."""
    import torch
    from torch import nn

    from bitproof.train.models.parts import QuantizedParts

    torch.manual_seed(0)
    parts = QuantizedParts(ModelConfig.model_validate({"name": "resnet8", "weight_bits": 4, "act_bits": 4}))
    layers = [*parts.entry(), *parts.convolution(3, 64, 7, stride=2, padding=3), parts.activation()]
    layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    inputs = 64
    for outputs, stride in RESNET18:
        branch = [*parts.convolution(inputs, outputs, 3, stride=stride, padding=1), parts.activation()]
        branch += parts.convolution(outputs, outputs, 3, padding=1)
        shortcut = [] if inputs == outputs else parts.convolution(inputs, outputs, 1, stride=stride)
        layers += [parts.residual(branch, shortcut), parts.activation()]
        inputs = outputs
    network = nn.Sequential(*layers, *parts.average(), parts.output(inputs, 1000))
    return _settled(network, (3, 224, 224), samples=2)


def _settled(network: Any, shape: tuple[int, ...], *, samples: int) -> Any:  # noqa: ANN401
    """Return *network* in evaluation mode, its scales and batch norms from two batches of random inputs."""
    import torch

    for module in network.modules():
        if hasattr(module, "collect_stats_steps"):
            module.collect_stats_steps = 1
    for _ in range(2):
        network(torch.rand(samples, *shape))
    return network.eval()


ORDINARY: Mapping[str, Ordinary] = {
    "import-mlp-64": Ordinary("w8a8 mlp 64-128-10", lambda: perceptron(64, 128, 10), (64,), None, 10),
    "import-mlp-784": Ordinary("w8a8 mlp 784-256-10", lambda: perceptron(784, 256, 10), (784,), None, 20),
    "import-residual": Ordinary("residual free scales", residual, (4, 4, 4), None, 10),
    "import-resnet18": Ordinary("resnet18 w4a4 224x224, 20 samples", resnet18, (3, 224, 224), 20, 180),
}
"""By the key of the raw result."""

if __name__ == "__main__":
    subject = ORDINARY[sys.argv[1]]
    write_qonnx(subject.build(), subject.shape, Path(sys.argv[2]))
