"""Every form of requantization in onnxruntime is exact at every boundary, and monotone for a reason in its graph."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from integer_networks import network_for, random_codes
from onnx import numpy_helper

from bitproof.export.integer import IntegerModel, IntegerType, Threshold, run
from bitproof.export.onnx_int8 import OnnxInt8Executor, build
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.export.proofs import prove_requantization, requantization
from bitproof.export.proofs.boundaries import ends_of
from bitproof.pipeline import Artifact

FORMS = {
    "multiply-shift": "multiply and shift right by ",
    "multiply-shift-64": "multiply and shift right by ",
    "rounding-shift": "rounding shift by 2, a tie to the even stored code",
    "odd": "rounding shift by 2, a tie to the odd stored code",
    "thresholds": "comparison with every threshold",
}


def network_of(form: str) -> IntegerModel:
    """A network whose activation needs *form*."""
    if form in ("multiply-shift-64", "rounding-shift"):
        return network_for(form)
    model = network_for("rounding-shift" if form == "odd" else "multiply-shift-64")
    node = model.nodes_of(Threshold)[0]
    if form == "odd":  # codes from -127 on are stored from 0: an even code is odd there
        codes = np.arange(-126, 128)
        rows = np.repeat((4 * codes - 2 + (codes & 1))[None], node.channels, axis=0)
        changed = replace(node, thresholds=rows, lowest=-127, output=IntegerType(8, signed=True))
    elif form == "multiply-shift":
        changed = replace(node, thresholds=np.repeat(np.arange(1, 16)[None] * 1024, node.channels, axis=0))
    else:
        changed = replace(node, thresholds=np.sort(node.thresholds // 7 * 7 + np.arange(255) % 5 * 11, axis=1))
    return replace(model, nodes=(model.nodes[0], changed, model.nodes[2]))


def written(model: IntegerModel, folder: Path) -> OnnxInt8Executor:
    proto, layers = build(model, construction="single-steps")
    return opened(proto, layers, folder)


def opened(proto: onnx.ModelProto, layers: dict[str, object], folder: Path) -> OnnxInt8Executor:
    folder.mkdir()
    onnx.save_model(proto, folder / FILE)
    (folder / LAYERS).write_text(json.dumps(layers))
    return OnnxInt8Executor(Artifact("onnx-int8", "onnx-int8", folder, ""))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_exact_at_every_boundary_and_says_why_that_is_enough(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network_of(form)
    executor = written(model, tmp_path / "out")
    said = executor.layers[0].method
    assert said.startswith(FORMS[form])
    assert said.endswith("in 64 bits") is (form == "multiply-shift-64")
    codes = random_codes(model, 200)
    np.testing.assert_array_equal(run(model, codes), executor(codes), strict=True)
    monkeypatch.setattr(requantization, "ALWAYS_RUN", 0)
    (proof,) = prove_requantization(model, executor)
    assert proof.holds
    assert proof.method.startswith("decided at the boundaries: ")
    assert "each integer step is monotone" in proof.method
    node, (low, high) = model.nodes_of(Threshold)[0], ends_of(model.values["fc0"].ranges)
    inside = np.flatnonzero((node.thresholds[3] > low[3]) & (node.thresholds[3] <= high[3]))
    for level in (inside[0], inside[len(inside) // 2], inside[-1]):
        thresholds = node.thresholds.copy()
        thresholds[3, level] += 1
        moved = replace(node, thresholds=np.sort(thresholds, axis=1))
        other = replace(model, nodes=(model.nodes[0], moved, model.nodes[2]))
        (proof,) = prove_requantization(other, executor)
        assert (proof.holds, proof.failing) == (False, 1)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "multiply-shift-64"])
def test_the_forms_agree_on_every_accumulator_of_a_stretch(tmp_path: Path, form: str) -> None:
    model = network_of(form)
    executor = written(model, tmp_path / "out")
    node: Threshold = model.nodes_of(Threshold)[0]
    accumulators = np.repeat(np.arange(-2000, 2000)[:, None], node.channels, axis=1)
    low, high = ends_of(model.values["fc0"].ranges)
    accumulators = np.clip(accumulators, low, high)
    np.testing.assert_array_equal(node.apply(accumulators), executor.requantize_at("act0", accumulators), strict=True)


SPOILED = [
    ("multiply-shift", "act0.multiplier", -1),
    ("multiply-shift-64", "act0.multiplier", -1),
    ("multiply-shift-64", "act0.divisor", -1),
    ("multiply-shift-64", "act0.divisor", Fraction(1, 1 << 60)),  # the quotient leaves 32 bits
    ("multiply-shift", "act0.multiplier", 1 << 14),  # the sum leaves 32 bits
    ("rounding-shift", "act0.half", 0),
    ("rounding-shift", "act0.low", None),
]


@pytest.mark.parametrize(("form", "tensor", "factor"), SPOILED)
def test_nothing_is_claimed_of_a_graph_that_may_fall_or_wrap(
    tmp_path: Path, form: str, tensor: str, factor: int | Fraction | None
) -> None:
    model = network_of(form)
    proto, layers = build(model, construction="single-steps")
    lows, highs = ends_of(model.values["fc0"].ranges)
    assert opened(proto, layers, tmp_path / "right").why_monotone("act0", lows, highs) is not None
    (constant,) = [value for value in proto.graph.initializer if value.name == tensor]
    values = numpy_helper.to_array(constant)
    given = values.reshape(-1).tolist()
    spoiled = [value - 1000 for value in given] if factor is None else [int(value * factor) for value in given]
    if isinstance(factor, Fraction):
        spoiled = [max(value, 1) for value in spoiled]
    changed = np.array(spoiled, dtype=values.dtype).reshape(values.shape)
    constant.CopyFrom(numpy_helper.from_array(changed, tensor))
    assert opened(proto, layers, tmp_path / "wrong").why_monotone("act0", lows, highs) is None


def test_nothing_is_claimed_of_an_operation_that_is_not_known(tmp_path: Path) -> None:
    model = network_of("multiply-shift")
    proto, layers = build(model, construction="single-steps")
    (node,) = [node for node in proto.graph.node if node.name == "act0.sum"]
    node.op_type = "Sub"
    lows, highs = ends_of(model.values["fc0"].ranges)
    assert opened(proto, layers, tmp_path / "other").why_monotone("act0", lows, highs) is None
