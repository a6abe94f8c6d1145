"""Descriptions beside a model that do not belong to it: an executor refuses them as bad input, and never crashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from qonnx_files import random_mlp

from bitproof.export.divergence import explain
from bitproof.export.integer import load
from bitproof.export.lower import lower_file, write_lowered
from bitproof.export.onnx_int8 import OnnxInt8Executor, build
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.export.qonnx_executor import QonnxExecutor
from bitproof.pipeline import Artifact, InputError, StageError

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the artifacts of a perceptron: a QONNX file, its integer model, its packed-int8 form."""
    made = tmp_path / "net"
    made.mkdir()
    random_mlp(made / "model.onnx", 3)
    (tmp_path / "integer").mkdir()
    write_lowered(lower_file(made / "model.onnx"), tmp_path / "integer")
    (tmp_path / "int8").mkdir()
    proto, layers = build(load(tmp_path / "integer"))
    onnx.save_model(proto, tmp_path / "int8" / FILE)
    (tmp_path / "int8" / LAYERS).write_text(json.dumps(layers))
    return tmp_path


def edit_json(path: Path, edit: Edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def of_each(collection: str, key: str, value: object) -> Edit:
    """Return the edit that sets *key* of every entry of *collection*."""

    def edit(content: dict[str, Any]) -> None:
        entries = content[collection]
        for entry in entries.values() if isinstance(entries, dict) else entries:
            entry[key] = value

    return edit


def qonnx(folder: Path) -> QonnxExecutor:
    artifact, integer = (Artifact(name, name, folder / name, "") for name in ("net", "integer"))
    return QonnxExecutor.open(artifact, integer)


def int8(folder: Path) -> OnnxInt8Executor:
    return OnnxInt8Executor(Artifact("onnx-int8", "onnx-int8", folder / "int8", ""))


def test_what_was_not_edited_is_accepted(folder: Path) -> None:
    assert qonnx(folder).name == "qonnx"
    assert int8(folder).requantize("act0", 0, 3).shape[0] == 4


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.update(nodes={}), "does not hold the output"),
        (lambda content: content["nodes"].update(ghost=next(iter(content["nodes"].values()))), "no node 'ghost'"),
        (of_each("nodes", "axes", [7]), "do not permute"),
        (of_each("nodes", "scales", ["1"]), "scales other than 0"),
        (of_each("nodes", "scales", ["1e999999999"]), "is not a fraction"),
        (of_each("nodes", "axes", [float("inf")]), "infinity"),
        (of_each("nodes", "tensor", "nowhere"), "the file does not make 'nowhere'"),
        (lambda content: content.update(input="nowhere"), "the file does not make 'nowhere'"),
        (lambda content: [span.__setitem__(0, "nowhere") for span in content["spans"].values()], "cannot stand for"),
    ],
)
def test_origins_that_are_not_those_of_the_model_are_refused(folder: Path, edit: Edit, message: str) -> None:
    edit_json(folder / "integer" / "origins.json", edit)
    with pytest.raises(InputError, match=message):
        qonnx(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.update(values={}),
        lambda content: content.update(activations=[1]),
        of_each("values", "tensor", "nowhere"),
        of_each("values", "tensor", 5),
        of_each("values", "zero_point", 1 << 70),
        of_each("activations", "source", "nowhere"),
        of_each("activations", "shape", [1 << 40]),
        of_each("activations", "shape", "abc"),
        of_each("activations", "construction", "other"),
        of_each("activations", "factor", "4"),
        of_each("activations", "bias", [1]),
        of_each("activations", "scale", "nowhere"),
        of_each("values", "nodes", [{"op": "Loop", "inputs": [], "output": "x", "attributes": {}}]),
        of_each("values", "nodes", [{"op": "Add", "inputs": [1], "output": "x", "attributes": {}}]),
        of_each("values", "nodes", [{"op": "Cast", "inputs": ["codes"], "output": "x", "attributes": {"to": "s"}}]),
        of_each("values", "nodes", 5),
    ],
)
def test_layers_that_are_not_those_of_the_graph_are_refused(folder: Path, edit: Edit) -> None:
    edit_json(folder / "int8" / LAYERS, edit)
    with pytest.raises(InputError, match="does not hold a packed-int8 ONNX model"):
        int8(folder)


def test_a_node_that_onnxruntime_cannot_run_is_bad_input(folder: Path) -> None:
    wrong = [{"op": "Add", "inputs": ["codes", "act0.scale"], "output": "fc0.accumulators", "attributes": {}}]
    edit_json(folder / "int8" / LAYERS, lambda content: content["values"]["fc0"].update(nodes=wrong))
    with pytest.raises(InputError, match=r"onnxruntime (refuses|cannot run) the graph"):
        int8(folder).trace(np.zeros((2, load(folder / "integer").inputs), dtype=np.int64))


def test_an_activation_that_is_not_described_is_refused(folder: Path) -> None:
    edit_json(folder / "int8" / LAYERS, lambda content: content.update(activations=[]))
    with pytest.raises(InputError, match=r"describes no activation .act0., which the integer model has"):
        int8(folder).requantize("act0", 0, 3)


def test_an_executor_of_another_network_is_no_bug_of_ours(folder: Path) -> None:
    model = load(folder / "integer")
    shorter = replace(model, nodes=model.nodes[:-1], wiring=None, output_codings=())
    codes = np.zeros((2, model.inputs), dtype=np.int64)
    with pytest.raises(StageError, match="they are not of one network"):
        explain(int8(folder), shorter, codes)
    with pytest.raises(InputError):
        explain(int8(folder), model, codes[:, 1:])


@pytest.mark.parametrize("content", ["[" * 100_000, "null", ""])
def test_layers_that_are_no_description_are_refused(folder: Path, content: str) -> None:
    (folder / "int8" / LAYERS).write_text(content)
    with pytest.raises(InputError, match="does not hold a packed-int8 ONNX model"):
        int8(folder)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n"])
def test_a_graph_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "int8" / FILE).write_bytes(content)
    with pytest.raises(InputError):
        int8(folder)
