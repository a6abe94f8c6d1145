"""The network of a configuration before any training: what can be said of its deployment without data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bitproof.pipeline import Artifact
from bitproof.pipeline.config import DataConfig, ModelConfig
from bitproof.train.checkpoint import save_checkpoint
from bitproof.train.data import cifar10, idx, speech_commands, toyadmos
from bitproof.train.data.custom import read_custom
from bitproof.train.layers import require_input_codes
from bitproof.train.models import build, build_float, require_own_network
from bitproof.train.seeded import seeded

PASSES, SAMPLES = 2, 64
"""Passes that the quantizers take their first scales from, and the random samples of each."""
SPEECH_WORDS = 35
"""Of version 0.02 of Speech Commands; a folder with fewer words gives a smaller output layer."""
KNOWN: Mapping[str, tuple[tuple[int, ...], int]] = {
    "digits": ((1, 8, 8), 10),
    "mnist": (idx.SHAPE, 10),
    "fashion-mnist": (idx.SHAPE, 10),
    "cifar-10": (cifar10.SHAPE, len(cifar10.CLASSES)),
    "speech-commands": (speech_commands.SHAPE, SPEECH_WORDS),
    "toyadmos": (toyadmos.SHAPE, len(toyadmos.CLASSES)),
}
"""Shape of a sample and number of classes of each built-in data set, which is not read for them."""


def untrained_checkpoint(data: DataConfig, model: ModelConfig, folder: Path, seed: int) -> Artifact:
    """Write the untrained network for *data* into the new *folder*, with scales from random samples.

    A user's data set is read for its shape; a built-in one is not, so nothing is downloaded.

    Raises:
        InputError: the network cannot be built, does not fit the data, or takes other codes.
    """
    shape, classes = _shape_of(data, seed)
    inputs = math.prod(shape)
    with seeded(seed):
        network = build(model, inputs, classes, shape)
        if ":" in model.name:
            require_own_network(model, network, inputs, classes)
        require_input_codes(network, model.input_bits)
        with torch.no_grad():
            for _ in range(PASSES):
                network.train()(torch.rand(SAMPLES, inputs))
    folder.mkdir(parents=True)
    save_checkpoint(network.eval(), model, shape, classes, folder)
    return Artifact("train", "checkpoint", folder, "")


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """What the building of a network takes.

    Attributes:
        weights: all parameters.
        products: multiplications of one sample.
        values: outputs of the largest layer for one sample.
    """

    weights: int
    products: int
    values: int


def size_of(data: DataConfig, model: ModelConfig, seed: int) -> NetworkSize | None:
    """Return the size of a built-in network for *data*, without memory for any of it; None for a user's own.

    It is that of the float baseline, which has the same layers.

    Raises:
        InputError: the network does not fit the data.
    """
    if ":" in model.name:
        return None
    shape, classes = _shape_of(data, seed)
    products, values = [0], [0]

    def note(layer: nn.Module, _: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        values.append(made.numel())
        if isinstance(weight := getattr(layer, "weight", None), torch.Tensor) and weight.dim() > 1:
            products.append(made.numel() * weight[0].numel())

    with torch.device("meta"), torch.no_grad():
        network = build_float(model, math.prod(shape), classes, shape).eval()
        for layer in network.modules():
            if not list(layer.children()):
                layer.register_forward_hook(note)
        network(torch.rand(1, math.prod(shape)))
    return NetworkSize(sum(weight.numel() for weight in network.parameters()), sum(products), max(values))


def _shape_of(data: DataConfig, seed: int) -> tuple[tuple[int, ...], int]:
    if data.name in KNOWN:
        return KNOWN[data.name]
    source = read_custom(data.name, data.root, seed)
    return source.shape, len(source.classes)
