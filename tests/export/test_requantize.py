"""Constants of every form of requantization reproduce the thresholds on every reachable accumulator, or are refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.export.integer import (
    IntegerType,
    Interval,
    MultiplyShift,
    Requantization,
    RoundingShift,
    Threshold,
    require_equal,
    solve_multiply_shift,
    solve_requantization,
    solve_rounding_shift,
)
from bitproof.export.integer.requantize import MAX_SHIFT
from bitproof.pipeline import Codes, StageError


def affine_threshold(slope: float, offset: float, bits: int, reachable: Interval) -> list[int]:
    codes = np.arange(1, 1 << bits)
    rows = np.ceil((codes - 0.5 - offset) / slope).astype(int)
    return [int(min(max(row, reachable.low), reachable.high + 1)) for row in rows]


def layer(rows: list[list[int]], lowest: int = 0) -> Threshold:
    highest = lowest + len(rows[0])
    kind = IntegerType.smallest_for(min(lowest, 0), max(highest, 1))
    return Threshold("act0", np.array(rows, dtype=np.int64), kind, lowest, np.zeros(len(rows), dtype=np.bool_))


def codes_over(node: Threshold, reachable: Interval) -> Codes:  # int64, (N, channels)
    accumulators = np.arange(reachable.low, reachable.high + 1, dtype=np.int64)[:, None]
    return np.repeat(accumulators, node.channels, axis=1)


def assert_equal_everywhere(node: Threshold, form: Requantization, reachable: Interval) -> None:
    accumulators = codes_over(node, reachable)
    np.testing.assert_array_equal(node.apply(accumulators), form.apply(node, accumulators), strict=True)


@given(
    st.integers(2, 8),
    st.lists(st.tuples(st.floats(1e-3, 5), st.floats(-300, 300)), min_size=1, max_size=5),
    st.integers(-3000, 0),
    st.integers(1, 3000),
    st.sampled_from([32, 64]),
)
@settings(max_examples=80, deadline=None)
def test_solution_equals_thresholds_on_every_reachable_accumulator(
    bits: int, lines: list[tuple[float, float]], low: int, high: int, word_bits: int
) -> None:
    reachable = Interval(low, high)
    node = layer([affine_threshold(slope, offset, bits, reachable) for slope, offset in lines])
    constants = solve_multiply_shift(node, (reachable,) * node.channels, word_bits=word_bits)
    if constants is None:
        return
    assert_equal_everywhere(node, constants, reachable)
    products = codes_over(node, reachable) * constants.multiplier + constants.offset
    assert -(1 << (word_bits - 1)) <= products.min() <= products.max() < 1 << (word_bits - 1)


def brute_force(node: Threshold, reachable: Interval, shift: int, largest: int) -> int | None:
    """Return the least M up to *largest* for which a B gives the thresholds of channel 0 everywhere; all are tried."""
    expected = node.apply(codes_over(node, reachable))[:, 0].tolist()
    accumulators = range(reachable.low, reachable.high + 1)
    for multiplier in range(largest + 1):
        # code << shift <= a M + B < (code + 1) << shift, without the bound that saturation takes away
        pairs = [(a * multiplier, c) for a, c in zip(accumulators, expected, strict=True)]
        least = [(code << shift) - product for product, code in pairs if code > node.lowest]
        most = [((code + 1) << shift) - 1 - product for product, code in pairs if code < node.highest]
        if not least or not most or max(least) <= min(most):
            return multiplier
    return None


rows = st.lists(st.integers(-13, 13), min_size=1, max_size=4).map(sorted)


@given(rows, st.integers(-12, 0), st.integers(0, 12), st.integers(-3, 2))
@settings(max_examples=300, deadline=None)
def test_least_shift_and_multiplier_are_those_of_brute_force(row: list[int], low: int, high: int, lowest: int) -> None:
    node, reachable = layer([row], lowest), Interval(low, high)
    shifts = {shift: brute_force(node, reachable, shift, 1 << (shift + 3)) for shift in range(1, 8)}
    possible = [shift for shift, multiplier in shifts.items() if multiplier is not None]
    constants = solve_multiply_shift(node, (reachable,), word_bits=64)
    if possible:
        assert constants is not None
        assert (constants.shift, constants.multiplier[0]) == (possible[0], shifts[possible[0]])
    else:
        assert constants is None or constants.shift > max(shifts)
    if constants is not None:
        assert_equal_everywhere(node, constants, reachable)


def rounded(rows: list[Fraction], levels: int, lowest: int, reachable: Interval, *, to_odd: bool) -> Threshold:
    """Thresholds of ``round(scale * a)``, from exact fractions, one row a scale; Python's round goes to even."""
    code = (lambda x: round(x - 1) + 1) if to_odd else round
    table = [[code(scale * a) for a in range(reachable.low, reachable.high + 1)] for scale in rows]
    wanted = range(lowest + 1, lowest + levels + 1)
    return layer([[reachable.low + sum(c < i for c in codes) for i in wanted] for codes in table], lowest)


