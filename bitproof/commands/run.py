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
from bitproof.pipeline.executor import ExecutorPlan
from bitproof.pipeline.ledger import CalibrationEntry, FailureEntry, recorded_calibrations
from bitproof.pipeline.run_folder import Config, RunFolder
from bitproof.pipeline.toolchain import cpu_count, require_torch_compiler, run_in_foreground
from bitproof.plan import INTEGER, Plan
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
    plan = Plan(config)
    rehearse_run(RunFolder.named(config.name, runs=runs), config, _slots_of(plan, goal_of(plan, until)))
    carry_out(config, runs=runs, until=until, cores=cores, as_json=as_json)


def carry_out(config: Config, *, runs: Path, until: str | None, cores: int | None, as_json: bool) -> None:
    """Carry out the run of *config* up to *until*, or to the report.

    Raises:
        ConfigError: *until* is not a stage of the run.
        InputError: a network of the user's cannot be built or exported.
        ToolMissingError: the training needs a tool that is not on this machine.
        RunFailedError: a stage failed.
        GateError: a parity check, a proof or a gate does not hold.
    """
    if isinstance(config, RunConfig) and config.train.compile:
        require_torch_compiler("train.compile = true")
    run = RunFolder.named(config.name, runs=runs)
    plan = Plan(config)
    goal = goal_of(plan, until)
    with run.locked():
        made_before = _time_of(run.path / goal)
        run.write_config(config)
        _forget_failures(run)
        calibrations = recorded_calibrations(run.ledger)
        if not _snakemake(run, goals_of(plan, goal, plan.executors), cores):
            failures = run.failures()
            if not failures:
                raise StageError(f"the run stopped without a result; its log is {_log(run)}")
            if goal == "report.html" and _record_what_succeeded(run, plan, cores) and not as_json:
                summarize(run, require_ledger(run), [], as_json=False)
            raise RunFailedError(failures)
        forget_calibrations(run, calibrations)
    if goal != "report.html":
        summarize_part(run, goal, made=_time_of(run.path / goal) != made_before, as_json=as_json)
        return
    ledger = require_ledger(run)
    reasons = judge(ledger, tuple(step.name for step in plan.executors))
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


def goal_of(plan: Plan, until: str | None) -> str:
    """Return the file that Snakemake is to make for the stage *until*; a target's name stands for its last check.

    Raises:
        ConfigError: this run has no such stage.
    """
    executor = None if until is None else plan.executor(until.removeprefix("check-"))
    if until is None or until == "report":
        return "report.html"
    if until == "parity":
        return "ledger.json"
    if until.startswith("check-") and executor is not None:
        return f"checks/{executor.file_name}.json"
    if until in plan.stage_names:
        return f"{until}/artifact.json"
    known = [*plan.stage_names, *(f"check-{other.file_name}" for other in plan.executors), "parity", "report"]
    raise ConfigError(f"no stage {until!r} in this run; it has {', '.join(known)}")


def _slots_of(plan: Plan, goal: str) -> frozenset[str]:
    """Return the slots that the way to *goal* leads over."""
    files = goals_of(plan, goal, plan.executors)
    return frozenset(file.removesuffix("/artifact.json") for file in files if file.endswith("/artifact.json"))


def _forget_failures(run: RunFolder) -> None:
    for folder in ("failures", "running", "ended"):
        for path in (run.path / folder).glob("*"):
            path.unlink()


def _time_of(file: Path) -> int | None:
    """Return when *file* was written, in nanoseconds; None where there is none."""
    return file.stat().st_mtime_ns if file.is_file() else None


def _record_what_succeeded(run: RunFolder, plan: Plan, cores: int | None) -> bool:
    """Write ledger and report with the executors whose checks are complete; failed ones are listed as failures.

    Returns:
        Whether they were written: not where a stage failed that all executors need.
    """
    failed = {failure.stage for failure in run.failures()}
    needed = {*(stage.name for stage in plan.network.stages), INTEGER, "parity", "report"}
    if failed & needed:
        return False
    fine = tuple(
        executor
        for executor in plan.executors
        if not failed & {f"check-{executor.file_name}", *(stage.name for stage in plan.chain(executor.source))}
    )
    names = ",".join(executor.file_name for executor in fine)
    return _snakemake(run, goals_of(plan, "report.html", fine), cores, "--config", f"checks={names}")


def _log(run: RunFolder) -> Path:
    return run.path / "logs" / "snakemake.log"


def goals_of(plan: Plan, goal: str, executors: tuple[ExecutorPlan, ...]) -> list[str]:
    """Return every file on the way to *goal*, so that one that was deleted is made again, whatever came of it before.

    *executors* are those whose checks the ledger is to hold.
    """
    if goal in ("report.html", "ledger.json"):
        checked = executors
        wanted = [*plan.network.baselines, *(executor.source for executor in executors)]
    else:
        checked = tuple(executor for executor in executors if goal == f"checks/{executor.file_name}.json")
        wanted = [executor.source for executor in checked] or [goal.removesuffix("/artifact.json")]
    if checked:
        wanted.extend(("data", INTEGER))
    needed = {stage.name for name in wanted for stage in plan.chain(name)}
    artifacts = [f"{name}/artifact.json" for name in plan.stage_names if name in needed]
    checks = [f"checks/{executor.file_name}.json" for executor in checked]
    results = ["ledger.json"] if goal == "report.html" else []
    return list(dict.fromkeys([*artifacts, *checks, *results, goal]))


def _snakemake(run: RunFolder, goals: list[str], cores: int | None, *extra: str) -> bool:
    """Bring *goals* up to date and say whether that succeeded; Snakemake's own messages go to its log."""
    succeeded = run_in_foreground(
        [
            sys.executable,
            "-P",
            "-m",
            "snakemake",
            *goals,
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
            *extra,
        ],
        log=_log(run),
    )
    if not succeeded:
        record_deaths(run)
    return succeeded
