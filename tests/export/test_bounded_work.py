"""Proofs of real executors are bounded: wide accumulators are a matter of moments, and nothing is lost by that."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from qonnx_files import QonnxFile, qonnx_executor, random_mlp

from bitproof.export.integer import IntegerModel, Threshold, hull
from bitproof.export.lower import lower_file
from bitproof.export.lowering.lower import Lowered
from bitproof.export.onnx_int8 import OnnxInt8Executor, build
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.export.proofs import prove_lowering, prove_requantization, requantization
from bitproof.export.proofs.boundaries import ends_of
from bitproof.export.qonnx_executor import QonnxExecutor
from bitproof.pipeline import Artifact

SECONDS = 30
"""Processor time of everything that is proven of a toy; half an hour before boundaries decided it."""


def residual_of_free_scales(path: Path) -> Path:
    """The sum of two branches whose scales, 0.0371 and 0.0519, have no common unit but a tiny one."""
    generator = np.random.default_rng(0)
    file = QonnxFile()
    codes = file.quant("input", 0.05, 8, signed=1)
    branches = []
    for scale in (0.0371, 0.0519):
        weights = file.weights(generator.normal(0, 0.2, size=(16, 8)), 0.0043)
        branches.append(file.quant(file.add("MatMul", [codes, weights]), scale, 8, signed=1))
    total = file.quant(file.add("Add", branches), 0.0613, 8, signed=1)
    output = file.add("MatMul", [total, file.weights(generator.normal(0, 0.2, size=(8, 4)), 0.0078125)])
    return file.save(path, 16, output, 4)


def int8_executor(model: IntegerModel, folder: Path) -> OnnxInt8Executor:
    proto, layers = build(model)
    folder.mkdir()
    onnx.save_model(proto, folder / FILE)
    (folder / LAYERS).write_text(json.dumps(layers))
    return OnnxInt8Executor(Artifact("onnx-int8", "onnx-int8", folder, ""))


def test_a_sum_of_free_scales_is_proven_in_moments(tmp_path: Path) -> None:
    path = residual_of_free_scales(tmp_path / "net" / "model.onnx")
    started = time.process_time()
    lowered = lower_file(path)
    model, last = lowered.model, lowered.model.nodes_of(Threshold)[-1]
    ranges = model.values[model.sources(last.name)[0]].ranges
    assert hull(ranges).high - hull(ranges).low > 1 << 29, "the case is not the one that took for ever"
    assert all(proof.holds for proof in prove_lowering(lowered))
    executor = int8_executor(model, tmp_path / "int8")
    proofs = prove_requantization(model, executor)
    assert all(proof.holds for proof in proofs)
    assert proofs[-1].method.startswith("decided at the boundaries")
    assert proofs[-1].cases == sum(interval.high - interval.low + 1 for interval in ranges)
    proofs = prove_requantization(model, qonnx_executor(path), lambda: lowered.activations)
    assert all(proof.holds for proof in proofs)
    assert proofs[-1].failing > 0, "accumulators over 2^24 are rounded by float32 before anything else"
    assert time.process_time() - started < SECONDS


def free_mlp(folder: Path, seed: int) -> tuple[Lowered, QonnxExecutor]:
    """A perceptron with power-of-two scales, whose batch norms make float32 decide some boundaries otherwise."""
    path = random_mlp(folder / "net" / "model.onnx", seed, weight_bits=4, act_bits=6)
    return lower_file(path), qonnx_executor(path)


@pytest.mark.parametrize("seed", range(4))
def test_the_boundaries_of_a_float_chain_say_what_all_its_accumulators_say(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered, executor = free_mlp(tmp_path, seed)
    run = prove_requantization(lowered.model, executor, lambda: lowered.activations)
    monkeypatch.setattr(requantization, "ALWAYS_RUN", 0)
    decided = prove_requantization(lowered.model, executor, lambda: lowered.activations)
    assert all(proof.method.startswith("every reachable accumulator") for proof in run)
    assert all("each float32 step is monotone (BatchNormalization, Relu, Quant" in proof.method for proof in decided)
    assert [proof.model_copy(update={"method": ""}) for proof in decided] == [
        proof.model_copy(update={"method": ""}) for proof in run
    ]


CURVES = [("Relu", 0.0, True), ("Tanh", 0.0, False), ("Neg", 0.0, False), ("Sign", 0.0, True)]
CURVES += [("LeakyRelu", 0.125, True), ("LeakyRelu", -0.125, False)]


@pytest.mark.parametrize(("op", "alpha", "known"), CURVES)
def test_of_a_function_that_is_not_known_to_rise_nothing_is_claimed(
    tmp_path: Path, op: str, alpha: float, known: bool
) -> None:
    file = QonnxFile()
    codes = file.quant("input", 0.25, 4, signed=1)
    sums = file.add("MatMul", [codes, file.weights(np.arange(-6.0, 6).reshape(4, 3), 1.0, 4)])
    hidden = file.quant(file.add("Relu", [sums]), 2.0**-3, 4, signed=1)
    output = file.add("MatMul", [hidden, file.weights(np.ones((3, 2)), 1.0, 4)])
    path = file.save(tmp_path / "net" / "model.onnx", 4, output, 2)
    executor, model = qonnx_executor(path), lower_file(path).model
    (node,) = [node for node in executor._onnx.graph.node if node.op_type == "Relu"]
    node.op_type = op
    if alpha:
        node.attribute.append(onnx.helper.make_attribute("alpha", alpha))
    ends = ends_of(model.values[model.sources(model.nodes_of(Threshold)[-1].name)[0]].ranges)
    assert (executor.why_monotone(model.nodes_of(Threshold)[-1].name, *ends) is not None) is known


@pytest.mark.parametrize(("turned", "known"), [(False, True), (True, False)])
def test_a_constant_divided_by_a_number_turns_back(tmp_path: Path, turned: bool, known: bool) -> None:
    file = QonnxFile()
    codes = file.quant("input", 0.25, 4, signed=1)
    sums = file.add("MatMul", [codes, file.weights(np.arange(-6.0, 6).reshape(4, 3), 1.0, 4)])
    two = file.quant(file.constant(2.0), 2.0, 4, signed=1)  # a constant, too, though no initializer
    hidden = file.quant(file.add("Div", [sums, two]), 2.0**-3, 4, signed=1)
    output = file.add("MatMul", [hidden, file.weights(np.ones((3, 2)), 1.0, 4)])
    path = file.save(tmp_path / "net" / "model.onnx", 4, output, 2)
    executor, model = qonnx_executor(path), lower_file(path).model
    (node,) = [node for node in executor._onnx.graph.node if node.op_type == "Div"]
    if turned:
        node.input[:] = list(reversed(node.input))
    ends = ends_of(model.values[model.sources(model.nodes_of(Threshold)[-1].name)[0]].ranges)
    assert (executor.why_monotone(model.nodes_of(Threshold)[-1].name, *ends) is not None) is known
