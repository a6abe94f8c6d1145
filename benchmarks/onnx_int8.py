"""The speed of packed-int8 ONNX files beside float32, ``quantize_static`` and other quantized forms, in onnxruntime.

``python -m benchmarks.onnx_int8 [KEY...]`` measures all networks (or those named) and writes
``benchmarks/results/onnx_int8.json``. All forms of a network (:mod:`benchmarks.lab.onnx_forms`) run in one process and
one thread, in turns; a figure is the best of many calls in processor time, a ratio that of two such figures of one
round, and the spread that of the rounds. Weights are initialized, not trained: they decide nothing about the time.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.integer_networks import WHOLE, Subject
from benchmarks.lab.integer_page import fill
from benchmarks.lab.onnx_figures import measure
from benchmarks.lab.onnx_rows import rows_of, tables
from benchmarks.results import Row, write_results
from bitproof.pipeline.config import ModelConfig
from bitproof.yaml_file import read_config

COMMAND = "make bench-onnx"
CONFIGS = Path(__file__).parent.parent / "configs"
PAGE = Path(__file__).parent.parent / "docs" / "onnx-int8.md"
DISTRIBUTIONS = ("onnxruntime", "onnx", "numpy", "torch", "brevitas", "qonnx")
ROUNDS, ROUND_S = 5, 0.4


@dataclass(frozen=True, slots=True)
class Work:
    """A network that is measured.

    Attributes:
        subject: what is built.
        goals: by metric, what the ratio should be.
        samples: how many are compared with the integer model.
        nudged: the network gets whole offsets, as ``train.nudge: whole-offsets`` gives a trained one.
    """

    subject: Subject
    goals: Mapping[str, float]
    samples: int
    nudged: bool = False


def _of_config(name: str) -> Subject:
    config = read_config(CONFIGS / f"{name}.yaml", ())
    return Subject(config.model, (1, 28, 28) if "cnn" in name else (784,), 10, name)


def _eight_bits() -> Subject:
    subject = WHOLE["resnet8"]
    model = ModelConfig.model_validate({**subject.model.model_dump(), "weight_bits": 8, "act_bits": 8})
    return Subject(model, subject.shape, subject.classes, "ResNet-8, 8 bits")


WORKS = {
    "cnn w8w2a4": Work(
        _of_config("fashion_mnist_cnn"),
        {"vs_float32_b1": 1.35, "vs_float32_b64": 1.65, "vs_quantize_static_b1": 1.6, "vs_quantize_static_b64": 1.9}
        | {"file_ratio": 12},
        10_000,
    ),
    "mlp w2a4 (default)": Work(_of_config("fashion_mnist_mlp"), {"vs_float32_b64": 2.5, "file_ratio": 10}, 10_000),
    "resnet8 w4a4": Work(WHOLE["resnet8"], {"vs_float32_b1": 1.5, "vs_float32_b64": 1.8}, 500),
    "resnet8 w8a8": Work(_eight_bits(), {"vs_float32_b64": 1.0}, 500),
    "resnet8 w8a8, nudged": Work(_eight_bits(), {"vs_float32_b64": 1.8}, 500, nudged=True),
    "ds-cnn w4a4": Work(WHOLE["ds-cnn"], {"vs_float32_b64": 1.2}, 500),
    "mobilenet-v1 w4a4": Work(WHOLE["mobilenet-v1"], {"vs_float32_b64": 1.2}, 100),
}


def main(arguments: Sequence[str]) -> None:
    """Measure the works named in *arguments*, or all, and write their rows."""
    unknown = [key for key in arguments if key not in WORKS]
    if unknown:
        sys.exit(f"unknown network {unknown[0]!r}; known: {', '.join(WORKS)}")
    rows: list[Row] = []
    for key in arguments or WORKS:
        print(f"measuring {key}", file=sys.stderr, flush=True)
        rows.extend(_rows(key, WORKS[key]))
    write_results("onnx_int8", rows, command=COMMAND, distributions=DISTRIBUTIONS)
    if not arguments:
        fill(PAGE, "onnx-int8", tables(rows), COMMAND)


def _rows(key: str, work: Work) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        figures = measure(work.subject, work.samples, Path(name), ROUNDS, ROUND_S, nudged=work.nudged)
    return list(rows_of(key, work.goals, figures))


if __name__ == "__main__":
    main(sys.argv[1:])
