"""Channels that give one code whatever comes in are warned of, by name, where they begin, and nowhere else."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_files import GENERAL, ForeignFile, weights

from bitproof.export.importer import normalize
from bitproof.export.integer import IntegerModel, IntegerType, MatMul, Node, Threshold, run
from bitproof.export.lint import examine_file
from bitproof.export.lower import lower_file
from bitproof.export.proofs import prove_lowering
from bitproof.export.proofs.constants import warn_of_constants
from bitproof.pipeline.ledger import warnings_of

UINT4 = IntegerType(4, signed=False)


def one_bit_relu(folder: Path) -> Path:
    """Write a network whose ReLU is followed by a quantizer to -1 and 1, as Brevitas exports QuantReLU of one bit."""
    file = ForeignFile()
    source = file.quant("input", 0.5, 4, signed=1)
    first = file.add("Gemm", source, file.quant(file.constant(weights((3, 4), 1)), 0.5, 3, narrow=1), transB=1)
    cut = file.add("BipolarQuant", file.add("Relu", first), file.constant(1.0), domain=GENERAL)
    second = file.quant(file.constant(weights((2, 3), 2)), 0.5, 3, narrow=1)
    path = folder / "model.onnx"
    onnx.save_model(normalize(file.model(file.add("Gemm", cut, second, transB=1), ["N", 4], ["N", 2])), path)
    return path


def test_a_quantizer_that_a_relu_makes_constant_is_named_with_its_channels(tmp_path: Path) -> None:
    lowered = lower_file(one_bit_relu(tmp_path))
    (act,) = lowered.model.nodes_of(Threshold)
    called = lowered.spans[act.name].target
    expected = [
        f"act0: all 3 channels ({called} in the file) give one code whatever comes in: 0, 1, 2",
        "fc1: every output is constant: the network gives one answer whatever comes in",
    ]
    assert warnings_of(prove_lowering(lowered)) == expected
    report = examine_file(tmp_path / "model.onnx", "net")
    assert report.as_json()["warnings"] == expected
    codes = np.random.default_rng(1).integers(-8, 8, size=(100, 4))
    assert len(np.unique(run(lowered.model, codes), axis=0)) == 1


def network(*nodes: Node) -> IntegerModel:
    return IntegerModel("net", UINT4, Fraction(1), (2,), nodes, Fraction(1))


def matmul(name: str, rows: list[list[int]]) -> MatMul:
    return MatMul(name, np.array(rows, dtype=np.int64), IntegerType(3, signed=True))


def activation(rows: list[list[int]]) -> Threshold:
    thresholds = np.array(rows, dtype=np.int64)
    return Threshold("act0", thresholds, UINT4, 0, np.zeros(len(rows), dtype=np.bool_))


@pytest.mark.parametrize(
    ("first", "thresholds", "expected"),
    [
        ([[1, 1], [1, -1]], [[1, 30], [-15, 15]], []),
        ([[1, 1], [1, -1]], [[0, 31], [-15, 15]], ["act0: 1 of the 2 channels give one code whatever comes in: 0"]),
        ([[0, 0], [1, -1]], [[1, 2], [-15, 15]], ["fc0: 1 of the 2 channels give one code whatever comes in: 0"]),
    ],
    ids=["reached", "never and always met", "inherited from weights of 0"],
)
def test_a_channel_is_named_exactly_where_no_code_can_change_it(
    first: list[list[int]], thresholds: list[list[int]], expected: list[str]
) -> None:
    model = network(matmul("fc0", first), activation(thresholds), matmul("fc1", [[1, 1]]))
    assert warnings_of(warn_of_constants(model, {})) == expected
    every = np.array(np.meshgrid(range(16), range(16))).reshape(2, -1).T.astype(np.int64)
    assert len(np.unique(run(model, every))) > 1
