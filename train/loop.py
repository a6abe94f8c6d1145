"""The training loop, for the float baseline and the quantized network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from pipeline import StageError
from pipeline.config import TrainConfig
from train.estimators import Memory, Schedule
from train.extra_passes import statistics_collected
from train.frozen import Forward
from train.network_problem import NetworkProblem
from train.split_tensors import DatasetTensors, accuracy_percent, real_outputs

TrainingLoss = Callable[[Forward, Tensor, Tensor], Tensor]
"""Network or its stand-in, real inputs (N, ...), labels (N,) -> the scalar that training lowers."""
Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Real inputs of a training batch, random generator on their device -> inputs of the same shape."""


def cross_entropy(network: Forward, values: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of *network* on one batch."""
    return nn.functional.cross_entropy(real_outputs(network, values), labels)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is trained, on what, and what a training batch goes through.

    Attributes:
        label: the network's name in progress and messages.
        network: it is trained in place.
        dataset: the splits, on the training device.
        perturbed: the modules whose weights the estimator may perturb.
        training_loss: the loss of one batch; the validation split is judged by accuracy alone.
        augment: changes the inputs of a training batch; None: they stay as they are.
    """

    label: str
    network: nn.Module
    dataset: DatasetTensors
    perturbed: Sequence[nn.Module] = ()
    training_loss: TrainingLoss = cross_entropy
    augment: Augment | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """How training went, for ``metrics.json``; the network itself then has the weights of its best epoch."""

    epochs: list[dict[str, float]]
    guided_steps: int


def fit(fabric: Fabric, task: Task, config: TrainConfig, schedule: Schedule, seed: int) -> Trained:
    """Train the task's network and leave it with the weights of the epoch that did best on the validation split.

    The last batch of an epoch is dropped where it is not whole: batch norm would see too few samples in it.

    Raises:
        StageError: the loss is no longer finite; the message names the epoch and the step.
    """
    network, train_split = task.network, task.dataset.train
    wrapped, optimizer = fabric.setup(network, _optimizer(network, config))
    batch_size = min(config.batch_size, len(train_split))
    batches = len(train_split) // batch_size
    total = config.epochs * batches
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=total)
    shuffling = torch.Generator().manual_seed(seed)
    perturbing = torch.Generator(fabric.device).manual_seed(seed + 1)
    augmenting = torch.Generator(fabric.device).manual_seed(seed + 2)
    problems = NetworkProblem(network, task.perturbed, fabric.backward)
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    memory: Memory = {}
    losses: list[Tensor] = []
    guided_steps = 0
    with _progress(task.label) as progress:
        bar = progress.add_task(task.label, total=total, note="")
        for step in range(total):
            epoch, position = divmod(step, batches)
            if position == 0:
                wrapped.train()
                order = torch.randperm(len(train_split), generator=shuffling).to(fabric.device)
                losses = []
            batch = order[position * batch_size :][:batch_size]
            values, labels = train_split.values(batch), train_split.labels[batch]
            if task.augment is not None:
                values = task.augment(values, augmenting)
            problem = problems.of(
                partial(task.training_loss, wrapped, values, labels),
                partial(_loss_with, task.training_loss, values, labels),
            )
            estimator, phase = schedule.at(step, total, ready=statistics_collected(network))
            optimizer.zero_grad()
            losses.append(estimator(problem, perturbing, phase, memory))
            optimizer.step()
            scheduler.step()
            guided_steps += estimator.extra_forward_passes > 0
            progress.advance(bar)
            if position + 1 < batches:
                continue
            mean_loss = _finite_mean(losses, epoch + 1, step - batches + 1, task.label, config)
            accuracy = accuracy_percent(network, task.dataset.validation)
            if accuracy >= max((entry["validation_accuracy"] for entry in history), default=0.0):
                best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            history.append({"epoch": epoch + 1, "train_loss": mean_loss, "validation_accuracy": accuracy})
            progress.update(bar, note=f"epoch {epoch + 1}, loss {mean_loss:.3f}, validation {accuracy:.2f} %")
    network.load_state_dict(best)
    return Trained(history, guided_steps)


def _loss_with(training_loss: TrainingLoss, values: Tensor, labels: Tensor, forward: Forward) -> Tensor:
    return training_loss(forward, values, labels)


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), config.lr, momentum=0.9)
    return torch.optim.Adam(network.parameters(), config.lr)


def _finite_mean(losses: list[Tensor], epoch: int, first_step: int, label: str, config: TrainConfig) -> float:
    """Return the mean loss of an epoch; looked at once an epoch, so that a GPU need not wait at every step.

    Raises:
        StageError: a loss is not finite.
    """
    stacked = torch.stack(losses)
    bad = torch.nonzero(~torch.isfinite(stacked)).flatten().tolist()
    if bad:
        raise StageError(
            f"training of the {label} network diverged: loss {float(stacked[bad[0]])} in epoch {epoch}, "
            f"step {first_step + bad[0] + 1}; lower train.lr (now {config.lr:g})"
        )
    return float(stacked.mean())


def _progress(label: str) -> Progress:
    """Return a progress bar on standard error; it shows nothing where that is not a terminal."""
    console = Console(stderr=True)
    columns = TextColumn(f"training ({label})"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}")
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
