"""The forms of a network that ``make bench-onnx`` compares: ours, float32, and what other tools make of the same.

Two of them are forms of the same quantized network, with float32 arithmetic between QuantizeLinear, Clip and
DequantizeLinear (QCDQ): Brevitas' own export, and what qonnx makes of the QONNX file. Only they can give the same
classes. ``quantize_static`` starts from the float network, so it is compared in time alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.lab.integer_networks import Subject, initialized, write_qonnx
from benchmarks.lab.onnx_times import session_of
from bitproof.export.integer import IntegerModel
from bitproof.export.lower import lower_file
from bitproof.export.onnx_int8 import build
from bitproof.export.qonnx import clean
from bitproof.pipeline import StageError

OURS, FLOAT = "ours", "float32"
STATIC, OPERATORS, QCDQ, QUANT_TO_QCDQ = "static_qdq", "static_qoperator", "qcdq", "quant_to_qcdq"
PEERS: Mapping[str, str] = {
    FLOAT: "the float network, float32, batch norms folded",
    STATIC: "onnxruntime's quantize_static, QDQ",
    OPERATORS: "onnxruntime's quantize_static, QOperator",
    QCDQ: "Brevitas' QCDQ export, its batch size made free",
    QUANT_TO_QCDQ: "qonnx's QuantToQCDQ on the QONNX file",
}
SAME_NETWORK = (QCDQ, QUANT_TO_QCDQ)
"""Peers that compute the quantized network itself."""
OPSET = 18
"""Of the QCDQ export: torch's exporter writes no older one."""
SEED, CALIBRATION_SAMPLES = 0, 32


@dataclass(frozen=True, slots=True)
class Forms:
    """A network in all its forms.

    Attributes:
        model: the integer model.
        files: by form, each opened by onnxruntime once.
        missing: by peer that cannot give the network, what it says.
    """

    model: IntegerModel
    files: Mapping[str, Path]
    missing: Mapping[str, str]


def quantized_network(subject: Subject, *, nudged: bool) -> Any:  # noqa: ANN401  torch is imported on use
    """Return the initialized network of *subject*.

    If it is *nudged*, it has whole offsets, as ``train.nudge: whole-offsets`` gives a trained one.
    """
    from bitproof.train.nudge import nudge

    network = initialized(subject)
    if nudged:
        nudge(network, subject.inputs, whole_offsets=True)
    return network


def write_forms(subject: Subject, folder: Path, *, nudged: bool = False) -> Forms:
    """Write every form of *subject* into the existing *folder*; *nudged*: see :func:`quantized_network`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters and quantizers about their own insides
        quantized, qonnx = quantized_network(subject, nudged=nudged), folder / "net.onnx"
        write_qonnx(quantized, (subject.inputs,), qonnx)
        model = lower_file(qonnx).model
        onnx.save_model(build(model)[0], folder / f"{OURS}.onnx")
        _write_float(subject, folder / f"{FLOAT}.onnx")
        prepared = _prepared(folder / f"{FLOAT}.onnx")
        peers: Mapping[str, Callable[[Path], None]] = {
            STATIC: partial(_write_static, prepared, subject, "QDQ"),
            OPERATORS: partial(_write_static, prepared, subject, "QOperator"),
            QCDQ: partial(_write_qcdq, quantized, subject),
            QUANT_TO_QCDQ: partial(_write_quant_to_qcdq, qonnx),
        }
        files, missing = {form: folder / f"{form}.onnx" for form in (OURS, FLOAT)}, {}
        for form, write in peers.items():
            try:
                files[form] = _written(write, folder / f"{form}.onnx")
            except StageError as error:
                files.pop(form, None)
                missing[form] = str(error)
    return Forms(model, files, missing)


def _written(write: Callable[[Path], None], path: Path) -> Path:
    """Let a peer *write* its form, open it once, and return *path*.

    Raises:
        StageError: the peer cannot write the network, or onnxruntime cannot open what it wrote.
    """
    try:
        write(path)
        session_of(path)
    except Exception as error:  # tools of others, whose exceptions have no common base
        raise StageError((str(error) or type(error).__name__).splitlines()[0]) from error
    return path


def _write_float(subject: Subject, path: Path) -> None:
    """Write the float network, whose batch norms have seen random inputs."""
    import torch

    from bitproof.train.models import build_float

    torch.manual_seed(SEED)
    network = build_float(subject.model, subject.inputs, subject.classes, subject.shape)
    with torch.no_grad():
        for _ in range(4):
            network.train()(torch.rand(16, subject.inputs))
    names: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    example = (torch.zeros(1, subject.inputs),)
    torch.onnx.export(_folded(network.eval()), example, str(path), dynamo=False, opset_version=17, **names)


def _folded(network: Any) -> Any:  # noqa: ANN401
    """Fold batch norms into the linear layers before them; into convolutions the exporter does.

    onnxruntime does it, too, but not before it quantizes: ``quantize_static`` would get codes back to float for them.
    """
    from torch import nn
    from torch.nn.utils import fuse_linear_bn_eval

    for block in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for place, (linear, norm) in enumerate(pairwise(list(block))):
            if isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                block[place], block[place + 1] = fuse_linear_bn_eval(linear, norm), nn.Identity()
    return network


def _prepared(path: Path) -> Path:
    """Write the float network of *path* as ``quantize_static`` wants it, and return where."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    return prepared


def _write_static(prepared: Path, subject: Subject, kind: str, path: Path) -> None:
    """Write what onnxruntime's own quantization makes of the float network *prepared*, calibrated on random inputs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Samples(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            generator, shape = np.random.default_rng(SEED), (1, subject.inputs)
            self.left = [generator.random(shape, dtype=np.float32) for _ in range(CALIBRATION_SAMPLES)]

        def get_next(self) -> dict[str, Any] | None:
            return {"x": self.left.pop()} if self.left else None

    options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    quantize_static(str(prepared), str(path), Samples(), quant_format=QuantFormat[kind], **options)


def _write_qcdq(quantized: Any, subject: Subject, path: Path) -> None:  # noqa: ANN401  torch is imported on use
    """Write Brevitas' QCDQ export of the torch module *quantized*.

    Like its QONNX export it fixes the batch size and lists weights as graph inputs; both are undone as there.
    """
    import torch
    from brevitas.export.onnx.standard.qcdq.manager import StdQCDQONNXDynamoManager

    raw = path.with_suffix(".raw.onnx")
    example = torch.zeros(1, subject.inputs)
    StdQCDQONNXDynamoManager.export(
        quantized, args=example, export_path=str(raw), opset_version=OPSET, dynamo=True, verbose=False
    )
    onnx.save_model(clean(onnx.load(raw)), path)


def _write_quant_to_qcdq(qonnx: Path, path: Path) -> None:
    """Write what qonnx makes of its own file *qonnx*.

    Raises:
        StageError: some quantizers stay nodes of QONNX, which onnxruntime does not have.
    """
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.qonnx_to_qcdq import QuantToQCDQ

    made = ModelWrapper(str(qonnx)).transform(QuantToQCDQ()).model
    left = sorted({node.op_type for node in made.graph.node if node.domain})
    if left:
        raise StageError(f"QuantToQCDQ leaves nodes of type {', '.join(left)}; it takes Quant nodes of 2 to 8 bits")
    constants = {tensor.name for tensor in made.graph.initializer}
    inputs = [value for value in made.graph.input if value.name not in constants]
    del made.graph.input[:]
    made.graph.input.extend(inputs)
    onnx.save_model(made, path)
