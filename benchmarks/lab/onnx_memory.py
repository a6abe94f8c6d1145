"""The peak memory of a fresh process that opens an ONNX file in onnxruntime and runs one batch.

``python benchmarks/lab/onnx_memory.py FILE BATCH`` prints the peak before and after. It runs as a file, so that nothing
but NumPy and onnxruntime is in the process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TIMEOUT_S = 300
MIB = 1 << 20


def memory_mib(file: Path, batch: int, log: Path) -> tuple[float, float]:
    """Measure *file* on a batch of zeros in a process of its own.

    Returns:
        The peak of Python, NumPy and onnxruntime alone, and by how much *file* raises it, both in MiB.
    """
    from bitproof.pipeline.toolchain import run_program

    command = [sys.executable, str(Path(__file__).resolve()), str(file), str(batch)]
    text = run_program(command, needed_by="make bench-onnx", cwd=file.parent, log=log, timeout_s=TIMEOUT_S)
    found = json.loads(text.splitlines()[-1])
    return found["before"] / MIB, (found["after"] - found["before"]) / MIB


def _measure(file: str, batch: int) -> dict[str, int]:
    """Open *file* and run it once; return the peaks before and after, in bytes."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    before = _peak_bytes()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    kind = np.float32 if given.type == "tensor(float)" else np.uint8
    session.run(None, {given.name: np.zeros((batch, *given.shape[1:]), dtype=kind)})
    return {"before": before, "after": _peak_bytes()}


def _peak_bytes() -> int:
    """Return the peak of this process alone: ``ru_maxrss`` would include that of the process that started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))))
