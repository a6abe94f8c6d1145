"""The plan of a run: the stages that a configuration asks for, in order, and the executors that run their artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from bitproof.export.program.target import Target
from bitproof.network_source import NetworkSource, source_of
from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.executor import ExecutorPlan
from bitproof.pipeline.import_config import ImportConfig, SourceFile
from bitproof.pipeline.stage import Stage, StagePlan
from bitproof.targets import target_of

INTEGER, PARITY, REPORT = "integer", "parity", "report"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The stages and executors of one configuration.

    Attributes:
        config: the configuration.
        network: where its network comes from.
        targets: what it is deployed to.
        stages: all stages, each after the one that it is made from.
        executors: all executors that are compared with the integer model, in the order of the pipeline.

    Raises:
        ConfigError: a target of the configuration is not known.
    """

    config: RunConfig | ImportConfig
    network: NetworkSource = field(init=False)
    targets: tuple[Target, ...] = field(init=False)
    stages: tuple[StagePlan, ...] = field(init=False)
    executors: tuple[ExecutorPlan, ...] = field(init=False)

    def __post_init__(self) -> None:
        network = source_of(self.config)
        try:
            targets = tuple(map(target_of, self.config.targets))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        stages = [*network.stages, StagePlan(INTEGER, "export", _lower, priority=10)]
        executors = list(network.executors)
        for target in targets:
            stages.extend(target.stages())
            executors.extend(target.executors())
        object.__setattr__(self, "network", network)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "stages", tuple(stages))
        object.__setattr__(self, "executors", tuple(executors))

    @property
    def inputs(self) -> Mapping[str, SourceFile]:
        """The users' files that the targets read, by target and option."""
        return {f"{target.name}.{name}": file for target in self.targets for name, file in target.inputs.items()}

    def executor(self, name: str) -> ExecutorPlan | None:
        """Return the executor called *name* in the ledger or in file names, or None."""
        return next((plan for plan in self.executors if name in (plan.name, plan.file_name)), None)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of all stages, which are those of their artifacts."""
        return tuple(stage.name for stage in self.stages)

    def stage(self, name: str) -> StagePlan:
        """Return the stage called *name*.

        Raises:
            KeyError: there is none.
        """
        return {stage.name: stage for stage in self.stages}[name]

    @property
    def may_fail(self) -> tuple[str, ...]:
        """The stages of targets and the checks: what fails of them is recorded in the ledger."""
        stages = [stage.name for target in self.targets for stage in target.stages()]
        return (*stages, *(executor.check for executor in self.executors))

    @property
    def ends(self) -> tuple[str, ...]:
        """The stages of targets that nothing is made from and no executor runs, such as a bitstream."""
        taken = {stage.source for stage in self.stages} | {executor.source for executor in self.executors}
        stages = [stage.name for target in self.targets for stage in target.stages()]
        return tuple(name for name in stages if name not in taken)

    def file_of(self, name: str) -> str:
        """Return the file in the run's folder that is there when the stage or check *name* has been carried out.

        The stages of targets and the checks may fail; whatever came of them, they leave a mark.
        """
        return f"outcomes/{name}" if name in self.may_fail else self.product_of(name)

    def product_of(self, name: str) -> str:
        """Return the file in the run's folder that is there when the stage or check *name* has succeeded."""
        files = {executor.check: f"checks/{executor.file_name}.json" for executor in self.executors}
        return {**files, PARITY: "ledger.json", REPORT: "report.html"}.get(name, f"{name}/artifact.json")

    def chain(self, name: str) -> tuple[StagePlan, ...]:
        """Return the stage called *name* behind all that it is made from, the first one first."""
        chain = [self.stage(name)]
        while chain[0].source is not None:
            chain.insert(0, self.stage(chain[0].source))
        return tuple(chain)

    def chain_of(self, name: str) -> tuple[StagePlan, ...]:
        """Return all stages that the stage or check *name* is made from, the first one first."""
        checked = next((executor for executor in self.executors if executor.check == name), None)
        return self.chain(name)[:-1] if checked is None else self.chain(checked.source)

    def target_of(self, name: str) -> Target | None:
        """Return the target that the stage called *name* belongs to; None for a stage that all targets share."""
        return next((t for t in self.targets if name in [stage.name for stage in t.stages()]), None)


def fingerprint(options: Mapping[str, object]) -> str:
    """Return *options* as one canonical line, for Snakemake to see a change by."""
    return json.dumps(options, sort_keys=True, separators=(",", ":"))


def _lower() -> Stage:
    from bitproof.export.lower import LowerToInteger

    return LowerToInteger()
