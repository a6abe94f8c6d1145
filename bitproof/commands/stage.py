"""``bitproof stage``: carry out one step of a run, and record its failure if it fails."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import typer

from bitproof.check import run_check, write_result
from bitproof.commands.deaths import logged, record_deaths
from bitproof.commands.parity import record_ledger
from bitproof.commands.report import write_report
from bitproof.extras import missing_package
from bitproof.pipeline.errors import INTERNAL_ERROR, BitproofError, ConfigError, error_of
from bitproof.pipeline.ledger import FailureEntry
from bitproof.pipeline.progress import ProgressLines
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.signals import interruption_behind
from bitproof.pipeline.stage import StagePlan, execute
from bitproof.pipeline.toolchain import distribution_version
from bitproof.pipeline.user_files import blaming_users_lines, users_names
from bitproof.plan import RunPlan


def run_stage(name: str, run_path: Path) -> None:
    """Carry out the stage or check *name* of the run at *run_path*; a stage of which an earlier one failed is left out.

    Raises:
        ConfigError: the run has no such stage.
        BitproofError: the step failed; the failure is recorded in the run, too.
        Exception: a bug of ours; it is recorded as one, and its traceback is the command line's to show.
    """
    run = RunFolder.open(run_path)
    if re.fullmatch(r"[A-Za-z0-9_:-]+", name) is None:  # it becomes part of a file's name
        raise ConfigError(f"{name!r} is not the name of a stage: letters, digits, '-', '_' and ':' are allowed")
    record = run.failure(name)
    for left in (record, run.ended(name)):  # of an earlier attempt
        left.unlink(missing_ok=True)
    plan = RunPlan(run.config())
    if _is_left_out(run, plan, name):
        return
    started = time.monotonic()
    try:
        with logged(run, name), blaming_users_lines(users_names(plan.config)):
            _carry_out(run, plan, name)
    except Exception as error:
        told = interruption_behind(error)
        if told is not None:
            raise told from error
        typer.echo(f"{name}: failed after {time.monotonic() - started:.1f} s", err=True)
        failure = _failure_of(error, name)
        if failure is None:
            _record(record, name, INTERNAL_ERROR, f"a bug of bitproof, {type(error).__name__}: {error}")
            raise
        _record(record, name, failure.exit_code, str(failure))
        if failure is error:
            raise
        raise failure from error
    typer.echo(f"{name}: done in {time.monotonic() - started:.1f} s", err=True)


def _failure_of(error: Exception, name: str) -> BitproofError | None:
    """Return *error* as one for the user; None if it is a bug."""
    if isinstance(error, BitproofError):
        return error
    if isinstance(error, OSError):
        return error_of(error, go_on="nothing half-written is kept, run again")
    return missing_package(error, needed_by=f"stage {name}") if isinstance(error, ModuleNotFoundError) else None


def _record(path: Path, name: str, exit_code: int, message: str) -> None:
    entry = FailureEntry(stage=name, exit_code=exit_code, message=message)
    with suppress(OSError):  # a full disk: the error itself is on its way to the user
        path.parent.mkdir(exist_ok=True)
        path.write_text(entry.model_dump_json(indent=2) + "\n")


def _is_left_out(run: RunFolder, plan: RunPlan, name: str) -> bool:
    """Tell whether a stage that *name* is made from failed. What an earlier run made of it is not of this run."""
    if name not in plan.may_fail:
        return False
    run.file(plan.product_of(name)).unlink(missing_ok=True)
    return bool({stage.name for stage in plan.chain_of(name)} & run.failed())


def _carry_out(run: RunFolder, plan: RunPlan, name: str) -> None:
    executor = next((executor for executor in plan.executors if executor.check == name), None)
    if executor is not None:
        write_result(run_check(run, executor, progress=_lines(name)), run.check(executor.file_name))
    elif name == "parity":
        record_deaths(run, but=name)
        record_ledger(run)
    elif name == "report":
        write_report(run)
    elif name in plan.stage_names:
        _make_artifact(run, plan.stage(name), plan.config.seed)
    else:
        known = ", ".join((*plan.stage_names, *(executor.check for executor in plan.executors), "parity", "report"))
        raise ConfigError(f"this run has no stage {name!r}; it has {known}")


def _make_artifact(run: RunFolder, plan: StagePlan, seed: int) -> None:
    stage = plan.make()
    source = None if plan.source is None else run.artifact(plan.source)
    if source is not None:
        source.verify()
    versions = {name: distribution_version(name) or "not installed" for name in stage.distributions}
    final, progress = run.path / plan.name, _lines(plan.name)
    execute(stage, source, final, seed=seed, versions=versions, name=plan.name, progress=progress)


def _lines(name: str) -> ProgressLines:
    """Return what says on standard error how far the stage or check *name* is."""
    return ProgressLines(name, partial(typer.echo, err=True))
