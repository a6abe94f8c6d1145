"""The two stages that train: the float baseline, and the quantized network that is deployed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from torch import nn

from bitproof.pipeline import Artifact, Stage, StageContext, sha256_of_bytes
from bitproof.pipeline.config import ModelConfig, TrainConfig
from bitproof.pipeline.toolchain import distribution_version, require_torch_compiler
from bitproof.pipeline.user_files import blaming_users_lines, digest_of_code
from bitproof.train.checkpoint import load_network, save_checkpoint
from bitproof.train.device_split import DatasetTensors, load_dataset
from bitproof.train.devices import launch
from bitproof.train.estimators import Schedule, StraightThrough, schedule_of
from bitproof.train.extra_passes import ExtraPasses
from bitproof.train.layers import quantized_weights, require_fixed_steps, require_input_codes
from bitproof.train.loop import Score, Task, Trained, fit
from bitproof.train.models import build, build_float, require_own_network
from bitproof.train.nudge import nudge_metrics
from bitproof.train.resume import ResumeFile
from bitproof.train.robust import training_loss, warn_if_hardly_injected
from bitproof.train.seeded import seeded
from bitproof.train.task_kind import purpose_of

METRICS = "metrics.json"


@dataclass(frozen=True)
class TrainFloat(Stage):
    """Train the float baseline: what quantization is compared with."""

    model: ModelConfig
    train: TrainConfig
    name: ClassVar[str] = "train-float"
    consumes: ClassVar[str] = "dataset"
    produces: ClassVar[str] = "float-baseline"
    distributions: ClassVar[tuple[str, ...]] = ("torch", "lightning-fabric", "numpy")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write ``metrics.json``."""
        launch(self.train, partial(_train_float, self, source, ctx))
        return {}


