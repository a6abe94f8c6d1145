"""Ranges hold every value that occurs, and are reached."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.export.integer import (
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    Threshold,
    accumulator_type,
    trace,
)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=3))
def test_matmul_range_is_the_exact_hull_of_all_inputs(rows: list[list[int]]) -> None:
    kind = IntegerType(2, signed=False)
    node = MatMul("fc0", np.array(rows, dtype=np.int64), IntegerType(3, signed=True))
    model = IntegerModel("m", kind, Fraction(1), (3,), (node,), Fraction(1))
    everything = np.array(list(product(range(4), repeat=3)), dtype=np.int64)
    outputs = trace(model, everything)["fc0"]
    expected = tuple(Interval(int(c.min()), int(c.max())) for c in outputs.T)
    assert model.values["fc0"].ranges == expected


def test_threshold_range_counts_what_is_met_at_both_ends() -> None:
    nodes = (
        MatMul("fc0", np.array([[1], [-1]], dtype=np.int64), IntegerType(2, signed=True)),
        Threshold(
            "act0",
            np.array([[0, 2, 4], [-3, -1, 1]], dtype=np.int64),
            IntegerType(2, signed=False),
            0,
            np.zeros(2, dtype=np.bool_),
        ),
    )
    model = IntegerModel("m", IntegerType(2, signed=False), Fraction(1), (1,), nodes, Fraction(1))
    assert model.values["act0"].ranges == (Interval(1, 2), Interval(1, 2))


@pytest.mark.parametrize("bits", range(1, 34))
def test_accumulator_type_is_the_narrowest(bits: int) -> None:
    top = 1 << (bits - 1)
    assert accumulator_type((Interval(-top, top - 1),)).bits == bits
    assert accumulator_type((Interval(-top - 1, 0),)).bits == bits + 1
    assert accumulator_type((Interval(0, top),)).bits == bits + 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0, "uint1"),
        (0, 255, "uint8"),
        (0, 256, "uint9"),
        (-1, 0, "int1"),
        (-1, 1, "int2"),
        (-2, 1, "int2"),
        (-3, 0, "int3"),
    ],
)
def test_smallest_type(low: int, high: int, expected: str) -> None:
    assert str(IntegerType.smallest_for(low, high)) == expected
