"""The computed cycles of modules: laws that need no simulation; test_rtl_images.py compares them with simulated RTL."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_nets import window

from bitproof.export.integer import Shape
from bitproof.hw.rtl.joint_schedules import Alternating, Together
from bitproof.hw.rtl.schedules import (
    Matrix,
    Regular,
    Replaying,
    Schedule,
    in_turn,
    occupancy,
    padded,
    shifting,
    sliding,
)

KERNEL = window((3, 3), 2)


def module(name: str) -> Schedule:
    memory = 2 * 8 * 2 + 3 * 2  # two rows and three positions, of two words each
    return {
        "thresholds": Regular(30, 30),
        "reducer": Regular(36, 9),
        "narrower": Regular(6, 18),
        "matrix": Matrix(vectors=4, inputs=3, groups=5),
        "matrix of one group": Matrix(vectors=4, inputs=3, groups=1),
        "matrix of one word": Matrix(vectors=4, inputs=1, groups=3),
        "matrix in logic": Replaying(vectors=4, inputs=3, groups=5),
        "matrix in logic of one group": Replaying(vectors=4, inputs=3, groups=1),
        "padding": padded((3, 4), (1, 2), (0, 1), 2),
        "windows": sliding((7, 8), KERNEL, 2, by_channel=False, memory=memory),
        "windows by channel": sliding((7, 8), KERNEL, 2, by_channel=True, memory=memory),
        "shifted windows": shifting((7, 8), KERNEL, 2),
    }[name]


PERIODS = {
    "thresholds": 30,
    "reducer": 36,
    "narrower": 18,
    "matrix": 4 * 3 * 5,
    "matrix of one group": 12,
    "matrix of one word": 12,
    "matrix in logic": 4 * 3 * 5,
    "matrix in logic of one group": 12,
    "padding": 4 * 7 * 2,
    "shifted windows": 7 * 8 * 2 + 1,
}


@pytest.mark.parametrize("name", PERIODS)
def test_the_period_is_that_of_the_busiest_side(name: str) -> None:
    assert module(name).period == PERIODS[name]


def test_windows_wait_for_the_first_rows_of_each_image() -> None:
    given, memory = 3 * 3 * 9 * 2, 2 * 8 * 2 + 3 * 2
    for name in ("windows", "windows by channel"):
        assert given < module(name).period < given + 2 * memory


@pytest.mark.parametrize("name", [*PERIODS, "windows", "windows by channel"])
@given(seed=st.integers(0, 999))
def test_words_move_one_at_a_time_and_never_earlier_for_later_input(name: str, seed: int) -> None:
    schedule = module(name)
    generator = np.random.default_rng(seed)
    there = np.cumsum(generator.integers(0, 4, 3 * schedule.words))
    taken, made = schedule.run(there)
    later_taken, later_made = schedule.run(there + np.sort(generator.integers(0, 9, len(there))))
    assert (taken >= there).all()
    assert (np.diff(taken) >= 1).all()
    assert (np.diff(made) >= 1).all()
    assert (later_taken >= taken).all()
    assert (later_made >= made).all()


@given(
    sizes=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    fold=st.integers(1, 3),
    by_channel=st.booleans(),
)
def test_windows_are_those_of_the_integer_model(
    sizes: Shape, kernel: Shape, stride: int, fold: int, *, by_channel: bool
) -> None:
    """The words of an image, numbered, leave the generator in the order of the windows that a convolution sees."""
    lie = window(kernel, stride)
    image = np.arange(sizes[0] * sizes[1] * fold).reshape(1, *sizes, fold)
    taps = [met for _, met in lie.taps(np.moveaxis(image, -1, 1), lie.output_sizes(sizes))]
    windows = np.stack(taps, axis=-1)[0].transpose(1, 2, *((0, 3) if by_channel else (3, 0)))  # (rows, columns, ...)
    schedule = sliding(sizes, lie, fold, by_channel=by_channel, memory=image.size)
    assert list(schedule.order) == windows.ravel().tolist()
    complete = shifting(sizes, lie, fold).complete
    assert complete == tuple(np.stack(taps, axis=-1)[0].transpose(1, 2, 0, 3)[..., -1].ravel().tolist())


def test_what_lies_between_two_modules_is_counted() -> None:
    given_at = np.array([1, 2, 3, 10])
    assert occupancy(given_at, np.array([2, 3, 4, 11])) == 2  # the word of cycle 2 comes as the first is taken
    assert occupancy(given_at, np.array([4, 5, 6, 11])) == 3
    assert occupancy(given_at, np.array([11, 12, 13, 14])) == 4


def test_words_are_taken_in_turn() -> None:
    assert in_turn(np.array([0, 0, 5, 5])).tolist() == [0, 1, 5, 6]
    assert in_turn(np.array([0, 0, 5, 5]), every=3).tolist() == [0, 3, 6, 9]


def test_a_sum_waits_for_both_and_a_concatenation_for_one_after_the_other() -> None:
    early, late = np.array([0, 1, 2, 3]), np.array([5, 5, 9, 9])
    taken, given = Together(2).run(early, late)
    assert [times.tolist() for times in (*taken, given)] == [[5, 6, 9, 10], [5, 6, 9, 10], [6, 7, 10, 11]]
    taken, given = Alternating(2, (2, 1)).run(early, np.array([5, 9]))
    assert [times.tolist() for times in (*taken, given)] == [[0, 1, 6, 7], [5, 9], [1, 2, 6, 7, 8, 10]]
    assert (Together(7).period, Alternating(4, (2, 1)).period) == (7, 12)
    assert (Together(7).words, Alternating(4, (2, 1)).words) == ((7, 7), (8, 4))


def test_a_matrix_in_logic_keeps_a_vector_for_the_other_groups() -> None:
    taken, given = Replaying(vectors=2, inputs=2, groups=3).run(np.zeros(4, dtype=np.int64))
    assert taken.tolist() == [0, 1, 6, 7]
    assert given.tolist() == [2, 4, 6, 8, 10, 12]
