"""The traces that a stage leaves while it runs, so that its death is told even if it cannot tell it itself.

A process that is killed, runs out of memory or crashes in native code writes no failure. It leaves the file
``running/STAGE``, its log, and through the shell that started it its exit code.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from bitproof.pipeline.errors import StageError
from bitproof.pipeline.ledger import FailureEntry
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.toolchain import LOG_TAIL_LINES

BY_SIGNAL = 128
"""A shell adds this to the number of the signal that ended a program."""
MEANINGS = {
    signal.SIGKILL: "something killed it: is the memory full?",
    signal.SIGSEGV: "native code crashed",
    signal.SIGABRT: "native code gave up",
    signal.SIGBUS: "native code crashed, or a disk is full",
    signal.SIGILL: "it has an instruction that this processor lacks",
    signal.SIGFPE: "native code divided by zero",
}


@contextmanager
def logged(run: RunFolder, name: str) -> Iterator[None]:
    """Keep ``running/NAME`` there and write ``logs/NAME.log`` within the block; a crash adds where Python was."""
    marker, log = run.running(name), run.log(name)
    for folder in (marker.parent, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(f"{os.getpid()}\n")
    enabling = not faulthandler.is_enabled()  # who asked for it already has it on standard error
    with log.open("w", buffering=1) as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        root, level = logging.getLogger(), logging.getLogger().level
        # Python shows warnings by its last resort, which steps back if there is another handler.
        added = [handler] if root.handlers or logging.lastResort is None else [handler, logging.lastResort]
        for each in added:
            root.addHandler(each)
        root.setLevel(logging.INFO)
        if enabling:
            faulthandler.enable(file)
        logging.getLogger(__name__).info("stage %s begins, process %d", name, os.getpid())
        try:
            yield
        finally:
            if enabling:
                faulthandler.disable()
            for each in added:
                root.removeHandler(each)
            root.setLevel(level)
            marker.unlink(missing_ok=True)


def record_deaths(run: RunFolder, but: str | None = None) -> None:
    """Record and show every stage of *run* that ended without saying why; all stages have ended, *but* one."""
    known = {failure.stage for failure in run.failures()}
    left = {path.name for folder in ("running", "ended") for path in (run.path / folder).glob("*")}
    for name in sorted(left - known - {but}):
        message = f"its process ended without a result: {_how(run, name)}. {_last_lines(run, name)}"
        entry = FailureEntry(stage=name, exit_code=StageError.exit_code, message=message)
        run.failure(name).parent.mkdir(exist_ok=True)
        run.failure(name).write_text(entry.model_dump_json(indent=2) + "\n")
        typer.echo(f"{name}: {message}", err=True)


def _how(run: RunFolder, name: str) -> str:
    """Return what the exit code tells, if the shell that started the stage lived to leave it."""
    text = run.ended(name).read_text().strip() if run.ended(name).is_file() else ""
    if not text.isdigit():
        return "it was killed, or crashed"
    number = int(text) - BY_SIGNAL
    if number not in {int(known) for known in signal.Signals}:
        return f"exit code {text}"
    known = signal.Signals(number)
    meaning = f" ({MEANINGS[known]})" if known in MEANINGS else ""
    return f"ended by {known.name}{meaning}"


def _last_lines(run: RunFolder, name: str) -> str:
    log = run.log(name)
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    if not lines:
        return f"It wrote no log; that of the run is {run.path / 'logs' / 'snakemake.log'}"
    crashed = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
    # A crash is told by its innermost calls, which faulthandler writes first.
    shown = lines[crashed[-1] :][:LOG_TAIL_LINES] if crashed else lines[-LOG_TAIL_LINES:]
    return "\n".join([f"Its log is {log}; last lines:", *shown])
