"""The output bias: its meaning, its range, its proof, its file form, and its form in packed-int8 ONNX."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from integer_networks import random_codes, random_network

from bitproof.export.integer import Affine, IntegerModel, Interval, load, run, save
from bitproof.export.onnx_int8 import OnnxInt8Executor, build
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.export.proofs import prove_matrix_units, prove_requantization, prove_widths
from bitproof.pipeline import Artifact, InputError, compare_codes

OFFSETS = np.array([-70_000, 0, 123_456], dtype=np.int64)


def with_bias(model: IntegerModel, offsets: np.ndarray[tuple[int], np.dtype[np.int64]]) -> IntegerModel:
    return replace(model, nodes=(*model.nodes, Affine.bias("bias0", offsets)))


def biased() -> IntegerModel:
    return with_bias(random_network((9, 5, 3)), OFFSETS)


def test_a_bias_is_added_and_shifts_the_range() -> None:
    model, plain = biased(), random_network((9, 5, 3))
    codes = random_codes(model, 40)
    assert model.outputs == 3
    assert (run(model, codes) == run(plain, codes) + OFFSETS).all()
    before, after = plain.values["fc1"].ranges, model.values["bias0"].ranges
    shifted = tuple(Interval(i.low + o, i.high + o) for i, o in zip(before, OFFSETS.tolist(), strict=True))
    assert after == shifted


def test_a_bias_is_saved_and_read(tmp_path: Path) -> None:
    save(biased(), tmp_path)
    read = load(tmp_path)
    codes = random_codes(read, 40)
    assert (run(read, codes) == run(biased(), codes)).all()
    assert not (run(read, codes) == run(random_network((9, 5, 3)), codes)).all()


def test_offsets_of_another_shape_are_refused(tmp_path: Path) -> None:
    message = r"offsets of 'bias0' must be non-empty int64 of 1 axes, not int64 \(3, 1\)"
    with pytest.raises(ValueError, match=message):
        Affine.bias("bias0", OFFSETS[:, None])
    with pytest.raises(ValueError, match=r"'bias0' \(affine\) takes 2 channels and is given \(3,\)"):
        with_bias(random_network((9, 5, 3)), OFFSETS[:2])
    save(biased(), tmp_path)
    for field in ("factors", "offsets"):
        np.save(tmp_path / f"bias0.{field}.npy", OFFSETS[:2])
    with pytest.raises(InputError, match=r"'bias0' \(affine\) takes 2 channels and is given \(3,\)"):
        load(tmp_path)


def test_the_width_with_its_bias_is_proven_and_an_overflow_found() -> None:
    proof = next(entry for entry in prove_widths(biased()) if entry.layer == "bias0")
    assert proof.holds
    assert proof.claim.endswith("never over 32")
    assert proof.cases == 3
    wide = with_bias(random_network((9, 5, 3)), np.array([0, 0, 1 << 31], dtype=np.int64))
    proof = next(entry for entry in prove_widths(wide) if entry.layer == "bias0")
    assert proof.claim.endswith("33 bits, never over 64")


def written(model: IntegerModel, folder: Path) -> OnnxInt8Executor:
    proto, layers = build(model)
    folder.mkdir()
    onnx.save_model(proto, folder / FILE)
    (folder / LAYERS).write_text(json.dumps(layers))
    return OnnxInt8Executor(Artifact("onnx-int8", "onnx-int8", folder, ""))


def test_onnx_int8_adds_the_bias(tmp_path: Path) -> None:
    model = biased()
    executor = written(model, tmp_path / "out")
    codes = random_codes(model, 200)
    compare_codes(run(model, codes), executor(codes), names=("integer", "onnx-int8"), origin="random").require()
    assert all(proof.holds for proof in prove_requantization(model, executor))
    other = with_bias(random_network((9, 5, 3)), OFFSETS + np.array([0, 1, 0]))
    report = compare_codes(run(other, codes), executor(codes), names=("integer", "onnx-int8"), origin="random")
    assert report.differing == 200
    assert report.first is not None
    assert report.first.output == 1


def test_onnx_int8_adds_biases_over_32_bits_in_64(tmp_path: Path) -> None:
    wide = with_bias(random_network((9, 5, 3)), np.array([0, 0, 1 << 31], dtype=np.int64))
    codes = random_codes(wide, 200)
    made = written(wide, tmp_path / "out")(codes)
    compare_codes(run(wide, codes), made, names=("integer", "onnx-int8"), origin="random").require()
    assert made.max() >= 1 << 31


def test_matrix_units_are_proven_without_the_bias() -> None:
    class Unit:
        name = "unit"

        def multiply(self, node: str, codes: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> object:
            return biased().node(node).apply(codes)

    assert all(proof.holds for proof in prove_matrix_units(biased(), Unit(), 0))  # type: ignore[arg-type]
