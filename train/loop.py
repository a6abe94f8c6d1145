"""The training loop, for the float baseline and the quantized network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pipeline import InputError, StageError
from pipeline.config import TrainConfig
from train.devices import ranks_of
from train.estimators import Ranks, Schedule
from train.extra_passes import statistics_collected
from train.frozen import Forward
from train.logs import readings, watched
from train.network_problem import NetworkProblem
from train.resume import Keeper, ResumeFile
from train.split_tensors import DatasetTensors, accuracy_percent, real_outputs
from train.training_state import Entry, TrainingState

STEPS_BETWEEN_LOOKS = 16
"""Where a look at the loss waits for a GPU or for other processes."""

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

    epochs: list[Entry]
    guided_steps: int


def fit(
    fabric: Fabric,
    task: Task,
    config: TrainConfig,
    schedule: Schedule,
    seed: int,
    *,
    resume: ResumeFile | None = None,
    logs: Path | None = None,
) -> Trained:
    """Train the task's network and leave it with the weights of the epoch that did best on the validation split.

    The last batch of an epoch is dropped where it is not whole: batch norm would see too few samples in it. With
    *resume* the state is saved after every epoch and every half minute; where that file holds the state of a training
    that did not end, this one goes on from there. *logs* is an existing folder.

    Raises:
        StageError: the loss is no longer finite; the message names epoch, batch and step.
        InputError: the saved state is not of this network, or there are too few samples for the devices.
    """
    network, samples = task.network, task.dataset.train
    ranks = ranks_of(fabric, shard=config.estimator.shard_directions)
    if len(samples) < 2 * ranks.world:
        raise InputError(
            f"the training split has {len(samples)} samples; train.devices = {ranks.world} needs at least "
            f"{2 * ranks.world}"
        )
    batch_size = min(config.batch_size, len(samples)) // ranks.world * ranks.world
    batches = len(samples) // batch_size
    total = config.epochs * batches
    wrapped, optimizer = fabric.setup(network, _optimizer(network, config))
    state = _first_state(fabric, network, optimizer, config.lr, total, seed)
    keeper = Keeper(fabric, state, resume, task.label)
    keeper.restore()
    problems = NetworkProblem(network, task.perturbed, fabric.backward, ranks, compiled=config.compile)
    wrapped.train()
    looks = _steps_between_looks(fabric)
    with watched(task.label, state, total, logs if fabric.is_global_zero else None) as watch:
        for step in range(state.step, total):
            epoch, position = divmod(step, batches)
            if position == 0:
                if config.patience is not None and state.epochs_without_gain >= config.patience:
                    break
                state.begin_epoch(len(samples), fabric.device)
            values, labels = _batch(task, state, position, batch_size, ranks)
            estimator, phase = schedule.at(step, total, ready=statistics_collected(network))
            optimizer.zero_grad()
            problem = problems.of(
                partial(task.training_loss, wrapped, values, labels),
                partial(_loss_with, task.training_loss, values, labels),
            )
            state.losses.append(estimator(problem, state.generators["perturbing"], phase, state.memory))
            ends_epoch = position + 1 == batches
            looking = ends_epoch or (step + 1) % looks == 0
            if looking:
                _require_finite(state.losses[-looks:], ranks, epoch, position, step, task.label, config.lr, keeper)
            optimizer.step()
            if ends_epoch:
                _judge_epoch(fabric, task, state, ranks, readings(estimator, phase, state.memory))
            state.scheduler.step()
            state.step += 1
            state.guided_steps += estimator.extra_forward_passes > 0
            if ends_epoch:
                keeper.save()
            elif looking:
                keeper.save_if_due()
            watch(ends_epoch)
    network.load_state_dict(state.best)
    return Trained(state.history, state.guided_steps)


def _loss_with(training_loss: TrainingLoss, values: Tensor, labels: Tensor, forward: Forward) -> Tensor:
    return training_loss(forward, values, labels)


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), config.lr, momentum=0.9)
    return torch.optim.Adam(network.parameters(), config.lr)


def _first_state(
    fabric: Fabric, network: nn.Module, optimizer: torch.optim.Optimizer, lr: float, total: int, seed: int
) -> TrainingState:
    """Return the state before the first of *total* steps."""
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=total)
    if fabric.world_size > 1:  # each process drops out other units: it has other samples
        torch.manual_seed(seed + 3 + fabric.global_rank)
    generators = {
        "shuffling": torch.Generator().manual_seed(seed),
        "perturbing": torch.Generator(fabric.device).manual_seed(seed + 1),
        "augmenting": torch.Generator(fabric.device).manual_seed(seed + 2),
    }
    return TrainingState(network, optimizer, scheduler, generators)


def _steps_between_looks(fabric: Fabric) -> int:
    """Return how often the loss is looked at; each look waits for a GPU, or for all processes."""
    return 1 if fabric.world_size == 1 and fabric.device.type == "cpu" else STEPS_BETWEEN_LOOKS


def _batch(task: Task, state: TrainingState, position: int, batch_size: int, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Return this process' part of batch *position* of the epoch.

    The joint batch is augmented before it is divided, so that the number of processes changes no sample.
    """
    chosen = state.order[position * batch_size :][:batch_size]
    values, labels = task.dataset.train.values(chosen), task.dataset.train.labels[chosen]
    if task.augment is not None:
        values = task.augment(values, state.generators["augmenting"])
    part = slice(ranks.rank * batch_size // ranks.world, (ranks.rank + 1) * batch_size // ranks.world)
    return values[part], labels[part]


def _require_finite(
    losses: Sequence[Tensor], ranks: Ranks, epoch: int, position: int, step: int, label: str, lr: float, keeper: Keeper
) -> None:
    """Look at the losses since the last look; the optimizer has not used the gradient of the last one yet.

    Raises:
        StageError: one is not finite.
    """
    together = ranks.total(torch.stack(list(losses)))
    bad = torch.nonzero(~torch.isfinite(together)).flatten().tolist()
    if bad:
        ago = len(losses) - 1 - bad[0]
        raise StageError(
            f"training of the {label} network diverged: loss {float(together[bad[0]])} in epoch {epoch + 1}, "
            f"batch {position + 1 - ago} (step {step + 1 - ago}); lower train.lr (now {lr:g}); {keeper.where}"
        )


def _judge_epoch(fabric: Fabric, task: Task, state: TrainingState, ranks: Ranks, entry: Entry) -> None:
    """Measure the network on the validation split, keep its weights if it did best, and add to the history."""
    accuracy = accuracy_percent(task.network, task.dataset.validation) if fabric.is_global_zero else 0.0
    accuracy = fabric.broadcast(accuracy)
    if accuracy >= max(state.accuracies, default=0.0):
        state.best = {name: tensor.clone() for name, tensor in task.network.state_dict().items()}
    state.history.append(
        {
            "epoch": len(state.history) + 1,
            "train_loss": float(ranks.total(torch.stack(state.losses)).mean()) / ranks.world,
            "validation_accuracy": accuracy,
            "lr": float(state.scheduler.get_last_lr()[0]),
            **entry,
        }
    )
