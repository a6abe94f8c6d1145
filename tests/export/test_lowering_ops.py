"""Every operation that the lowering takes, alone: the integer model equals qonnx and torch, element by element.

Scales are powers of two and sums are small, so qonnx's float32 is exact and equality is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cases_of_graphs  # noqa: F401  it lists its graphs
import cases_of_nodes  # noqa: F401  it lists its graphs
import numpy as np
import pytest
from agreement import codes_at_thresholds, differences, random_codes
from onnx import TensorProto
from small_graphs import CASES, Case, agree, convolution, image, product, subject_of, vector, whole

from bitproof.export.integer import Affine, Coding, MatMul
from bitproof.export.lowering.operations import OPERATIONS


@pytest.mark.parametrize("name", list(CASES))
def test_integer_model_equals_qonnx_and_torch(tmp_path: Path, name: str) -> None:
    agree(tmp_path, CASES[name]())


def test_every_operation_is_tested() -> None:
    built = {node.op_type for build in CASES.values() for node in build().file.nodes}
    assert set(OPERATIONS) - built == {"TopK", "ArgMax"}  # in tests of their own above


@pytest.mark.parametrize(
    ("op", "first"),
    [("Mul", 0), ("Mul", 1), ("Div", 0), ("Add", 0), ("Add", 1), ("Sub", 0), ("Sub", 1)],
)
def test_constants_a_channel_follow_the_channels(tmp_path: Path, op: str, first: int) -> None:
    file, source = image()
    middle = convolution(file, source, 3)
    constants = file.constant(np.array([0.5, -2.0, 1.0, -0.25]).reshape(4, 1, 1))
    output = file.quant(file.add(op, [constants, middle] if first else [middle, constants]), 0.5, 4, signed=1)
    agree(tmp_path, Case(file, (3, 5, 4), output, (4, 3, 2)))


@pytest.mark.parametrize("count", [1, 3])
def test_indices_of_the_largest(tmp_path: Path, count: int) -> None:
    file, source = vector()
    normal = file.add("Mul", [product(file, source, 1), file.constant([0.5, -2.0, 1.0, -0.25])])
    indices = file.add("TopK", [normal, file.integers(count)], outputs=2, axis=-1)
    agree(tmp_path, Case(file, (6,), indices, (count,), TensorProto.INT64))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_arg_max_takes_the_first_of_equal_numbers(tmp_path: Path, sign: float) -> None:
    file, source = vector(2)
    scaled = file.add("Mul", [product(file, source, 1), file.constant(sign)])
    index = file.add("ArgMax", [scaled], axis=1, keepdims=1)
    agree(tmp_path, Case(file, (6,), index, (1,), TensorProto.INT64))


FREE = [float(np.float32(number)) for number in (0.1, 0.3, 0.7)]
"""Scales that are no powers of two, as training leaves them: float32 numbers without a simple ratio."""


def free_sum() -> Case:
    file, source = vector()
    one, two = (file.quant(product(file, source, i), FREE[i], 4, signed=1) for i in (0, 1))
    return Case(file, (6,), file.quant(file.add("Add", [one, two]), FREE[2], 4, signed=1), (4,))


def free_concat() -> Case:
    file, source = vector()
    one, two = (file.quant(product(file, source, i), FREE[i], 4, signed=1) for i in (0, 1))
    joined = file.add("Concat", [one, two], axis=1)
    return Case(file, (6,), file.quant(product(file, joined, 2, 8, 3), FREE[2], 4, signed=1), (3,))


@pytest.mark.parametrize("build", [free_sum, free_concat])
def test_joins_of_free_scales_are_exact(tmp_path: Path, build: Callable[[], Case]) -> None:
    # Float32 rounds these sums: torch's float64 alone tells what the graph means.
    subject = subject_of(tmp_path, build())
    codes = np.concatenate([random_codes(subject.model, 1, 400), codes_at_thresholds(subject.model, 2)])
    assert differences(subject, codes, exact=False, qonnx=False) == []
    joined = [node for node in subject.model.nodes if isinstance(node, Affine | MatMul)]
    assert max(int(np.abs(n.factors if isinstance(n, Affine) else n.weights).max()) for n in joined) > 1 << 24


def test_a_scale_and_a_bias_of_no_common_measure_stay_with_the_decoding(tmp_path: Path) -> None:
    file, source = vector()
    weights = file.quant(file.constant(whole(1, 2, 6)), FREE[0], 4, signed=1)
    output = file.add("Gemm", [source, weights, file.constant([FREE[1], -FREE[2]])], transB=1)
    subject = subject_of(tmp_path, Case(file, (6,), output, (2,)))
    scale = Fraction(FREE[0]) / 4
    assert subject.model.output_codings == (Coding(scale, Fraction(FREE[1])), Coding(scale, -Fraction(FREE[2])))
    assert differences(subject, random_codes(subject.model, 1), exact=False, qonnx=False) == []
