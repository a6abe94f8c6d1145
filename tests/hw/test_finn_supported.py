"""What FINN's RTL cannot carry out is refused by name before FINN is started."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from integer_nets import UINT8, random_network

from bitproof.export.integer import IntegerModel, IntegerType, Interval, MatMul, Node, Threshold
from bitproof.hw.board import board_names, load_board
from bitproof.hw.finn import BuildFinnGraph
from bitproof.hw.finn.supported import code_type, in_steps_of_one, weight_type
from bitproof.hw.finn.walk import require_supported
from bitproof.pipeline import ConfigError, StageError


def matmul(weights: list[list[int]], name: str = "fc0") -> MatMul:
    return MatMul(name, np.array(weights, dtype=np.int64), IntegerType(12, signed=True))


def threshold(levels: int, *, lowest: int = 0, first: int = 0, name: str = "act0") -> Threshold:
    rows = np.arange(first, first + levels, dtype=np.int64)[None, :]
    return Threshold(name, rows, IntegerType(12, signed=True), lowest, np.zeros(1, dtype=np.bool_))


def model(first: MatMul | Threshold, *nodes: Node, source: IntegerType = UINT8) -> IntegerModel:
    inputs = first.inputs if isinstance(first, MatMul) else first.channels
    return IntegerModel("small", source, Fraction(1), (inputs,), (first, *nodes), Fraction(1))


@pytest.mark.parametrize("weight_bits", [2, 3, 4, 5, 6, 7, 8])
def test_narrow_weights_keep_their_width(weight_bits: int) -> None:
    network = random_network((9, 4, 3), 1, weight_bits=weight_bits)
    require_supported(network)
    assert all(weight_type(node) == IntegerType(weight_bits, signed=True) for node in network.nodes_of(MatMul))


@pytest.mark.parametrize(
    ("weights", "bits"), [([[0, 0]], 2), ([[1, 1]], 2), ([[-1, 1]], 2), ([[-2, 1]], 3), ([[3, 0]], 3), ([[-4, 3]], 4)]
)
def test_the_most_negative_code_is_never_used(weights: list[list[int]], bits: int) -> None:
    assert weight_type(matmul(weights)) == IntegerType(bits, signed=True)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            model(matmul([[1, 1]]), threshold(1023, lowest=-37)),
            (
                "layer 'act0' has codes -37..986, which take 11 bits; FINN's RTL takes 9 at most. "
                "Quantize them to as many (in a configuration: model.act_bits)"
            ),
        ),
        (
            model(matmul([[1, 1]]), threshold(3, first=1 << 24)),
            (
                "layer 'act0' has a threshold of magnitude 16777218; FINN holds integers below 2^24 (in float32 "
                "tensors). Use fewer inputs, or fewer bits in weights or activations"
            ),
        ),
        (
            model(matmul([[127] * 519])),
            (
                "layer 'fc0' has accumulators of magnitude up to 16807815; FINN's Python execution is exact "
                "below 2^24. Use fewer inputs, or fewer bits in weights or activations"
            ),
        ),
    ],
)
def test_a_layer_that_has_no_rtl_is_named(network: IntegerModel, message: str) -> None:
    with pytest.raises(StageError, match=f"^{re.escape(message)}$"):
        require_supported(network)


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (threshold(3, lowest=-2), (-2, [0, 1, 2])),  # as many as the type has: as it is
        (threshold(14, lowest=-7), (-7, list(range(14)))),  # 4 bits, of thresholds and of the type
        (threshold(1), (0, [0])),
        (threshold(3, lowest=-1), (-4, [-5, -5, -5, 0, 1, 2, 8])),  # 3 bits for -1..2; everything reaches -5
        (replace(threshold(1, lowest=-1), step=2), (-2, [-5, 0, 0])),  # bipolar: from -1 to 1 at once
        (threshold(2, lowest=1), (0, [-5, 0, 1])),
    ],
)
def test_a_thresholding_unit_has_as_many_bits_as_its_type(node: Threshold, wanted: tuple[int, list[int]]) -> None:
    reachable = (Interval(-5, 7),)
    made = in_steps_of_one(node, reachable)
    assert (made.lowest, made.thresholds[0].tolist()) == wanted
    assert made.levels.bit_length() == code_type(node).bits
    accumulators = np.arange(-5, 8, dtype=np.int64)[:, None]
    np.testing.assert_array_equal(made.apply(accumulators), node.apply(accumulators), strict=True)


def test_an_unknown_board_is_refused() -> None:
    known = "pynq-z1, pynq-z2, tang-nano-20k, ulx3s-85f"
    with pytest.raises(ConfigError, match=rf"^unknown board 'pynq-z9'; known boards: {known}$"):
        BuildFinnGraph(board="pynq-z9")


@pytest.mark.parametrize("fps", [0, -1, 100_000_001])
def test_an_impossible_frame_rate_is_refused(fps: int) -> None:
    with pytest.raises(ConfigError, match=rf"^fps = {fps} is not possible on pynq-z1; allowed: 1..100000000$"):
        BuildFinnGraph(fps=fps)


@pytest.mark.parametrize("name", board_names())
def test_every_board_is_complete(name: str) -> None:
    board = load_board(name)
    assert board.generated_for == "xc7z020clg400-1"
    assert (board.part == board.generated_for) == (board.open_fpga is None)
    assert board.cycles_per_image(100_000) == 1000
