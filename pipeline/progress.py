"""How far a long piece of work is: what it calls as it goes on, and a display that says when it will be over.

Work that may take longer than two seconds takes a :data:`Progress` and calls it before each of its parts. What is done
with that is the caller's matter: nothing, or :class:`pipeline.commands.progress_display.ProgressDisplay`.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is done next, how many parts are complete, and how many there are."""


def silent(part: str, done: int, total: int) -> None:
    """Show nothing."""
    del part, done, total
