"""The class that output codes name: by the real numbers that they stand for, not by the codes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from integer_networks import random_network

from export.integer import Coding, TopK, classify, run


def test_equal_codings_compare_codes_and_the_first_of_equal_ones_wins() -> None:
    model = random_network((4, 3))
    assert classify(model, np.array([[1, 5, 5], [7, -1, 7], [-3, -2, -9]])).tolist() == [1, 0, 1]


def test_channels_of_different_scale_or_bias_are_compared_as_fractions() -> None:
    third = Coding(Fraction(1, 3))
    model = replace(
        random_network((4, 3)), output_codings=(third, Coding(Fraction(1)), Coding(Fraction(1), Fraction(1)))
    )
    # 3 * 1/3 = 1 equals code 1 of the second channel exactly: the first wins.
    assert classify(model, np.array([[3, 1, -1], [3, 1, 1], [4, 1, 0], [5, 2, 0]])).tolist() == [0, 2, 0, 1]


def test_a_single_output_is_the_sign_of_its_real_number() -> None:
    model = replace(random_network((4, 1)), output_codings=(Coding(Fraction(1, 2), Fraction(-1)),))
    assert classify(model, np.array([[2], [3], [-5]])).tolist() == [0, 1, 0]


def test_indices_of_the_largest_codes_are_the_class() -> None:
    plain = random_network((4, 3))
    model = replace(plain, nodes=(*plain.nodes, TopK("top0", 3, 2)))
    codes = np.random.default_rng(0).integers(0, 255, size=(50, 4))
    assert classify(model, run(model, codes)).tolist() == classify(plain, run(plain, codes)).tolist()