@pytest.mark.parametrize("to_odd", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shift", [1, 2, 4])
def test_ties_of_half_even_need_the_rounding_shift(shift: int, bits: int, to_odd: bool) -> None:
    lowest = -(1 << (bits - 1))
    reachable = Interval(-(1 << (shift + bits)), 1 << (shift + bits))
    node = rounded([Fraction(1, 1 << shift)] * 3, (1 << bits) - 1, lowest, reachable, to_odd=to_odd)
    ranges = (reachable, Interval(reachable.low, 5), Interval(-3, reachable.high))
    form = solve_requantization(node, ranges)
    assert isinstance(form, RoundingShift)
    assert (form.shift, form.to_odd) == (shift, to_odd)
    assert_equal_everywhere(node, form, reachable)
    assert solve_multiply_shift(node, ranges, word_bits=64) is None


@given(st.integers(1, 6), st.integers(-40, 40), st.integers(1, 9), st.integers(-5, 5), st.booleans())
@settings(max_examples=100, deadline=None)
def test_offset_rounding_shifts_are_found(shift: int, offset: int, levels: int, lowest: int, to_odd: bool) -> None:
    reachable = Interval(-200, 200)
    form = RoundingShift(np.array([offset]), shift, to_odd)
    blank = layer([[0] * levels], lowest)
    codes = form.apply(blank, codes_over(blank, reachable))[:, 0]
    row = [reachable.low + int((codes < i).sum()) for i in range(lowest + 1, lowest + levels + 1)]
    node = layer([row], lowest)
    found = solve_rounding_shift(node, (reachable,))
    assert found is not None or row[0] == reachable.low or row[-1] == reachable.high + 1
    if found is not None:
        assert_equal_everywhere(node, found, reachable)


def test_a_moved_threshold_has_no_rounding_shift() -> None:
    reachable = Interval(-64, 64)
    node = rounded([Fraction(1, 4)], 15, -8, reachable, to_odd=False)
    assert solve_rounding_shift(node, (reachable,)) is not None
    for level in range(15):
        for delta in (-1, 1):
            moved = node.thresholds.copy()
            moved[0, level] += delta
            assert solve_rounding_shift(replace(node, thresholds=moved), (reachable,)) is None


def test_four_bit_affine_channels_have_a_32_bit_solution() -> None:
    generator = np.random.default_rng(0)
    reachable = Interval(-6000, 6000)
    rows = [
        affine_threshold(generator.uniform(1e-3, 0.05), generator.uniform(-20, 20), 4, reachable) for _ in range(64)
    ]
    assert solve_multiply_shift(layer(rows), (reachable,) * 64, word_bits=32) is not None


def test_eight_bit_affine_channels_need_and_have_64_bits() -> None:
    generator = np.random.default_rng(1)
    reachable = Interval(-2_000_000, 2_000_000)
    rows = [
        affine_threshold(generator.uniform(1e-4, 2e-4), generator.uniform(-9, 200), 8, reachable) for _ in range(512)
    ]
    node = layer(rows)
    form = solve_requantization(node, (reachable,) * 512)
    assert isinstance(form, MultiplyShift)
    assert form.word_bits == 64
    assert form.shift <= MAX_SHIFT[64]
    ends = np.clip(np.concatenate([node.thresholds.T - 1, node.thresholds.T]), reachable.low, reachable.high)
    assert (form.apply(node, ends) == node.apply(ends)).all()


@pytest.mark.parametrize("word_bits", [32, 64])
def test_thresholds_that_no_line_meets_have_no_solution(word_bits: int) -> None:
    node = layer([[0, 1, 1000]])
    assert solve_multiply_shift(node, (Interval(-10, 2000),), word_bits=word_bits) is None


@pytest.mark.parametrize(("row", "code"), [([-10, -10, -10], 3), ([11, 11, 11], 0), ([-10, 11, 11], 1)])
def test_a_constant_channel_is_solved(row: list[int], code: int) -> None:
    node, reachable = layer([row]), Interval(-10, 10)
    constants = solve_multiply_shift(node, (reachable,), word_bits=32)
    assert constants is not None
    assert (constants.apply(node, codes_over(node, reachable)) == code).all()


@given(st.integers(-(1 << 31) + 1, -1), st.integers(0, (1 << 31) - 1), st.integers(0, 1 << 20), st.integers(1, 255))
@settings(max_examples=50, deadline=None)
def test_the_widest_accumulators_do_not_overflow_the_solver(low: int, high: int, gap: int, levels: int) -> None:
    reachable = Interval(low, high)
    row = [min(max(-gap * (levels // 2) + gap * i, low), high + 1) for i in range(levels)]
    node = layer([row])
    form = solve_requantization(node, (reachable,))
    if isinstance(form, MultiplyShift):
        for at in {low, high, *(t for t in row if t <= high), *(t - 1 for t in row if t > low)}:
            total = at * int(form.multiplier[0]) + int(form.offset[0])  # Python integers have no width
            assert -(1 << 63) <= total < 1 << 63
            assert min(max(total >> form.shift, 0), levels) == sum(t <= at for t in row)


def test_codes_two_apart_and_wide_accumulators_are_left_to_the_thresholds() -> None:
    bipolar = replace(layer([[3]], -1), step=2, output=IntegerType(2, signed=True))
    assert solve_requantization(bipolar, (Interval(-9, 9),)) is None
    assert solve_requantization(layer([[3]]), (Interval(-9, 1 << 31),)) is None


@pytest.mark.parametrize("part", ["multiplier", "offset"])
def test_constants_that_are_wrong_at_one_boundary_are_refused(part: str) -> None:
    reachable = (Interval(-6000, 6000),) * 2
    node = layer([affine_threshold(0.01, 3, 4, reachable[0]), affine_threshold(0.03, -2, 4, reachable[0])])
    form = solve_multiply_shift(node, reachable, word_bits=32)
    assert form is not None
    require_equal(node, form, reachable)
    wrong = getattr(form, part).copy()
    wrong[1] += 1 if part == "multiplier" else 1 << form.shift
    with pytest.raises(StageError, match=r"^act0: the constants of MultiplyShift give another code .* of channel 1; "):
        require_equal(node, replace(form, **{part: wrong}), reachable)


def test_a_falling_form_is_refused() -> None:
    node, reachable = layer([[-10]]), (Interval(-10, 10),)
    form = MultiplyShift(np.array([-1]), np.array([50]), 1)
    assert (form.apply(node, codes_over(node, reachable[0])) == 1).all()
    with pytest.raises(StageError, match=r"^act0: a multiplier is negative, so the form falls; report this as a bug$"):
        require_equal(node, form, reachable)
