"""``bitproof run``: let Snakemake carry out what is stale, then judge the ledger."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import typer

from bitproof.commands.deaths import record_deaths
from bitproof.commands.parity import judge, require_ledger, worst_failure
from bitproof.commands.rehearse_run import rehearse_run
from bitproof.commands.summary import summarize, summarize_part
from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.errors import BitproofError, ConfigError, GateError, StageError
from bitproof.pipeline.ledger import CalibrationEntry, FailureEntry, recorded_calibrations
from bitproof.pipeline.run_folder import Config, RunFolder
from bitproof.pipeline.toolchain import cpu_count, require_torch_compiler, run_in_foreground
from bitproof.plan import INTEGER, PARITY, REPORT, RunPlan
from bitproof.yaml_file import read_config

SNAKEFILE = Path(__file__).parent.parent / "Snakefile"


class RunFailedError(BitproofError):
    """Stages of the run failed; the exit code is the worst of theirs."""

    def __init__(self, failures: tuple[FailureEntry, ...]) -> None:
        super().__init__("\n".join(f"{failure.stage}: {failure.message}" for failure in failures))
        self.failures = failures
        # An instance's own code: several stages may fail for several reasons.
        self.exit_code = worst_failure(failures)  # type: ignore[misc]

    @property
    def shown(self) -> str:
        """Which stages failed: each said why when it did."""
        stages = ", ".join(f"{failure.stage} (exit code {failure.exit_code})" for failure in self.failures)
        return f"the run is not complete; the lines above say why these stages failed: {stages}"


def run_pipeline(
    config_path: Path, assignments: tuple[str, ...], *, runs: Path, until: str | None, cores: int | None, as_json: bool
) -> None:
    """Run the configuration at *config_path* up to *until*, or to the report.

    Raises:
        ConfigError: the configuration or *until* is not valid.
        InputError: the network cannot be built or lowered; nothing was trained.
        StageError: a target refuses the network; nothing was trained.
        RunFailedError: a stage failed.
        GateError: a parity check, a proof or a gate does not hold.
    """
    config = read_config(config_path, assignments)
    plan = RunPlan(config)
    rehearse_run(RunFolder.named(config.name, runs=runs), config, frozenset(way_to(plan, goal_of(plan, until))))
    carry_out(config, runs=runs, until=until, cores=cores, as_json=as_json)


def carry_out(config: Config, *, runs: Path, until: str | None, cores: int | None, as_json: bool) -> None:
    """Carry out the run of *config* up to *until*, or to the report.

    Raises:
        ConfigError: *until* is not a stage of the run.
        InputError: a user's network cannot be built or exported.
        ToolMissingError: the training needs a tool that is not on this machine.
        RunFailedError: a stage failed.
        GateError: a parity check, a proof or a gate does not hold.
    """
    if isinstance(config, RunConfig) and config.train.compile:
        require_torch_compiler("train.compile = true")
    run = RunFolder.named(config.name, runs=runs)
    plan = RunPlan(config)
    goal = goal_of(plan, until)
    product = run.file(plan.product_of(goal))
    with run.locked():
        made_before = _time_of(product)
        for file in plan.inputs.values():
            run.keep_input(file)
        run.write_config(config)
        _forget(run, plan)
        calibrations = recorded_calibrations(run.ledger)
        succeeded = _snakemake(run, plan, way_to(plan, goal), cores)
        failures = run.failures()
        if not succeeded and not failures:
            raise StageError(f"the run stopped without a result; its log is {_log(run)}")
        if failures:
            if succeeded and goal == REPORT and not as_json:
                summarize(run, require_ledger(run), [], as_json=False)
            raise RunFailedError(failures)
        forget_calibrations(run, calibrations)
    if goal != REPORT:
        summarize_part(run, product, made=_time_of(product) != made_before, as_json=as_json)
        return
    ledger = require_ledger(run)
    reasons = judge(ledger, tuple(executor.name for executor in plan.executors))
    summarize(run, ledger, reasons, as_json=as_json)
    if reasons:
        raise GateError("\n".join(reasons))


def forget_calibrations(run: RunFolder, before: tuple[CalibrationEntry, ...]) -> None:
    """Delete and name those of *before* that the ledger no longer holds: they were made from another integer model."""
    held = recorded_calibrations(run.ledger)
    for entry in before:
        if entry not in held:
            if entry.path is not None:
                shutil.rmtree(run.path / Path(entry.path).name, ignore_errors=True)
            typer.echo(
                f"the calibration on {entry.executor} was dropped: the integer model has changed. Calibrate again: "
                f"bitproof calibrate {run.path} --executor {entry.executor}",
                err=True,
            )


def goal_of(plan: RunPlan, until: str | None) -> str:
    """Return the stage or check that is to be carried out last: *until*, or the report.

    Raises:
        ConfigError: this run has no such stage.
    """
    known = (*plan.stage_names, *(executor.check for executor in plan.executors), PARITY, REPORT)
    if until is None:
        return REPORT
    named = plan.executor(until.removeprefix("check-")) if until.startswith("check-") else None
    goal = until if named is None else named.check
    if goal not in known:
        raise ConfigError(f"no stage {until!r} in this run; it has {', '.join(known)}")
    return goal


def way_to(plan: RunPlan, goal: str) -> tuple[str, ...]:
    """Return every stage and check on the way to *goal*, so that one whose result was deleted is carried out again."""
    checked = [e for e in plan.executors if goal in (PARITY, REPORT, e.check)]
    wanted = [executor.source for executor in checked] or [goal]
    if checked:
        wanted.extend(("data", INTEGER))
    if goal in (PARITY, REPORT):
        wanted.extend(plan.network.baselines)
    needed = {stage.name for name in wanted for stage in plan.chain(name)}
    last = {PARITY: (PARITY,), REPORT: (PARITY, REPORT)}.get(goal, ())
    return (*(n for n in plan.stage_names if n in needed), *(executor.check for executor in checked), *last)


def _forget(run: RunFolder, plan: RunPlan) -> None:
    """Delete what an earlier run left of failures, and the marks of what has no result: it is carried out again."""
    for folder in ("failures", "running", "ended"):
        for path in (run.path / folder).glob("*"):
            path.unlink()
    for name in plan.may_fail:
        if not run.file(plan.product_of(name)).is_file():
            run.file(plan.file_of(name)).unlink(missing_ok=True)


def _time_of(file: Path) -> int | None:
    """Return when *file* was written, in nanoseconds; None if there is none."""
    return file.stat().st_mtime_ns if file.is_file() else None


def _log(run: RunFolder) -> Path:
    return run.path / "logs" / "snakemake.log"


def _snakemake(run: RunFolder, plan: RunPlan, names: tuple[str, ...], cores: int | None) -> bool:
    """Carry out what is stale of *names* and say whether that led to the end; Snakemake's own messages go to its log.

    A stage of a target that fails does not keep it from the end.
    """
    succeeded = run_in_foreground(
        [
            sys.executable,
            "-P",
            "-m",
            "snakemake",
            *(plan.file_of(name) for name in names),
            "--snakefile",
            str(SNAKEFILE),
            "--directory",
            str(run.path),
            "--cores",
            str(cores or cpu_count()),
            "--keep-going",
            "--rerun-incomplete",
            "--nolock",  # the run's own lock ends with the process; Snakemake's would outlive a killed one
            "--quiet",
            "all",
        ],
        log=_log(run),
    )
    record_deaths(run)
    return succeeded
