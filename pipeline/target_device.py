"""The executor of a run as a device that an integer model can be programmed into, whatever the target.

Every programming carries out the target's stages on the new model, in a scratch folder, and sets up the executor on
what they made: packed ONNX, firmware, RTL. The run's own artifacts are not touched.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bitproof.pipeline.artifact import Artifact, digest_of
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.executor import Executor
from bitproof.pipeline.plan import ExecutorStep, Plan, make_executor
from bitproof.pipeline.registry import FUNCTIONS, REPROGRAM, resolve
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.stage import execute

INTEGER = "integer"


@dataclass(frozen=True, slots=True)
class TargetDevice:
    """Executor *step* of *run*, whose integer model is *original*.

    What a programming makes is left in the folder *workdir* until the next.
    """

    run: RunFolder
    step: ExecutorStep
    workdir: Path
    original: Any

    def program(self, model: Any) -> Executor:  # noqa: ANN401  the integer model belongs to a package above
        """Carry out the target's stages on *model* and return the executor of what they made.

        Raises:
            StageError: the target cannot take *model*; the message names the layer.
            ToolMissingError: a tool of the target is not installed.
        """
        folder = self.workdir / INTEGER
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        resolve(FUNCTIONS, "save-integer-model")(model, folder)
        integer = artifact = Artifact(INTEGER, "integer-model", folder, digest_of(folder))
        plan = Plan(self.run.config())
        files = self.workdir / "run"
        files.mkdir(exist_ok=True)
        reprogrammed = self._reprogrammed(model)
        if reprogrammed is not None:
            return make_executor(self.step, reprogrammed, integer, workdir=files, cache=self.run.cache)
        for slot in chain_of(plan, self.step):
            stage = plan.make_stage(slot)
            artifact = execute(stage, artifact, self.workdir / slot, seed=plan.config.seed, versions={}, slot=slot)
        return make_executor(self.step, artifact, integer, workdir=files, cache=self.run.cache)

    def _reprogrammed(self, model: Any) -> Artifact | None:  # noqa: ANN401
        """Return a copy of the run's artifact with the thresholds of *model*; None where it has to be built."""
        if self.step.kind not in REPROGRAM:
            return None
        source, target = self.run.artifact(self.step.source), self.workdir / "reprogrammed"
        shutil.rmtree(target, ignore_errors=True)
        if not resolve(REPROGRAM, self.step.kind)(source.path, target, self.original, model):
            return None
        return replace(source, path=target)


def chain_of(plan: Plan, step: ExecutorStep) -> tuple[str, ...]:
    """Return the slots between the integer model and what *step* runs, in the order in which they are made.

    Raises:
        ConfigError: the executor runs something that the integer model is made from, not the other way round.
    """
    slots: list[str] = []
    slot: str | None = step.source
    while slot is not None and slot != INTEGER:
        slots.insert(0, slot)
        slot = plan.source_of(slot)
    if slot is None:
        raise ConfigError(
            f"executor {step.name!r} runs what the integer model is made from and cannot be given another; calibrate "
            f"one of: {', '.join(programmable(plan))}"
        )
    return tuple(slots)


def programmable(plan: Plan) -> tuple[str, ...]:
    """Return the names of the executors that an integer model can be programmed into."""
    targets = tuple(step.name for step in plan.executors if plan.target_of(step.source) is not None)
    return (INTEGER, *targets)
