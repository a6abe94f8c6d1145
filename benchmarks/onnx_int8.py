"""The speed of packed-int8 ONNX files beside float32, ``quantize_static`` and other quantized forms, in onnxruntime.

``python -m benchmarks.onnx_int8 [KEY...]`` measures all networks (or those named) and writes
``benchmarks/results/onnx_int8.json``. All forms of a network run in one process and one thread, in turns; a figure is
the best of many calls in processor time, a ratio that of two such figures of one round, and the spread that of the
rounds. Weights are initialized, not trained: they decide nothing about the time.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

from benchmarks.lab.integer_networks import WHOLE, Subject, initialized, write_qonnx
from benchmarks.lab.integer_page import fill
from benchmarks.results import Row, write_results
from bitproof.export.integer import IntegerModel, run
from bitproof.export.lower import lower_file
from bitproof.export.onnx_int8 import build
from bitproof.pipeline.config import ModelConfig
from bitproof.yaml_file import read_config

COMMAND = "make bench-onnx"
CONFIGS = Path(__file__).parent.parent / "configs"
OURS, FLOAT, STATIC, OPERATORS, QCDQ = "ours", "float32", "static-qdq", "static-qoperator", "qcdq"
PEERS = {
    FLOAT: "the float network, float32, batch norms folded by onnxruntime",
    STATIC: "onnxruntime's quantize_static, QDQ",
    OPERATORS: "onnxruntime's quantize_static, QOperator",
    QCDQ: "Brevitas' QCDQ export",
}
COMPARED = ("vs_float32", "vs_quantize_static")
BATCHES = (1, 64)
PAGE = Path(__file__).parent.parent / "docs" / "onnx-int8.md"
ROUNDS, ROUND_S = 5, 0.4
SEED = 0


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

    def network(self) -> Any:  # noqa: ANN401  torch is imported on use
        """Return the initialized network."""
        from bitproof.train.nudge import nudge

        network = initialized(self.subject)
        if self.nudged:
            nudge(network, self.subject.inputs, whole_offsets=True)
        return network


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
    write_results("onnx_int8", rows, command=COMMAND, distributions=("onnxruntime", "onnx", "numpy", "brevitas"))
    if not arguments:
        fill(PAGE, "onnx-int8", table(rows), COMMAND)


def table(rows: Sequence[Row]) -> str:
    """Return the table of the page: a line for each network."""
    headings = (
        *("network", "file, bytes", "of float32", "images/s, batch 1 / 64", "float32 = 1, batch 1 / 64"),
        *("quantize_static = 1, batch 1 / 64", "time in bare operators", "load", "codes equal"),
    )
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for key in dict.fromkeys(row.work for row in rows):
        found = {row.metric: row for row in rows if row.work == key}
        speed = " / ".join(f"{found[f'vs_float32_b{batch}'].ours:,.0f}" for batch in BATCHES)
        cells = [key, f"{found['file_ratio'].ours:,.0f}", f"1/{found['file_ratio'].ratio:.1f}", speed]
        cells += [" / ".join(f"{found[f'{name}_b{b}'].ratio:.2f}" for b in BATCHES) for name in COMPARED]
        share, equal = found["share_of_bare_operators"].ours, found["exact_share"]
        cells += [f"{100 * (share or 0):.0f} %", f"{found['load'].ours:.0f} ms", f"{equal.ours:.0%} {equal.unit}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _rows(key: str, work: Work) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters and quantizers about their own insides
        forms, model = _forms(work, Path(name))
        sizes = {form: path.stat().st_size for form, path in forms.items()}
        sessions = {form: _session(path) for form, path in forms.items()}
        load = min(_seconds(lambda: _session(forms[OURS])) for _ in range(5))
        codes = np.random.default_rng(SEED).integers(0, 256, (work.samples, *work.subject.shape)).astype(np.uint8)
        share = _exact_share(sessions[OURS], model, codes)
        bare = _share_of_products(forms[OURS], codes[:64])
        times = {batch: _times(sessions, codes[:batch] if batch <= len(codes) else codes) for batch in BATCHES}
    for batch, rounds in times.items():
        ours = median(each[OURS] for each in rounds)
        statics = [form for form in (STATIC, OPERATORS) if form in sessions]
        best = min(statics, key=lambda form: median(each[form] for each in rounds), default=None)
        for metric, peer in (
            (f"vs_float32_b{batch}", FLOAT),
            (f"vs_quantize_static_b{batch}", best),
            (f"vs_qcdq_b{batch}", QCDQ),
        ):
            if peer not in sessions:
                continue
            ratios = [each[peer] / each[OURS] for each in rounds]
            goal = work.goals.get(metric)
            yield Row(
                work=key,
                metric=metric,
                unit="images per second",
                ours=batch / ours,
                ours_spread=(min(ratios), max(ratios)),
                peer=PEERS[peer],
                peer_value=batch / median(each[peer] for each in rounds),
                ratio=median(ratios),
                goal=None if goal is None else f">= {goal:g}",
                met=None if goal is None else median(ratios) >= goal,
                note="the spread is that of the ratio",
            )
    ratio, goal = sizes[FLOAT] / sizes[OURS], work.goals.get("file_ratio")
    met = None if goal is None else ratio >= goal
    text = None if goal is None else f">= {goal:g}"
    yield Row(key, "file_ratio", "bytes", sizes[OURS], None, PEERS[FLOAT], sizes[FLOAT], ratio, text, met)
    yield Row(
        key,
        "share_of_bare_operators",
        "of the time at batch 64",
        bare,
        goal=">= 0.9",
        met=bare >= 0.9,
        note="time in products, pools, joins and conversions of types over the time in all operators, by its profiler",
    )
    yield Row(key, "exact_share", f"of {work.samples} samples", share, goal="1", met=share == 1)
    yield Row(key, "load", "ms", 1000 * load, goal="< 50", met=load < 0.05)


def _forms(work: Work, folder: Path) -> tuple[dict[str, Path], IntegerModel]:
    """Write every form of the network into *folder*."""
    import torch

    from bitproof.train.models import build_float

    torch.manual_seed(SEED)
    forms = {form: folder / f"{form}.onnx" for form in (OURS, FLOAT, STATIC, OPERATORS, QCDQ)}
    subject, quantized = work.subject, work.network()
    write_qonnx(quantized, (subject.inputs,), folder / "net.onnx")
    model = lower_file(folder / "net.onnx").model
    onnx.save_model(build(model)[0], forms[OURS])
    plain = build_float(subject.model, subject.inputs, subject.classes, subject.shape)
    with torch.no_grad():
        for _ in range(4):
            plain.train()(torch.rand(16, subject.inputs))
    example = torch.zeros(1, subject.inputs)
    torch.onnx.export(
        plain.eval(),
        (example,),
        str(forms[FLOAT]),
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
        opset_version=17,
    )
    _quantize(forms, subject)
    return {form: path for form, path in forms.items() if path.is_file()}, model


def _quantize(forms: Mapping[str, Path], subject: Subject) -> None:
    """Write what onnxruntime's own quantization makes of the float network."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Samples(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            generator = np.random.default_rng(SEED)
            self.left = [generator.random((1, subject.inputs), dtype=np.float32) for _ in range(32)]

        def get_next(self) -> dict[str, Any] | None:
            return {"x": self.left.pop()} if self.left else None

    prepared = forms[FLOAT].with_suffix(".prepared.onnx")
    quant_pre_process(str(forms[FLOAT]), str(prepared), skip_symbolic_shape=True)
    for form, kind in ((STATIC, QuantFormat.QDQ), (OPERATORS, QuantFormat.QOperator)):
        options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
        quantize_static(str(prepared), str(forms[form]), Samples(), quant_format=kind, **options)


