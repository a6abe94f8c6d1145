"""The whole cost of ``bitproof import``: processor seconds of the command and of every process that it starts.

``python -m benchmarks.lab.import_cost FILE FOLDER [--samples N]`` prints them as JSON. The run is made in FOLDER, new.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitproof.pipeline.toolchain import run_in_foreground

TARGET = "onnx-int8"
NAME = "measured"


def measure(file: Path, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """Import *file* into the new *folder* and return what that took, and what its checks found.

    Returns:
        Processor and wall seconds; ``complete``: whether the command ended with exit code 0; for each check how many
        codes differ of how many; and the stages that failed.
    """
    folder.mkdir()
    command = [sys.executable, "-P", "-m", "bitproof", "import", str(file), "--runs", str(folder), "--name", NAME]
    before, started = _children_s(), time.monotonic()
    complete = run_in_foreground([*command, "--target", TARGET, *options], log=folder / "stdout")
    wall_s, import_s = time.monotonic() - started, _children_s() - before
    ledger = folder / NAME / "ledger.json"
    if not ledger.is_file():
        sys.exit(f"the import of {file} left no ledger; what it said is above")
    checks = json.loads(ledger.read_text())["checks"]
    return {
        "import_s": import_s,
        "wall_s": wall_s,
        "complete": complete,
        "checks": {check["actual"]: [check["differing"], check["compared"]] for check in checks},
        "failed": sorted(path.stem for path in (folder / NAME / "failures").glob("*.json")),
    }


def _children_s() -> float:
    """Return the processor seconds of all child processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
