"""The cost of one network in a fresh process: lowering, proofs, memory, interpreter, and qonnx on the same codes.

``python -m benchmarks.lab.integer_cost FILE IMAGES PEER`` prints the figures as JSON; PEER is 1 to run qonnx too.
PyTorch is never imported here, and qonnx and onnxruntime only after the memory was read: it is the lowering's own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bitproof.export.integer import IntegerModel, Threshold, run, trace
from bitproof.export.lower import lower_file
from bitproof.export.lowering import origins_of
from bitproof.export.proofs import prove_lowering
from bitproof.export.qonnx import load_qonnx
from bitproof.export.qonnx_executor import QonnxExecutor
from bitproof.pipeline import Codes

Result = TypeVar("Result")
REPEATS = 3
HEAVY = ("torch", "brevitas", "qonnx", "onnxruntime")


def measure(path: Path, images: int, *, peer: bool) -> dict[str, Any]:
    """Return what the QONNX file at *path* costs; times are processor seconds, memory is the peak in MiB.

    The codes are drawn uniformly by a fixed seed. The interpreter, and qonnx if *peer* is true, take the same codes, in
    turn, three times.
    """
    lowering, lowered = _timed(lambda: lower_file(path))
    proving, proofs = _timed(lambda: prove_lowering(lowered))
    peak_mib, model = _peak_mib(), lowered.model
    allowed = model.allowed_codes
    codes = allowed.start + allowed.step * np.random.default_rng(0).integers(len(allowed), size=(images, model.inputs))
    first, outputs = _timed(lambda: run(model, codes))
    found: dict[str, Any] = {
        "lowering_s": lowering,
        "proving_s": proving,
        "peak_mib": peak_mib,
        "proofs": len(proofs),
        "holding": sum(proof.holds for proof in proofs),
        "cases": sum(proof.cases for proof in proofs),
        "accumulators": _reachable(model),
        "weights": sum(node.weights.size for node in model.products),
        "macs": macs_of(model),
        "images": images,
        "interpreter_s": [first],
        "interpreter_peak_mib": _peak_mib(),
    }
    loaded = [name for name in HEAVY if name in sys.modules]
    assert not loaded, f"{loaded} was imported before the memory was read"
    executor = QonnxExecutor(load_qonnx(path), model, origins_of(lowered))
    if peer:
        executor(codes[:1])  # imports qonnx
        seconds, expected = _timed(lambda: executor(codes))
        found |= {"qonnx_s": [seconds], "codes": outputs.size, "distinct": len(np.unique(outputs, axis=0))}
        unequal = (outputs != expected).any(axis=1)
        found |= {"unequal": int((outputs != expected).sum()), "unequal_images": int(unequal.sum())}
        found["partings"] = partings(model, executor, codes[unequal])
    for _ in range(REPEATS - 1):
        found["interpreter_s"].append(_timed(lambda: run(model, codes))[0])
        if peer:
            found["qonnx_s"].append(_timed(lambda: executor(codes))[0])
    return found


def partings(model: IntegerModel, executor: QonnxExecutor, codes: Codes) -> list[dict[str, Any]]:
    """Return where the samples *codes*, whose outputs differ, first diverge: each accumulator once.

    ``explained`` says that everything before is equal and that the file's float32 chain, run on this accumulator alone,
    gives the other code: the exact thresholds are the definition, so this is qonnx's rounding and nothing else.
    """
    found: dict[tuple[str, int, int], dict[str, Any]] = {}
    for sample in codes:
        ours, theirs = trace(model, sample[None]), executor.trace(sample[None])
        for node, (source, *_) in model.wired():
            if node.name not in theirs or (ours[node.name] == theirs[node.name]).all():
                continue
            assert isinstance(node, Threshold), f"{node.name} ({node.op}) of qonnx differs on equal inputs"
            for _, channel, *at in np.argwhere(ours[node.name] != theirs[node.name]):
                where = (0, channel, *at)
                accumulator = int(ours[source][where])
                if (node.name, int(channel), accumulator) in found:
                    continue
                alone = executor.requantize(node.name, accumulator, accumulator)[0, channel]
                found[node.name, int(channel), accumulator] = {
                    "layer": node.name,
                    "channel": int(channel),
                    "accumulator": accumulator,
                    "exact": int(ours[node.name][where]),
                    "qonnx": int(theirs[node.name][where]),
                    "explained": bool(alone == theirs[node.name][where]),
                }
            break
    return list(found.values())


def macs_of(model: IntegerModel) -> int:
    """Return the multiplications of one sample, padding included."""
    shapes = model.shapes()
    return int(sum(node.weights.size * prod(shapes[node.name][1:]) for node in model.products))


def _reachable(model: IntegerModel) -> int:
    """Return how many accumulators reach the activations, over all channels."""
    sources = [model.values[model.sources(node.name)[0]].ranges for node in model.nodes_of(Threshold)]
    return sum(interval.high - interval.low + 1 for source in sources for interval in source)


def _timed(call: Callable[[], Result]) -> tuple[float, Result]:
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def _peak_mib() -> float:
    """Return the peak of this process alone: ``ru_maxrss`` would include that of the process that started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), peer=sys.argv[3] == "1")))
