"""What a calibration will cost, said beforehand, and how far it is; all on standard error."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@dataclass
class Display:
    """Cost beforehand, and a progress bar with the time left where standard error is a terminal."""

    executor: str
    started: float = field(default_factory=time.monotonic)
    bar: Progress | None = None
    task: TaskID | None = None

    def __enter__(self) -> Display:
        console = Console(stderr=True)
        if console.is_terminal:
            columns = TextColumn(f"calibrating ({self.executor})"), BarColumn(), TimeRemainingColumn()
            self.bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=console, transient=True)
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def announce(self, before: float, evaluations: int, images: int) -> None:
        """Say what follows, and what one programming with the held-out images took."""
        took = time.monotonic() - self.started
        typer.echo(
            f"{self.executor}: loss before {before:.4f}, measured in {took:.2f} s; {evaluations} evaluations of "
            f"{images} images follow (--evaluations changes it)",
            err=True,
        )
        if self.bar is not None:
            self.task = self.bar.add_task("", total=None, note="")

    def progress(self, done: int, total: int, loss: float) -> None:
        """Move the bar."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, total=total, note=f"batch loss {loss:.4f}")
