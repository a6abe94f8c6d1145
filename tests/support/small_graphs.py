"""What the small graphs that test the lowering are made of, and the registry that they stand in.

Scales are powers of two and sums are small, so float32 evaluates the graphs exactly, whatever the order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from agreement import Subject, codes_at_thresholds, differences, random_codes
from numpy.typing import NDArray
from onnx import TensorProto
from qonnx_files import CUSTOM, QonnxFile

from bitproof.export.proofs import prove_lowering

Array = NDArray[np.float64]
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A graph: its file, the shape of a sample of its input, its output tensor, and the shape and type of that."""

    file: QonnxFile
    inputs: Sizes
    output: str
    outputs: Sizes
    kind: int = TensorProto.FLOAT


CASES: dict[str, Callable[[], Case]] = {}


def case(name: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    def listed(build: Callable[[], Case]) -> Callable[[], Case]:
        assert name not in CASES
        CASES[name] = build
        return build

    return listed


def whole(seed: int, *shape: int, most: int = 3) -> Array:
    """Return whole numbers from -most to most."""
    return np.random.default_rng(seed).integers(-most, most, size=shape, endpoint=True).astype(np.float64)


def norm(*rows: list[float]) -> Array:
    """Return batch-norm parameters whose variances are powers of 4, so that with epsilon 0 float32 is exact."""
    return np.array(rows, dtype=np.float64)


def vector(bits: int = 4, size: int = 6, *, signed: int = 1) -> tuple[QonnxFile, str]:
    file = QonnxFile()
    return file, file.quant("input", 0.25, bits, signed=signed)


def image(*sizes: int, bits: int = 3, signed: int = 1) -> tuple[QonnxFile, str]:
    file = QonnxFile()
    return file, file.quant("input", 0.5, bits, signed=signed)


def product(file: QonnxFile, source: str, seed: int, inputs: int = 6, outputs: int = 4) -> str:
    return file.add("Gemm", [source, file.weights(whole(seed, outputs, inputs) / 2, 0.5, 4)], transB=1)


def convolution(file: QonnxFile, source: str, seed: int, shape: Sizes = (4, 3, 3, 3), **attributes: object) -> str:
    return file.node("Conv", [source, file.weights(whole(seed, *shape) / 2, 0.5, 4)], attributes)


SIGNS = norm([1, -1, 0, -0.5], [0.25, 0.5, -1, 0], [1, -2, 0, 0.5], [1, 4, 1, 0.25])
UPWARD = norm([1, 0.5, 2, 1], [-1, 0.5, 0, 0.25], [0, 1, 0, -1], [4, 1, 4, 1])

PER_CHANNEL = np.array([0.5, 1.0, 2.0, 0.25]).reshape(1, 4)


def per_channel(file: QonnxFile, source: str, **options: float) -> str:
    """Quantize by one scale per channel, whatever the number of spatial axes."""
    axes = 2 if any(node.op_type == "Conv" for node in file.nodes) else 0
    scales = PER_CHANNEL.reshape((1, 4) + (1,) * axes)
    return file.quant(source, scales, 3, signed=1, **options)  # type: ignore[arg-type]


THRESHOLDS = np.sort(whole(5, 4, 5, most=24) / 4, axis=1)


def multi_threshold(thresholds: Array, **attributes: object) -> Callable[[QonnxFile, str], str]:
    def make(file: QonnxFile, source: str) -> str:
        inputs = [source, file.constant(thresholds)]
        return file.node("MultiThreshold", inputs, {"out_dtype": "INT4", **attributes}, CUSTOM)

    return make


def subject_of(folder: Path, graph: Case) -> Subject:
    return Subject.of(graph.file.save(folder / "net" / "m.onnx", graph.inputs, graph.output, graph.outputs, graph.kind))


def agree(folder: Path, graph: Case) -> Subject:
    """Assert that the integer model of *graph* equals qonnx and torch on random, extreme and boundary codes."""
    subject = subject_of(folder, graph)
    codes = np.concatenate([random_codes(subject.model, 1), codes_at_thresholds(subject.model, 2)])
    assert differences(subject, codes) == []
    assert [proof.claim for proof in prove_lowering(subject.lowered) if not proof.holds] == []
    return subject
