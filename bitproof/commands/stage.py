"""``bitproof stage``: carry out one step of a run, and record its failure where it fails."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import typer

from bitproof.check import run_check, write_result
from bitproof.commands.deaths import logged
from bitproof.commands.parity import record_ledger
from bitproof.commands.report import write_report
from bitproof.extras import missing_package
from bitproof.pipeline.errors import INTERNAL_ERROR, BitproofError, ConfigError, error_of
from bitproof.pipeline.ledger import FailureEntry
from bitproof.pipeline.progress import ProgressLines
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.stage import StagePlan, execute
from bitproof.pipeline.toolchain import distribution_version
from bitproof.pipeline.user_files import blaming_users_lines, users_names
from bitproof.plan import Plan

CHECK_PREFIX = "check-"


def run_stage(slot: str, run_path: Path, *, only: str | None = None) -> None:
    """Carry out *slot* of the run at *run_path*.

    Raises:
        ConfigError: the run has no such slot.
        BitproofError: the step failed; the failure is recorded in the run, too.
        Exception: a bug of ours; it is recorded as one, and its traceback is the command line's to show.
    """
    run = RunFolder.open(run_path)
    if re.fullmatch(r"[A-Za-z0-9_:-]+", slot) is None:  # it becomes part of a file's name
        raise ConfigError(f"{slot!r} is not the name of a stage: letters, digits, '-', '_' and ':' are allowed")
    record = run.failure(slot)
    record.unlink(missing_ok=True)
    started = time.monotonic()
    try:
        with logged(run, slot):
            _dispatch(run, slot, only)
    except Exception as error:
        typer.echo(f"{slot}: failed after {time.monotonic() - started:.1f} s", err=True)
        failure = _failure_of(error, slot)
        if failure is None:
            _record(record, slot, INTERNAL_ERROR, f"a bug of bitproof, {type(error).__name__}: {error}")
            raise
        _record(record, slot, failure.exit_code, str(failure))
        if failure is error:
            raise
        raise failure from error
    typer.echo(f"{slot}: done in {time.monotonic() - started:.1f} s", err=True)


def _failure_of(error: Exception, slot: str) -> BitproofError | None:
    """Return *error* as one for the user; None where it is a bug."""
    if isinstance(error, BitproofError):
        return error
    if isinstance(error, OSError):
        return error_of(error, go_on="nothing half-written is kept, run again")
    return missing_package(error, needed_by=f"stage {slot}") if isinstance(error, ModuleNotFoundError) else None


def _record(path: Path, slot: str, exit_code: int, message: str) -> None:
    entry = FailureEntry(stage=slot, exit_code=exit_code, message=message)
    with suppress(OSError):  # a full disk: the error itself is on its way to the user
        path.parent.mkdir(exist_ok=True)
        path.write_text(entry.model_dump_json(indent=2) + "\n")


def _dispatch(run: RunFolder, slot: str, only: str | None) -> None:
    plan = Plan(run.config())
    with blaming_users_lines(users_names(plan.config)):
        _carry_out(run, plan, slot, only)


def _carry_out(run: RunFolder, plan: Plan, slot: str, only: str | None) -> None:
    if slot.startswith(CHECK_PREFIX):
        executor = plan.executor(slot.removeprefix(CHECK_PREFIX))
        if executor is not None:
            write_result(run_check(run, executor, progress=_lines(slot)), run.check(executor.file_name))
            return
    elif slot == "parity":
        record_ledger(run, None if only is None else tuple(filter(None, only.split(","))))
        return
    elif slot == "report":
        write_report(run)
        return
    elif slot in plan.stage_names:
        _make_artifact(run, plan.stage(slot), plan.config.seed)
        return
    known = [*plan.stage_names, *(CHECK_PREFIX + executor.file_name for executor in plan.executors), "parity", "report"]
    raise ConfigError(f"this run has no stage {slot!r}; it has {', '.join(known)}")


def _make_artifact(run: RunFolder, plan: StagePlan, seed: int) -> None:
    stage = plan.make()
    source = None if plan.source is None else run.artifact(plan.source)
    if source is not None:
        source.verify()
    versions = {name: distribution_version(name) or "not installed" for name in stage.distributions}
    final, progress = run.path / plan.name, _lines(plan.name)
    execute(stage, source, final, seed=seed, versions=versions, name=plan.name, progress=progress)


def _lines(slot: str) -> ProgressLines:
    """Return what says on standard error how far *slot* is."""
    return ProgressLines(slot, partial(typer.echo, err=True))
