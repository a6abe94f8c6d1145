"""The networks of the calibration benchmark: trained by the straight-through estimator, lowered to integer models.

784-32-32-10, ternary weights, 2-bit inputs and activations. Lowering is done here on the trained layers directly, in
the same exact arithmetic as ``export.lowering``, without a QONNX file in between.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from fractions import Fraction
from math import cos, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitproof.export.integer import (
    Activation,
    Chain,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    Node,
    Quantizer,
    Rounding,
    Threshold,
    thresholds_of,
)
from bitproof.pipeline.config import ModelConfig, TrainFaults, TrainWrap
from bitproof.train.layers import QuantizedLayer, quantized_layers
from bitproof.train.models import build
from bitproof.train.robust import RobustLoss

MODEL = ModelConfig(name="mlp", hidden=(32, 32), weight_bits=2, act_bits=2, input_bits=2, scale="free")
INPUTS, CLASSES, INPUT_BITS = 784, 10, 2
BATCH = 128
CODES = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Input codes 0..3, uint8 of shape (N, 784), and labels, int64 of shape (N,)."""

    codes: CODES
    labels: NDArray[np.int64]


def new_network(seed: int, weight_bits: int = 2) -> nn.Module:
    """Return an untrained network; *seed* decides its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(MODEL.model_copy(update={"weight_bits": weight_bits}), INPUTS, CLASSES)


def trained(
    network: nn.Module,
    train: Split,
    *,
    steps: int,
    rate: float,
    seed: int,
    faults: TrainFaults | None = None,
    wrap: TrainWrap | None = None,
) -> nn.Module:
    """Return a copy of *network*, trained on for *steps* batches of 128 by Adam; the rate falls by a half cosine.

    Batch norm keeps the running statistics of these steps, faults included, as ``bitproof``'s own training does.
    """
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + cos(pi * step / steps)) / 2)
    loss = RobustLoss(network, faults, wrap, torch.Generator().manual_seed(seed + 1))
    drawing = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # brevitas and torch about their own insides
        for _ in range(steps):
            rows = drawing.integers(0, len(train.codes), BATCH)
            optimizer.zero_grad()
            loss(network, _values(train.codes[rows]), torch.from_numpy(train.labels[rows])).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _values(codes: CODES) -> torch.Tensor:
    return torch.from_numpy(codes).float() / (1 << INPUT_BITS)


def lowered(network: nn.Module) -> IntegerModel:
    """Return the integer model of *network*; thresholds are decided in exact rational arithmetic."""
    layers = quantized_layers(network)
    ranges: tuple[Interval, ...] = (Interval(0, (1 << INPUT_BITS) - 1),) * INPUTS
    nodes: list[Node] = []
    for number, layer in enumerate(layers):
        codes = layer.weight_codes.numpy().astype(np.int64)
        falling = np.zeros(len(codes), dtype=np.bool_)
        if layer.norm is not None:
            falling = layer.norm.weight.detach().numpy() < 0
            codes = np.where(falling[:, None], -codes, codes)
        kind = IntegerType(int(layer.linear.weight_quant.bit_width()), signed=True)
        product = MatMul(f"fc{number}", codes, kind)
        ranges = product.ranges(ranges)
        nodes.append(product)
        if layer.norm is not None:
            activation = _threshold(f"act{number}", layer, falling, ranges)
            ranges = activation.ranges(ranges)
            nodes.append(activation)
    scale = Fraction(layers[-1].accumulator_scale)
    return IntegerModel(
        "benchmark", IntegerType(INPUT_BITS, signed=False), Fraction(1, 1 << INPUT_BITS), (INPUTS,), tuple(nodes), scale
    )


def _threshold(name: str, layer: QuantizedLayer, falling: NDArray[np.bool_], ranges: tuple[Interval, ...]) -> Threshold:
    norm = layer.norm
    assert norm is not None, "the last layer has no activation"
    fields = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    gamma, beta, mean, variance = ([Fraction(float(v)) for v in field.detach()] for field in fields)
    epsilon = Fraction(float(np.float32(norm.eps)))
    rows = []
    for c, reachable in enumerate(ranges):
        scale, step = Fraction(layer.accumulator_scale), Fraction(layer.output_scale)
        norm_c = {"gamma": gamma[c], "beta": beta[c], "mean": mean[c], "variance": variance[c] + epsilon}
        chain = Chain.of(scale).normalized(**norm_c)
        activation = Activation(chain, Quantizer(step, 0, 0, layer.levels, Rounding.ROUND))
        rows.append(thresholds_of(activation.negated() if falling[c] else activation, reachable))
    kind = IntegerType(layer.levels.bit_length(), signed=False)
    return Threshold(name, np.array(rows, dtype=np.int64), kind, 0, falling)
