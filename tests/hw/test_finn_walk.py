"""The way from a program to the layers of hardware: equal to the integer model, and refused by name where it ends."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from image_nets import ImageNet, window
from integer_nets import random_and_extreme_codes

from bitproof.export.integer import (
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
    Threshold,
    Transpose,
    Window,
    run,
)
from bitproof.export.integer.ir import Wiring
from bitproof.export.program.schedule import schedule
from bitproof.hw.finn.layers import Activation, Hardware, Layer, Product, Reduction, Windows
from bitproof.hw.finn.walk import hardware_of
from bitproof.hw.mcu.plan import plan_network
from bitproof.hw.rtl.host_order import Columns, from_stream, to_stream
from bitproof.pipeline import Codes, StageError

UINT8 = IntegerType(8, signed=False)
CHAINS = "it takes chains of matmul, conv, max-pool, sum-pool, threshold, bias"


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


def interpret(hardware: Hardware, codes: Codes) -> Codes:
    """Return what the layers make of *codes*, by their definitions."""
    values = to_stream(codes, hardware.input_shape)
    for layer in hardware.layers:
        values = made_by(layer, values)
    outputs = from_stream(values.reshape(len(codes), -1), hardware.output_shape)
    return outputs + np.array(hardware.output_bias, dtype=np.int64) if hardware.output_bias else outputs


def made_by(layer: Layer, values: Codes) -> Codes:
    samples = len(values)
    if isinstance(layer, Windows):
        lie = layer.window
        image = np.moveaxis(values.reshape(samples, *layer.source), -1, 1)
        counts = lie.output_sizes(layer.source[:2])
        taps = [met for _, met in lie.taps(lie.pad(image, 0), counts)]
        return np.moveaxis(np.stack(taps, axis=1), 2, 1).transpose(0, 3, 4, 2, 1).reshape(samples, *layer.shape)
    if isinstance(layer, Product):
        return layer.node.apply(values.reshape(-1, layer.node.inputs)).reshape(samples, *layer.shape)
    if isinstance(layer, Activation):
        rows = values.reshape(-1, layer.shape[-1])
        return layer.node.apply(rows).reshape(samples, *layer.shape)
    assert isinstance(layer, Reduction)
    windows = values.reshape(samples, *layer.shape[:2], layer.taps, layer.shape[2])
    reduced: Codes = windows.max(axis=3) if layer.function == "max" else windows.sum(axis=3)
    return reduced


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


def test_what_has_no_form_is_refused_by_name() -> None:
    flat = Reshape("reshape0", (2, 3, 4), (24,))
    fc0, act0, fc1 = matmul("fc0", 8, 24), activation("act0", 8), matmul("fc1", 3, 8)
    branches = (flat, fc0, act0, matmul("left", 3, 8), fc1, Add("add0"))
    wiring = (("input",), ("reshape0",), ("fc0",), ("act0",), ("act0",), ("left", "fc1"))
    assert refusal(model(*branches, wiring=wiring)) == f"FINN's RTL has no form for add0 (add); {CHAINS}"
    forked = model(flat, fc0, act0, matmul("left", 3, 8), fc1, wiring=wiring[:-1])
    assert "the network branches at 'fc1'" in refusal(forked)
    assert "the network has no matrix product" in refusal(model(flat))
    assert "the network has no matrix product" in refusal(model(activation("act0", 2)))
    assert "layer 'fc1' takes the accumulators of layer 'fc0'" in refusal(model(flat, fc0, fc1))
    double = Affine("double", np.full(3, 2), np.zeros(3, dtype=np.int64))
    assert "double (affine with factors other than 1)" in refusal(model(flat, fc0, act0, fc1, double))
    early, late = (Affine.bias(name, np.ones(8, dtype=np.int64)) for name in ("early", "late"))
    for nodes in ((fc0, early, act0, fc1), (fc0, act0, matmul("fc1", 8, 8), early, late), (fc0, early, fc1)):
        assert "layer 'early' adds a bias inside of the network, which FINN's RTL has no form for" in refusal(
            model(flat, *nodes)
        )
    dead = model(matmul("fc0", 2, 2), Reshape("other", (2,), (2,)), shape=(2,), wiring=(("input",), ("input",)))
    assert refusal(dead) == "FINN's RTL gives what the last layer makes; the output 'other' is another value"


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            ImageNet((4, 5, 5)).conv(4, window((3, 3)), groups=4),
            (
                "layer 'conv0' is a convolution in 4 groups; FINN's RTL takes convolutions of which every output sees "
                "all input channels (groups = 1)"
            ),
        ),
        (
            ImageNet((2, 5, 5)).conv(4, window((3, 3))).act(15, -8).max_pool(window((3, 3), 2, 1)),
            (
                "layer 'pool0' takes maxima with padding over int4 codes; FINN's RTL pads with the code 0, which would "
                "win over negative ones. Use an activation without negative codes, or no padding"
            ),
        ),
        (
            ImageNet((2, 5, 5)).conv(4, window((3, 3))).sum_pool(window((3, 3))),
            (
                "layer 'mean0' takes the accumulators of layer 'conv0'; FINN's RTL takes codes: put a quantized "
                "activation between them"
            ),
        ),
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
                "leaps over more codes than it holds. Use a stride of at most the kernel's height"
            ),
        ),
        (
            ImageNet((2, 9, 9)).conv(4, window((3, 3))).act(255).sum_pool(window((2, 2), 2)).conv(2, window((1, 1))),
            (
                "layer 'conv1' takes uint10 input codes; FINN's RTL takes 8 bits at most. Quantize them to as many (in "
                "a configuration: model.input_bits, model.act_bits)"
            ),
        ),
    ],
)
def test_layers_of_images_that_have_no_rtl_are_named(net: ImageNet, message: str) -> None:
    assert refusal(net.model) == message


def test_codes_that_change_places_on_the_way_are_refused() -> None:
    turned = Transpose("turned", (3, 4, 4), (0, 2, 1))
    net = ImageNet((2, 5, 5)).conv(3, window((2, 2))).act()
    net.nodes.append(turned)
    assert refusal(net.conv(2, window((2, 2))).model) == f"FINN's RTL has no form for turned (transpose); {CHAINS}"
    image, back = Reshape("image", (8,), (2, 2, 2)), Transpose("back", (2, 2, 2), (1, 0, 2))
    output = model(matmul("fc0", 8, 6), image, back, shape=(6,))
    assert refusal(output).startswith("FINN's RTL has no form for back (transpose), which moves codes")


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
