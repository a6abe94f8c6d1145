"""The training loop, for the float baseline and the quantized network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bitproof.pipeline import InputError, StageError
from bitproof.pipeline.config import TrainConfig
from bitproof.train.device_split import DatasetTensors, SplitTensors, accuracy_percent, real_outputs
from bitproof.train.devices import ranks_of
from bitproof.train.estimators import Ranks, Schedule
from bitproof.train.extra_passes import statistics_collected
from bitproof.train.frozen import Forward
from bitproof.train.logs import readings, watched
from bitproof.train.network_problem import NetworkProblem
from bitproof.train.resume import Keeper, ResumeFile
from bitproof.train.training_state import Entry, TrainingState

_log = logging.getLogger(__name__)

STEPS_BETWEEN_LOOKS = 16
"""Where a look at the loss waits for a GPU or for other processes."""

TrainingLoss = Callable[[Forward, Tensor, Tensor], Tensor]
"""Network or its stand-in, real inputs (N, ...), labels (N,) -> the scalar that training lowers."""
Score = Callable[[nn.Module, SplitTensors], float]
"""Network, split -> how good it is, from 0 to 100."""
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
        training_loss: the loss of one batch.
        augment: changes the inputs of a training batch; None: they stay as they are.
        score: judges the network on the validation split; it decides which epoch did best.
    """

    label: str
    network: nn.Module
    dataset: DatasetTensors
    perturbed: Sequence[nn.Module] = ()
    training_loss: TrainingLoss = cross_entropy
    augment: Augment | None = None
    score: Score = accuracy_percent


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

    The last batch of an epoch is dropped if it is not whole: batch norm would see too few samples in it. With
    *resume* the state is saved after every epoch and every half minute; if that file holds the state of a training
    that did not end, this one resumes there. *logs* is an existing folder.

    Raises:
        StageError: the loss is no longer finite; the message names epoch, batch and step.
        InputError: the saved state is not of this network, or there are too few samples for the devices.
    """
    run = _set_up(fabric, task, config, seed)
    state = run.state
    keeper = Keeper(fabric, state, resume, task.label)
    keeper.restore()
    problems = NetworkProblem(task.network, task.perturbed, fabric.backward, run.ranks, compiled=config.compile)
    run.wrapped.train()
    with watched(task.label, state, run.steps, logs if fabric.is_global_zero else None) as watch:
        while not run.is_over:
            if run.position == 0:
                state.begin_epoch(len(task.dataset.train), fabric.device)
            values, labels = _batch(task, state, run.position, run.batch_size, run.ranks)
            estimator, phase = schedule.at(state.step, run.steps, ready=statistics_collected(task.network))
            run.optimizer.zero_grad()
            problem = problems.of(
                partial(task.training_loss, run.wrapped, values, labels),
                partial(_loss_with, task.training_loss, values, labels),
            )
            state.losses.append(estimator(problem, state.generators["perturbing"], phase, state.memory))
            ends_epoch, looking = run.ends_epoch, run.is_looking
            if looking:
                run.require_finite(keeper.where)
            run.optimizer.step()
            if ends_epoch:
                run.judge_epoch(readings(estimator, phase, state.memory))
            state.scheduler.step()
            state.step += 1
            state.guided_steps += estimator.extra_forward_passes > 0
            if ends_epoch:
                keeper.save()
            elif looking:
                keeper.save_if_due()
            watch(ends_epoch)
    _require_finite_weights(state, task.label, config.lr)
    if fabric.is_global_zero:
        _say_if_hardly_used(schedule, run.steps, state, task.label)
    task.network.load_state_dict(state.best)
    return Trained(state.history, state.guided_steps)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One training: what is fixed, and where its state is.

    Attributes:
        fabric: the devices.
        task: what is trained.
        config: how.
        ranks: the processes that share every batch.
        wrapped: the network as it is trained: it averages gradients over the processes and may compute in bfloat16.
        optimizer: of its parameters.
        state: what changes.
        batch_size: samples of the joint batch.
        batches: batches of an epoch.
    """

    fabric: Fabric
    task: Task
    config: TrainConfig
    ranks: Ranks
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    state: TrainingState
    batch_size: int
    batches: int

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.config.epochs * self.batches

    @property
    def position(self) -> int:
        """Number of the batch within its epoch, from 0."""
        return self.state.step % self.batches

    @property
    def ends_epoch(self) -> bool:
        """The batch is the last of its epoch."""
        return self.position + 1 == self.batches

    @property
    def is_looking(self) -> bool:
        """The losses are looked at in this step."""
        return self.ends_epoch or (self.state.step + 1) % _steps_between_looks(self.fabric) == 0

    @property
    def is_over(self) -> bool:
        """All steps are done, or patience is at its end."""
        patience = self.config.patience
        tired = patience is not None and self.position == 0 and self.state.epochs_without_gain >= patience
        return tired or self.state.step >= self.steps

    def require_finite(self, kept: str) -> None:
        """Look at the losses since the last look; the optimizer has not used the gradient of the last one yet.

        Raises:
            StageError: one is not finite; *kept* says what is left.
        """
        recent = torch.stack(self.state.losses[-_steps_between_looks(self.fabric) :])
        together = self.ranks.total(recent)
        bad = torch.nonzero(~torch.isfinite(together)).flatten().tolist()
        if bad:
            step = self.state.step - (len(recent) - 1 - bad[0])
            raise StageError(
                f"training of the {self.task.label} network diverged: loss {float(together[bad[0]])} in epoch "
                f"{step // self.batches + 1}, batch {step % self.batches + 1} (step {step + 1}); "
                f"lower train.lr (now {self.config.lr:g}); {kept}"
            )

    def judge_epoch(self, entry: Entry) -> None:
        """Measure the network on the validation split, keep its weights if it did best, and add to the history."""
        network, state = self.task.network, self.state
        accuracy = self.task.score(network, self.task.dataset.validation) if self.fabric.is_global_zero else 0.0
        accuracy = self.fabric.broadcast(accuracy)
        if accuracy >= max(state.accuracies, default=0.0):
            state.best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        state.history.append(
            {
                "epoch": len(state.history) + 1,
                "train_loss": float(self.ranks.total(torch.stack(state.losses)).mean()) / self.ranks.world,
                "validation_accuracy": accuracy,
                "lr": float(state.scheduler.get_last_lr()[0]),
                **entry,
            }
        )


