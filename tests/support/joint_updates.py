"""One training step in several processes; top-level functions, for processes import them by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from training_tasks import CutError, CutLoss, quantized_task, ready_task

from bitproof.pipeline.config import EstimatorConfig, TrainConfig
from bitproof.train.devices import ranks_of
from bitproof.train.estimators import Schedule, estimator_of
from bitproof.train.loop import Task, _batch, _loss_with, fit
from bitproof.train.network_problem import NetworkProblem
from bitproof.train.resume import ResumeFile
from bitproof.train.seeded import seeded
from bitproof.train.training_state import TrainingState

BATCH = 32


def one_gradient(config: EstimatorConfig, folder: Path, fabric: Fabric) -> None:
    """Save the loss, the gradients and the perturbing generator's state after one step of *config*, by rank."""
    task = ready_task()
    optimizer = torch.optim.SGD(task.network.parameters(), 0.1)
    wrapped, optimizer = fabric.setup(task.network, optimizer)
    ranks = ranks_of(fabric, shard=config.shard_directions)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    state = TrainingState(task.network, optimizer, scheduler, {"perturbing": torch.Generator().manual_seed(3)})
    state.order = torch.arange(len(task.dataset.train))
    values, labels = _batch(task, state, 1, BATCH, ranks)
    problem = NetworkProblem(task.network, task.perturbed, fabric.backward, ranks).of(
        partial(task.training_loss, wrapped, values, labels), partial(_loss_with, task.training_loss, values, labels)
    )
    wrapped.train()
    optimizer.zero_grad()
    loss = estimator_of(config)(problem, state.generators["perturbing"], 0.5, {})
    gradients = {name: p.grad for name, p in task.network.named_parameters() if p.grad is not None}
    content = {"loss": loss, "gradients": gradients, "stream": state.generators["perturbing"].get_state()}
    torch.save(content, folder / f"{fabric.global_rank}.pt")


def whole_training(config: TrainConfig, folder: Path, fabric: Fabric) -> None:
    """Train, and save what the network then holds, by rank."""
    task = ready_task()
    trained = fit(fabric, task, config, Schedule(estimator_of(config.estimator), 0.5), 0)
    content = {"state": task.network.state_dict(), "history": trained.epochs, "guided_steps": trained.guided_steps}
    torch.save(content, folder / f"{fabric.global_rank}.pt")


def cut_training(config: TrainConfig, folder: Path, cut: int | None, fabric: Fabric) -> None:
    """Train with batch norm and dropout, in two goes where *cut* is the step that is not reached; save by rank."""
    resume = ResumeFile(folder / "resume", "a" * 64)
    resumed = 0
    for stop in (None,) if cut is None else (cut, None):
        loss = CutLoss(stop)
        task = replace(quantized_task(), training_loss=loss)
        with seeded(7), suppress(CutError):
            trained = fit(fabric, task, config, Schedule(estimator_of(config.estimator), 0.5), 0, resume=resume)
        resumed = loss.steps
    whole = config.epochs * (len(task.dataset.train) // config.batch_size)
    content = {"state": task.network.state_dict(), "history": trained.epochs, "resumed": whole - resumed}
    torch.save(content, folder / f"{fabric.global_rank}.pt")


class WithSpare(nn.Module):  # type: ignore[misc]  # torch is not followed
    """A network with a parameter that nothing depends on."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.spare = nn.Parameter(torch.zeros(1))

    def forward(self, values: Tensor) -> Tensor:
        """Run the network within."""
        outputs: Tensor = self.network(values)
        return outputs


def train_with_spare(config: TrainConfig, fabric: Fabric) -> None:
    """Train a network with a parameter that nothing depends on."""
    task = ready_task()
    spare = Task("quantized", WithSpare(task.network), task.dataset, task.perturbed)
    fit(fabric, spare, config, Schedule(estimator_of(config.estimator), 1.0), 0)


def one_after_another(works: Sequence[Callable[[Fabric], None]], fabric: Fabric) -> None:
    """Do several works in the same processes, whose start takes longer than all of them."""
    for work in works:
        work(fabric)


def die(fabric: Fabric) -> None:
    """End the second process as the system does when memory is full."""
    if fabric.global_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    fabric.barrier()
