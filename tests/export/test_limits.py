"""Limits and counts that users read, at the numbers where they change."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from qonnx_files import QonnxFile

from bitproof.export.integer import Affine
from bitproof.export.lower import lower_file
from bitproof.export.lowering.codes import shift
from bitproof.export.lowering.graph import UnsupportedError
from bitproof.export.proofs import prove_lowering
from bitproof.train.estimators import Ranks

LARGEST = (1 << 62) - 1


def shifted(factor: int, offset: int) -> Affine | str:
    builder = SimpleNamespace(name=lambda kind: "shift0", emit=lambda node, source: node)
    lowering: Any = SimpleNamespace(builder=builder)
    return shift(lowering, "source", [Fraction(factor)], [Fraction(offset)])


@pytest.mark.parametrize(("factor", "offset"), [(LARGEST, 0), (-LARGEST, 0), (1, LARGEST), (2, -LARGEST)])
def test_factors_and_offsets_below_two_to_the_62_are_taken(factor: int, offset: int) -> None:
    made = shifted(factor, offset)
    assert isinstance(made, Affine)
    assert (made.factors.tolist(), made.offsets.tolist()) == ([factor], [offset])


@pytest.mark.parametrize(("factor", "offset"), [(LARGEST + 1, 0), (-LARGEST - 1, 0), (1, LARGEST + 1)])
def test_factors_and_offsets_from_two_to_the_62_on_are_refused(factor: int, offset: int) -> None:
    with pytest.raises(UnsupportedError, match="have no common measure that small integers can express"):
        shifted(factor, offset)


def test_what_changes_nothing_appends_no_node() -> None:
    assert shifted(1, 0) == "source"


def test_a_final_softmax_is_left_out_for_outputs_as_large_as_they_can_be(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant("input", 1.0, 2, signed=0)
    first = file.quant(file.constant(np.array([[1, 1], [1, 0]], dtype=np.float32)), 1.0, 3, signed=1)
    middle = file.quant(file.add("Gemm", [source, first], transB=1), 1.0, 2, signed=0)
    last = file.quant(file.constant(np.array([[1, -3], [2, 2]], dtype=np.float32)), 1.0, 3, signed=1)
    output = file.add("Softmax", [file.add("Gemm", [middle, last], transB=1)], axis=-1)
    lowered = lower_file(file.save(tmp_path / "export" / "model.onnx", 2, output, 2))
    (dropped,) = (proof for proof in prove_lowering(lowered) if "Softmax" in proof.claim)
    # the codes of the middle are 0 to 3, so the second output is at most 2 * 3 + 2 * 3
    assert dropped.method == "Softmax is strictly increasing in exact arithmetic (of outputs up to 12 steps)"


def test_ranks_are_by_default_one_process() -> None:
    ranks, tensor = Ranks(), torch.ones(2)
    assert (ranks.rank, ranks.world, ranks.shard) == (0, 1, False)
    assert ranks.total(tensor) is tensor
