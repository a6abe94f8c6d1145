"""The way from a program to the layers of hardware: equal to the integer model, and refused by name where it ends."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from agreement import random_codes
from hardware_graphs import GRAPHS, clashing_network, renamed
from hardware_layers import interpret
from hypothesis import assume, given
from hypothesis import strategies as st
from image_nets import ImageNet, window
from integer_graphs import on_a_line, pooled_groups, residual_network
from integer_nets import random_and_extreme_codes
from random_graphs import SEARCH, Graph, graphs

from bitproof.export.integer import (
    INPUT,
    Add,
    Affine,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Reshape,
    Shape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    Window,
    run,
)
from bitproof.export.integer.ir import Wiring
from bitproof.export.lower import lower_file
from bitproof.export.program.schedule import schedule
from bitproof.hw.finn.layers import Activation, Arithmetic, Frame, Hardware, Product, Windows
from bitproof.hw.finn.stream_names import StreamNames
from bitproof.hw.finn.supported import require_window
from bitproof.hw.finn.walk import hardware_of
from bitproof.hw.mcu.plan import plan_network
from bitproof.hw.rtl.host_order import Columns
from bitproof.hw.rtl.modules import BIPOLAR
from bitproof.pipeline import Codes, StageError

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
        hardware_of(network)
    return str(refused.value)


def require_equal(network: IntegerModel) -> Hardware:
    hardware = hardware_of(network)
    codes = random_and_extreme_codes(network, 30)
    np.testing.assert_array_equal(run(network, codes), interpret(hardware, codes), strict=True)
    return hardware


def kinds(hardware: Hardware) -> list[str]:
    return [f"{type(layer).__name__.lower()} {layer.name}" for layer in hardware.layers]


def test_shapes_alone_cost_nothing() -> None:
    moved = perceptron(Reshape("reshape0", (2, 3, 4), (24,)))
    flat = model(*(node for node in moved.nodes if not isinstance(node, Reshape | Transpose)), shape=(24,))
    assert (
        kinds(require_equal(moved)) == kinds(require_equal(flat)) == ["product fc0", "activation act0", "product fc1"]
    )
    assert plan_network(moved).arena_bytes == plan_network(flat).arena_bytes


def test_convolutions_come_with_their_windows() -> None:
    net = ImageNet((1, 8, 8)).conv(4, window((3, 3), 1, 1)).act().max_pool(window((2, 2), 2))
    net.conv(3, window((1, 1))).act(3).conv(5, window((4, 4))).act().dense(2)
    assert kinds(require_equal(net.model)) == [
        *("windows conv0", "product conv0", "activation act0"),
        *("windows pool0", "reduction pool0"),
        *("product conv1", "activation act1"),  # a kernel of one tap needs no windows
        *("product conv2", "activation act2"),  # one window is the image itself
        "product fc0",
    ]


def test_columns_lie_as_the_stream_brings_them() -> None:
    net = ImageNet((2, 5, 5)).conv(3, window((2, 2))).act().dense(4)
    hardware = require_equal(net.model)
    products = [layer for layer in hardware.layers if isinstance(layer, Product)]
    assert [layer.columns for layer in products] == [
        Columns(channels=2, positions=4),
        Columns(channels=3, positions=16),
    ]
    columns = Columns(channels=2, positions=3)
    assert columns.streamed.tolist() == [0, 3, 1, 4, 2, 5]
    assert [columns.place(int(column)) for column in columns.streamed] == list(range(6))


def test_a_maximum_of_accumulators_is_taken_of_their_codes() -> None:
    net = ImageNet((2, 6, 6)).conv(3, window((3, 3))).max_pool(window((2, 2), 2)).act().dense(2)
    assert kinds(require_equal(net.model))[1:5] == [
        "product conv0",
        "activation act0",
        "windows pool0",
        "reduction pool0",
    ]


@pytest.mark.parametrize("name", list(GRAPHS))
def test_no_name_of_a_node_is_one_of_ours(name: str) -> None:
    """Whatever name is made for a stream beside those of the nodes, a node may have it."""
    network = GRAPHS[name]
    names = [node.name for node in network.nodes]
    plain = require_equal(network)
    for derived in sorted(plain.streams - {INPUT, *names}):
        victim = next(one for one in names if not derived.startswith(f"{one}."))
        hardware = require_equal(renamed(network, {victim: derived}))
        assert f"{derived}.2" in hardware.streams
        assert len(hardware.streams) == len(plain.streams)
    assert len(require_equal(clashing_network(network)).streams) == len(plain.streams)


def test_names_are_given_once_and_plain_where_they_are_free() -> None:
    names = StreamNames(["a", "b.rest0", "b.rest0.2"])
    assert [names.derived("a", "rest0") for _ in range(3)] == ["a.rest0", "a.rest0.2", "a.rest0.3"]
    assert names.derived("b", "rest0") == "b.rest0.3"


@given(
    channels=st.integers(1, 3),
    sizes=st.tuples(st.integers(5, 7), st.integers(5, 8)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    pad=st.integers(0, 2),
    dilation=st.integers(1, 2),
    pools=st.booleans(),
    seed=st.integers(0, 99),
)
def test_small_networks_equal_the_model(
    channels: int, sizes: Shape, kernel: Shape, stride: int, pad: int, dilation: int, *, pools: bool, seed: int
) -> None:
    lie = window(kernel, stride, pad, dilation)
    assume(min(lie.output_sizes(sizes)) >= 2 and (stride == 1 or kernel[0] > 1 or kernel[1] == 1))
    net = ImageNet((channels, *sizes), seed).conv(3, lie).act(7)
    if pools:
        net.max_pool(window((2, 2), 1)) if seed % 2 else net.sum_pool(window((2, 2), 1))
    require_equal(net.dense(3).model)
    require_equal(ImageNet((channels, *sizes), seed).conv(3, lie).model)


def test_sequences_are_images_of_one_row() -> None:
    net = ImageNet((2, 12)).conv(4, window((3,), 1, 1)).act().max_pool(window((2,), 2)).conv(3, window((6,)))
    require_equal(net.act().dense(2).model)


def test_a_flat_input_is_turned_by_the_host() -> None:
    image = Reshape("image", (24,), (2, 3, 4))
    one = Window((2, 2), (1, 1), (0, 0), (0, 0), (1, 1))
    conv = Conv("conv0", np.arange(16).reshape(2, 2, 2, 2) % 5 - 2, IntegerType(3, signed=True), one, 1)
    assert require_equal(model(image, conv, shape=(24,))).input_shape == (2, 3, 4)
    last = Transpose("first", (3, 4, 2), (2, 0, 1))  # a file of channels last: the input is the stream
    assert require_equal(model(last, conv, shape=(3, 4, 2))).input_shape == (24,)


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


def test_branches_fork_and_join() -> None:
    flat = Reshape("reshape0", (2, 3, 4), (24,))
    fc0, act0, fc1 = matmul("fc0", 8, 24), activation("act0", 8), matmul("fc1", 3, 8)
    wiring = (("input",), ("reshape0",), ("fc0",), ("act0",), ("act0",), ("left", "fc1"))
    network = model(flat, fc0, act0, matmul("left", 3, 8), fc1, Add("add0"), wiring=wiring)
    assert kinds(require_equal(network)) == [
        *("product fc0", "activation act0", "fork act0", "product left", "product fc1", "sum add0")
    ]


@pytest.mark.parametrize(
    "network", [residual_network(), pooled_groups(), on_a_line()], ids=["images", "groups", "line"]
)
def test_graphs_equal_the_model(network: IntegerModel) -> None:
    require_equal(network)


def test_depthwise_convolutions_have_a_unit_and_groups_have_zeros_between_them() -> None:
    net = ImageNet((4, 6, 6)).conv(4, window((3, 3), 1, 1), groups=4).act().conv(6, window((2, 2)), groups=2).act()
    net.conv(6, window((1, 1)), groups=6).act()
    hardware = require_equal(net.model)
    assert kinds(hardware) == [
        *("windows conv0", "depthwise conv0", "activation act0"),
        *("windows conv1", "product conv1", "activation act1"),
        *("depthwise conv2", "activation act2"),
    ]
    (product,) = (layer for layer in hardware.layers if isinstance(layer, Product))
    assert (product.groups, product.node.weights.shape) == (2, (6, 16))
    assert not product.node.weights.reshape(2, 3, 4, 2, 2)[0, :, :, 1].any()


def test_what_finn_refuses_our_matrix_unit_takes() -> None:
    """Codes of one bit, wide codes, the most negative weight, accumulators."""
    bits = ImageNet((2, 5, 5)).conv(3, window((2, 2))).act(1).conv(3, window((2, 2))).act(1, -1).dense(3)
    wide = ImageNet((2, 9, 9)).conv(4, window((3, 3))).act(255, -37).conv(2, window((1, 1))).act()
    wide.sum_pool(window((6, 6))).dense(2)
    sums = ImageNet((2, 5, 5)).conv(4, window((3, 3))).sum_pool(window((3, 3))).dense(2)
    least = model(MatMul("fc0", np.array([[-128, 127]]), IntegerType(8, signed=True)), shape=(2,))
    units = {
        layer.name: None if layer.logic is None else tuple(map(str, layer.logic))
        for network in (bits.model, wide.model, sums.model, least)
        for layer in require_equal(network).layers
        if isinstance(layer, Product)
    }
    assert units == {"conv0": None, "conv1": ("int9", "int2"), "fc0": ("uint8", "int8")}


def test_bipolar_codes_are_bits_where_products_alone_take_them() -> None:
    def network(pad: int) -> IntegerModel:
        net = ImageNet((2, 6, 6), 4).conv(3, window((2, 2)))
        rows = net._ranges()
        thresholds = np.array([[(row.low + row.high) // 2] for row in rows])
        net.nodes.append(Threshold("signs", thresholds, IntegerType(2, signed=True), -1, np.zeros(3, dtype=bool), 2))
        net.max_pool(window((2, 2), 1)).conv(2, window((2, 2), 1, pad))
        conv = net.nodes[-1]
        assert isinstance(conv, Conv)
        net.nodes[-1] = replace(conv, weights=np.where(conv.weights >= 0, 1, -1))
        return net.act().dense(2).model

    inside = require_equal(network(0))
    padded = require_equal(network(1))
    for hardware, bits in ((inside, True), (padded, False)):
        (signs,) = (layer for layer in hardware.layers if layer.name == "signs")
        assert isinstance(signs, Activation)
        assert signs.bipolar is bits
    (product,) = (layer for layer in inside.layers if layer.name == "conv1" and isinstance(layer, Product))
    assert product.logic == (BIPOLAR, BIPOLAR)


def test_many_thresholds_become_constants_if_there_are_such() -> None:
    def network(rows: Codes) -> Hardware:
        act = Threshold("act0", rows, UINT8, 0, np.zeros(4, dtype=np.bool_))
        return require_equal(model(matmul("fc0", 4, 24), act, matmul("fc1", 2, 4), shape=(24,)))

    even = np.arange(1, 256) * 31 // 8 + np.arange(-3, 1)[:, None]
    layers = network(even).layers
    assert kinds(network(even)) == ["product fc0", "arithmetic act0", "product fc1"]
    assert isinstance(layers[1], Arithmetic)
    uneven = np.sort(np.random.default_rng(0).integers(-3000, 3000, (4, 255)), axis=1)
    assert kinds(network(uneven)) == ["product fc0", "activation act0", "product fc1"]


def test_a_maximum_with_padding_over_negative_codes_gets_a_frame_of_the_least() -> None:
    net = ImageNet((2, 5, 5)).conv(4, window((3, 3))).act(15, -8).max_pool(window((3, 3), 2, 1)).dense(2)
    hardware = require_equal(net.model)
    (frame,) = (layer for layer in hardware.layers if isinstance(layer, Frame))
    assert (frame.code, frame.shape) == (-8, (5, 5, 4))
    plain = require_equal(
        ImageNet((2, 5, 5)).conv(4, window((3, 3))).act().max_pool(window((3, 3), 2, 1)).dense(2).model
    )
    assert "frame pool0" not in kinds(plain)


def test_scalings_biases_and_the_largest_are_layers() -> None:
    flat = Reshape("reshape0", (2, 3, 4), (24,))
    fc0, act0, fc1 = matmul("fc0", 8, 24), activation("act0", 8), matmul("fc1", 3, 8)
    early = Affine.bias("early", np.arange(8) - 3)
    double = Affine("double", np.array([2, -3, 1]), np.array([0, 5, -7]))
    network = model(flat, fc0, early, act0, fc1, double, TopK("top", 3, 2))
    assert kinds(require_equal(network)) == [
        *("product fc0", "scaling early", "activation act0", "product fc1", "scaling double", "selection top")
    ]
    last = model(flat, fc0, act0, fc1, Affine.bias("last", np.arange(3)))
    assert require_equal(last).output_bias == (0, 1, 2)


def test_what_has_no_form_is_refused_by_name() -> None:
    flat = Reshape("reshape0", (2, 3, 4), (24,))
    fc0, fc1 = matmul("fc0", 8, 24), matmul("fc1", 3, 8)
    forked = model(flat, fc0, matmul("left", 3, 8), fc1, wiring=(("input",), ("reshape0",), ("fc0",), ("fc0",)))
    assert refusal(forked) == "nothing takes what layer 'left' makes; remove it from the network"
    assert "the network has no matrix product" in refusal(model(flat))
    assert "the network has no matrix product" in refusal(model(activation("act0", 2)))
    dead = model(matmul("fc0", 2, 2), Reshape("other", (2,), (2,)), shape=(2,), wiring=(("input",), ("input",)))
    assert refusal(dead) == "FINN's RTL gives what the last layer makes; the output 'other' is another value"
    large = Affine("large", np.full(8, 1 << 20), np.zeros(8, dtype=np.int64))
    assert refusal(model(flat, fc0, large, fc1)).startswith("layer 'large' has sums of magnitude up to ")
    wide = Conv("wide", np.full((1, 1, 1, 1), 30_000), IntegerType(16, signed=True), window((1, 1)), 1)
    assert refusal(model(wide, SumPool("mean", window((3, 3))), shape=(1, 3, 3))) == (
        f"layer 'mean' has sums of magnitude up to {9 * 255 * 30_000}; FINN's Python execution is exact below 2^24. "
        "Use fewer inputs, or fewer bits in weights or activations"
    )


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            ImageNet((2, 5, 5)).conv(4, window((3, 3), 7)),
            (
                "layer 'conv0' has strides (7, 7) on an image of 5 x 5; FINN's RTL takes strides up to its size. With "
                "one window on an axis, any stride gives the same: use 1"
            ),
        ),
        (
            ImageNet((2, 6, 7)).conv(4, window((1, 2), 3)),
            (
                "layer 'conv0' has strides (3, 3) over a kernel of 1 x 2; from row to row FINN's window generator "
                "leaps over more codes than it holds. Use strides of at most the kernel's sizes"
            ),
        ),
    ],
)
def test_layers_of_images_that_have_no_rtl_are_named(net: ImageNet, message: str) -> None:
    assert refusal(net.model) == message


def test_the_remedy_for_strides_that_leap_is_one() -> None:
    """Strides of at most the kernel's sizes are taken, whatever else holds; some larger ones are not."""
    node, refused = matmul("conv0", 1, 1), 0
    sizes = range(1, 4)
    for width, kernel, strides in product(range(1, 14), product(sizes, sizes), product(sizes, sizes)):
        for dilations in product(sizes, sizes):
            lie = Window(kernel, strides, (0, 0), (0, 0), dilations)
            if (kernel[1] - 1) * dilations[1] + 1 > width:
                continue
            try:
                require_window(node, (99, width, 1), lie)
            except StageError:
                assert strides[0] > kernel[0] or strides[1] > kernel[1] or strides[1] > width, lie
                refused += 1
    assert refused > 100


