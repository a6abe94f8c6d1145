"""The network of a configuration before any training: what can be said of its deployment without data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from bitproof.pipeline import Artifact
from bitproof.pipeline.config import DataConfig, ModelConfig
from bitproof.train.checkpoint import save_checkpoint
from bitproof.train.data import cifar10, idx, speech_commands, toyadmos
from bitproof.train.data.custom import read_custom
from bitproof.train.devices import seeded
from bitproof.train.layers import require_input_codes
from bitproof.train.models import build, require_own_network

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


def _shape_of(data: DataConfig, seed: int) -> tuple[tuple[int, ...], int]:
    if data.name in KNOWN:
        return KNOWN[data.name]
    source = read_custom(data.name, data.root, seed)
    return source.shape, len(source.classes)
