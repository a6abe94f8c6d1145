"""The two stages that train: the float baseline, and the quantized network that is deployed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from pipeline import Artifact, Stage, StageContext
from pipeline.config import ModelConfig, TrainConfig
from train.checkpoint import save_checkpoint
from train.devices import make_fabric, seeded
from train.estimators import Guided, Schedule, StraightThrough, schedule_of
from train.layers import quantized_weights, require_fixed_steps
from train.loop import Task, Trained, fit
from train.models import build, build_float
from train.nudge import nudge_metrics
from train.quantizers import require_bounded_surrogate, staircase_of
from train.split_tensors import DatasetTensors, accuracy_percent, load_dataset

METRICS = "metrics.json"


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
            network = build_float(self.model, dataset.inputs, dataset.classes, dataset.shape)
            trained = fit(
                fabric, Task("float", network, dataset), self.train, Schedule(StraightThrough(), 1.0), ctx.seed
            )
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
        schedule = schedule_of(self.train.estimator, *staircase_of(self.model))
        with seeded(ctx.seed):
            network = build(self.model, dataset.inputs, dataset.classes, dataset.shape)
            if isinstance(schedule.late, Guided):
                require_fixed_steps(network)
                require_bounded_surrogate(self.model)
            task = Task("quantized", network, dataset, quantized_weights(network))
            trained = fit(fabric, task, self.train, schedule, ctx.seed)
        network.cpu().eval()
        extra: dict[str, Any] = {
            "estimator": {
                **self.train.estimator.model_dump(mode="json"),
                "guided_steps": trained.guided_steps,
                "extra_forward_passes": trained.guided_steps * schedule.late.extra_forward_passes,
            }
        }
        if self.train.nudge:
            extra.update(nudge_metrics(network))
        save_checkpoint(network, self.model, dataset.shape, dataset.classes, ctx.workdir)
        _write_metrics(ctx.workdir, fabric.to_device(network), dataset, trained, extra)
        return {}


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