def test_codes_that_change_places_on_the_way_are_refused() -> None:
    turned = Transpose("turned", (3, 4, 4), (0, 2, 1))
    net = ImageNet((2, 5, 5)).conv(3, window((2, 2))).act()
    net.nodes.append(turned)
    moving = "which moves codes on the way; move them at the input"
    refused = refusal(net.conv(2, window((2, 2))).model)
    assert refused == f"FINN's RTL has no form for turned (transpose), {moving}"
    image, back = Reshape("image", (8,), (2, 2, 2)), Transpose("back", (2, 2, 2), (1, 0, 2))
    output = model(matmul("fc0", 8, 6), image, back, shape=(6,))
    assert refusal(output) == f"FINN's RTL has no form for back (transpose), {moving}"


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
    try:
        require_equal(network)
    except StageError as error:
        assert "turn (transpose)" in str(error)  # noqa: PT017  either outcome is right, with its reason


def test_padding_that_never_wins_is_taken() -> None:
    net = ImageNet((2, 5, 5)).conv(4, window((3, 3))).act().max_pool(window((3, 3), 2, 1)).dense(2)
    hardware = require_equal(net.model)
    assert isinstance(net.nodes[2], MaxPool)
    assert [layer.window.begin for layer in hardware.layers if isinstance(layer, Windows)] == [(0, 0), (1, 1)]


@SEARCH
@given(graph=graphs())
def test_random_graphs_equal_the_model_or_move_codes(graph: Graph) -> None:
    with TemporaryDirectory() as folder:
        network = lower_file(graph.save(Path(folder))).model
    try:
        hardware = hardware_of(network)
    except StageError as error:
        assert re.search(r"which moves codes on the way|any stride gives the same: use 1", str(error))  # noqa: PT017
        return
    codes = random_codes(network, 1)
    np.testing.assert_array_equal(run(network, codes), interpret(hardware, codes), strict=True)
