"""The codes that the torch executor shows are those of its own weights and activations, layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.pipeline import Artifact, Codes, LayerTracer
from bitproof.pipeline.config import ModelConfig
from bitproof.train.checkpoint import save_checkpoint
from bitproof.train.executor import TorchExecutor
from bitproof.train.layers import quantized_layers
from bitproof.train.models import build

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")

MODEL = ModelConfig(name="mlp", hidden=(9, 7), weight_bits=3, act_bits=4)


def checkpoint(folder: Path) -> Artifact:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(MODEL, 12, 4)
        for _ in range(3):
            network(torch.rand(64, 12))
    save_checkpoint(network.eval(), MODEL, (12,), 4, folder)
    return Artifact("train", "checkpoint", folder, "")


def test_trace_gives_the_integers_of_an_independent_evaluation(tmp_path: Path) -> None:
    executor = TorchExecutor(checkpoint(tmp_path))
    assert isinstance(executor, LayerTracer)
    inputs: Codes = np.random.default_rng(0).integers(0, 256, size=(2500, 12))  # more than one group
    shown = executor.trace(inputs)
    assert list(shown) == ["act0", "act1"]
    codes = inputs
    for number, layer in enumerate(quantized_layers(executor._network)[:-1]):
        accumulators = codes @ layer.weight_codes.numpy().astype(np.int64).T
        low, high = int(accumulators.min()), int(accumulators.max())
        codes = np.take_along_axis(executor.requantize(f"act{number}", low, high), accumulators - low, axis=0)
        np.testing.assert_array_equal(shown[f"act{number}"], codes, strict=True)
        assert len(np.unique(codes)) > 2, "the activation is alive"
    assert executor.trace(inputs)["act1"].shape == (2500, 7), "no hook is left behind"
