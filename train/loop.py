"""The training loop, for the float baseline and the quantized network, and the two stages that call it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from pipeline import Artifact, ConfigError, Stage, StageContext, StageError
from pipeline.config import ModelConfig, TrainConfig
from pipeline.toolchain import cpu_count
from train.checkpoint import save_checkpoint
from train.estimators import Guided, Memory, Problem, Schedule, StraightThrough, schedule_of
from train.estimators.problem import Loss
from train.extra_passes import extra_passes, statistics_collected
from train.layers import quantized_weights, require_fixed_steps
from train.models import build, build_float
from train.nudge import nudge
from train.split_tensors import DatasetTensors, accuracy_percent, load_dataset, real_outputs

METRICS = "metrics.json"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """How training went, for ``metrics.json``; the network itself then has the weights of its best epoch."""

    epochs: list[dict[str, float]]
    guided_steps: int


@dataclass(frozen=True)
class TrainFloat(Stage):
    """Train the float baseline: what quantization is compared with."""

    model: ModelConfig
    train: TrainConfig
    name: ClassVar[str] = "train-float"
    consumes: ClassVar[str | None] = "dataset"
    produces: ClassVar[str] = "float-baseline"
    distributions: ClassVar[tuple[str, ...]] = ("torch", "lightning-fabric", "numpy")

    def run(self, source: Artifact | None, ctx: StageContext) -> Mapping[str, str]:
        """Write ``metrics.json``."""
        assert source is not None, "training consumes a data set"
        fabric = make_fabric(self.train)
        dataset = load_dataset(source, fabric.device)
        with seeded(ctx.seed):
            network = build_float(self.model, dataset.inputs, dataset.classes)
            trained = fit(fabric, network, dataset, self.train, Schedule(StraightThrough(), 1.0), ctx.seed, "float", [])
        _write_metrics(ctx.workdir, network, dataset, trained, {"estimator": {"name": "backpropagation"}})
        return {}


@dataclass(frozen=True)
class TrainQuantized(Stage):
    """Train the quantized network: straight-through first, then the configured estimator."""

    model: ModelConfig
    train: TrainConfig
    name: ClassVar[str] = "train"
    consumes: ClassVar[str | None] = "dataset"
    produces: ClassVar[str] = "checkpoint"
    distributions: ClassVar[tuple[str, ...]] = ("torch", "lightning-fabric", "brevitas", "numpy")

    def run(self, source: Artifact | None, ctx: StageContext) -> Mapping[str, str]:
        """Write ``checkpoint.pt`` and ``metrics.json``."""
        assert source is not None, "training consumes a data set"
        fabric = make_fabric(self.train)
        dataset = load_dataset(source, fabric.device)
        schedule = schedule_of(self.train.estimator)
        with seeded(ctx.seed):
            network = build(self.model, dataset.inputs, dataset.classes)
            if isinstance(schedule.late, Guided):
                require_fixed_steps(network)
            layers = quantized_weights(network)
            trained = fit(fabric, network, dataset, self.train, schedule, ctx.seed, "quantized", layers)
        network.cpu().eval()
        extra: dict[str, Any] = {
            "estimator": {
                **self.train.estimator.model_dump(mode="json"),
                "guided_steps": trained.guided_steps,
                "extra_forward_passes": trained.guided_steps * schedule.late.extra_forward_passes,
            }
        }
        if self.train.nudge:
            report = nudge(network)
            extra["nudged_channels"] = report.moved
            extra["near_boundaries"] = report.left
        save_checkpoint(network, self.model, dataset.inputs, dataset.classes, ctx.workdir)
        _write_metrics(ctx.workdir, fabric.to_device(network), dataset, trained, extra)
        return {}


def fit(
    fabric: Fabric,
    network: nn.Module,
    dataset: DatasetTensors,
    config: TrainConfig,
    schedule: Schedule,
    seed: int,
    label: str,
    perturbed: list[nn.Module],
) -> Trained:
    """Train *network* in place and leave it with the weights of the epoch that did best on the validation split.

    *perturbed* are the modules whose weights the estimator may perturb. The last batch of an epoch is dropped where it
    is not whole: batch norm would see too few samples in it.

    Raises:
        StageError: the loss is no longer finite; the message names the epoch and the step.
    """
    wrapped, optimizer = fabric.setup(network, _optimizer(network, config))
    samples = len(dataset.train)
    batch_size = min(config.batch_size, samples)
    total = config.epochs * (samples // batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=total)
    shuffling = torch.Generator().manual_seed(seed)
    perturbing = torch.Generator(fabric.device).manual_seed(seed + 1)
    history: list[dict[str, float]] = []
    best: dict[str, torch.Tensor] = {}
    memory: Memory = {}
    step = guided_steps = 0
    with _progress(label) as progress:
        task = progress.add_task(label, total=total, note="")
        for epoch in range(1, config.epochs + 1):
            wrapped.train()
            order = torch.randperm(samples, generator=shuffling).to(fabric.device)
            losses = []
            for batch in order.split(batch_size)[: samples // batch_size]:
                values, labels = dataset.train.values(batch), dataset.train.labels[batch]
                problem = _problem(fabric, network, partial(_loss, wrapped, values, labels), perturbed)
                estimator, phase = schedule.at(step, total, ready=statistics_collected(network))
                optimizer.zero_grad()
                losses.append(estimator(problem, perturbing, phase, memory))
                optimizer.step()
                scheduler.step()
                step += 1
                guided_steps += estimator.extra_forward_passes > 0
                progress.advance(task)
            mean_loss = _finite_mean(losses, epoch, step - len(losses), label, config)
            accuracy = accuracy_percent(network, dataset.validation)
            if accuracy >= max((entry["validation_accuracy"] for entry in history), default=0.0):
                best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            history.append({"epoch": epoch, "train_loss": mean_loss, "validation_accuracy": accuracy})
            progress.update(task, note=f"epoch {epoch}, loss {mean_loss:.3f}, validation {accuracy:.2f} %")
    network.load_state_dict(best)
    return Trained(history, guided_steps)


def make_fabric(config: TrainConfig) -> Fabric:
    """Return Lightning Fabric on the device that *config* asks for; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise ConfigError("train.device = 'cuda', but there is no CUDA device here; use 'auto' or 'cpu'")
    torch.set_num_threads(max(1, cpu_count() // 2))  # baseline and quantized network train side by side
    accelerator = "cuda" if has_cuda and config.device != "cpu" else "cpu"
    precision = "bf16-mixed" if config.precision == "bf16-mixed" else "32-true"
    return Fabric(accelerator=accelerator, devices=config.devices, precision=precision)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's own generator, which initializes layers and drives dropout, and put its state back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), config.lr, momentum=0.9)
    return torch.optim.Adam(network.parameters(), config.lr)


def _loss(network: nn.Module, values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(real_outputs(network, values), labels)


def _problem(fabric: Fabric, network: nn.Module, loss: partial[torch.Tensor], perturbed: list[nn.Module]) -> Problem:
    return Problem(
        loss=loss,
        backward=fabric.backward,
        parameters=[module.weight for module in perturbed],
        steps=partial(_weight_steps, perturbed),
        extra_passes=partial(_extra_passes, network, loss),
    )


@contextmanager
def _extra_passes(network: nn.Module, loss: Loss) -> Iterator[Loss]:
    with extra_passes(network):
        yield loss


@torch.no_grad()
def _weight_steps(perturbed: list[nn.Module]) -> list[torch.Tensor]:
    return [module.quant_weight().scale for module in perturbed]


def _finite_mean(losses: list[torch.Tensor], epoch: int, first_step: int, label: str, config: TrainConfig) -> float:
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


def _write_metrics(
    folder: Path, network: nn.Module, dataset: DatasetTensors, trained: Trained, extra: Mapping[str, Any]
) -> None:
    metrics = {
        "validation_accuracy": accuracy_percent(network, dataset.validation),
        "test_accuracy": accuracy_percent(network, dataset.test),
        "test_samples": len(dataset.test),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "epochs": trained.epochs,
        **extra,
    }
    (folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")


def _progress(label: str) -> Progress:
    """Return a progress bar on standard error; it shows nothing where that is not a terminal."""
    console = Console(stderr=True)
    columns = TextColumn(f"training ({label})"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}")
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
