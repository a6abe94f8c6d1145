"""The displays of a training: a progress bar with an ETA on standard error, and each epoch as CSV and for TensorBoard.

Both logs hold times, so they lie in the stage's scratch folder, which is not hashed; ``metrics.json`` has the same
epochs without times.
"""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from bitproof.train.estimators import Estimator, Guided, Memory, Ramp
from bitproof.train.training_state import Entry, TrainingState

_log = logging.getLogger(__name__)

CSV = "epochs.csv"
TENSORBOARD = "tensorboard"
STEPS_PER_S = "steps_per_s"
SCHEDULED = ("alpha", "beta", "delta")
"""Numbers of an estimator that change over its phase."""


class EpochLog:
    """Writes ``epochs.csv`` and TensorBoard events into one folder.

    A resumed training writes the epochs before the interruption again, without their speed.
    """

    def __init__(self, folder: Path, history: Sequence[Entry]) -> None:
        self._csv = folder / CSV
        self._rows: list[Entry] = []
        self._writer = SummaryWriter(str(folder / TENSORBOARD))
        for entry in history:
            self.add(entry)

    def add(self, row: Entry) -> None:
        """Add the line of one epoch."""
        self._rows.append(row)
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        partial = self._csv.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self._csv)
        for key, value in row.items():
            if isinstance(value, str):
                self._writer.add_text(key, value, int(row["epoch"]))
            elif key != "epoch":
                self._writer.add_scalar(key, value, int(row["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


@contextmanager
def watched(label: str, state: TrainingState, total: int, logs: Path | None) -> Iterator[Callable[[bool], None]]:
    """Yield what is called after every step of *total*, with whether it ended an epoch.

    The bar shows nothing if standard error is not a terminal. Without *logs*, an existing folder, nothing is shown
    or logged: that is how all processes but the first train.
    """
    console = Console(stderr=True)
    columns = TextColumn(f"training ({label})"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}")
    hidden = logs is None or not console.is_terminal
    log = None if logs is None else EpochLog(logs, state.history)
    since, first_step = time.monotonic(), state.step
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        bar = progress.add_task(label, total=total, completed=state.step, note="")

        def watch(ends_epoch: bool) -> None:
            nonlocal since, first_step
            progress.update(bar, completed=state.step)
            if not ends_epoch:
                return
            entry = state.history[-1]
            loss, accuracy = float(entry["train_loss"]), float(entry["validation_accuracy"])
            note = f"epoch {entry['epoch']}, loss {loss:.3f}, validation {accuracy:.2f} %"
            progress.update(bar, note=note)
            if logs is not None:
                _log.info("training (%s): %s", label, note)
            if log is not None:
                log.add({**entry, STEPS_PER_S: (state.step - first_step) / max(time.monotonic() - since, 1e-9)})
            since, first_step = time.monotonic(), state.step

        try:
            yield watch
        finally:
            if log is not None:
                log.close()


def readings(estimator: Estimator, progress: float, memory: Memory) -> Entry:
    """Return the class of *estimator* and what it schedules, at *progress*, 0 to 1, or measures, in *memory*."""
    found: Entry = {"estimator": type(estimator).__name__}
    for part in (getattr(estimator, "zeroth", None), estimator):
        ramps = {name: getattr(part, name, None) for name in SCHEDULED}
        found |= {name: ramp.at(progress) for name, ramp in ramps.items() if isinstance(ramp, Ramp)}
    if isinstance(estimator, Guided) and estimator.beta is None:
        found["noise"] = estimator.noise * progress
    return found | {name: float(memory[name]) for name in SCHEDULED if name in memory}
