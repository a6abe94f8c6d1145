"""Codes that take another scale as one operator: every code of a byte, ties included."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from integer_graphs import Builder
from written_onnx import Written

from bitproof.export.integer import INPUT, IntegerModel, IntegerType, MatMul, Threshold
from bitproof.export.proofs import prove_requantization
from bitproof.pipeline import Codes

BYTES = np.arange(256, dtype=np.int64)
NEAREST = np.array([round(Fraction(int(code), 2)) for code in BYTES])
"""Half of each code, a tie to even."""


def network(codes: Codes, lowest: int, highest: int) -> IntegerModel:
    """Return a network whose first operation makes *codes*, shape (channels, 256), of every byte."""
    levels = highest - lowest
    rows = [np.searchsorted(row, np.arange(lowest + 1, highest + 1)) for row in codes]  # 256: never met
    build = Builder((len(codes),), 1, IntegerType(8, signed=False))
    kind = IntegerType.smallest_for(min(0, lowest), highest)
    flipped = np.zeros(len(rows), dtype=np.bool_)
    activation = build.add(Threshold("act", np.array(rows, dtype=np.int64), kind, lowest, flipped), INPUT)
    assert levels == rows[0].size
    build.add(MatMul("fc", np.eye(len(codes), dtype=np.int64), IntegerType(2, signed=True)), activation)
    return build.model()


@pytest.mark.parametrize(
    ("one", "lowest", "highest", "construction"),
    [
        (np.clip(NEAREST, 0, 127), -128, 127, "joined"),
        (NEAREST, 0, 128, "joined"),
        (np.minimum(NEAREST, 15), 0, 15, "joined"),
        (np.clip(BYTES - 200, -128, 55), -128, 55, "joined"),
        (np.minimum(3 * BYTES // 7, 109), 0, 109, "joined"),
        (np.minimum(2 * BYTES, 255), 0, 255, "joined"),
        (BYTES**2 // 255, 0, 255, "single steps"),
    ],
)
def test_every_byte_gives_its_code(one: Codes, lowest: int, highest: int, construction: str, tmp_path: Path) -> None:
    model = network(np.stack([one, one]), lowest, highest)
    written = Written.of(model)
    (activation,) = model.nodes_of(Threshold)
    assert written.entry(activation)["construction"] == construction
    codes = np.stack([BYTES, BYTES[::-1]], axis=1)
    assert np.array_equal(activation.apply(codes), np.stack([one, one[::-1]], axis=1))
    assert written.unequal(model, codes) == []
    executor = written.executor(tmp_path)
    assert np.array_equal(executor.requantize("act", 0, 255), np.stack([one, one], axis=1))
    assert all(proof.holds and proof.cases for proof in prove_requantization(model, executor))
    pairs = [proof for proof in executor.prove_sums(model) if "pair of codes" in proof.claim]
    assert [(proof.cases, proof.holds) for proof in pairs] == ([(512, True)] if construction == "joined" else [])
    assert written.with_flipped_threshold(activation, 0, 0).unequal(model, codes), "one boundary is seen"


def test_channels_of_different_scales_are_not_one_operator() -> None:
    model = network(np.stack([np.minimum(NEAREST, 100), BYTES // 3 + 15]), 0, 100)
    written = Written.of(model)
    assert [entry["construction"] for entry in written.layers["activations"]] == ["single steps"]
    assert written.unequal(model, np.stack([BYTES, BYTES], axis=1)) == []


def test_single_steps_can_be_asked_for() -> None:
    model = network(np.stack([NEAREST, NEAREST]), 0, 128)
    written = Written.of(model, "single-steps")
    assert [entry["construction"] for entry in written.layers["activations"]] == ["single steps"]
