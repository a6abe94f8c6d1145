"""Packed-int8 ONNX of codes with any zero point, and of sums that go straight into a product, whatever their width."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from written_onnx import Written

from bitproof.export.integer import (
    Add,
    Affine,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    Shape,
    SumPool,
    Threshold,
    Window,
    run,
)
from bitproof.export.integer.ir import Wiring
from bitproof.export.proofs import prove_requantization
from bitproof.pipeline import Codes, StageError

WEIGHTS = IntegerType(4, signed=True)
RANGES = [range(-119, 137), range(-37, 219), range(-255, 1), range(100, 356), range(-300, -44), range(-1, 255)]
"""Codes q - z of uint8: z of 119, 37, 255, -100, 300 and 1."""


def numbers(seed: int, low: int, high: int, shape: Shape) -> Codes:
    return np.random.default_rng(seed).integers(low, high, size=shape, endpoint=True)


def window(kernel: int, pad: int = 0, stride: int = 1) -> Window:
    return Window((kernel,) * 2, (stride,) * 2, (pad,) * 2, (pad,) * 2, (1, 1))


def conv(name: str, channels: int, outputs: int, where: Window) -> Conv:
    return Conv(name, numbers(outputs, -8, 7, (outputs, channels, *where.kernel)), WEIGHTS, where, 1)


def activation(name: str, channels: int, reach: int, codes: range) -> Threshold:
    rows = np.sort(numbers(channels, -reach, reach, (channels, len(codes) - 1)), axis=1)
    kind = IntegerType.smallest_for(codes[0], codes[-1])
    return Threshold(name, rows, kind, codes[0], np.zeros(channels, dtype=np.bool_))


def network(*nodes: Node, codes: range, shape: Shape = (2, 5, 4), wiring: Wiring | None = None) -> IntegerModel:
    kind = IntegerType.smallest_for(codes[0], codes[-1])
    return IntegerModel("wide", kind, Fraction(1), shape, nodes, Fraction(1), wiring, codes)


def samples(model: IntegerModel) -> Codes:
    codes = list(model.allowed_codes)
    drawn = np.random.default_rng(1).choice(codes, size=(40, model.inputs)).astype(np.int64)
    drawn[0], drawn[1], drawn[2, ::2], drawn[2, 1::2] = codes[0], codes[-1], codes[0], codes[-1]
    return drawn


def require_equal(model: IntegerModel) -> Written:
    written, codes = Written.of(model), samples(model)
    assert written.unequal(model, codes) == []
    assert len(np.unique(run(model, codes))) > 1
    return written


@pytest.mark.parametrize("codes", RANGES, ids=str)
def test_input_codes_of_any_zero_point_are_stored_in_uint8(codes: range) -> None:
    model = network(conv("conv0", 2, 3, window(3, pad=1)), codes=codes)
    written = require_equal(model)
    assert written.layers["input"] == {"zero_point": -codes[0]}
    assert written.proto.graph.input[0].type.tensor_type.elem_type == 2  # uint8
    other = Written(written.proto, {**written.layers, "input": {"zero_point": 1 - codes[0]}})
    assert "output" in other.unequal(model, np.clip(samples(model), codes[0], codes[-2]))


@pytest.mark.parametrize("codes", RANGES, ids=str)
def test_hidden_codes_of_any_zero_point_are_carried(codes: range) -> None:
    nodes = (
        conv("conv0", 2, 3, window(3, pad=1)),
        activation("act0", 3, 900, codes),
        Pad("pad0", (1, 0), (0, 2)),
        MaxPool("pool0", window(2)),
        conv("conv1", 3, 2, window(3, pad=2, stride=2)),
        Reshape("reshape0", (2, 4, 4), (32,)),
        MatMul("fc0", numbers(9, -8, 7, (3, 32)), WEIGHTS),
    )
    model = network(*nodes, codes=range(16))
    written = require_equal(model)
    moved = replace(nodes[1], thresholds=nodes[1].thresholds + 1)
    assert "act0" in written.unequal(replace(model, nodes=(nodes[0], moved, *nodes[2:])), samples(model))


@pytest.mark.parametrize("codes", RANGES, ids=str)
def test_output_codes_of_any_zero_point_come_out_as_they_are(codes: range) -> None:
    require_equal(network(conv("conv0", 2, 3, window(3)), activation("act0", 3, 900, codes), codes=range(-128, 128)))


@pytest.mark.parametrize("codes", [range(16), range(256), range(-119, 137), range(-8, 8)], ids=str)
@pytest.mark.parametrize("pad", [0, 1])
def test_sums_go_straight_into_products(codes: range, pad: int) -> None:
    first = (
        conv("conv0", 2, 3, window(3)),
        conv("conv1", 3, 2, window(2, pad=pad)),
        SumPool("sum0", window(2, pad=pad)),
    )
    probe = network(*first, codes=codes, shape=(2, 5, 5)).shapes()["sum0"]
    flat = int(np.prod(probe))
    fc = MatMul("fc0", numbers(9, -8, 7, (3, flat)), WEIGHTS)
    model = network(*first, Reshape("reshape0", probe, (flat,)), fc, codes=codes, shape=(2, 5, 5))
    written = require_equal(model)
    flipped, changed = written.with_flipped_weight(model, fc, 1)
    assert flipped.unequal(model, samples(model)) == ["fc0", "output"]
    assert flipped.unequal(changed, samples(model)) == []


def test_sums_beyond_32_bits_are_added_pooled_multiplied_and_quantized_in_64() -> None:
    factors = np.array([1 << 29, -(1 << 31)], dtype=np.int64)
    nodes = (
        Affine("affine0", factors, np.array([5, -7], dtype=np.int64)),
        Add("add0"),
        MaxPool("pool0", window(2, pad=1)),
        SumPool("sum0", window(2, pad=1)),
        conv("conv0", 2, 2, window(2, pad=1)),
        activation("act0", 2, 1 << 38, range(-3, 5)),
    )
    wiring = (("input",), ("affine0", "affine0"), ("add0",), ("pool0",), ("sum0",), ("conv0",))
    model = network(*nodes, codes=range(16), wiring=wiring)
    written = require_equal(model)
    kinds = {name: entry["type"] for name, entry in written.layers["values"].items()}
    assert kinds == {**dict.fromkeys(("affine0", "add0", "pool0", "sum0", "conv0"), "int64"), "act0": "uint8"}
    require_equal(network(*nodes[:4], codes=range(16), wiring=wiring[:4]))


def test_requantization_of_sums_that_were_taken_apart_is_proven_on_every_accumulator(tmp_path: Path) -> None:
    nodes = (
        SumPool("sum0", window(3)),
        conv("conv0", 2, 2, window(2)),
        activation("act0", 2, 4000, range(-119, 137)),
    )
    model = network(*nodes, codes=range(8))
    written = require_equal(model)
    executor = written.executor(tmp_path)
    assert all(proof.holds and proof.cases for proof in prove_requantization(model, executor))
    wrong = replace(nodes[2], thresholds=nodes[2].thresholds + 1)
    assert not all(p.holds for p in prove_requantization(replace(model, nodes=(*nodes[:2], wrong)), executor))


def test_products_of_bytes_that_onnxruntime_cannot_add_up_are_refused() -> None:
    inputs = 1 << 17
    model = network(
        MatMul("fc0", np.full((1, inputs), 127, dtype=np.int64), IntegerType(8, signed=True)),
        codes=range(256),
        shape=(inputs,),
    )
    with pytest.raises(StageError, match=r"^onnx-int8: layer 'fc0' has sums of products in \[0, 4244766720\], which"):
        Written.of(model)


def test_codes_of_codes_are_looked_up_in_a_table_of_each_channel(tmp_path: Path) -> None:
    nodes = (activation("act0", 2, 100, range(-119, 137)), conv("conv0", 2, 3, window(3, pad=1)))
    model = network(*nodes, codes=range(-128, 128))
    written = require_equal(model)
    assert written.layers["activations"][0]["method"] == "table of 256 codes a channel"
    assert all(proof.holds for proof in prove_requantization(model, written.executor(tmp_path)))
    assert written.with_flipped_threshold(nodes[0], 1, 0).unequal(model, samples(model))[0] == "act0"
    wide = network(
        Threshold("act0", np.array([[3], [-4]]), IntegerType(2, signed=True), -1, np.zeros(2, np.bool_), 2),
        codes=range(-8, 8),
    )
    require_equal(wide)
