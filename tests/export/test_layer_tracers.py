"""Executors that show their layers show those of the integer model, and a flipped bit is found at its weight."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from qonnx_files import qonnx_executor, random_mlp

from bitproof.export.divergence import Cause, explain
from bitproof.export.divergence.explain import explain_run
from bitproof.export.integer import Affine, IntegerModel, save, trace
from bitproof.export.lower import activations_of, lower
from bitproof.export.onnx_int8 import OnnxInt8Executor, build, flip_weight_bit
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.pipeline import Artifact, Codes, LayerTracer


def written(model: IntegerModel, folder: Path) -> Artifact:
    proto, layers = build(model)
    folder.mkdir()
    onnx.save_model(proto, folder / FILE)
    (folder / LAYERS).write_text(json.dumps(layers))
    return Artifact("onnx-int8", "onnx-int8", folder, "")


def random_codes(width: int) -> Codes:  # int64, (300, width)
    return np.random.default_rng(7).integers(0, 256, size=(300, width))


@pytest.mark.parametrize("weight_bits", [2, 4, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_onnx_int8_shows_every_layer(tmp_path: Path, weight_bits: int, bias: bool) -> None:
    model, _ = lower(random_mlp(tmp_path / "export" / "model.onnx", 5, weight_bits=weight_bits))
    if bias:
        offsets = np.arange(model.outputs, dtype=np.int64) - 3
        assert model.wiring is not None
        wiring = (*model.wiring, (model.nodes[-1].name,))
        model = replace(model, nodes=(*model.nodes, Affine.bias("output_bias", offsets)), wiring=wiring)
    executor = OnnxInt8Executor(written(model, tmp_path / "out"))
    codes = random_codes(model.inputs)
    shown, expected = executor.trace(codes), trace(model, codes)
    assert isinstance(executor, LayerTracer)
    assert list(shown) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(shown[name], values, strict=True)


def test_a_flipped_bit_of_onnx_int8_is_named(tmp_path: Path) -> None:
    path = random_mlp(tmp_path / "export" / "model.onnx", 2)
    model, _ = lower(path)
    save(model, tmp_path)
    artifact = written(model, tmp_path / "out")
    codes = random_codes(model.inputs)
    assert explain_run(OnnxInt8Executor(artifact), tmp_path, path.parent, codes, units=True).ok
    said = flip_weight_bit(artifact.path, node="fc1", row=2, column=3)
    found = explain_run(OnnxInt8Executor(artifact), tmp_path, path.parent, codes, units=True).divergence
    assert found is not None
    assert (found.layer, found.channel, found.finding.cause) == ("fc1", 2, Cause.WRONG_WEIGHT)
    old, new = (int(word) for word in (said.split()[-3], said.split()[-1]))
    assert {"index": [2, 3], "expected": old, "actual": new} in found.finding.facts["weights"]  # type: ignore[operator]


def test_qonnx_shows_its_layers_and_is_equal(tmp_path: Path) -> None:
    path = random_mlp(tmp_path / "export" / "model.onnx", 4)
    executor = qonnx_executor(path)
    model, _ = lower(path)
    found = explain(executor, model, random_codes(model.inputs)[:50], floats=True)
    assert found.ok
    assert found.method == "layers"
    assert found.compared > 50 * model.outputs * 2


def test_activations_of_another_file_are_not_used(tmp_path: Path) -> None:
    one, other = (random_mlp(tmp_path / str(seed) / "model.onnx", seed) for seed in (1, 2))
    model, _ = lower(one)
    assert set(activations_of(model, one.parent)) == {"act0", "act1"}
    assert activations_of(model, other.parent) == {}
    assert activations_of(model, tmp_path) == {}
