"""What a configuration asks for: which artifact slots there are, what fills them, and which executors run them.

A *slot* is the name of an artifact within a run, and of its folder. The Snakefile holds the order of the rules; this
module holds what each needs to know, so that a rule is stale exactly when the options that it uses have changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifact import Artifact, sha256_of_bytes
from pipeline.config import RunConfig
from pipeline.executor import Executor
from pipeline.registry import EXECUTORS, STAGES, resolve
from pipeline.stage import Stage
from pipeline.target import COptions, FinnOptions, TargetSpec


@dataclass(frozen=True, slots=True)
class ExecutorStep:
    """One executor of a run.

    Attributes:
        name: its name in the ledger.
        slot: its name in file names and make targets.
        source: the slot of the artifact that it runs.
        kind: its entry in the registry.
        core: the processor of a C target; None for every other.
    """

    name: str
    slot: str
    source: str
    kind: str
    core: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots and executors of one configuration."""

    config: RunConfig

    @property
    def executors(self) -> tuple[ExecutorStep, ...]:
        """All executors that are compared with the integer model, in the order of the pipeline."""
        steps = [
            ExecutorStep("torch", "torch", "train", "torch"),
            ExecutorStep("qonnx", "qonnx", "export", "qonnx"),
        ]
        for target in self.config.targets:
            steps.extend(_target_executors(target))
        return tuple(steps)

    def executor(self, name: str) -> ExecutorStep | None:
        """Return the executor called *name* in the ledger or in file names, or None."""
        return next((step for step in self.executors if name in (step.name, step.slot)), None)

    @property
    def slots(self) -> tuple[str, ...]:
        """Every artifact slot, sources before what is made from them."""
        slots = ["data", "train-float", "train", "export", "integer"]
        for target in self.config.targets:
            slots.extend(_target_slots(target))
        return tuple(slots)

    def options(self, slot: str) -> dict[str, Any]:
        """Return the options that the stage of *slot* depends on, as plain JSON values."""
        config = self.config
        if slot == "data":
            return {
                "seed": config.seed,
                "data": config.data.model_dump(mode="json"),
                "input_bits": config.model.input_bits,
                "code": _digest_of_code(config.data.name),
            }
        if slot in ("train-float", "train"):
            return {
                "seed": config.seed,
                "model": config.model.model_dump(mode="json"),
                "code": _digest_of_code(config.model.name),
                "train": config.train.model_dump(mode="json"),
            }
        target = self.target_of(slot)
        options = {} if target is None else target.options.model_dump(mode="json")
        # FIFOs are inserted when the RTL is stitched: their depth does not make the hardware graph stale.
        return {key: value for key, value in options.items() if (key == "fifo_depth") is (slot == "rtl")}

    def target_of(self, slot: str) -> TargetSpec | None:
        """Return the target that *slot* belongs to; None for a slot that all targets share."""
        return next((target for target in self.config.targets if slot in _target_slots(target)), None)

    def make_stage(self, slot: str) -> Stage:
        """Import and return the stage that fills *slot*."""
        config = self.config
        target = self.target_of(slot)
        options = None if target is None else target.options
        name = slot
        arguments: dict[str, Any] = {}
        if slot == "data":
            arguments = {"config": config.data, "input_bits": config.model.input_bits}
        elif slot in ("train-float", "train"):
            arguments = {"model": config.model, "train": config.train}
        elif isinstance(options, COptions):
            name = slot.removesuffix(f"-{options.core}")
            arguments = {"core": options.core}
        elif isinstance(options, FinnOptions):
            fifo = {"fifo_depth": options.fifo_depth}
            arguments = fifo if slot == "rtl" else {"board": options.board, "fps": options.fps}
        stage: Stage = resolve(STAGES, name)(**arguments)
        return stage

    def source_of(self, slot: str) -> str | None:
        """Return the slot of the artifact that *slot* is made from."""
        target = self.target_of(slot)
        if target is not None:
            chain = ("integer", *_target_slots(target))
            return chain[chain.index(slot) - 1]
        return {"train-float": "data", "train": "data", "export": "train", "integer": "export"}.get(slot)


def _target_slots(target: TargetSpec) -> tuple[str, ...]:
    if isinstance(target.options, COptions):
        return (f"c-{target.options.core}", f"firmware-{target.options.core}")
    if isinstance(target.options, FinnOptions):
        return ("finn", "rtl")
    return (target.kind,)


def _target_executors(target: TargetSpec) -> tuple[ExecutorStep, ...]:
    if isinstance(target.options, COptions):
        core = target.options.core
        return (ExecutorStep(f"c:{core}", f"c-{core}", f"firmware-{core}", "c", core),)
    if isinstance(target.options, FinnOptions):
        return (
            ExecutorStep("finn-hw", "finn-hw", "finn", "finn-hw"),
            ExecutorStep("rtl", "rtl", "rtl", "rtl"),
        )
    return (ExecutorStep(target.kind, target.kind, target.kind, target.kind),)


def _digest_of_code(name: str) -> str | None:
    """Return the digest of the file in ``path/to/file.py:function``: who edits it wants the stage run again."""
    file, colon, _ = name.rpartition(":")
    return sha256_of_bytes(Path(file).read_bytes()) if colon and Path(file).is_file() else None


def make_executor(step: ExecutorStep, artifact: Artifact, integer: Artifact, *, workdir: Path, cache: Path) -> Executor:
    """Import and return the executor *step*, set up to run *artifact*.

    Args:
        step: which executor.
        artifact: what it runs.
        integer: the integer model of the same run.
        workdir: an existing folder for its files.
        cache: a folder for compiled simulators, shared between runs.
    """
    cls = resolve(EXECUTORS, step.kind)
    if step.kind == "qonnx":
        executor: Executor = cls.open(artifact, integer)
    elif step.kind == "finn-hw":
        executor = cls(artifact, workdir)
    elif step.kind == "rtl":
        executor = cls(artifact, workdir, cache)
    elif step.kind == "c":
        executor = cls(artifact, workdir, step.core)
    else:
        executor = cls(artifact)
    return executor


def fingerprint(options: Mapping[str, Any]) -> str:
    """Return *options* as one canonical line, for Snakemake to see a change by."""
    return json.dumps(options, sort_keys=True, separators=(",", ":"))
