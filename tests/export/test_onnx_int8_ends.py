"""What a packed-int8 file takes and gives beside codes: pixels, classes, native weights, and metadata about them."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from integer_networks import random_codes, random_network
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from written_onnx import Written

from bitproof.export.integer import Coding, IntegerModel, IntegerType, MatMul, TopK, classify, run
from bitproof.export.integer.ir import Head
from bitproof.export.onnx_int8 import build
from bitproof.export.onnx_int8.ends import CLASSES, METADATA, Ends, codes_of_pixels
from bitproof.export.onnx_int8.packing import FieldLayout
from bitproof.export.onnx_int8.target import OnnxInt8Target
from bitproof.pipeline import Codes, StageError

PLAIN = Ends()
BIPOLAR = (
    r"^onnx-int8: pixels = 1/255 are rounded to the nearest code, but the input codes are -1..1 in steps of 2, which "
    r"a comparison makes \(BipolarQuant: 1 of every pixel, since none is negative\): leave pixels out, and give those "
    r"codes$"
)


def linear(outputs: int = 4, bits: int = 8, **changes: Any) -> IntegerModel:  # noqa: ANN401  fields of the model
    weights = np.random.default_rng(outputs).integers(-2, 2, size=(outputs, 6))
    kind = IntegerType(bits, signed=False)
    made = IntegerModel(
        "linear", kind, Fraction(1, 256), (6,), (MatMul("fc", weights, IntegerType(2, True)),), Fraction(1)
    )
    return replace(made, **changes)


def written(model: IntegerModel, ends: Ends = PLAIN, *, native_weights: bool = False) -> Written:
    return Written(*build(model, native_weights=native_weights, ends=ends))


def outputs_of(file: Written, given: NDArray[Any]) -> dict[str, NDArray[Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: given}), strict=True))


@pytest.mark.parametrize(
    ("pixels", "bits"), [("1/255", 8), ("1/255", 3), ("3/1000", 6), ("high-bits", 8), ("high-bits", 3)]
)
def test_every_pixel_becomes_its_code_within_the_file(pixels: str, bits: int, tmp_path: Path) -> None:
    model = linear(bits=bits, input_scale=Fraction(1, 1 << bits))
    file = written(model, Ends(pixels))
    expected = codes_of_pixels(model, pixels)
    if pixels == "1/255":  # by another way: rounding half to even of exact fractions
        assert expected.tolist() == [min(round(Fraction(p, 255) * (1 << bits)), (1 << bits) - 1) for p in range(256)]
    images = np.arange(256, dtype=np.uint8)[:, None].repeat(6, axis=1)
    images[:, 1:] = np.random.default_rng(0).integers(0, 256, size=(256, 5))
    (name,) = (output.name for output in file.proto.graph.output)
    np.testing.assert_array_equal(outputs_of(file, images)[name], run(model, expected[images]))
    executor = file.executor(tmp_path)
    codes = np.random.default_rng(1).integers(0, 1 << bits, size=(50, 6))
    np.testing.assert_array_equal(executor(codes), run(model, codes), strict=True)
    assert file.unequal(model, codes) == []
    (proof,) = (proof for proof in executor.prove_sums(model) if proof.layer == "input")
    assert (proof.holds, proof.cases) == (True, 256)


def test_a_table_with_one_wrong_entry_fails_its_proof_and_the_parity_of_images(tmp_path: Path) -> None:
    model = linear(bits=4, input_scale=Fraction(1, 16))
    file = written(model, Ends("1/255"))
    (table,) = (tensor for tensor in file.proto.graph.initializer if tensor.name == "pixels.codes")
    entries = numpy_helper.to_array(table).copy()
    entries[200] ^= 1
    table.CopyFrom(numpy_helper.from_array(entries, table.name))
    (proof,) = (proof for proof in file.executor(tmp_path).prove_sums(model) if proof.layer == "input")
    assert (proof.holds, proof.failing, proof.first) == (False, 1, {"pixel": 200, "actual": int(entries[200])})


@pytest.mark.parametrize(
    ("pixels", "changes", "message"),
    [
        ("1/255", {"rounds_input": False}, "calculates with its input"),
        ("1/255", {"input": IntegerType(2, True), "input_codes": range(-1, 2, 2), "rounds_input": False}, BIPOLAR),
        ("high-bits", {"input_codes": range(200)}, "needs input codes 0..2\\^n - 1, not 0..199"),
        ("high-bits", {"input": IntegerType(8, True)}, "not -128..127"),
    ],
)
def test_pixels_that_are_not_rounded_to_the_codes_are_refused(
    pixels: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(StageError, match=message):
        written(linear(**changes), Ends(pixels))


@pytest.mark.parametrize(
    "text", ["0", "1/0", "-1/255", "1e9", "low-bits", "1/255 ", "", "1/9999999999", "1\u0662/255", "1/25\u0665"]
)
def test_what_is_no_value_of_a_pixel_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="for example 1/255, or high-bits"):
        Ends(text)
    with pytest.raises(ValueError, match="for example 1/255, or high-bits"):
        OnnxInt8Target(pixels=text)


def telling(model: IntegerModel, samples: int = 400) -> Codes:
    return np.random.default_rng(3).integers(0, 3, size=(samples, model.inputs))  # small codes: ties are frequent


@pytest.mark.parametrize(
    "model",
    [
        linear(),
        linear(outputs=1),
        linear(outputs=1, output_scale=Fraction(-1, 3)),
        linear(outputs=1, output_codings=(Coding(Fraction(1, 3), Fraction(-7, 2)),)),
        linear(outputs=1, output_codings=(Coding(Fraction(-1, 3), Fraction(1, 2), 3, Fraction(-1, 9)),)),
        linear(outputs=1, output_codings=(Coding(Fraction(0), Fraction(-1)),)),
    ],
    ids=["ten", "one", "falling", "offset", "root", "constant"],
)
def test_classes_are_those_of_the_integers(model: IntegerModel, tmp_path: Path) -> None:
    file, codes = written(model, Ends(classes=True)), telling(model)
    expected = classify(model, run(model, codes))
    made = outputs_of(file, codes.astype(np.uint8))[CLASSES]
    np.testing.assert_array_equal(made, expected, strict=True)
    executor = file.executor(tmp_path)
    np.testing.assert_array_equal(executor(codes), run(model, codes), strict=True)
    proof = executor.prove_sums(model)[-1]
    assert (proof.holds, proof.cases > 4 or model.outputs == 1) == (True, True)


def test_the_indices_of_a_network_that_ends_with_them_are_its_classes() -> None:
    model = linear()
    ending = replace(model, nodes=(*model.nodes, TopK("top", 4, 2)))
    codes = telling(model)
    made = outputs_of(written(ending, Ends(classes=True)), codes.astype(np.uint8))[CLASSES]
    np.testing.assert_array_equal(made, classify(ending, run(ending, codes)), strict=True)


def test_classes_that_take_the_last_of_equal_outputs_fail_their_proof(tmp_path: Path) -> None:
    model = linear()
    file = written(model, Ends(classes=True))
    (node,) = (node for node in file.proto.graph.node if node.op_type == "ArgMax")
    node.attribute.append(onnx.helper.make_attribute("select_last_index", 1))
    proof = file.executor(tmp_path).prove_sums(model)[-1]
    assert (proof.holds, proof.failing > 0, proof.claim) == (
        False,
        True,
        "the class is that of the integers: of equal ones the first",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_codings": tuple(Coding(Fraction(1, n)) for n in (2, 3, 4, 5))}, "scales or biases of their own"),
        ({"output_scale": Fraction(-1)}, "scales or biases of their own"),
    ],
)
def test_classes_that_the_largest_integer_does_not_name_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError, match=message):
        written(linear(**changes), Ends(classes=True))


@pytest.mark.parametrize(
    ("bits", "kind", "opset"), [(2, TensorProto.UINT2, 25), (4, TensorProto.UINT4, 21), (7, TensorProto.UINT8, 18)]
)
def test_native_weights_are_the_same_codes(bits: int, kind: int, opset: int, tmp_path: Path) -> None:
    model = random_network((9, 8, 4), weight_type=IntegerType(bits, signed=True))
    file = written(model, native_weights=True)
    kinds = {tensor.data_type for tensor in file.proto.graph.initializer if tensor.name.endswith(".packed")}
    assert (kinds, file.proto.opset_import[0].version) == ({kind}, opset)
    codes = np.random.default_rng(1).integers(0, model.input.maximum, size=(100, model.inputs), endpoint=True)
    assert file.unequal(model, codes) == []
    assert all(proof.holds for proof in file.executor(tmp_path).prove_sums(model))
    for node in model.nodes_of(MatMul):
        changed, other = file.with_flipped_weight(model, node, 1)
        assert changed.unequal(other, codes) == []
        assert node.name in changed.unequal(model, codes)


def test_a_file_says_what_its_codes_stand_for() -> None:
    codings = tuple(Coding(Fraction(1, n), Fraction(n), 2) for n in (2, 3, 4, 5))
    file = written(linear(output_codings=codings), Ends("high-bits"))
    held = json.loads({entry.key: entry.value for entry in file.proto.metadata_props}[METADATA])
    assert held["input"] == {
        "codes": [0, 256, 1],
        "pixels": "high-bits",
        "rounds": True,
        "scale": "1/256",
        "tensor": "pixels",
        "zero_point": 0,
    }
    assert held["codings"] == [
        ["1/2", "2", "2", "0"],
        ["1/3", "3", "2", "0"],
        ["1/4", "4", "2", "0"],
        ["1/5", "5", "2", "0"],
    ]
    assert (held["network"], held["answers"], held["format"]) == ("linear", "numbers", 1)


def test_several_outputs_have_no_class() -> None:
    model = linear(heads=(Head("a", (2,)), Head("b", (2,))))
    with pytest.raises(StageError, match="several outputs"):
        written(model, Ends(classes=True))


@pytest.mark.parametrize(("bits", "parts"), [(1, (1,)), (3, (2, 1)), (5, (4, 1)), (6, (4, 2)), (7, (4, 2, 1))])
def test_weights_of_odd_widths_are_joined_from_their_parts(bits: int, parts: tuple[int, ...], tmp_path: Path) -> None:
    kind = IntegerType(max(2, bits), signed=True)
    made = random_network((143, 61, 4), weight_type=kind, act_bits=(2,))
    signs = [replace(n, weights=2 * (n.weights & 1) - 1) if isinstance(n, MatMul) else n for n in made.nodes]
    model = replace(made, nodes=tuple(signs)) if bits == 1 else made
    file, codes = written(model), random_codes(model, 60)
    layout = FieldLayout.of("fc0", model.nodes_of(MatMul)[0].weights, kind)
    assert (layout.bits, tuple(sorted(layout.parts, reverse=True))) == (bits, parts)
    assert file.unequal(model, codes) == []
    assert all(proof.holds for proof in file.executor(tmp_path).prove_sums(model))
    changed, other = file.with_flipped_weight(model, model.nodes_of(MatMul)[0], 61 * 80)
    assert changed.unequal(other, codes) == []
    assert "fc0" in changed.unequal(model, codes)
