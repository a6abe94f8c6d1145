"""Multiply-shift constants reproduce the thresholds on every reachable accumulator, or there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.integer import IntegerType, Interval, Threshold, apply_multiply_shift, solve_multiply_shift
from pipeline import Codes


def affine_threshold(slope: float, offset: float, bits: int, reachable: Interval) -> list[int]:
    codes = np.arange(1, 1 << bits)
    rows = np.ceil((codes - 0.5 - offset) / slope).astype(int)
    return [int(min(max(row, reachable.low), reachable.high + 1)) for row in rows]


def layer(rows: list[list[int]], bits: int) -> Threshold:
    return Threshold(
        "act0", np.array(rows, dtype=np.int64), IntegerType(bits, signed=False), 0, np.zeros(len(rows), dtype=np.bool_)
    )


def codes_over(node: Threshold, reachable: Interval) -> Codes:  # int64, (N, channels)
    accumulators = np.arange(reachable.low, reachable.high + 1, dtype=np.int64)[:, None]
    return np.repeat(accumulators, node.channels, axis=1)


@given(
    st.integers(2, 8),
    st.lists(st.tuples(st.floats(1e-3, 5), st.floats(-300, 300)), min_size=1, max_size=5),
    st.integers(-3000, 0),
    st.integers(1, 3000),
)
@settings(max_examples=80, deadline=None)
def test_solution_equals_thresholds_on_every_reachable_accumulator(
    bits: int, lines: list[tuple[float, float]], low: int, high: int
) -> None:
    reachable = Interval(low, high)
    node = layer([affine_threshold(slope, offset, bits, reachable) for slope, offset in lines], bits)
    constants = solve_multiply_shift(node, (reachable,) * node.channels, word_bits=32)
    if constants is None:
        return
    accumulators = codes_over(node, reachable)
    np.testing.assert_array_equal(
        node.apply(accumulators), apply_multiply_shift(node, constants, accumulators), strict=True
    )
    products = accumulators * constants.multiplier + constants.offset
    assert -(1 << 31) <= products.min() <= products.max() < 1 << 31


def test_four_bit_affine_channels_have_a_32_bit_solution() -> None:
    generator = np.random.default_rng(0)
    reachable = Interval(-6000, 6000)
    rows = [
        affine_threshold(generator.uniform(1e-3, 0.05), generator.uniform(-20, 20), 4, reachable) for _ in range(64)
    ]
    assert solve_multiply_shift(layer(rows, 4), (reachable,) * 64, word_bits=32) is not None


def test_thresholds_that_no_line_meets_have_no_solution() -> None:
    node = layer([[0, 1, 1000]], 2)
    assert solve_multiply_shift(node, (Interval(-10, 2000),), word_bits=32) is None


@pytest.mark.parametrize(("row", "code"), [([-10, -10, -10], 3), ([11, 11, 11], 0), ([-10, 11, 11], 1)])
def test_a_constant_channel_is_solved(row: list[int], code: int) -> None:
    node, reachable = layer([row], 2), Interval(-10, 10)
    constants = solve_multiply_shift(node, (reachable,), word_bits=32)
    assert constants is not None
    assert (apply_multiply_shift(node, constants, codes_over(node, reachable)) == code).all()