def _set_up(fabric: Fabric, task: Task, config: TrainConfig, seed: int) -> _Run:
    ranks = ranks_of(fabric, shard=config.estimator.shard_directions)
    samples = len(task.dataset.train)
    if samples < 2 * ranks.world:
        raise InputError(
            f"the training split has {samples} samples; train.devices = {ranks.world} needs at least {2 * ranks.world}"
        )
    batch_size = min(config.batch_size, samples) // ranks.world * ranks.world
    batches = samples // batch_size
    wrapped, optimizer = fabric.setup(task.network, _optimizer(task.network, config))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.epochs * batches)
    if ranks.world > 1:  # each process drops out other units: it has other samples
        torch.manual_seed(seed + 3 + ranks.rank)
    generators = {
        "shuffling": torch.Generator().manual_seed(seed),
        "perturbing": torch.Generator(fabric.device).manual_seed(seed + 1),
        "augmenting": torch.Generator(fabric.device).manual_seed(seed + 2),
    }
    state = TrainingState(task.network, optimizer, scheduler, generators)
    return _Run(fabric, task, config, ranks, wrapped, optimizer, state, batch_size, batches)


def _require_finite_weights(state: TrainingState, label: str, lr: float) -> None:
    """Look at the weights of the best epoch: the last step may have broken them without a loss that shows it.

    Raises:
        StageError: one is not finite.
    """
    for name, tensor in state.best.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise StageError(
                f"training of the {label} network diverged: {name} is not finite; lower train.lr (now {lr:g})"
            )


def _say_if_hardly_used(schedule: Schedule, total: int, state: TrainingState, label: str) -> None:
    """Warn if the late estimator ran in fewer steps than its start promises: its absence looks like a result."""
    promised = sum(schedule.at(step, total, ready=True)[0].extra_forward_passes > 0 for step in range(total))
    if state.guided_steps < promised:
        _log.warning(
            "training of the %s network: the estimator %s was used in %d steps, its start promises %d of %d. It waits "
            "until the quantizers have collected statistics, and early stopping may come first: train more epochs",
            label,
            type(schedule.late).__name__,
            state.guided_steps,
            promised,
            total,
        )


def _loss_with(training_loss: TrainingLoss, values: Tensor, labels: Tensor, forward: Forward) -> Tensor:
    return training_loss(forward, values, labels)


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), config.lr, momentum=0.9)
    return torch.optim.Adam(network.parameters(), config.lr)


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
