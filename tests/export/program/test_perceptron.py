"""What C and FINN take their plans from: layers of a chain, between which any number of views lie."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.export.integer import (
    Add,
    Affine,
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
)
from bitproof.export.integer.ir import Wiring
from bitproof.export.program.perceptron import perceptron_of
from bitproof.export.program.schedule import schedule
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


def refusal(network: IntegerModel) -> str:
    with pytest.raises(StageError) as refused:
        perceptron_of(schedule(network), "the target")
    return str(refused.value)


def test_shapes_alone_cost_nothing() -> None:
    moved = perceptron(Reshape("reshape0", (2, 3, 4), (24,)))
    first, last = perceptron_of(schedule(moved), "the target").layers
    assert (first.product.name, first.thresholds and first.thresholds.name) == ("fc0", "act0")
    assert (last.product.name, last.thresholds, last.bias) == ("fc1", None, None)
    assert first.takes.shape == (24,)
    assert last.takes.codes == range(16)
    flat = model(*(node for node in moved.nodes if not isinstance(node, Reshape | Transpose)), shape=(24,))
    require_supported(moved)
    assert plan_network(moved).arena_bytes == plan_network(flat).arena_bytes


def test_numbers_that_change_places_are_refused() -> None:
    turned = perceptron(Transpose("transpose0", (2, 3, 4), (1, 2, 0)), Reshape("reshape0", (3, 4, 2), (24,)))
    with pytest.raises(StageError, match=r"has no form for transpose0 \(transpose\); it takes chains of"):
        require_supported(turned)


@pytest.mark.parametrize("axes", list(permutations(range(4))))
@pytest.mark.parametrize("sizes", [(2, 1, 3, 1), (1, 1, 1, 5), (2, 3, 1, 1)])
def test_a_transpose_is_a_view_if_the_codes_stay_where_they_are(axes: Shape, sizes: Shape) -> None:
    count = int(np.prod(sizes))
    codes = np.arange(count).reshape(1, *sizes)
    node = Transpose("transpose0", sizes, axes)
    stays = bool((node.apply(codes).reshape(-1) == codes.reshape(-1)).all())
    flat = Reshape("reshape0", tuple(sizes[axis] for axis in axes), (count,))
    program = schedule(model(node, flat, matmul("fc0", 2, count), shape=sizes))
    value = program.values.get("transpose0")  # else the product takes its codes in another order
    assert (value is not None and (value.storage, value.order) == ("input", "channels-first")) is stays


def test_what_is_no_chain_of_products_is_refused_by_name() -> None:
    one = Window((1, 1), (1, 1), (0, 0), (0, 0), (1, 1))
    kernel = Conv("conv0", np.ones((1, 2, 1, 1), dtype=np.int64), IntegerType(2, signed=True), one, 1)
    flat = Reshape("reshape0", (2, 3, 4), (24,))
    fc0, act0, fc1 = matmul("fc0", 8, 24), activation("act0", 8), matmul("fc1", 3, 8)
    branches = (flat, fc0, act0, matmul("left", 3, 8), fc1, Add("add0"))
    wiring = (("input",), ("reshape0",), ("fc0",), ("act0",), ("act0",), ("left", "fc1"))
    chains = "it takes chains of matmul, threshold, bias"
    assert refusal(model(kernel)) == f"the target has no form for conv0 (conv); {chains}"
    assert refusal(model(*branches, wiring=wiring)) == f"the target has no form for add0 (add); {chains}"
    heads = (flat, fc0, act0, matmul("left", 3, 8), fc1)
    forked = model(*heads, wiring=wiring[:-1])
    assert "the network branches" in refusal(forked)
    assert "the network has no matrix product" in refusal(model(flat))
    assert "layer 'fc1' takes the accumulators of layer 'fc0'" in refusal(model(flat, fc0, fc1))
    assert "layer 'act0' is an activation that follows no matrix product" in refusal(
        model(activation("act0", 2), flat, matmul("fc0", 8, 24))
    )
    double = Affine("double", np.full(3, 2), np.zeros(3, dtype=np.int64))
    assert "double (affine with factors other than 1)" in refusal(model(flat, fc0, act0, fc1, double))
    early, late = (Affine.bias(name, np.ones(8, dtype=np.int64)) for name in ("early", "late"))
    for nodes in ((fc0, early, act0, fc1), (fc0, act0, matmul("fc1", 8, 8), early, late)):
        assert "layer 'early' adds a bias inside of the network, which the target has no form for" in refusal(
            model(flat, *nodes)
        )
    assert "layer 'fc1' takes the accumulators of layer 'early'" in refusal(model(flat, fc0, early, fc1))


def test_one_factor_and_offset_of_all_inputs_recodes_them() -> None:
    flat, fc0 = Reshape("reshape0", (2, 3, 4), (24,)), matmul("fc0", 3, 24)
    same = Affine("same", np.full(2, 2), np.full(2, -1))
    recoded = model(same, flat, fc0)
    made = perceptron_of(schedule(recoded), "the target", recodes=True)
    assert made.recoding is same
    assert made.layers[0].takes.codes == range(-1, 510, 2)
    assert "same (affine with factors other than 1)" in refusal(recoded)
    offset = Affine.bias("offset", np.full(2, 3))
    assert "layer 'offset' is a recoding that follows no matrix product" in refusal(model(offset, flat, fc0))
    for factors, offsets in (([2, 3], [0, 0]), ([1, 1], [0, 1]), ([-1, -1], [0, 0])):
        other = Affine("other", np.array(factors), np.array(offsets))
        with pytest.raises(StageError, match="other"):
            perceptron_of(schedule(model(other, flat, fc0)), "the target", recodes=True)


def test_a_vector_in_another_order_is_refused_although_nothing_is_stored_for_it() -> None:
    """Views may keep codes where they are in an order that is not that of the vector behind them."""
    turn, flat = Transpose("turn", (2, 3), (1, 0)), Reshape("flat", (3, 2), (6,))
    turned = model(turn, flat, matmul("fc0", 2, 6), shape=(2, 3))
    image, back = Reshape("image", (4,), (2, 2)), Transpose("back", (2, 2), (1, 0))
    output = model(matmul("fc0", 4, 6), image, back, shape=(6,))
    for network, name in ((turned, "turn"), (output, "back")):
        assert refusal(network).startswith(f"the target has no form for {name} (transpose), which moves codes")
        with pytest.raises(StageError, match=f"no form for {name}"):
            require_supported(network)
    dead = model(matmul("fc0", 2, 2), Reshape("other", (2,), (2,)), shape=(2,), wiring=(("input",), ("input",)))
    assert refusal(dead) == "the target gives what the last layer makes; the output 'other' is another value"


@given(axes=st.permutations(range(3)), sizes=st.tuples(*[st.integers(1, 3)] * 3), behind=st.booleans())
def test_what_is_taken_gives_the_codes_of_the_model(axes: list[int], sizes: Shape, *, behind: bool) -> None:
    """Whatever moves codes before or behind the product is refused, or comes to nothing."""
    count = int(np.prod(sizes))
    moved = tuple(sizes[axis] for axis in axes)
    turn, flat = Transpose("turn", sizes, tuple(axes)), Reshape("flat", moved, (count,))
    product = MatMul("fc0", np.arange(count * count).reshape(count, count) % 7 - 3, IntegerType(3, signed=True))
    if behind:
        network = model(product, Reshape("image", (count,), sizes), turn, shape=(count,))
    else:
        network = model(turn, flat, product, shape=sizes)
    codes = np.arange(count)[None] % 256
    try:
        (layer,) = perceptron_of(schedule(network), "the target").layers
    except StageError as error:
        assert "turn (transpose)" in str(error)  # noqa: PT017  either outcome is right, with its reason
        assert (run(network, codes) != product.apply(codes)).any() or count < 8
        return
    np.testing.assert_array_equal(layer.product.apply(codes), run(network, codes))
