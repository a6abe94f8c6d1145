"""Import many damaged files in a process of its own, bounded in time and memory, and print what came of them as JSON.

``python fuzz_import.py FIRST LAST`` takes the seeds from FIRST up to, not including, LAST.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType

import onnx
from foreign_files import FILES
from mutate_onnx import mutate
from qonnx_files import random_mlp

from bitproof.export.importer import find_input_quantizer, normalize
from bitproof.export.lower import lower
from bitproof.export.qonnx import load_qonnx
from bitproof.pipeline import BitproofError

SECONDS = 10
MEMORY_BYTES = 6 << 30
"""Of addresses; what is really used is printed."""


class TooSlowError(Exception):
    """One file took longer than :data:`SECONDS`."""


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlowError


def files(folder: Path) -> list[bytes]:
    """Return the undamaged files."""
    mlp = random_mlp(folder / "mlp.onnx", 3).read_bytes()
    return [*(make().SerializeToString() for make in FILES.values()), mlp]


def attempt(content: bytes, path: Path) -> str:
    """Import *content* by way of *path*; return how far it came."""
    path.write_bytes(content)
    try:
        model = load_qonnx(path)
    except BitproofError:
        return "not read"
    try:
        normalized = normalize(model)
        find_input_quantizer(normalized)
    except BitproofError:
        return "not normalized"
    onnx.save_model(normalized, path)
    try:
        lower(path)
    except BitproofError:
        return "not lowered"
    return "lowered"


def _described(seed: int, error: Exception) -> dict[str, str | int]:
    """Say where *error* came from; *stage* is the part of the project that was called."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/export/" in frame.filename] or frames
    return {
        "seed": seed,
        "error": f"{type(error).__name__}: {error}"[:200],
        "stage": "lowering" if "/export/lower" in ours[0].filename else "import",
        "where": f"{ours[-1].filename}:{ours[-1].lineno}",
    }


def _peak_bytes() -> int:
    """Return the peak of this process alone: ``ru_maxrss`` would include that of the process that started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) << 10


def main(first: int, last: int) -> None:
    """Attempt the seeds from *first* to *last* - 1."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _stop)
    outcomes: Counter[str] = Counter()
    failures: list[dict[str, str | int]] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        originals = files(Path(name))
        for seed in range(first, last):
            sys.stderr.write(f"{seed}\n")  # where a crash of the process happened
            content = mutate(originals, seed)
            started = time.monotonic()
            signal.alarm(SECONDS)
            try:
                outcomes[attempt(content, Path(name) / "damaged.onnx")] += 1
            except Exception as error:  # noqa: BLE001  any that is not ours is what is looked for
                failures.append(_described(seed, error))
            finally:
                signal.alarm(0)
            slowest = max(slowest, time.monotonic() - started)
    result = {"outcomes": outcomes, "failures": failures, "slowest_s": slowest, "peak_bytes": _peak_bytes()}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