def _session(path: Path) -> Any:  # noqa: ANN401  onnxruntime has no types
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _exact_share(session: Any, model: IntegerModel, codes: np.ndarray[Any, Any]) -> float:  # noqa: ANN401
    expected = run(model, codes.reshape(len(codes), -1).astype(np.int64))
    made = [session.run(None, {"codes": codes[start : start + 64]})[0] for start in range(0, len(codes), 64)]
    equal = (np.concatenate(made).reshape(expected.shape) == expected).all(axis=1)
    return float(equal.mean())


BARE = {
    *("QLinearConv", "QGemm", "QLinearAdd", "Conv", "ConvInteger", "MatMulInteger", "MaxPool", "NhwcMaxPool"),
    *("ReduceSum", "Cast", "QuantizeLinear"),
}
"""Operators that multiply, pool, join or make one type of another: a network of these shapes has them anyway."""


def _share_of_products(path: Path, codes: np.ndarray[Any, Any]) -> float:
    """Return the share of the time that is spent in :data:`BARE` operators, of the lower quartiles of 100 calls."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.enable_profiling, options.profile_file_prefix = True, str(path.with_suffix(""))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(100):
        session.run(None, {"codes": codes})
    durations: dict[tuple[str, str], list[int]] = {}
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            durations.setdefault((event["args"]["op_name"], event["name"]), []).append(int(event["dur"]))
    quartiles = {key: sorted(found)[len(found) // 4] for key, found in durations.items()}
    return sum(time for (op, _), time in quartiles.items() if op in BARE) / sum(quartiles.values())


def _times(sessions: Mapping[str, Any], codes: np.ndarray[Any, Any]) -> list[dict[str, float]]:
    """Return for each round the best processor time of a call of each form, in seconds."""
    floats = codes.reshape(len(codes), -1).astype(np.float32) / 255
    calls: dict[str, Callable[[], object]] = {}
    for form, session in sessions.items():
        given = session.get_inputs()[0]
        value = codes if form == OURS else floats
        calls[form] = partial(session.run, None, {given.name: value})
    for call in calls.values():
        call()
    return [{form: _best(call) for form, call in calls.items()} for _ in range(ROUNDS)]


def _best(call: Callable[[], object]) -> float:
    end, best = time.monotonic() + ROUND_S, float("inf")
    while time.monotonic() < end:
        best = min(best, _seconds(call))
    return best


def _seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


if __name__ == "__main__":
    main(sys.argv[1:])
