"""A small network as a user writes one in a notebook, and the functions that ``bitproof import`` may be given."""

from __future__ import annotations

import brevitas.nn as qnn
import torch
from brevitas.quant import Int8WeightPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
from torch import nn

WEIGHTS = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 3}
CODES = {"act_quant": Uint8ActPerTensorFixedPoint, "return_quant_tensor": True}


class Net(nn.Module):  # type: ignore[misc]  # torch is not followed
    """A perceptron of 12 inputs, 8 hidden channels and 3 outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.input = qnn.QuantIdentity(bit_width=6, **CODES)
        self.first = qnn.QuantLinear(12, 8, bias=False, **WEIGHTS)
        self.relu = qnn.QuantReLU(bit_width=4, **CODES)
        self.last = qnn.QuantLinear(8, 3, bias=False, **WEIGHTS)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.last(self.relu(self.first(self.input(values))))
        return made


def small() -> Net:
    """Return the network."""
    return Net()


def number() -> int:
    """Return what is no network."""
    return 3
