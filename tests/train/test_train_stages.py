"""The training stages, the checkpoint and the executor, on the digits."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.pipeline import (
    Artifact,
    ConfigError,
    FirstStage,
    InputError,
    Requantizer,
    Stage,
    StageError,
    ToolMissingError,
    load_vectors,
    toolchain,
)
from bitproof.pipeline.config import DataConfig, EstimatorConfig, ModelConfig, TrainConfig
from bitproof.pipeline.stage import execute
from bitproof.pipeline.toolchain import PythonHeader
from bitproof.train.checkpoint import FILE, load_network, save_checkpoint
from bitproof.train.data import PrepareData
from bitproof.train.devices import make_fabric
from bitproof.train.executor import TorchExecutor
from bitproof.train.layers import quantized_layers
from bitproof.train.stages import TrainFloat, TrainQuantized

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = [pytest.mark.filterwarnings("ignore:Named tensors:UserWarning"), pytest.mark.xdist_group("train_stages")]

MODEL = ModelConfig(name="mlp", hidden=(16, 16), weight_bits=2, act_bits=4)
TRAIN = TrainConfig(
    epochs=24, batch_size=64, lr=0.02, device="cpu", estimator=EstimatorConfig(name="guided", start=0.8)
)


def make(stage: Stage | FirstStage, source: Artifact | None, final: Path, seed: int = 0) -> Artifact:
    return execute(stage, source, final, seed=seed, versions={}, name=final.name)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make(PrepareData(DataConfig(name="digits")), None, tmp_path_factory.mktemp("digits") / "data")


@pytest.fixture(scope="module")
def trained(digits: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make(TrainQuantized(MODEL, TRAIN), digits, tmp_path_factory.mktemp("trained") / "train")


def metrics_of(artifact: Artifact) -> dict[str, object]:
    content: dict[str, object] = json.loads((artifact.path / "metrics.json").read_text())
    return content


@pytest.mark.slow
def test_quantized_network_learns_and_reports_it(trained: Artifact) -> None:
    metrics = metrics_of(trained)
    epochs = metrics["epochs"]
    assert isinstance(epochs, list)
    assert [entry["epoch"] for entry in epochs] == list(range(1, 25))
    assert metrics["test_samples"] == 360
    assert isinstance(metrics["test_accuracy"], float)
    assert metrics["test_accuracy"] > 85
    assert metrics["near_boundaries"] == metrics["order_dependent_left"] == 0
    assert isinstance(metrics["test_accuracy_before_nudge"], float)
    assert metrics["test_accuracy_before_nudge"] > 85
    estimator = metrics["estimator"]
    assert isinstance(estimator, dict)
    assert estimator["guided_steps"] > 0
    assert estimator["extra_forward_passes"] == 2 * estimator["guided_steps"]


@pytest.mark.slow
def test_two_trainings_give_the_same_bytes_and_another_seed_does_not(
    trained: Artifact, digits: Artifact, tmp_path: Path
) -> None:
    torch.rand(3)  # the state of torch's own generator must not matter
    before = torch.get_rng_state()
    again = make(TrainQuantized(MODEL, TRAIN), digits, tmp_path / "train")
    assert again.sha256 == trained.sha256
    assert torch.equal(torch.get_rng_state(), before)
    assert make(TrainQuantized(MODEL, TRAIN), digits, tmp_path / "train", seed=1).sha256 != trained.sha256


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_float_baseline_learns(digits: Artifact, tmp_path: Path, optimizer: str) -> None:
    config = TRAIN.model_copy(update={"optimizer": optimizer, "epochs": 12})
    metrics = metrics_of(make(TrainFloat(MODEL, config), digits, tmp_path / "train-float"))
    assert isinstance(metrics["test_accuracy"], float)
    assert metrics["test_accuracy"] > 90


@pytest.mark.slow
def test_best_epoch_is_chosen_by_validation_accuracy(digits: Artifact, tmp_path: Path) -> None:
    config = TRAIN.model_copy(update={"nudge": False})
    metrics = metrics_of(make(TrainQuantized(MODEL, config), digits, tmp_path / "train"))
    epochs = metrics["epochs"]
    assert isinstance(epochs, list)
    assert "validation_accuracy_before_nudge" not in metrics
    assert metrics["validation_accuracy"] == max(entry["validation_accuracy"] for entry in epochs)


@pytest.mark.slow
def test_whole_offsets_are_reported_with_the_accuracy_before_and_after(digits: Artifact, tmp_path: Path) -> None:
    model = MODEL.model_copy(update={"weight_bits": 8, "act_bits": 8})
    config = TRAIN.model_copy(update={"nudge": "whole-offsets", "epochs": 3, "estimator": EstimatorConfig()})
    metrics = metrics_of(make(TrainQuantized(model, config), digits, tmp_path / "whole"))
    assert metrics["without_whole_offset"] == 0
    assert metrics["nudged_channels"] == 32
    before, after = metrics["test_accuracy_before_nudge"], metrics["test_accuracy"]
    assert isinstance(before, float)
    assert isinstance(after, float)
    assert abs(after - before) < 1, "no boundary moves by an output step"
    plain = make(TrainQuantized(model, config.model_copy(update={"nudge": True})), digits, tmp_path / "plain")
    assert "without_whole_offset" not in metrics_of(plain)


def test_bfloat16_training_ends_in_exact_integers(digits: Artifact, tmp_path: Path) -> None:
    config = TRAIN.model_copy(update={"precision": "bf16-mixed", "epochs": 3})
    artifact = make(TrainQuantized(MODEL, config), digits, tmp_path / "train")
    assert TorchExecutor(artifact)(load_vectors(digits, "test").codes).shape == (360, 10)


def test_divergence_names_epoch_batch_and_step(digits: Artifact, tmp_path: Path) -> None:
    config = TRAIN.model_copy(update={"optimizer": "sgd", "lr": 1e30})
    expected = (
        r"^training of the float network diverged: loss nan in epoch 1, batch (\d+) \(step \1\); "
        r"lower train\.lr \(now 1e\+30\); no state was saved before it$"
    )
    with pytest.raises(StageError, match=expected):
        make(TrainFloat(MODEL, config), digits, tmp_path / "train-float")


def test_stage_that_could_not_compile_is_refused_before_it_trains(
    digits: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "PYTHON_H", PythonHeader("no-such-header.h", "3.11", "apt-get install headers"))
    config = TRAIN.model_copy(update={"compile": True})
    with pytest.raises(ToolMissingError, match=r"^train\.compile = true needs 'no-such-header\.h'"):
        make(TrainQuantized(MODEL, config), digits, tmp_path / "train")
    assert not list((tmp_path / "scratch" / "train").iterdir())


OWN = """
from torch import nn
from bitproof.train.models import build
from bitproof.pipeline.config import ModelConfig