@dataclass(frozen=True)
class TrainQuantized(Stage):
    """Train the quantized network: straight-through first, then the configured estimator."""

    model: ModelConfig
    train: TrainConfig
    name: ClassVar[str] = "train"
    consumes: ClassVar[str] = "dataset"
    produces: ClassVar[str] = "checkpoint"
    distributions: ClassVar[tuple[str, ...]] = ("torch", "lightning-fabric", "brevitas", "numpy")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write ``checkpoint.pt`` and ``metrics.json``."""
        if self.train.compile:
            require_torch_compiler("train.compile = true")
        launch(self.train, partial(_train_quantized, self, source, ctx))
        return {}


def _train_float(stage: TrainFloat, source: Artifact, ctx: StageContext, fabric: Fabric) -> None:
    dataset, purpose = load_dataset(source, fabric.device), purpose_of(stage.model)
    with seeded(ctx.seed):
        network = build_float(stage.model, dataset.inputs, dataset.classes, dataset.shape)
        trained = fit(
            fabric,
            Task("float", network, dataset, augment=dataset.augment, training_loss=purpose.loss, score=purpose.score),
            stage.train,
            Schedule(StraightThrough(), 1.0),
            ctx.seed,
            resume=_resume_file(fabric, stage, source, ctx),
            logs=ctx.scratch,
        )
    if fabric.is_global_zero:
        extra = {"estimator": {"name": "backpropagation"}, **purpose.metrics}
        _write_metrics(ctx.workdir, network, dataset, trained, purpose.score, extra)


def _train_quantized(stage: TrainQuantized, source: Artifact, ctx: StageContext, fabric: Fabric) -> None:
    # Also here, in a process of several: the first learns of an error of this project alone.
    with blaming_users_lines({"model.name": stage.model.name}):
        _train_network(stage, source, ctx, fabric)


def _train_network(stage: TrainQuantized, source: Artifact, ctx: StageContext, fabric: Fabric) -> None:
    dataset, purpose = load_dataset(source, fabric.device), purpose_of(stage.model)
    schedule = schedule_of(stage.train.estimator, stage.model.surrogate or "identity")
    with seeded(ctx.seed):
        network = build(stage.model, dataset.inputs, dataset.classes, dataset.shape)
        if ":" in stage.model.name:
            require_own_network(stage.model, network, dataset.inputs, dataset.classes)
        require_input_codes(network, stage.model.input_bits)
        if schedule.late.extra_forward_passes and not ExtraPasses(network).fast:
            require_fixed_steps(network)  # the fast pass freezes scales that follow the weights
        if fabric.is_global_zero:
            warn_if_hardly_injected(network, stage.train, len(dataset.train))
        trained = fit(
            fabric,
            Task(
                "quantized",
                network,
                dataset,
                quantized_weights(network),
                training_loss(network, stage.train, purpose.loss),
                dataset.augment,
                purpose.score,
            ),
            stage.train,
            schedule,
            ctx.seed,
            resume=_resume_file(fabric, stage, source, ctx),
            logs=ctx.scratch,
        )
    if not fabric.is_global_zero:
        return
    before = _accuracies(network, dataset, purpose.score) if stage.train.nudge else {}
    network.cpu().eval()
    require_input_codes(network, stage.model.input_bits)  # a scale that is trained may have moved
    extra: dict[str, Any] = {
        "estimator": {
            **stage.train.estimator.model_dump(mode="json"),
            "guided_steps": trained.guided_steps,
            "extra_forward_passes": trained.guided_steps * schedule.late.extra_forward_passes,
        },
        **purpose.metrics,
    }
    if stage.train.nudge:
        extra |= nudge_metrics(network, dataset.inputs, whole_offsets=stage.train.nudge == "whole-offsets")
        extra |= {f"{name}_before_nudge": accuracy for name, accuracy in before.items()}
    save_checkpoint(network, stage.model, dataset.shape, dataset.classes, ctx.workdir)
    if fabric.device.type != "cpu":  # what is recorded can then be measured again on any machine
        dataset = load_dataset(source, torch.device("cpu"))
    _write_metrics(ctx.workdir, network, dataset, trained, purpose.score, extra)


def test_accuracy(checkpoint: Artifact, data: Artifact, model: ModelConfig) -> tuple[float, int]:
    """Return the accuracy in percent of the network in *checkpoint* on the test split of *data*, and its samples.

    It is measured on the CPU, as the training stage measures it at its end.
    """
    network, _ = load_network(checkpoint)
    dataset = load_dataset(data, torch.device("cpu"))
    return purpose_of(model).score(network, dataset.test), len(dataset.test)


def _resume_file(
    fabric: Fabric, stage: TrainFloat | TrainQuantized, source: Artifact, ctx: StageContext
) -> ResumeFile | None:
    """Return where this training keeps its state, under a key of all that its weights depend on."""
    if ctx.resume is None:
        return None
    depends_on = {
        "stage": stage.name,
        "model": stage.model.model_dump(mode="json"),
        "code": digest_of_code(stage.model.name),
        "train": stage.train.model_dump(mode="json"),
        "data": source.sha256,
        "seed": ctx.seed,
        "device": fabric.device.type,
        "versions": {name: distribution_version(name) for name in stage.distributions},
    }
    return ResumeFile(ctx.resume, sha256_of_bytes(json.dumps(depends_on, sort_keys=True).encode()))


def _accuracies(network: nn.Module, dataset: DatasetTensors, score: Score) -> dict[str, float]:
    splits = {"validation": dataset.validation, "test": dataset.test}
    return {f"{name}_accuracy": score(network, split) for name, split in splits.items()}


def _write_metrics(
    folder: Path,
    network: nn.Module,
    dataset: DatasetTensors,
    trained: Trained,
    score: Score,
    extra: Mapping[str, Any],
) -> None:
    metrics = {
        **_accuracies(network, dataset, score),
        "test_samples": len(dataset.test),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "epochs": trained.epochs,
        **extra,
    }
    (folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
