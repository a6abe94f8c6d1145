"""The progress of a long piece of work: what it calls meanwhile, and the lines that say when it will be over.

Work that may take longer than two seconds takes a :data:`Progress` and calls it before each of its parts. Stages run in
processes of their own, several at a time, on one terminal: each says in whole lines what it does and what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

Progress = Callable[[str, int, int], None]
"""Called with what is done next, how many parts are complete, and how many there are."""

QUIET_S = 2.0
"""Work that is over within this time says nothing."""
BETWEEN_S = 5.0
"""Least time between two lines."""


def silent(part: str, done: int, total: int) -> None:
    """Show nothing."""
    del part, done, total


@runtime_checkable
class ShowsProgress(Protocol):
    """An executor that says how far it is with the samples that it runs; :func:`silent` until it is told otherwise."""

    progress: Progress


@dataclass
class ProgressLines:
    """A :data:`Progress` that says at most every five seconds what is done, how far it is, and the time that is left.

    The time left is that of the parts that are complete, scaled; a new number of parts begins a new piece of work, and
    so does its first part. Parts may be weighed: then all counts are sums of weights.

    Attributes:
        label: whose work it is.
        say: takes one line.
        clock: seconds, monotonic.
    """

    label: str
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _began: tuple[int, int, float] | None = field(default=None, init=False)
    _said: float | None = field(default=None, init=False)

    def __call__(self, part: str, done: int, total: int) -> None:
        """Note that *done* of *total* parts are complete and that *part* is next."""
        now = self.clock()
        if self._began is None or self._began[1] != total or done <= self._began[0]:
            self._began = (done, total, now)
            return
        first, _, since = self._began
        elapsed = now - since
        if elapsed < QUIET_S or (self._said is not None and now - self._said < BETWEEN_S):
            return
        self._said = now
        left = elapsed * (total - done) / (done - first)
        self.say(f"{self.label}: {part}, {100 * done // total} % done, about {left:.0f} s left")
