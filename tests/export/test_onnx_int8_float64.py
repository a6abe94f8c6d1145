"""Sums of float32 convolutions and activations in float64: exact, proven, and only where they may be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from integer_graphs import Builder, graph_codes, window
from line_graphs import Lines
from onnx import TensorProto, numpy_helper
from written_onnx import Written

from bitproof.export.integer import INPUT, Conv, IntegerModel, IntegerType, Threshold
from bitproof.export.proofs import prove_requantization
from bitproof.pipeline.ledger import ProofEntry

UINT8, INT8 = IntegerType(8, signed=False), IntegerType(8, signed=True)
EXACT = "every partial sum of its products and its bias is exact in float32, in whatever order they are added"


def network() -> IntegerModel:
    """Weights and codes of 8 bits: padded, depthwise, on codes below 0."""
    build = Lines((4, 7, 7), 3, UINT8)
    first = build.on_lines(build.heavy_conv(INPUT, 6, window(3, padding=1), 8), 255, lowest=-128)
    depth = build.on_lines(build.heavy_conv(first, 6, window(3, stride=2, padding=1), 8, groups=6), 255)
    build.heavy_conv(depth, 3, window(1), 8)
    return build.model()


def operators(written: Written) -> set[str]:
    return {node.op_type for node in written.proto.graph.node}


def exact_sums(written: Written, model: IntegerModel, folder: Path) -> list[ProofEntry]:
    return [proof for proof in written.executor(folder).prove_sums(model) if proof.claim == EXACT]


def test_eight_bits_by_eight_bits_are_carried_in_floats_and_exact(tmp_path: Path) -> None:
    model = network()
    written, codes = Written.of(model), graph_codes(model, 200)
    codes[:2] = [[0], [255]]
    assert [entry["construction"] for entry in written.layers["activations"]] == ["carried in float64"] * 2
    assert "ConvInteger" not in operators(written)
    assert written.unequal(model, codes) == []
    executor = written.executor(tmp_path)
    assert all(proof.holds and proof.cases for proof in prove_requantization(model, executor))
    assert [(proof.layer, proof.holds) for proof in exact_sums(written, model, tmp_path)] == [
        (node.name, True) for node in model.nodes if isinstance(node, Conv)
    ]
    for activation in model.nodes_of(Threshold):
        wrong = written.with_flipped_threshold(activation, 0, 0)
        assert wrong.unequal(model, codes)
        proofs = prove_requantization(model, wrong.executor(tmp_path))
        assert {proof.layer for proof in proofs if not proof.holds} == {activation.name}


@pytest.mark.parametrize("construction", ["integer-only", "single-steps"])
def test_integers_alone_can_be_asked_for(construction: str) -> None:
    model = network()
    written = Written.of(model, "integer-only" if construction == "integer-only" else "single-steps")
    kinds = {a.i for node in written.proto.graph.node if node.op_type == "Cast" for a in node.attribute}
    assert not kinds & {TensorProto.FLOAT, TensorProto.DOUBLE}
    assert "Conv" not in operators(written)
    assert written.unequal(model, graph_codes(model, 50)) == []


@pytest.mark.parametrize(("inputs", "operator"), [(518, "Conv"), (519, "ConvInteger")])
def test_sums_beyond_24_bits_are_not_carried_in_float32(inputs: int, operator: str, tmp_path: Path) -> None:
    """518 * 127 * 255 is the last multiple below 2^24."""
    build = Builder((inputs, 1, 1), 1, UINT8)
    weights = np.full((2, inputs, 1, 1), 127, dtype=np.int64)
    weights[1, ::2] = -126
    build.add(Conv("conv", weights, INT8, window(1), 1), INPUT)
    model = build.model()
    written = Written.of(model)
    assert operators(written) & {"Conv", "ConvInteger"} == {operator}
    codes = np.repeat([[255], [254], [1]], inputs, axis=1)
    codes[:, 7] = 3
    assert written.unequal(model, codes) == []
    assert len(exact_sums(written, model, tmp_path)) == (operator == "Conv")


def test_sums_that_float32_does_not_hold_are_found(tmp_path: Path) -> None:
    model = network()
    first = model.nodes[0]
    assert isinstance(first, Conv)
    heavier = replace(first, weights=first.weights << 9, weight_type=IntegerType(18, signed=True))
    changed = replace(model, nodes=(heavier, *model.nodes[1:]))
    proofs = exact_sums(Written.of(model), changed, tmp_path)
    assert proofs[0].layer == first.name
    assert not proofs[0].holds


@pytest.mark.parametrize(
    ("constant", "value"), [("multiplier", -1.0), ("multiplier", np.inf), ("addend", np.nan), ("low", -1.0)]
)
def test_floats_that_may_fall_or_overflow_are_not_called_monotone(constant: str, value: float, tmp_path: Path) -> None:
    model = network()
    written, (activation, _) = Written.of(model), model.nodes_of(Threshold)
    ends = np.full(6, -1000), np.full(6, 1000)
    reason = written.executor(tmp_path).why_monotone(activation.name, *ends)
    assert reason is not None
    assert reason.startswith("conversion to float64")
    tensor = next(t for t in written.proto.graph.initializer if t.name == f"{activation.name}.{constant}")
    changed = numpy_helper.to_array(tensor).copy()
    changed[...] = value
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    assert written.executor(tmp_path).why_monotone(activation.name, *ends) is None
