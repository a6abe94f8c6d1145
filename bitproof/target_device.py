"""The executor of a run as a device that an integer model can be programmed into, whatever the target.

Every programming carries out the target's stages on the new model, in a scratch folder, and sets up the executor on
what they made: packed ONNX, firmware, RTL. The run's own artifacts are not touched.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bitproof.pipeline.artifact import Artifact, digest_of
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.stage import StagePlan, execute
from bitproof.plan import INTEGER, RunPlan

if TYPE_CHECKING:
    from bitproof.export.integer import IntegerModel


@dataclass(frozen=True, slots=True)
class TargetDevice:
    """Executor *plan* of *run*, whose integer model is *original*.

    What a programming makes is left in the folder *workdir* until the next.
    """

    run: RunFolder
    plan: ExecutorPlan
    workdir: Path
    original: IntegerModel

    def program(self, model: IntegerModel) -> Executor:
        """Carry out the target's stages on *model* and return the executor of what they made.

        Raises:
            StageError: the target cannot take *model*; the message names the layer.
            ToolMissingError: a tool of the target is not installed.
        """
        from bitproof.export.integer import save

        folder = self.workdir / INTEGER
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        save(model, folder)
        integer = artifact = Artifact(INTEGER, "integer-model", folder, digest_of(folder))
        plan = RunPlan(self.run.config())
        files = self.workdir / "run"
        files.mkdir(exist_ok=True)
        reprogrammed = self._reprogrammed(plan, model)
        if reprogrammed is not None:
            artifact = reprogrammed
        else:
            seed = plan.config.seed
            for stage in chain_of(plan, self.plan):
                made = self.workdir / stage.name
                artifact = execute(
                    stage.make(), artifact, made, seed=seed, versions={}, name=stage.name, inputs=self.run.inputs
                )
        return self.plan.make(Place(artifact, integer, files, self.run.cache))

    def _reprogrammed(self, plan: RunPlan, model: IntegerModel) -> Artifact | None:
        """Return a copy of the run's artifact with the numbers of *model*; None if it has to be built."""
        target = plan.target_of(self.plan.source)
        if target is None or self.plan.source != target.stages()[-1].name:
            return None
        source, copy = self.run.artifact(self.plan.source), self.workdir / "reprogrammed"
        shutil.rmtree(copy, ignore_errors=True)
        return replace(source, path=copy) if target.reprogram(source.path, copy, self.original, model) else None


def chain_of(plan: RunPlan, executor: ExecutorPlan) -> tuple[StagePlan, ...]:
    """Return the stages between the integer model and what *executor* runs, in their order.

    Raises:
        ConfigError: the executor runs something that the integer model is made from, not the other way round.
    """
    chain = plan.chain(executor.source)
    names = [stage.name for stage in chain]
    if INTEGER not in names:
        raise ConfigError(
            f"executor {executor.name!r} runs what the integer model is made from and cannot be given another; "
            f"calibrate one of: {', '.join(programmable(plan))}"
        )
    return chain[names.index(INTEGER) + 1 :]


def programmable(plan: RunPlan) -> tuple[str, ...]:
    """Return the names of the executors that an integer model can be programmed into."""
    targets = tuple(other.name for other in plan.executors if plan.target_of(other.source) is not None)
    return (INTEGER, *targets)
