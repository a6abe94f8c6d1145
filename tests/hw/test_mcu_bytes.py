"""Bytes that are copied, relabelled or read from the caller keep their meaning; what C cannot do is refused by name."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from integer_graphs import window
from mcu_host import host_executor
from mcu_selftest import SelfTestFirmware

from bitproof.export.integer import (
    Affine,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Reshape,
    SumPool,
    Threshold,
    Transpose,
    run,
)
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import StageError

TERNARY, BIPOLAR = IntegerType(2, signed=True), range(-1, 2, 2)
SAME, POINT, HALF = window(3, padding=1), window(1), window(2, stride=2)
ONES = np.ones((1, 1, 3, 3), dtype=np.int64)
ONE = np.ones((1, 1, 1, 1), dtype=np.int64)


def network(
    shape: tuple[int, ...],
    *nodes: Node,
    codes: range = range(8),
    wiring: tuple[tuple[str, ...], ...] | None = None,
) -> IntegerModel:
    kind = IntegerType(4, signed=codes[0] < 0)
    return IntegerModel("net", kind, Fraction(1), shape, nodes, Fraction(1), wiring, input_codes=codes)


def thresholds(name: str, values: list[list[int]], *, lowest: int = 0, step: int = 1) -> Threshold:
    return Threshold(
        name, np.array(values), IntegerType(4, signed=lowest < 0), lowest, np.zeros(len(values), dtype=np.bool_), step
    )


def affine(name: str, factor: int, offset: int = 0) -> Affine:
    return Affine(name, np.array([factor]), np.array([offset]))


CARRIED_OUT = {
    "bipolar codes, pooled, then padded": network(
        (1, 4, 4), MaxPool("m", HALF), Conv("c", ONES, TERNARY, SAME, 1), codes=BIPOLAR
    ),
    "bipolar codes, pooled twice, then summed with padding": network(
        (1, 8, 8), MaxPool("m", HALF), MaxPool("n", HALF), SumPool("s", SAME), codes=BIPOLAR
    ),
    "bipolar codes, pooled, then flattened": network(
        (2, 4, 4),
        MaxPool("m", HALF),
        Reshape("r", (2, 2, 2), (8,)),
        MatMul("f", np.eye(8, dtype=np.int64)[:3], TERNARY),
        codes=BIPOLAR,
    ),
    "codes in steps of 2 from 1 on, then padded": network(
        (1, 3, 3),
        Conv("c", ONE, TERNARY, POINT, 1),
        thresholds("t", [[1, 3, 5]], lowest=1, step=2),
        Conv("d", ONES, TERNARY, SAME, 1),
    ),
    "codes that change places, of which none is 0": network(
        (2, 2, 2),
        Transpose("t", (2, 2, 2), (1, 0, 2)),
        Threshold("u", np.array([[1], [2]]), IntegerType(1, signed=False), 0, np.zeros(2, dtype=np.bool_)),
        codes=range(-7, -3),
    ),
    "a factor below 0 behind a pool": network(
        (1, 4, 4),
        Conv("c", ONE, TERNARY, POINT, 1),
        MaxPool("m", HALF),
        affine("b", -1),
        thresholds("t", [[-6, -4]]),
    ),
    "outputs that are the input, beside a node that nothing reads": network(
        (1, 4),
        Conv("k", np.ones((1, 1, 1), dtype=np.int64), TERNARY, window(1, axes=1), 1),
        Reshape("r", (1, 4), (4,)),
        wiring=(("input",), ("input",)),
    ),
    "no product": network((1, 4, 4), MaxPool("m", HALF)),
}


@pytest.mark.tool
@pytest.mark.parametrize("name", CARRIED_OUT)
def test_all_codes_are_those_of_the_integer_model(tmp_path: Path, name: str) -> None:
    model = CARRIED_OUT[name]
    generator = np.random.default_rng(1)
    codes = generator.choice(model.allowed_codes, size=(20, model.inputs))
    codes[:2] = [[model.allowed_codes[0]], [model.allowed_codes[-1]]]
    np.testing.assert_array_equal(host_executor(model, tmp_path / "c", lanes=0)(codes), run(model, codes))


@pytest.mark.tool
def test_a_network_without_products_is_firmware_with_a_self_test(tmp_path: Path) -> None:
    assert SelfTestFirmware.build(CARRIED_OUT["no product"], tmp_path / "run").answer() == 0


REFUSED = {
    "'b' multiplies by -1 before max pool 'm'; the C back-end pools the sums first": network(
        (1, 4, 4),
        Conv("c", ONE, TERNARY, POINT, 1),
        affine("a", 2),
        affine("b", -1),
        MaxPool("m", HALF),
        thresholds("t", [[-8, -4]]),
    ),
    "'net' computes nothing": network((1, 2, 2), Reshape("r", (1, 2, 2), (4,))),
    "'a' needs the constant 1099511627776": network(
        (1,), MatMul("m", np.zeros((1, 1), dtype=np.int64), TERNARY), affine("a", 1 << 40), thresholds("t", [[0]])
    ),
    "'c' pads with the code 0, which is none of the codes 1 to 5 in steps of 2": network(
        (1, 3, 3),
        Conv("d", ONE, TERNARY, POINT, 1),
        thresholds("t", [[1, 3]]),
        affine("r", 2, 1),
        Conv("c", ONES, TERNARY, SAME, 1),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_c_cannot_do_is_refused_by_name(message: str) -> None:
    with pytest.raises(StageError, match=message):
        plan_network(REFUSED[message])
