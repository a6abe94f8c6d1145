"""Lower and prove one network in a process of its own, and print what it took: time, peak memory, cases."""

from __future__ import annotations

import json
import resource
import sys
import time
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from export.integer import Conv, IntegerModel, MatMul, run
from export.lower import lower_file
from export.lowering import origins_of
from export.proofs import prove_lowering
from export.qonnx import load_qonnx
from export.qonnx_executor import QonnxExecutor

REPEATS = 3


def measure(path: Path, images: int) -> dict[str, Any]:
    """Return what lowering, proofs and *images* images through the interpreter and through qonnx took.

    Times are processor seconds of this process; the memory is its peak, in MiB, before qonnx is imported.
    """
    started = time.process_time()
    lowered = lower_file(path)
    lowering = time.process_time() - started
    proofs = prove_lowering(lowered)
    proving = time.process_time() - started - lowering
    model = lowered.model
    allowed = model.allowed_codes
    codes = np.random.default_rng(0).choice(list(allowed), size=(images, model.inputs)).astype(np.int64)
    interpreting, outputs = _timed(lambda: run(model, codes))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    executor = QonnxExecutor(load_qonnx(path), model, origins_of(lowered))
    executing, expected = _timed(lambda: executor(codes))
    return {
        "lowering_s": lowering,
        "proving_s": proving,
        "interpreting_s": interpreting,
        "qonnx_s": executing,
        "peak_mib": peak,
        "equal_percent": 100 * float((outputs == expected).mean()),
        "cases": sum(proof.cases for proof in proofs),
        "holds": all(proof.holds for proof in proofs),
        "weights": sum(node.weights.size for node in model.nodes if isinstance(node, MatMul | Conv)),
        "macs": macs_of(model),
        "images": images,
    }


def macs_of(model: IntegerModel) -> int:
    """Return the multiplications of one sample, padding included."""
    shapes = model.shapes()
    total = 0
    for node in model.nodes:
        if isinstance(node, MatMul | Conv):
            total += node.weights.size * prod(shapes[node.name][1:])
    return int(total)


def _timed(call: Any) -> tuple[list[float], Any]:  # noqa: ANN401  whatever the call gives
    seconds = []
    result = None
    for _ in range(REPEATS):
        started = time.process_time()
        result = call()
        seconds.append(time.process_time() - started)
    return seconds, result


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
