"""Signals that end this process: it goes the way of Ctrl-C, so that the programs it runs are ended first."""

from __future__ import annotations

import os
import signal
from types import FrameType


class Terminated(BaseException):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        """Hold the exit code that a shell gives for signal *number*."""
        self.exit_code = 128 + number
        super().__init__(f"ended by {signal.Signals(number).name}")


_received: list[int] = []
"""Signals that asked this process to end."""


def interruption_behind(error: BaseException) -> Terminated | KeyboardInterrupt | None:
    """Return the signal or Ctrl-C on whose way *error* was raised; None: there was none.

    A library that is interrupted in an import or a clean-up may raise something else in its place, or catch it.
    """
    if _received:
        return Terminated(_received[0])
    told: BaseException | None = error
    seen: set[int] = set()
    while told is not None and id(told) not in seen:
        if isinstance(told, Terminated | KeyboardInterrupt):
            return told
        seen.add(id(told))
        told = told.__cause__ or told.__context__
    return None


def end_properly_on_signals() -> None:
    """Raise :class:`Terminated` on SIGTERM and SIGHUP, for this process only; one that is ignored (nohup) stays so."""
    owner = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            _received.append(number)
            raise Terminated(number)
        signal.signal(number, signal.SIG_DFL)  # a forked worker ends as it would have
        os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def trust_exit_codes() -> None:
    """Give SIGCHLD its default action: if a launcher left it ignored, every program seems to end with code 0."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
