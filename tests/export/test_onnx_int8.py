"""Packed-int8 ONNX equals the integer model, through every activation and with every way to requantize."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_networks import random_thresholds
from qonnx_files import random_mlp

from bitproof.export.integer import IntegerModel, IntegerType, Interval, MatMul, Node, Ranges, Threshold, run
from bitproof.export.lower import lower
from bitproof.export.onnx_int8 import OnnxInt8Executor, build, flip_weight_bit
from bitproof.export.onnx_int8.packing import FieldLayout, pack, unpack
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.export.proofs import prove_requantization
from bitproof.pipeline import Artifact, Codes, compare_codes

WIDE = IntegerType(9, signed=True)


def written(model: IntegerModel, folder: Path) -> Artifact:
    proto, layers = build(model)
    folder.mkdir()
    onnx.save_model(proto, folder / FILE)
    (folder / LAYERS).write_text(json.dumps(layers))
    return Artifact("onnx-int8", "onnx-int8", folder, "")


def random_codes(width: int) -> Codes:  # int64, (300, width)
    return np.random.default_rng(7).integers(0, 256, size=(300, width))


@pytest.mark.parametrize("weight_bits", [2, 3, 4, 5, 8])
def test_equals_the_integer_model(tmp_path: Path, weight_bits: int) -> None:
    model, _ = lower(random_mlp(tmp_path / "export" / "model.onnx", 5, weight_bits=weight_bits))
    executor = OnnxInt8Executor(written(model, tmp_path / "out"))
    inputs = random_codes(model.inputs)
    np.testing.assert_array_equal(run(model, inputs), executor(inputs), strict=True)
    proofs = prove_requantization(model, executor)
    assert len(proofs) == len(model.nodes_of(Threshold))
    assert all(proof.holds and proof.cases > 0 for proof in proofs)


def test_a_layer_without_multiply_shift_is_compared_with_its_thresholds(tmp_path: Path) -> None:
    thresholds = np.array([[0, 1, 1000], [-5, -5, 2000]], dtype=np.int64)
    kind = IntegerType(2, signed=False)
    nodes = (
        MatMul("fc0", np.array([[7, -1], [3, 5]], dtype=np.int64), IntegerType(4, signed=True)),
        Threshold("act0", thresholds, kind, 0, np.zeros(2, dtype=np.bool_)),
    )
    model = IntegerModel("steep", IntegerType(8, signed=False), Fraction(1), (2,), nodes, Fraction(1))
    _, layers = build(model)
    assert layers["activations"][0]["method"] == "comparison with every threshold"
    executor = OnnxInt8Executor(written(model, tmp_path / "out"))
    inputs = random_codes(2)
    np.testing.assert_array_equal(run(model, inputs), executor(inputs), strict=True)
    assert all(proof.holds for proof in prove_requantization(model, executor))


def test_one_flipped_weight_bit_is_found(tmp_path: Path) -> None:
    model, _ = lower(random_mlp(tmp_path / "export" / "model.onnx", 2))
    artifact = written(model, tmp_path / "out")
    inputs = random_codes(model.inputs)
    said = flip_weight_bit(artifact.path, node="fc0", row=1, column=2)
    old = int(model.nodes_of(MatMul)[0].weights[1, 2])
    assert said.startswith(f"weight [1, 2] of fc0 in {FILE}: {old} became ")
    changed = model.nodes_of(MatMul)[0].weights.copy()
    changed[1, 2] = int(said.rsplit(" ", 1)[1])
    report = compare_codes(
        run(model, inputs), OnnxInt8Executor(artifact)(inputs), names=("integer", "onnx-int8"), origin="random"
    )
    assert not report.ok
    assert report.first is not None


def test_codes_that_neither_int8_nor_uint8_holds_are_the_models(tmp_path: Path) -> None:
    nodes = (
        MatMul("fc0", np.array([[1]], dtype=np.int64), IntegerType(2, signed=True)),
        Threshold(
            "act0", np.array([range(129)], dtype=np.int64), IntegerType(9, signed=True), -1, np.zeros(1, dtype=np.bool_)
        ),
    )
    model = IntegerModel("signed", IntegerType(8, signed=False), Fraction(1), (1,), nodes, Fraction(1))
    codes = np.arange(256)[:, None]
    assert (run(model, codes).min(), run(model, codes).max()) == (0, 128)
    executor = OnnxInt8Executor(written(model, tmp_path / "out"))
    compare_codes(run(model, codes), executor(codes), names=("integer", "onnx-int8"), origin="all").require()


@pytest.mark.parametrize("ends_with_codes", [False, True])
@pytest.mark.parametrize(("codes", "step"), [(range(-8, 8), 1), (range(-1, 2), 1), (range(-1, 2, 2), 2), (range(4), 1)])
def test_signed_and_bipolar_codes_are_the_models(
    tmp_path: Path, codes: range, step: int, ends_with_codes: bool
) -> None:
    generator = np.random.default_rng(len(codes))
    kind = IntegerType.smallest_for(codes[0], codes[-1])
    nodes: list[Node] = []
    reachable: Ranges = (Interval(codes[0], codes[-1]),) * 9
    for layer, (inputs, outputs) in enumerate(((9, 6), (6, 5), (5, 3))):
        weights = generator.integers(-3, 3, size=(outputs, inputs), endpoint=True)
        nodes.append(MatMul(f"fc{layer}", weights, IntegerType(3, signed=True)))
        reachable = nodes[-1].ranges(reachable)
        if layer < 2 or ends_with_codes:
            levels = (codes[-1] - codes[0]) // step
            rows = random_thresholds(generator, reachable, levels, "irregular")
            flipped = np.zeros(outputs, dtype=np.bool_)
            nodes.append(Threshold(f"act{layer}", rows, kind, codes[0], flipped, step))
            reachable = nodes[-1].ranges(reachable)
    model = IntegerModel("signed", kind, Fraction(1), (9,), tuple(nodes), Fraction(1), input_codes=codes)
    executor = OnnxInt8Executor(written(model, tmp_path / "out"))
    samples = generator.choice(list(codes), size=(300, 9)).astype(np.int64)
    np.testing.assert_array_equal(run(model, samples), executor(samples), strict=True)
    proofs = prove_requantization(model, executor)
    assert all(proof.holds and proof.cases for proof in proofs)
    moved = replace(model.nodes_of(Threshold)[0], lowest=codes[0] + 1, output=WIDE)
    other = replace(model, nodes=(nodes[0], moved, *nodes[2:]))
    assert not prove_requantization(other, executor)[0].holds


@given(st.integers(1, 8), st.integers(1, 40), st.integers(1, 200), st.booleans(), st.integers(0, 2**32 - 1))
def test_packing_is_undone_by_unpacking(bits: int, outputs: int, inputs: int, whole: bool, seed: int) -> None:
    kind = IntegerType(max(2, bits), signed=True)
    generator = np.random.default_rng(seed)
    weights = generator.integers(kind.minimum, kind.maximum, size=(outputs, inputs), endpoint=True)
    weights[0, 0] = kind.minimum
    if bits == 1:
        weights = 2 * (weights & 1) - 1
    layout = FieldLayout.of("fc0", weights, kind, whole=whole)
    packed = pack(weights, layout)
    assert layout.bits >= bits
    assert sum(layout.parts) == layout.bits
    assert packed.size == sum(-(-weights.size * width // 8) for width in layout.parts)
    np.testing.assert_array_equal(unpack(packed, layout), weights, strict=True)
    byte, bit = layout.locate(outputs - 1, inputs - 1)
    packed[byte] ^= np.uint8(1 << bit)
    changed = np.argwhere(unpack(packed, layout) != weights)
    assert changed.tolist() == [[outputs - 1, inputs - 1]]
    step = abs(int(unpack(packed, layout)[-1, -1] - weights[-1, -1]))
    assert step == (2 if layout.bits == 1 else 1)


@pytest.mark.parametrize(("bits", "taken"), [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8)])
def test_fields_are_taken_apart_if_that_saves_more_than_the_nodes_that_join_them(bits: int, taken: int) -> None:
    kind = IntegerType(bits, signed=True)
    large, small = (np.full((size, size), kind.minimum, dtype=np.int64) for size in (400, 10))
    assert FieldLayout.of("fc0", large, kind).bits == taken
    assert FieldLayout.of("fc0", small, kind).bits == next(width for width in (2, 4, 8) if bits <= width)
    assert FieldLayout.of("fc0", large, kind, whole=True).bits == next(width for width in (2, 4, 8) if bits <= width)
