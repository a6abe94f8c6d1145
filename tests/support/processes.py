"""The processes that work in a folder: what a run that was told to end must not leave behind."""

from __future__ import annotations

import time
from pathlib import Path


def working_in(folder: Path) -> dict[int, str]:
    """Return the processes whose current folder is in *folder*, or whose command names it, with their commands."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            if not process.name.isdigit():
                continue
            command = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
            if (process / "cwd").readlink().is_relative_to(folder) or f"{folder}/" in command:
                found[int(process.name)] = command
        except OSError:
            continue  # it has ended, or is not ours to look at
    return found


def left_in(folder: Path, patience_s: float) -> list[str]:
    """Return the commands that still work in *folder* after *patience_s*, in seconds; none, as soon as none does."""
    deadline = time.monotonic() + patience_s
    while (found := working_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return list(found.values())
