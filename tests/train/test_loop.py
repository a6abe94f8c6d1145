"""The training loop: what it sees, when it stops, what it writes down."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard_events import scalars_of
from torch import Tensor, nn
from training_tasks import moved, quantized_task

import bitproof.train.loop
from bitproof.pipeline import InputError, StageError
from bitproof.pipeline.config import EstimatorConfig, TrainConfig
from bitproof.train.devices import make_fabric
from bitproof.train.estimators import Adaptive, Guided, Ramp, Ranks, Schedule, Spsa, StraightThrough, Weighted
from bitproof.train.frozen import Forward
from bitproof.train.logs import readings
from bitproof.train.loop import Task, Trained, cross_entropy, fit
from bitproof.train.seeded import seeded
from bitproof.train.training_state import TrainingState

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")

CONFIG = TrainConfig(epochs=4, batch_size=16, lr=0.02, device="cpu")  # 6 steps an epoch
PLAIN = Schedule(StraightThrough(), 1.0)
GUIDED = Schedule(Guided(1, Ramp(1.0, 0.9)), 0.5)


def train_it(task: Task, config: TrainConfig = CONFIG, schedule: Schedule = PLAIN, logs: Path | None = None) -> Trained:
    with seeded(1):
        return fit(make_fabric(config), task, config, schedule, 0, logs=logs)


def test_every_epoch_sees_every_sample_once_in_another_order() -> None:
    seen: list[Tensor] = []

    def watch(values: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(values)
        return values

    task = replace(quantized_task(), augment=watch)
    train_it(task, CONFIG.model_copy(update={"epochs": 2}))
    assert [len(values) for values in seen] == [16] * 12
    first, second = torch.cat(seen[:6]), torch.cat(seen[6:])
    everything = task.dataset.train.values(slice(None))
    assert not torch.equal(first, second)
    for epoch in (first, second):
        assert sorted(map(tuple, epoch.tolist())) == sorted(map(tuple, everything.tolist()))


def test_augmentation_changes_training_inputs_and_only_them() -> None:
    shapes: set[bool] = set()

    def blank(values: Tensor, generator: torch.Generator) -> Tensor:
        return torch.zeros_like(values)

    def loss(network: Forward, values: Tensor, labels: Tensor) -> Tensor:
        shapes.add(bool((values == 0).all()))
        return cross_entropy(network, values, labels)

    task = replace(quantized_task(), augment=blank, training_loss=loss)
    train_it(task)
    assert shapes == {True}
    assert bool(task.dataset.train.values(slice(None)).any())


def test_history_names_the_estimator_and_its_schedule_of_every_epoch() -> None:
    epochs = train_it(quantized_task(), schedule=GUIDED).epochs
    assert [entry["estimator"] for entry in epochs] == ["StraightThrough", "StraightThrough", "Guided", "Guided"]
    assert "beta" not in epochs[0]
    assert epochs[3]["beta"] == Ramp(1.0, 0.9).at(11 / 12)
    assert [entry["epoch"] for entry in epochs] == [1, 2, 3, 4]
    assert all(isinstance(entry["lr"], float) and 0 < entry["lr"] <= CONFIG.lr for entry in epochs)


def test_readings_are_what_an_estimator_schedules_or_measures() -> None:
    zeroth = Spsa(1, Ramp(0.4, 0.2), "uniform")
    assert readings(zeroth, 0.5, {}) == {"estimator": "Spsa", "delta": pytest.approx(0.3)}
    assert readings(Weighted(zeroth, Ramp(1.0, 0.0)), 0.25, {}) == {
        "estimator": "Weighted",
        "delta": pytest.approx(0.35),
        "alpha": 0.75,
    }
    memory = {"alpha": torch.tensor(0.25), "steps": torch.tensor(3.0), "mean.0": torch.zeros(2)}
    assert readings(Adaptive(zeroth, 0.9), 0.0, memory) == {"estimator": "Adaptive", "delta": 0.4, "alpha": 0.25}


class Wrong(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Right for every sample in the epochs of *good*, from 1, and wrong in all others; it learns nothing."""

    def __init__(self, task: Task, good: set[int]) -> None:
        super().__init__()
        self._labels = {tuple(row): int(label) for row, label in self._pairs(task)}
        self._good = good
        self.steps = 0
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("epoch", torch.zeros(()))

    @staticmethod
    def _pairs(task: Task) -> list[tuple[list[float], Tensor]]:
        split = task.dataset.validation
        return list(zip(split.values(slice(None)).tolist(), split.labels, strict=True))

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            self.epoch.fill_((self.steps - 1) // 6 + 1)
            return self.weight * torch.ones(len(values), 4)
        labels = torch.tensor([self._labels[tuple(row)] for row in values.tolist()])
        right = nn.functional.one_hot(labels, 4).float()
        return right if int(self.epoch) in self._good else 1 - right


@pytest.mark.parametrize(
    ("good", "patience", "epochs", "best"),
    [({1}, 2, 3, 1), ({1, 2}, 2, 3, 2), ({3}, 2, 5, 3), ({1}, None, 8, 1), (set(), 3, 4, 4), ({2, 5}, 3, 5, 5)],
)
def test_training_stops_when_patience_ends_and_keeps_its_best_epoch(
    good: set[int], patience: int | None, epochs: int, best: int
) -> None:
    """Patience counts from the first of equally good epochs; of those the last one's weights are kept."""
    plain = quantized_task()
    network = Wrong(plain, good)
    trained = train_it(
        replace(plain, network=network, perturbed=[]),
        CONFIG.model_copy(update={"epochs": 8, "patience": patience}),
    )
    assert [entry["validation_accuracy"] for entry in trained.epochs] == [
        100.0 if epoch in good else 0.0 for epoch in range(1, epochs + 1)
    ]
    assert int(network.epoch) == best


def test_logs_hold_every_epoch(tmp_path: Path) -> None:
    trained = train_it(quantized_task(), schedule=GUIDED, logs=tmp_path)
    with (tmp_path / "epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    for row, entry in zip(rows, trained.epochs, strict=True):
        assert float(row["train_loss"]) == entry["train_loss"]
        assert float(row["validation_accuracy"]) == entry["validation_accuracy"]
        assert row["estimator"] == entry["estimator"]
        assert float(row["steps_per_s"]) > 0
    assert [row["beta"] == "" for row in rows] == [True, True, False, False]
    (events,) = (tmp_path / "tensorboard").iterdir()
    found = scalars_of(events)
    assert [step for step, _ in found["train_loss"]] == [1, 2, 3, 4]
    losses = torch.tensor([entry["train_loss"] for entry in trained.epochs])
    assert torch.equal(torch.tensor([value for _, value in found["train_loss"]]), losses)
    assert [step for step, _ in found["beta"]] == [3, 4]


def test_logging_changes_nothing(tmp_path: Path) -> None:
    tasks = [quantized_task(), quantized_task()]
    histories = [train_it(tasks[0]).epochs, train_it(tasks[1], logs=tmp_path).epochs]
    assert histories[0] == histories[1]
    states = [task.network.state_dict() for task in tasks]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def broken_at(step: int, value: float) -> Callable[[Forward, Tensor, Tensor], Tensor]:
    steps = 0

    def loss(network: Forward, values: Tensor, labels: Tensor) -> Tensor:
        nonlocal steps
        steps += torch.is_grad_enabled()
        return cross_entropy(network, values, labels) * (value if steps == step else 1.0)

    return loss


@pytest.mark.parametrize("looks", [1, 4, 16])
@pytest.mark.parametrize(
    ("step", "where"), [(1, "epoch 1, batch 1"), (7, "epoch 2, batch 1"), (12, "epoch 2, batch 6")]
)
def test_first_bad_loss_is_named_however_seldom_it_is_looked_at(
    looks: int, step: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitproof.train.loop, "_steps_between_looks", lambda fabric: looks)
    task = replace(quantized_task(), training_loss=broken_at(step, torch.nan))
    with pytest.raises(StageError) as caught:
        train_it(task)
    assert str(caught.value) == (
        f"training of the quantized network diverged: loss nan in {where} (step {step}); lower train.lr (now 0.02); "
        "no state was saved before it"
    )


def test_first_order_pass_is_autocast_and_extra_passes_are_not() -> None:
    seen: set[tuple[bool, bool]] = set()
    task = quantized_task()
    task.network[1].register_forward_pre_hook(
        lambda module, inputs: seen.add((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
    )
    train_it(task, CONFIG.model_copy(update={"precision": "bf16-mixed"}), GUIDED)
    assert seen == {(True, True), (False, False)}


def test_processes_divide_the_joint_batch() -> None:
    task = replace(quantized_task(), augment=lambda values, generator: values + torch.rand((), generator=generator))
    optimizer = torch.optim.SGD(task.network.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    parts, labels = [], []
    for ranks in (Ranks(), *(Ranks(rank, 3) for rank in range(3))):
        state = TrainingState(task.network, optimizer, scheduler, {"augmenting": torch.Generator().manual_seed(0)})
        state.order = torch.arange(96).flip(0)
        values, chosen = bitproof.train.loop._batch(task, state, 2, 12, ranks)
        parts.append(values)
        labels.append(chosen)
    assert torch.equal(torch.cat(parts[1:]), parts[0])
    assert torch.equal(torch.cat(labels[1:]), labels[0])
    assert [len(part) for part in parts] == [12, 4, 4, 4]


def test_fewer_samples_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitproof.train.loop, "ranks_of", lambda fabric, shard: Ranks(0, 97))
    with pytest.raises(InputError, match=r"^the training split has 96 samples; train\.devices = 97 needs at least 194"):
        train_it(quantized_task())


@pytest.mark.parametrize(("batch_size", "devices"), [(100, 3), (4, 4), (2, 3)])
def test_batch_that_cannot_be_divided_is_refused(batch_size: int, devices: int) -> None:
    expected = rf"batch_size = {batch_size} cannot be divided over devices = {devices}; it must be a multiple"
    with pytest.raises(ValueError, match=expected):
        TrainConfig(batch_size=batch_size, devices=devices)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", [32, "bf16-mixed"])
def test_cuda_training_learns(precision: int | str) -> None:
    config = TrainConfig.model_validate(
        {
            "epochs": 30,
            "batch_size": 16,
            "device": "cuda",
            "precision": precision,
            "estimator": EstimatorConfig(name="guided"),
        }
    )
    fabric = make_fabric(config)
    trained = fit(fabric, moved(quantized_task(dropout=0.0), fabric.device), config, GUIDED, 0)
    assert max(float(entry["validation_accuracy"]) for entry in trained.epochs) > 60  # by chance: 25


def test_estimator_that_hardly_runs_is_said(caplog: pytest.LogCaptureFixture) -> None:
    train_it(quantized_task(), schedule=Schedule(Guided(), 0.5))
    assert caplog.text == ""  # the statistics take 5 of 24 steps, the estimator starts at 12
    trained = train_it(quantized_task(), schedule=Schedule(Guided(), 0.0))
    assert trained.guided_steps < 24
    assert f"Guided was used in {trained.guided_steps} steps, its start promises 24 of 24" in caplog.text
