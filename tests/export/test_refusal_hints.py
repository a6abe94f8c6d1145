"""The first hint of a refusal fits the file: a float network, a training mode, an operation that is not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_files import ForeignFile, weights

from bitproof.export.importer import normalize
from bitproof.export.importer.input_quantizer import require_input_quantizer
from bitproof.export.lint import examine_file
from bitproof.export.lower import lower_file
from bitproof.export.lowering.operations import OPERATIONS
from bitproof.pipeline import InputError

FLOAT = "the file holds no quantizer: it is a float network"


def network(*between: str, quantized: bool = True, training: bool = False, dropout: bool = False) -> onnx.ModelProto:
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4) if quantized else "input"
    kernel = file.constant(weights((3, 4), 1))
    tensor = file.add("Gemm", tensor, file.quant(kernel, 0.25, 4) if quantized else kernel, transB=1)
    for operation in between:
        tensor = file.add(operation, tensor)
    if training:
        parameters = [file.constant(row) for row in ([1.0] * 3, [0.0] * 3, [0.0] * 3, [1.0] * 3)]
        tensor = file.add("BatchNormalization", tensor, *parameters, training_mode=1)
    if dropout:
        tensor = file.add("Dropout", tensor, file.constant(0.5), file.constant(True, np.bool_))
    tensor = file.quant(tensor, 0.5, 4) if quantized else tensor
    return file.model(tensor, ["N", 4], ["N", 3])


@pytest.mark.parametrize("declared", [False, True])
def test_a_float_network_is_called_one(tmp_path: Path, declared: bool) -> None:
    model = normalize(network("Relu", quantized=False))
    if declared:
        onnx.save_model(model, tmp_path / "model.onnx")
        with pytest.raises(InputError, match=FLOAT):
            lower_file(tmp_path / "model.onnx")
    else:
        with pytest.raises(InputError, match=FLOAT):
            require_input_quantizer(model)
    require_input_quantizer(normalize(network()))


@pytest.mark.parametrize(
    ("training", "dropout", "node"), [(True, False, "BatchNormalization"), (False, True, "Dropout")]
)
def test_an_export_in_training_mode_is_called_one(training: bool, dropout: bool, node: str) -> None:
    with pytest.raises(
        InputError, match=rf"\({node}\): is in training mode; export the network in evaluation mode: call its .eval\(\)"
    ):
        normalize(network(training=training, dropout=dropout))


def test_supported_operations_are_listed_once_however_many_nodes_are_refused(tmp_path: Path) -> None:
    onnx.save_model(normalize(network("Sin", "Cos")), tmp_path / "model.onnx")
    with pytest.raises(InputError) as caught:
        lower_file(tmp_path / "model.onnx")
    lines = str(caught.value).splitlines()
    refused = [f"{name}: not supported" for name in ("Sin_t3 (Sin)", "Cos_t4 (Cos)")]
    assert lines[1:] == [*(f"  {line}" for line in refused), f"supported operations: {', '.join(OPERATIONS)}"]
    report = examine_file(tmp_path / "model.onnx", "net")
    assert report.unsupported == tuple(refused)
    assert report.advice == (lines[-1],)
