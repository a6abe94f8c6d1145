"""Nodes that move nothing are left out for targets of vectors; those that do are kept."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest

from bitproof.export.integer import (
    Add,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    Node,
    Reshape,
    Shape,
    Threshold,
    Transpose,
    Window,
    run,
    without_moves,
)
from bitproof.export.integer.ir import Wiring
from bitproof.export.integer.moves import moves_nothing
from bitproof.hw.finn.supported import require_supported
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import StageError

UINT8 = IntegerType(8, signed=False)


def matmul(name: str, outputs: int, inputs: int) -> MatMul:
    weights = np.random.default_rng(inputs).integers(-3, 4, size=(outputs, inputs))
    return MatMul(name, weights, IntegerType(3, signed=True))


def activation(name: str, channels: int) -> Threshold:
    rows = np.sort(np.random.default_rng(channels).integers(-900, 900, size=(channels, 15)), axis=1)
    return Threshold(name, rows, IntegerType(4, signed=False), 0, np.zeros(channels, dtype=np.bool_))


def model(*nodes: Node, shape: Shape = (2, 3, 4), wiring: Wiring | None = None) -> IntegerModel:
    return IntegerModel("moved", UINT8, Fraction(1), shape, nodes, Fraction(1), wiring)


def perceptron(*before: Node) -> IntegerModel:
    inner = (matmul("fc0", 8, 24), Reshape("reshape8", (8,), (8, 1)), Transpose("transpose9", (8, 1), (1, 0)))
    last = (Reshape("reshape9", (1, 8), (8,)), activation("act0", 8), matmul("fc1", 3, 8))
    return model(*before, *inner, *last, Reshape("reshape10", (3,), (3, 1)))


def test_shapes_alone_cost_nothing_on_targets_of_vectors() -> None:
    moved = perceptron(Reshape("reshape0", (2, 3, 4), (24,)))
    flat = without_moves(moved)
    assert [node.name for node in flat.nodes] == ["fc0", "act0", "fc1"]
    assert flat.shape == (24,)
    codes = np.random.default_rng(1).integers(0, 256, size=(50, 24))
    np.testing.assert_array_equal(run(moved, codes), run(flat, codes), strict=True)
    require_supported(moved)
    assert plan_network(moved).scratch_bytes == plan_network(flat).scratch_bytes


def test_numbers_that_change_places_are_refused() -> None:
    turned = perceptron(Transpose("transpose0", (2, 3, 4), (1, 2, 0)), Reshape("reshape0", (3, 4, 2), (24,)))
    assert without_moves(turned) is turned
    for refuse in (plan_network, require_supported):
        with pytest.raises(StageError, match=r"has no form for transpose0 \(transpose\); it takes chains of"):
            refuse(turned)


@pytest.mark.parametrize("axes", list(permutations(range(4))))
@pytest.mark.parametrize("sizes", [(2, 1, 3, 1), (1, 1, 1, 5), (2, 3, 1, 1)])
def test_a_transpose_moves_nothing_where_the_codes_say_so(axes: Shape, sizes: Shape) -> None:
    codes = np.arange(np.prod(sizes)).reshape(1, *sizes)
    node = Transpose("transpose0", sizes, axes)
    stays = bool((node.apply(codes).reshape(-1) == codes.reshape(-1)).all())
    assert moves_nothing(node) is stays


def test_what_is_no_chain_of_vectors_stays_as_it_is() -> None:
    one = Window((1, 1), (1, 1), (0, 0), (0, 0), (1, 1))
    kernel = Conv("conv0", np.ones((1, 2, 1, 1), dtype=np.int64), IntegerType(2, signed=True), one, 1)
    shaped = model(activation("act0", 2), Reshape("reshape0", (2, 3, 4), (24,)))  # two channels of twelve numbers
    branched = model(Reshape("reshape0", (2, 3, 4), (24,)), Add("add0"), wiring=(("input",), ("reshape0", "reshape0")))
    for other in (model(kernel), shaped, branched, model(Reshape("reshape0", (2, 3, 4), (24,)))):
        assert without_moves(other) is other
    vector = model(matmul("fc0", 3, 24), shape=(24,))
    assert without_moves(vector) is vector
    assert without_moves(replace(vector, name="other")).name == "other"
