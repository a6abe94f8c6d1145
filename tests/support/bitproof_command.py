"""The real command line in a process of its own."""

from __future__ import annotations

import os
import subprocess  # noqa: TID251  exit codes of the real command line are what is tested
import sys
from dataclasses import dataclass
from pathlib import Path


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
