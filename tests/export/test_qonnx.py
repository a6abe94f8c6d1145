"""The exported file computes what the network computes, for every kind of built-in network."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from qonnx_runs import run_file
from torch import nn

from bitproof.export.integer import MatMul, Threshold, run
from bitproof.export.lower import lower
from bitproof.export.qonnx import FILE, ExportQonnx
from bitproof.pipeline import Artifact, StageContext
from bitproof.pipeline.config import ModelConfig
from bitproof.train.checkpoint import load_network, save_checkpoint
from bitproof.train.models import build

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")

CNN = ModelConfig(name="cnn", channels=(3, 4), hidden=(6,), weight_bits=(2, 3, 1, 4), act_bits=(3, 2, 4))


def exported(folder: Path, model: ModelConfig, shape: tuple[int, ...]) -> tuple[nn.Module, onnx.ModelProto, Path]:
    """Return a network of random weights, and the file that the stage writes of it."""
    checkpoint = Artifact("train", "checkpoint", folder / "train", "0" * 64)
    for name in ("train", "export", "scratch"):
        (folder / name).mkdir()
    inputs = math.prod(shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(model, inputs, 3, shape)
        for _ in range(40):  # batch norm takes on the statistics of its inputs
            network(torch.rand(32, inputs))
    save_checkpoint(network.eval(), model, shape, 3, checkpoint.path)
    ExportQonnx(load_network).run(checkpoint, StageContext(folder / "export", folder / "scratch", 0))
    path = folder / "export" / FILE
    return load_network(checkpoint)[0], onnx.load(path), path


@pytest.mark.slow
def test_convolutional_network_keeps_its_values_at_any_batch_size(tmp_path: Path) -> None:
    network, model, path = exported(tmp_path, CNN, (2, 6, 5))
    values = torch.randint(0, 256, (7, 60), generator=torch.Generator().manual_seed(1)).float() / 256
    for count in (1, 7):
        expected = network(values[:count]).detach().numpy()
        assert np.array_equal(run_file(model, values[:count].numpy()), expected)
    assert not np.array_equal(run_file(model, values.flip(1).numpy()), network(values).detach().numpy())
    integer, proofs = lower(path)
    assert all(proof.holds for proof in proofs)
    codes = (values.numpy() * 256).astype(np.int64)
    assert np.array_equal(run(integer, codes) * float(integer.output_scale), network(values).detach().numpy())


@pytest.mark.slow
@pytest.mark.parametrize(("act_bits", "input_bits", "weight_bits"), [(1, 8, 2), (1, 1, 1), (4, 2, 1), (2, 3, 2)])
def test_narrow_networks_reach_the_same_integers(
    tmp_path: Path, act_bits: int, input_bits: int, weight_bits: int
) -> None:
    options = {"hidden": (6, 5), "act_bits": act_bits, "input_bits": input_bits, "weight_bits": weight_bits}
    network, model, path = exported(tmp_path, ModelConfig.model_validate({"name": "mlp", **options}), (12,))
    codes = np.random.default_rng(2).integers(0, 1 << input_bits, (50, 12))
    values = (codes / (1 << input_bits)).astype(np.float32)
    expected = network(torch.from_numpy(values)).detach().numpy()
    assert len(np.unique(expected)) > 3
    assert np.array_equal(run_file(model, values), expected)
    integer, proofs = lower(path)
    assert proofs
    assert all(proof.holds for proof in proofs)
    assert integer.input.maximum == (1 << input_bits) - 1
    assert [node.levels for node in integer.nodes_of(Threshold)] == [(1 << act_bits) - 1] * 2
    if weight_bits == 1:
        assert all(set(np.unique(node.weights).tolist()) <= {-1, 1} for node in integer.nodes_of(MatMul))
    assert np.array_equal(run(integer, codes) * float(integer.output_scale), expected)
