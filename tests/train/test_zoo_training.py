"""The networks whose shape is given learn through the training stages, the autoencoder from its own inputs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.pipeline import Artifact
from bitproof.pipeline.config import DataConfig, EstimatorConfig, ModelConfig, TrainConfig, TrainFaults
from bitproof.pipeline.stage import execute
from bitproof.train.checkpoint import load_network
from bitproof.train.data import PrepareData
from bitproof.train.device_split import SplitTensors, accuracy_percent
from bitproof.train.executor import TorchExecutor
from bitproof.train.loop import cross_entropy
from bitproof.train.robust import RobustLoss, training_loss
from bitproof.train.stages import TrainFloat, TrainQuantized
from bitproof.train.task_kind import explained_percent, purpose_of, squared_error

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = [pytest.mark.filterwarnings("ignore:Named tensors:UserWarning"), pytest.mark.xdist_group("zoo_training")]

AUTOENCODER = ModelConfig(name="autoencoder", weight_bits=4, act_bits=4)
TRAIN = TrainConfig(epochs=12, batch_size=64, lr=0.01, device="cpu")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("digits")
    return execute(PrepareData(DataConfig(name="digits")), None, folder / "data", seed=0, versions={}, name="data")


def train(source: Artifact, folder: Path, model: ModelConfig, config: TrainConfig = TRAIN) -> Artifact:
    return execute(TrainQuantized(model, config), source, folder / "train", seed=0, versions={}, name="train")


def metrics_of(artifact: Artifact) -> dict[str, object]:
    content: dict[str, object] = json.loads((artifact.path / "metrics.json").read_text())
    return content


def number(metrics: dict[str, object], key: str) -> float:
    value = metrics[key]
    assert isinstance(value, int | float), key
    return float(value)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width"), [("resnet8", 0.5), ("ds-cnn", 0.25)])
def test_networks_of_convolutions_learn_the_digits(digits: Artifact, tmp_path: Path, name: str, width: float) -> None:
    model = ModelConfig.model_validate({"name": name, "width": width, "weight_bits": 4, "act_bits": 4})
    metrics = metrics_of(train(digits, tmp_path, model))
    assert number(metrics, "test_accuracy") > 85
    assert metrics["near_boundaries"] == metrics["order_dependent_left"] == 0


@pytest.mark.slow
def test_estimator_measures_a_network_with_shortcuts(digits: Artifact, tmp_path: Path) -> None:
    model = ModelConfig(name="resnet8", width=0.125, weight_bits=4, act_bits=4)
    estimator = EstimatorConfig(name="guided", start=0.5)
    # statistics are collected for 300 steps, in the shared quantizers for half as many
    config = TRAIN.model_copy(update={"epochs": 16, "estimator": estimator})
    metrics = metrics_of(train(digits, tmp_path, model, config))
    described = metrics["estimator"]
    assert isinstance(described, dict)
    assert described["guided_steps"] > 0
    losses = [epoch["train_loss"] for epoch in metrics["epochs"]]  # type: ignore[attr-defined]  # JSON
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0] / 1.5


@pytest.fixture(scope="module")
def autoencoder(digits: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return train(digits, tmp_path_factory.mktemp("autoencoder"), AUTOENCODER)


@pytest.mark.slow
def test_autoencoder_learns_to_give_its_inputs_back(digits: Artifact, autoencoder: Artifact) -> None:
    metrics = metrics_of(autoencoder)
    assert number(metrics, "test_accuracy") > 25
    assert str(metrics["accuracy_means"]).startswith("percent of the variance of the inputs")
    assert "nudged_channels" in metrics
    codes = np.load(digits.path / "test_codes.npy")
    network, inputs = load_network(autoencoder)
    values = torch.from_numpy(codes).float() / 256
    outputs = network(values).detach()
    assert outputs.shape == (len(codes), inputs)
    variance = float((values - values.mean(0)).square().sum())
    explained = 100 * (1 - float((outputs - values).square().sum()) / variance)
    assert abs(explained - number(metrics, "test_accuracy")) < 1e-3
    executor = TorchExecutor(autoencoder)
    assert np.array_equal(executor(codes.astype(np.int64)) * executor.output_scale, outputs.numpy())


@pytest.mark.slow
def test_float_twin_of_the_autoencoder_does_better(digits: Artifact, autoencoder: Artifact, tmp_path: Path) -> None:
    stage = TrainFloat(AUTOENCODER, TRAIN)
    metrics = metrics_of(execute(stage, digits, tmp_path / "float", seed=0, versions={}, name="train-float"))
    assert number(metrics, "test_accuracy") > number(metrics_of(autoencoder), "test_accuracy")
    assert "accuracy_means" in metrics


def split(values: int, samples: int, seed: int) -> SplitTensors:
    codes = torch.randint(0, values, (samples, 6), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return SplitTensors(codes, torch.zeros(samples, dtype=torch.int64), 1 / 256)


class Shifted(nn.Module):  # type: ignore[misc]  # torch is not followed
    """The inputs plus a constant."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.shift


def test_explained_share_is_one_minus_error_over_variance() -> None:
    samples = split(256, 5000, 0)
    codes = samples.codes.numpy().astype(np.float64) / 256
    variance = float(((codes - codes.mean(axis=0)) ** 2).sum())
    for shift in (0.0, 0.125, 0.25):  # exact in binary32
        expected = 100 * max(0.0, 1 - codes.size * shift**2 / variance)
        assert abs(explained_percent(Shifted(shift), samples) - expected) < 1e-9
    assert explained_percent(Shifted(4.0), samples) == 0
    assert explained_percent(Shifted(0.0), split(1, 9, 0)) == 100
    assert explained_percent(Shifted(0.5), split(1, 9, 0)) == 0


def test_explained_share_is_measured_in_evaluation_mode() -> None:
    network = nn.Dropout(0.5).train()
    assert explained_percent(network, split(256, 100, 1)) == 100
    assert network.training


def test_purpose_follows_from_the_network() -> None:
    classifier, reconstruction = purpose_of(ModelConfig(name="mlp")), purpose_of(AUTOENCODER)
    assert (classifier.loss, classifier.score, classifier.metrics) == (cross_entropy, accuracy_percent, {})
    assert (reconstruction.loss, reconstruction.score) == (squared_error, explained_percent)


def test_faults_are_added_to_the_loss_of_the_purpose() -> None:
    network = nn.Sequential(nn.Linear(6, 6))
    assert training_loss(network, TrainConfig(), squared_error) is squared_error
    robust = training_loss(network, TrainConfig(faults=TrainFaults(stuck=0.1)), squared_error)
    assert isinstance(robust, RobustLoss)
    assert robust.plain is squared_error
    values = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(4, dtype=torch.int64)
    loss = squared_error(Shifted(0.5), values, labels)
    assert abs(float(loss) - 0.25) < 1e-6
