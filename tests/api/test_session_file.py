"""Metadata of a packed-int8 file that its tensors contradict: whatever is wrong is found when the file is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from integer_networks import random_network

import bitproof
from bitproof.export.integer import INPUT, Coding, Concat, IntegerModel, IntegerType, MatMul, TopK, classify, run
from bitproof.export.integer.ir import Head
from bitproof.export.onnx_int8 import build
from bitproof.export.onnx_int8.ends import METADATA, Ends

NETWORK = random_network((9, 8, 4))
BYTES, SIGNED = IntegerType(8, signed=False), IntegerType(4, signed=True)


def linear(kind: IntegerType = BYTES, **changes: Any) -> IntegerModel:  # noqa: ANN401  fields of the model
    weights = np.random.default_rng(4).integers(-2, 2, size=(4, 6))
    product = MatMul("fc", weights, IntegerType(2, signed=True))
    return replace(IntegerModel("linear", kind, Fraction(1, 8), (6,), (product,), Fraction(1)), **changes)


def ranked() -> IntegerModel:
    return replace(linear(), nodes=(*linear().nodes, TopK("top", 4, 2)))


def two_heads() -> IntegerModel:
    (first,) = linear().products
    nodes = (first, replace(first, name="other"), Concat("joined"))
    wiring = ((INPUT,), (INPUT,), ("fc", "other"))
    return linear(nodes=nodes, wiring=wiring, heads=(Head("a", (4,)), Head("b", (4,))))


FILES: dict[str, tuple[Callable[[], IntegerModel], Ends]] = {
    "codes": (lambda: NETWORK, Ends()),
    "signed": (lambda: linear(SIGNED), Ends()),
    "few": (lambda: linear(IntegerType(4, signed=False)), Ends()),
    "moved": (lambda: linear(IntegerType(9, signed=True), input_codes=range(-156, 100)), Ends()),
    "pixels": (linear, Ends("1/255", classes=True)),
    "moved pixels": (lambda: linear(SIGNED), Ends("1/255")),
    "high bits": (linear, Ends("high-bits")),
    "indices": (ranked, Ends()),
    "heads": (two_heads, Ends()),
    "codings": (
        lambda: linear(output_codings=tuple(Coding(Fraction(1, n), Fraction(n), n) for n in (2, 3, 5, 7))),
        Ends(),
    ),
}


def changed(name: str, change: Callable[[dict[str, Any]], object], folder: Path) -> Path:
    """Write the file *name* of :data:`FILES`, with what *change* does to its metadata."""
    make, ends = FILES[name]
    proto = build(make(), ends=ends)[0]
    (entry,) = (entry for entry in proto.metadata_props if entry.key == METADATA)
    held = json.loads(entry.value)
    change(held)
    entry.value = json.dumps(held)
    onnx.save_model(proto, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("name", FILES)
def test_what_bitproof_wrote_is_taken(name: str, tmp_path: Path) -> None:
    model, session = FILES[name][0](), bitproof.onnx_session(changed(name, lambda held: None, tmp_path))
    codes = np.random.default_rng(0).choice(list(model.allowed_codes), size=(20, model.inputs))
    if not session.pixels:
        np.testing.assert_array_equal(session.codes(codes), run(model, codes), strict=True)
        if name != "heads":
            np.testing.assert_array_equal(session.classes(codes), classify(model, run(model, codes)), strict=True)
    assert session.outputs == model.outputs


def put(*keys: str | int, value: object) -> Callable[[dict[str, Any]], object]:
    """Return a change that puts *value* at the place that *keys* lead to."""

    def change(held: Any) -> None:  # noqa: ANN401  JSON
        for key in keys[:-1]:
            held = held[key]
        held[keys[-1]] = value

    return change


def twice(held: dict[str, Any]) -> None:
    held["outputs"] *= 2


HUGE = "1" + 400 * "0"
DAMAGED: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("codes", put("format", value=True), "format = True; expected a whole number"),
    ("codes", put("input", value=[]), "it has no tensor"),
    ("codes", put("input", "tensor", value="zzz"), "input.tensor = 'zzz' with pixels = null; the file takes 'codes'"),
    ("codes", put("input", "zero_point", value=100), "zero_point = 100; codes 0..255 have 0 in uint8"),
    ("few", put("input", "zero_point", value=100), "zero_point = 100; codes 0..15 have 0 in uint8"),
    ("signed", put("input", "zero_point", value=8), "zero_point = 8; codes -8..7 have 0 in int8"),
    ("moved", put("input", "zero_point", value=155), "zero_point = 155; codes -156..99 have 156 in uint8"),
    ("moved pixels", put("input", "zero_point", value=0), "zero_point = 0; codes -8..7 have 8 in uint8"),
    ("codes", put("input", "zero_point", value=10**9), "zero_point = 1000000000; codes"),
    ("codes", put("input", "zero_point", value=1.5), "zero_point = 1.5; expected a whole number"),
    ("codes", put("input", "zero_point", value="3"), "zero_point = '3'; expected a whole number"),
    ("codes", put("input", "zero_point", value=False), "zero_point = False; expected a whole number"),
    ("signed", put("input", "codes", value=[0, 300, 1]), "codes 0..299 do not fit int8, which the file takes"),
    ("signed", put("input", "codes", value=[-8, 256, 1]), "codes -8..255 do not fit int8, which the file takes"),
    ("codes", put("input", "codes", value=[0, 257, 1]), "codes 0..256 do not fit uint8, which the file takes"),
    ("codes", put("input", "codes", value=[0, 256]), "expected start, stop and step, whole numbers"),
    ("codes", put("input", "codes", value=[0, 256.0, 1]), "expected start, stop and step, whole numbers"),
    ("codes", put("input", "codes", value=[10**30, 10**30 + 9, 1]), "expected start, stop and step, whole numbers"),
    ("codes", put("input", "codes", value=[255, -1, -1]), "expected a start below the stop, and a positive step"),
    ("codes", put("input", "pixels", value="junk"), "pixels = 'junk'; expected null, high-bits or a fraction"),
    ("codes", put("input", "pixels", value=False), "pixels = False; expected text or null"),
    ("codes", put("input", "pixels", value="1/255"), "with pixels = \"1/255\"; the file takes 'codes'"),
    ("pixels", put("input", "pixels", value=None), "with pixels = null; the file takes 'pixels'"),
    ("codes", put("input", "rounds", value="no"), "rounds = 'no'; expected true or false"),
    ("codes", put("input", "rounds", value=1), "rounds = 1; expected true or false"),
    (
        "codes",
        put("input", "scale", value="1/1" + 300 * "0"),
        "expected a fraction that is positive and finite in float32",
    ),
    ("codes", put("input", "scale", value=HUGE), "expected a fraction that is positive and finite in float32"),
    (
        "codes",
        put("input", "scale", value="1" + 39 * "0"),
        "expected a fraction that is positive and finite in float32",
    ),
    ("codes", put("input", "scale", value=1), "scale = 1; expected text"),
    ("codes", put("answers", value="indices"), "answers = 'indices'; the outputs are numbers"),
    ("indices", put("answers", value="numbers"), "answers = 'numbers'; the outputs are indices"),
    ("codes", put("answers", value=7), "answers = 7; the outputs are numbers"),
    ("codes", twice, "the file gives"),
    ("heads", lambda held: held["outputs"].reverse(), "the file gives"),
    ("heads", lambda held: held["outputs"].pop(), "the file gives"),
    ("heads", lambda held: held["outputs"][0].pop("name"), "it has no name"),
    ("heads", put("outputs", 1, "name", value=None), "name = None; expected text"),
    ("codes", put("outputs", value=[7]), "it has no tensor"),
    ("codes", put("outputs", value="zzz"), "outputs = 'zzz'; expected a list"),
    ("codings", lambda held: held["codings"].pop(), "3 codings; expected one for all 4 outputs, or for each channel"),
    ("codings", lambda held: held["codings"].append(held["codings"][0]), "5 codings; expected one for all 4 outputs"),
    ("codings", put("codings", 2, value=["1", "0", "1"]), "expected scale, offset, root and shift"),
    ("codings", put("codings", 2, 0, value=HUGE), "the coding of output 2 makes numbers"),
    ("codings", put("codings", 1, 2, value=4000 * "9"), "the coding of output 1 makes numbers"),
    ("codings", put("codings", 3, 3, value="-" + HUGE), "the coding of output 3 makes numbers"),
    ("codings", put("codings", 3, 2, value="0"), "a coding with the root '0'; expected at least 1"),
    ("codings", put("codings", 3, 1, value="1/0"), "'1/0' is not a fraction such as 1/3"),
]


@pytest.mark.parametrize(("name", "change", "said"), DAMAGED, ids=[f"{n}-{s[:40]}" for n, _, s in DAMAGED])
def test_what_contradicts_the_file_is_refused_when_it_is_opened(
    name: str, change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="metadata that bitproof did not write: ") as caught:
        bitproof.onnx_session(changed(name, change, tmp_path))
    assert said in str(caught.value)
    assert str(caught.value).endswith("; write it again by the target onnx-int8")
    assert len(str(caught.value)) < 500


def test_a_file_whose_tensors_are_others_is_refused(tmp_path: Path) -> None:
    path = changed("codes", lambda held: None, tmp_path)
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "any"
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "any"
    onnx.save_model(proto, path)
    with pytest.raises(ValueError, match=re.escape("has the shape ['N', 'any']; expected N, and sizes of one sample")):
        bitproof.onnx_session(path)
