"""Programs whose signals act as usual, however the tests were started.

A shell without job control starts what it runs in the background with SIGINT ignored, nohup with SIGHUP ignored, and a
process inherits what is ignored or blocked. A test that sends a signal starts its program by this module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_RESET = """
import os, signal, sys
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
os.execv(sys.argv[1], sys.argv[1:])
"""


def with_default_signals(argv: Sequence[str]) -> list[str]:
    """Return an argument list that becomes *argv*, a path first, once no signal is ignored or blocked."""
    return [sys.executable, "-I", "-S", "-c", _RESET, *argv]
