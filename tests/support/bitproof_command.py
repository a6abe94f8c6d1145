"""The command line: in a process of its own if that can matter, else in this one, which has everything imported."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess  # noqa: TID251  exit codes of the real command line are what is tested
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bitproof.cli import run_command_line
from bitproof.commands import run as run_command
from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import RunPlan

STARTS_NOTHING = ("bitstream", "bundle", "calibrate", "deploy", "explain", "lint", "report", "verify")
"""Commands without Snakemake: what they do in a process of their own, they do in this one."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def bitproof(
    *arguments: object, path: str | None = None, modules: Path | None = None, timeout_s: float = 400
) -> Outcome:
    """Run ``bitproof`` with *arguments*.

    If they are given, *path* is the search path for programs, and *modules* is the first folder of Python modules.
    """
    if path is None and modules is None and arguments[0] in STARTS_NOTHING:
        return _in_this_process(*arguments)
    environment = dict(os.environ)  # noqa: TID251  the environment of a process that is started here
    if path is not None:
        environment["PATH"] = path
    if modules is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(modules), environment.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bitproof", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def scheduled_in_this_process() -> Iterator[None]:
    """Carry out the stages of runs in this process, in the order of the plan, in the place of Snakemake."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_command, "_snakemake", _carry_out)
        yield


def bitproof_without_scheduler(*arguments: object) -> Outcome:
    """Run ``bitproof`` with *arguments* in this process, with a plain loop in the place of Snakemake.

    Every stage is carried out by the command that Snakemake's rules call, in the order of the plan, whether it is stale
    or not: for tests of what the stages say.
    """
    with scheduled_in_this_process():
        return _in_this_process(*arguments)


def _in_this_process(*arguments: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the command line does
        code = run_command_line([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


def _carry_out(run: RunFolder, plan: RunPlan, names: tuple[str, ...], cores: int | None) -> bool:
    for name in names:
        code = run_command_line(["stage", name, "--run", str(run.path)])
        if code and name not in plan.may_fail:
            return False
        if code:
            run.ended(name).parent.mkdir(exist_ok=True)
            run.ended(name).write_text(f"{code}\n")
    return True
