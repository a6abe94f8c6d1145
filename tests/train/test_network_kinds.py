"""Every kind of built-in network through the training stage: what it reports, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.pipeline import Artifact, InputError, load_vectors
from bitproof.pipeline.config import DataConfig, EstimatorConfig, ModelConfig, TrainConfig
from bitproof.pipeline.stage import execute
from bitproof.train.checkpoint import FILE, load_network
from bitproof.train.data import PrepareData
from bitproof.train.executor import TorchExecutor
from bitproof.train.layers import quantized_layers
from bitproof.train.stages import TrainFloat, TrainQuantized

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = [pytest.mark.filterwarnings("ignore:Named tensors:UserWarning"), pytest.mark.xdist_group("network_kinds")]

CNN = ModelConfig(name="cnn", channels=(4, 6), hidden=(12,), weight_bits=(4, 2, 2, 4), dropout=0.1)
TRAIN = TrainConfig(
    epochs=20, batch_size=64, lr=0.02, device="cpu", estimator=EstimatorConfig(name="guided", start=0.9)
)


def data(folder: Path, config: DataConfig, input_bits: int = 8) -> Artifact:
    return execute(PrepareData(config, input_bits), None, folder / "data", seed=0, versions={}, name="data")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return data(tmp_path_factory.mktemp("digits"), DataConfig(name="digits"))


def train(source: Artifact, folder: Path, model: ModelConfig, config: TrainConfig = TRAIN) -> Artifact:
    return execute(TrainQuantized(model, config), source, folder / "train", seed=0, versions={}, name="train")


def metrics_of(artifact: Artifact) -> dict[str, object]:
    content: dict[str, object] = json.loads((artifact.path / "metrics.json").read_text())
    return content


@pytest.fixture(scope="module")
def convolutional(digits: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return train(digits, tmp_path_factory.mktemp("cnn"), CNN)


@pytest.mark.slow
def test_convolutional_network_learns_and_is_nudged(convolutional: Artifact) -> None:
    metrics = metrics_of(convolutional)
    assert isinstance(metrics["test_accuracy"], float)
    assert metrics["test_accuracy"] > 93
    assert metrics["near_boundaries"] == metrics["order_dependent_left"] == 0
    assert "nudge_not_applied" not in metrics
    network, inputs = load_network(convolutional)
    assert inputs == 64
    assert network(torch.zeros(2, 64)).shape == (2, 10)
    executor = TorchExecutor(convolutional)
    assert [executor.requantizes(f"act{layer}") for layer in range(4)] == [True, True, True, False]
    assert [executor.requantize(f"act{layer}", -2, 2).shape for layer in range(3)] == [(5, 4), (5, 6), (5, 12)]


def test_float_twin_of_the_convolutional_network_learns(digits: Artifact, tmp_path: Path) -> None:
    config = TRAIN.model_copy(update={"epochs": 6})
    stage = TrainFloat(CNN, config)
    artifact = execute(stage, digits, tmp_path / "train-float", seed=0, versions={}, name="train-float")
    accuracy = metrics_of(artifact)["test_accuracy"]
    assert isinstance(accuracy, float)
    assert accuracy > 93


def rewrite(source: Artifact, folder: Path, **changes: object) -> Artifact:
    """Return a copy of a checkpoint with entries replaced; None takes one away."""
    folder.mkdir()
    content = {**torch.load(source.path / FILE, weights_only=True), **changes}
    torch.save({key: value for key, value in content.items() if value is not None}, folder / FILE)
    return dataclasses.replace(source, path=folder)


def test_checkpoint_knows_the_shape_and_an_older_one_is_flat(
    digits: Artifact, convolutional: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^model\.name = 'cnn' needs images.*has shape \(64,\)"):
        load_network(rewrite(convolutional, tmp_path / "old-cnn", shape=None))
    with pytest.raises(InputError, match=r"a sample of shape \(1, 8, 9\) has not 64 inputs; train again$"):
        load_network(rewrite(convolutional, tmp_path / "other", shape=[1, 8, 9]))
    short = TRAIN.model_copy(update={"epochs": 1})
    perceptron = train(digits, tmp_path, ModelConfig(name="mlp", hidden=(4,)), short)
    network, _ = load_network(rewrite(perceptron, tmp_path / "old", shape=None))
    expected, _ = load_network(perceptron)
    values = torch.rand(5, 64)
    assert torch.equal(network(values), expected(values))


@pytest.mark.slow
def test_free_scales_train_are_nudged_and_decoded(digits: Artifact, tmp_path: Path) -> None:
    model = ModelConfig(name="mlp", hidden=(16, 16), scale="free", granularity="channel", act_bits=3)
    artifact = train(digits, tmp_path, model)
    metrics = metrics_of(artifact)
    assert isinstance(metrics["test_accuracy"], float)
    assert metrics["test_accuracy"] > 85
    assert metrics["order_dependent_left"] == 0
    assert isinstance(metrics["nudged_channels"], int)
    assert metrics["nudged_channels"] > 0
    executor, vectors = TorchExecutor(artifact), load_vectors(digits, "test")
    assert math.frexp(executor.output_scale)[0] != 0.5
    assert vectors.labels is not None
    outputs = executor(vectors.codes)
    largest = outputs == outputs.max(axis=1, keepdims=True)
    right, alone = largest[np.arange(len(outputs)), vectors.labels], largest.sum(axis=1) == 1
    # Of classes with one code, free scales in float32 choose either.
    correct = round(metrics["test_accuracy"] * len(outputs) / 100)
    assert int((right & alone).sum()) <= correct <= int(right.sum())
    assert int((~alone).sum()) < len(outputs) // 20


@pytest.mark.slow
@pytest.mark.parametrize("surrogate", ["hardtanh", "approx-sign"])
def test_narrow_channel_scaled_network_ends_in_exact_integers(tmp_path: Path, surrogate: str) -> None:
    options = {"weight_bits": [1, 2, 3], "act_bits": [1, 2], "input_bits": 2, "granularity": "channel"}
    model = ModelConfig.model_validate({"name": "mlp", "hidden": [16, 16], "surrogate": surrogate, **options})
    source = data(tmp_path, DataConfig(name="digits"), 2)
    artifact = train(source, tmp_path, model, TRAIN.model_copy(update={"epochs": 8}))
    assert metrics_of(artifact)["near_boundaries"] == 0
    codes = load_vectors(source, "test").codes
    outputs = TorchExecutor(artifact)(codes)
    executor = TorchExecutor(artifact)
    for number, layer in enumerate(quantized_layers(load_network(artifact)[0])):
        accumulators = codes @ layer.weight_codes.numpy().astype("int64").T
        if layer.norm is None:
            break
        assert all(math.frexp(scale)[0] == 0.5 for scale in layer.accumulator_scales)
        low, high = int(accumulators.min()), int(accumulators.max())
        table = executor.requantize(f"act{number}", low, high)
        codes = table[accumulators - low, range(16)]
    assert (outputs == accumulators).all()


@pytest.mark.slow
def test_augmentation_reaches_the_training_and_nothing_else(tmp_path: Path) -> None:
    config = TrainConfig(epochs=1, batch_size=256, device="cpu", estimator=EstimatorConfig(name="ste"))
    model = ModelConfig(name="mlp", hidden=(4,))
    plain = data(tmp_path / "plain", DataConfig(name="mnist"))
    moved = data(tmp_path / "moved", DataConfig(name="mnist", augment=True))
    for split in ("train", "validation", "test"):
        assert (plain.path / f"{split}_codes.npy").read_bytes() == (moved.path / f"{split}_codes.npy").read_bytes()
    trained = [train(source, source.path.parent, model, config) for source in (plain, moved, moved)]
    assert trained[0].sha256 != trained[1].sha256 == trained[2].sha256
