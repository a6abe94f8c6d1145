"""A run that is killed again and again, in every stage, ends with the ledger of the undisturbed run.

``make soak`` kills it 60 times; without options it is killed in a few of its stages.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess  # noqa: TID251  signals to the real command line are what is tested
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bitproof_command import bitproof
from default_signals import with_default_signals
from processes import left_in, working_in

from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import PARITY, REPORT, RunPlan

pytestmark = [pytest.mark.tool, pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.xdist_group("digits_run")]

ENDINGS = {
    signal.SIGINT: (130, ["error: interrupted; run the same command again to resume"]),
    signal.SIGTERM: (143, ["error: ended by SIGTERM; run the same command again to resume"]),
    signal.SIGHUP: (129, ["error: ended by SIGHUP; run the same command again to resume"]),
    signal.SIGKILL: (-signal.SIGKILL, []),
}
"""Exit code and lines of error of a run that is told to end."""
SEED = 20
DURATION_S = 6.0
"""A kill falls into the first seconds of its stage, of which the process's own start takes about two."""
PATIENCE_S = 60.0


def steps_of(run: Path) -> list[str]:
    """Return every stage and check of *run*, in its order."""
    plan = RunPlan(RunFolder(run).config())
    return [*plan.stage_names, *(executor.check for executor in plan.executors), PARITY, REPORT]


def spread(steps: list[str], kills: int, draw: random.Random) -> list[str]:
    """Return *kills* of *steps*, in their order: each as often as the others, or once more."""
    chosen = [*steps * (kills // len(steps)), *draw.sample(steps, kills % len(steps))]
    return sorted(chosen, key=steps.index)


@contextmanager
def started(command: list[object], runs: Path, step: str) -> Iterator[tuple[subprocess.Popen[str], int | None]]:
    """Start *command* up to *step*; yield it, and the process of that step once it runs, None if it ended before.

    What the step made before is deleted: a kill may have met it when it was done.
    """
    if (runs / "digits_mlp" / "config.json").is_file():
        product_of(runs / "digits_mlp", step).unlink(missing_ok=True)
    argv = [sys.executable, "-P", "-m", "bitproof", *map(str, command), "--runs", str(runs), "--until", step]
    with subprocess.Popen(
        with_default_signals(argv), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, _process_of(step, runs, process)
        finally:
            process.kill()


def _process_of(step: str, runs: Path, process: subprocess.Popen[str]) -> int | None:
    while process.poll() is None:
        for number, line in working_in(runs).items():
            if line.endswith(f" -m bitproof stage --run . {step} "):
                return number
        time.sleep(0.02)
    return None


def manifest_times(run: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in run.glob("*/artifact.json")}


def product_of(run: Path, step: str) -> Path:
    """Return the file that says that *step* of *run* is done."""
    return RunFolder(run).file(RunPlan(RunFolder(run).config()).product_of(step))


def kill_the_run(command: list[object], run: Path, step: str, draw: random.Random) -> None:
    """Tell a run to end, by one of four signals, while *step* is carried out; nothing may keep running."""
    number = draw.choice(list(ENDINGS))
    code, said = ENDINGS[number]
    with started(command, run.parent, step) as (process, found):
        assert found is not None, f"{step} was not carried out: {process.communicate()[1]}"
        finished = manifest_times(run)
        time.sleep(draw.uniform(0, DURATION_S))
        process.send_signal(number)  # to this process alone, not to its group
        _, err = process.communicate(timeout=PATIENCE_S)
    assert left_in(run, PATIENCE_S) == []
    assert finished.items() <= manifest_times(run).items(), "what was finished is not made again"
    errors = [line for line in err.splitlines() if "error" in line]
    # It was faster: there is a result, and the signal, if it met the process at all, met it on its way out.
    if errors or process.returncode not in (0, -number) or not product_of(run, step).is_file():
        assert (process.returncode, errors) == (code, said), err


def kill_the_step(command: list[object], run: Path, step: str, draw: random.Random) -> None:
    """Kill the process of *step* alone, as the system does when the memory is full: the run says so and ends."""
    with started(command, run.parent, step) as (process, found):
        assert found is not None, f"{step} was not carried out: {process.communicate()[1]}"
        time.sleep(draw.uniform(0, DURATION_S / 4))
        try:
            os.kill(found, signal.SIGKILL)
            killed = True
        except ProcessLookupError:
            killed = False
        _, err = process.communicate(timeout=PATIENCE_S)
    assert left_in(run, PATIENCE_S) == []
    if process.returncode:
        assert killed, err
        assert process.returncode == 4, err
        assert f"{step}: its process ended without a result: ended by SIGKILL" in err


def test_a_run_that_is_killed_again_and_again_ends_with_the_undisturbed_ledger(
    digits_run: Path, digits_command: list[object], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    draw, run, steps = random.Random(SEED), tmp_path / "digits_mlp", steps_of(digits_run)
    kills = [(kill_the_run, step) for step in spread(steps, pytestconfig.getoption("kills"), draw)]
    kills += [(kill_the_step, step) for step in spread(steps, pytestconfig.getoption("stage_kills"), draw)]
    for kill, step in sorted(kills, key=lambda each: steps.index(each[1])):
        kill(digits_command, run, step, draw)
    outcome = bitproof(*digits_command, "--runs", run.parent)
    assert outcome.code == 0, outcome.err
    for file in ("ledger.json", "report.html"):
        assert (run / file).read_bytes() == (digits_run / file).read_bytes()
    assert not [path for path in run.rglob("*") if path.suffix == ".partial"]