class Net(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, values):
        self.calls += self.training
        if self.calls > 9:
            raise KeyError("tenth call")
        return self.inner(values)

def network(model, inputs, classes):
    return Net(build(ModelConfig(name="mlp", hidden=(8,)), inputs, classes))
"""


def test_error_of_a_users_network_while_it_trains_is_told_by_its_line(digits: Artifact, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    with pytest.raises(InputError) as caught:
        make(TrainQuantized(ModelConfig(name=f"{file}:network"), TRAIN), digits, tmp_path / "train")
    assert str(caught.value) == f"model.name = '{file}:network' raised KeyError: 'tenth call' ({file}, line 14)"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no CUDA device here; use 'auto' or 'cpu'"):
        make_fabric(TRAIN.model_copy(update={"device": "cuda"}))


@pytest.mark.slow
def test_executor_gives_the_integers_of_an_independent_evaluation(trained: Artifact, digits: Artifact) -> None:
    vectors = load_vectors(digits, "test")
    executor = TorchExecutor(trained)
    outputs = executor(vectors.codes)
    assert outputs.dtype == np.int64
    codes = vectors.codes
    layers = quantized_layers(load_network(trained)[0])
    for number, layer in enumerate(layers):
        weights = layer.weight_codes.numpy().astype(np.int64)
        accumulators = codes @ weights.T
        if layer.norm is None:
            break
        low, high = int(accumulators.min()), int(accumulators.max())
        table = executor.requantize(f"act{number}", low, high)
        codes = np.take_along_axis(table, accumulators - low, axis=0)
    assert np.array_equal(outputs, accumulators)
    metrics = metrics_of(trained)
    assert vectors.labels is not None
    correct = int((outputs.argmax(axis=1) == vectors.labels).sum())
    assert metrics["test_accuracy"] == 100.0 * correct / len(vectors.labels)
    # negative control: the top bit of one image's codes changes its outputs, and no others
    changed = vectors.codes.copy()
    changed[0] ^= 0x80
    assert np.flatnonzero((executor(changed) != outputs).any(axis=1)).tolist() == [0]


def test_executor_offers_its_activations_one_by_one(trained: Artifact) -> None:
    executor = TorchExecutor(trained)
    assert isinstance(executor, Requantizer)
    assert executor.weight_sign == "trained"
    table = executor.requantize("act0", -(1 << 15), 1 << 15)  # more than one chunk
    assert table.shape == ((1 << 16) + 1, 16)
    assert table.min() >= 0
    assert table.max() <= 15
    assert np.array_equal(table[100:200], executor.requantize("act0", -(1 << 15) + 100, -(1 << 15) + 199))


def test_executor_refuses_inputs_of_another_width(trained: Artifact) -> None:
    with pytest.raises(InputError, match=r"^torch: input codes have shape \(2, 63\); expected \(N, 64\)$"):
        TorchExecutor(trained)(np.zeros((2, 63), dtype=np.int64))


def rewrite(source: Artifact, folder: Path, **changes: object) -> Artifact:
    """Copy a checkpoint with some entries replaced."""
    shutil.copytree(source.path, folder)
    content = torch.load(folder / FILE, weights_only=True)
    torch.save({**content, **changes}, folder / FILE)
    return dataclasses.replace(source, path=folder)


def test_checkpoint_comes_back_equal(trained: Artifact, tmp_path: Path) -> None:
    network, inputs = load_network(trained)
    assert inputs == 64
    assert not network.training
    save_checkpoint(network, MODEL, (1, 8, 8), 10, tmp_path)
    assert (tmp_path / FILE).read_bytes() == (trained.path / FILE).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, r"has format 2; this version reads format 1"),
        ({"model": {**MODEL.model_dump(mode="json"), "hidden": [16, 8]}}, r"does not fit the model that it names"),
        ({"model": {"name": "mlp", "colour": 1}}, r"is not a checkpoint"),
        ({"inputs": "many"}, r"is not a checkpoint"),
        ({"classes": 9}, r"does not fit the model that it names"),
        ({"state": {}}, r"does not fit the model that it names"),
        ({"state": {"1.weight": torch.full((16, 64), torch.nan)}}, r"1\.weight is not a tensor of finite numbers"),
    ],
)
def test_wrong_checkpoint_is_refused(
    trained: Artifact, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_network(rewrite(trained, tmp_path / "changed", **changes))


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x02cos\nsystem\n(S'true'\ntR."])
def test_file_that_is_no_checkpoint_is_refused_and_no_pickle_runs(
    trained: Artifact, tmp_path: Path, content: bytes
) -> None:
    broken = rewrite(trained, tmp_path / "changed")
    (broken.path / FILE).write_bytes(content)
    with pytest.raises(InputError, match="is not a checkpoint"):
        load_network(broken)
