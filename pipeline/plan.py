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

from bitproof.pipeline.artifact import Artifact
from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.executor import Executor
from bitproof.pipeline.front import ExecutorStep, Front, front_of
from bitproof.pipeline.import_config import ImportConfig
from bitproof.pipeline.registry import EXECUTORS, FUNCTIONS, STAGES, resolve
from bitproof.pipeline.stage import Stage
from bitproof.pipeline.target import COptions, FinnOptions, TargetSpec

__all__ = ["ExecutorStep", "Plan", "fingerprint", "make_executor"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots and executors of one configuration."""

    config: RunConfig | ImportConfig

    @property
    def front(self) -> Front:
        """The part before the integer model."""
        return front_of(self.config)

    @property
    def executors(self) -> tuple[ExecutorStep, ...]:
        """All executors that are compared with the integer model, in the order of the pipeline."""
        steps = list(self.front.executors)
        for target in self.config.targets:
            steps.extend(_target_executors(target))
        return tuple(steps)

    def executor(self, name: str) -> ExecutorStep | None:
        """Return the executor called *name* in the ledger or in file names, or None."""
        return next((step for step in self.executors if name in (step.name, step.slot)), None)

    @property
    def slots(self) -> tuple[str, ...]:
        """Every artifact slot, sources before what is made from them."""
        slots = [*self.front.sources, "integer"]
        for target in self.config.targets:
            slots.extend(_target_slots(target))
        return tuple(slots)

    def options(self, slot: str) -> dict[str, Any]:
        """Return the options that the stage of *slot* depends on, as plain JSON values."""
        if slot in self.front.sources:
            return self.front.options(slot)
        target = self.target_of(slot)
        options = {} if target is None else target.options.model_dump(mode="json")
        # FIFOs are inserted when the RTL is stitched: their depth does not make the hardware graph stale.
        return {key: value for key, value in options.items() if (key == "fifo_depth") is (slot == "rtl")}

    def target_of(self, slot: str) -> TargetSpec | None:
        """Return the target that *slot* belongs to; None for a slot that all targets share."""
        return next((target for target in self.config.targets if slot in _target_slots(target)), None)

    def make_stage(self, slot: str) -> Stage:
        """Import and return the stage that fills *slot*."""
        target = self.target_of(slot)
        options = None if target is None else target.options
        name = slot
        arguments: dict[str, Any] = {}
        if slot in self.front.sources:
            name, arguments = self.front.stage(slot)
        elif isinstance(options, COptions):
            name = slot.removesuffix(f"-{options.core}")
            arguments = {"core": options.core, "flash_bytes": options.flash, "ram_bytes": options.ram}
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
        return "export" if slot == "integer" else self.front.sources.get(slot)


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
    if step.kind in ("qonnx", "qonnx-f64"):
        executor: Executor = cls.open(artifact, integer)
    elif step.kind == "torch":
        executor = cls(artifact, *resolve(FUNCTIONS, "reference-codings")(integer.path))
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
