"""Every operation of the integer model against plain loops and onnxruntime; its range, refusals and file."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bitproof.export.integer import (
    EXACT_FLOAT32,
    EXACT_FLOAT64,
    Add,
    Affine,
    Coding,
    Concat,
    Conv,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Ranges,
    Reshape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    Window,
    load,
    run,
    save,
    trace,
)
from bitproof.export.integer.ops import OPERATIONS
from bitproof.export.integer.ops.product import exact_type
from bitproof.export.integer.ops.threshold import FEW_LEVELS
from bitproof.pipeline import Codes, InputError

INT8 = IntegerType(8, signed=True)
WIDE = IntegerType(63, signed=True)
SEARCH = settings(max_examples=60, derandomize=True, database=None, deadline=None)


def array(*values: int | list[int]) -> Codes:
    return np.array(values, dtype=np.int64)


def codes_of(seed: int, *shape: int, low: int = -9, high: int = 9) -> Codes:
    return np.random.default_rng(seed).integers(low, high, size=shape, endpoint=True)


ALL = slice(None)


def cut(*index: object) -> tuple[Any, ...]:
    """Return an index of an array."""
    return index


def onnxruntime_of(op: str, inputs: list[Codes], outputs: int = 1, **attributes: object) -> list[Codes]:
    """Run one ONNX node on whole float32 numbers; the last input of Pad, Reshape and TopK stays int64."""
    whole = {"Pad": 1, "Reshape": 1, "TopK": 1}.get(op, 0)
    arrays = [a if whole and i == len(inputs) - 1 else a.astype(np.float32) for i, a in enumerate(inputs)]
    names = [f"in{index}" for index in range(len(arrays))]
    results = [f"out{index}" for index in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, results, **attributes)],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)
            for name, values in zip(names, arrays, strict=True)
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.INT64 if i else TensorProto.FLOAT, None)
            for i, name in enumerate(results)
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [made.astype(np.int64) for made in session.run(None, dict(zip(names, arrays, strict=True)))]


def window_loop(codes: Codes, window: Window) -> dict[tuple[int, ...], list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Return for each output position the (tap, source) pairs that lie within the data, by the definition."""
    sizes = codes.shape[2:]
    counts = []
    for axis, size in enumerate(sizes):
        count, start = 0, -window.begin[axis]
        while start + window.dilations[axis] * (window.kernel[axis] - 1) < size + window.end[axis]:
            count, start = count + 1, start + window.strides[axis]
        counts.append(count)
    met: dict[tuple[int, ...], list[tuple[tuple[int, ...], tuple[int, ...]]]] = {}
    for at in product(*map(range, counts)):
        met[at] = []
        for tap in product(*map(range, window.kernel)):
            source = tuple(
                a * s - b + t * d
                for a, s, b, t, d in zip(at, window.strides, window.begin, tap, window.dilations, strict=True)
            )
            if all(0 <= i < n for i, n in zip(source, sizes, strict=True)):
                met[at].append((tap, source))
    return met


@st.composite
def windows(draw: st.DrawFn, *, pads_within: bool = False) -> tuple[Window, tuple[int, ...]]:
    """Draw a window and data sizes into which it fits."""
    axes = draw(st.integers(1, 2))
    kernel, strides, dilations, begin, end, sizes = ([] for _ in range(6))
    for _ in range(axes):
        k, d = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        most = d * (k - 1) if pads_within else 4
        b, e = (draw(st.integers(0, min(most, 4))) for _ in range(2))
        kernel.append(k)
        dilations.append(d)
        strides.append(draw(st.integers(1, 3)))
        begin.append(b)
        end.append(e)
        sizes.append(draw(st.integers(max(1, d * (k - 1) + 1 - b - e), 8)))
    window = Window(tuple(kernel), tuple(strides), tuple(begin), tuple(end), tuple(dilations))
    return window, tuple(sizes)


@SEARCH
@given(windows(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 99))
def test_conv_equals_the_definition_and_onnxruntime(
    drawn: tuple[Window, tuple[int, ...]], groups: int, members: int, each: int, seed: int
) -> None:
    window, sizes = drawn
    weights = codes_of(seed, groups * each, members, *window.kernel)
    node = Conv("conv", weights, INT8, window, groups)
    codes = codes_of(seed + 1, 2, groups * members, *sizes)
    made = node.apply(codes)
    expected = np.zeros_like(made)
    for at, pairs in window_loop(codes, window).items():
        for output in range(groups * each):
            for member, (tap, source) in product(range(members), pairs):
                channel = output // each * members + member
                expected[cut(ALL, output, *at)] += (
                    weights[cut(output, member, *tap)] * codes[cut(ALL, channel, *source)]
                )
    np.testing.assert_array_equal(made, expected, strict=True)
    assert made.shape[1:] == node.output_shape(codes.shape[1:])
    (by_onnxruntime,) = onnxruntime_of(
        "Conv",
        [codes, weights],
        group=groups,
        strides=list(window.strides),
        pads=[*window.begin, *window.end],
        dilations=list(window.dilations),
    )
    np.testing.assert_array_equal(made, by_onnxruntime, strict=True)


@SEARCH
@given(windows(pads_within=True), st.integers(0, 99))
def test_max_pool_equals_the_definition_and_onnxruntime(drawn: tuple[Window, tuple[int, ...]], seed: int) -> None:
    window, sizes = drawn
    codes = codes_of(seed, 2, 3, *sizes, low=-90, high=-1)  # below 0, so that padding with 0 would win
    met = window_loop(codes, window)
    if not all(met.values()):
        with pytest.raises(ValueError, match=r"^'pool' \(max-pool\) has a window of padding alone on \(3, "):
            MaxPool("pool", window).output_shape(codes.shape[1:])
        return
    made = MaxPool("pool", window).apply(codes)
    for at, pairs in met.items():
        largest = np.max([codes[cut(ALL, ALL, *source)] for _, source in pairs], axis=0)
        np.testing.assert_array_equal(made[cut(ALL, ALL, *at)], largest, strict=True)
    assert made.shape[1:] == MaxPool("pool", window).output_shape(codes.shape[1:])
    if all(b < k and e < k for b, e, k in zip(window.begin, window.end, window.kernel, strict=True)):
        (by_onnxruntime,) = onnxruntime_of(
            "MaxPool",
            [codes],
            kernel_shape=list(window.kernel),
            strides=list(window.strides),
            pads=[*window.begin, *window.end],
            dilations=list(window.dilations),
        )
        np.testing.assert_array_equal(made, by_onnxruntime, strict=True)


@SEARCH
@given(windows(), st.integers(0, 99))
def test_sum_pool_equals_the_definition(drawn: tuple[Window, tuple[int, ...]], seed: int) -> None:
    window, sizes = drawn
    codes = codes_of(seed, 2, 3, *sizes)
    made = SumPool("sum", window).apply(codes)
    for at, pairs in window_loop(codes, window).items():
        total = sum((codes[cut(ALL, ALL, *source)] for _, source in pairs), np.zeros((2, 3), np.int64))
        np.testing.assert_array_equal(made[cut(ALL, ALL, *at)], total, strict=True)
    assert made.shape[1:] == SumPool("sum", window).output_shape(codes.shape[1:])


@pytest.mark.parametrize(
    ("weight", "code", "kind"),
    [
        (1 << 12, 1 << 11, np.float32),  # two products of 2^23: the sum is 2^24, the last that binary32 holds
        ((1 << 12) + 1, 1 << 11, np.float64),
        (-(1 << 12), -(1 << 11), np.float32),
        (1 << 26, 1 << 26, np.float64),  # the sum is 2^53
        ((1 << 26) + 1, 1 << 26, np.int64),
        ((1 << 30) + 1, (1 << 30) + 1, np.int64),
        ((1 << 30) - 1, -(1 << 31), np.int64),  # next to -2^62
        (0, 1 << 61, np.float32),
        (1 << 61, 0, np.float32),
    ],
)
def test_products_are_exact_at_the_edge_of_each_type(weight: int, code: int, kind: type) -> None:
    assert (EXACT_FLOAT32, EXACT_FLOAT64) == (1 << 24, 1 << 53)
    weights, codes = array([weight, weight], [weight, -weight]), array([code, code], [code, -code], [code, code - 1])
    assert exact_type(weights, codes[:2]) is kind
    expected = [[sum(w * c for w, c in zip(row, x, strict=True)) for row in weights.tolist()] for x in codes.tolist()]
    assert MatMul("fc", weights, WIDE).apply(codes).tolist() == expected
    pointwise = Conv("conv", weights[:, :, None], WIDE, Window((1,), (1,), (0,), (0,), (1,)), 1)
    assert pointwise.apply(codes[:, :, None])[:, :, 0].tolist() == expected
    depthwise = Conv("conv", weights[:, None, :], WIDE, Window((2,), (1,), (0,), (0,), (1,)), 2)
    both = np.stack([codes, codes], axis=1)
    assert depthwise.apply(both)[:, :, 0].tolist() == expected


def test_odd_sums_beyond_binary32_are_exact() -> None:
    # 2^24 + 1 and 2^53 + 1 are the first whole numbers that binary32 and binary64 do not hold.
    for edge in (1 << 24, 1 << 53):
        assert MatMul("fc", array([edge, 1]), WIDE).apply(array([1, 1], [-1, -1])).tolist() == [[edge + 1], [-edge - 1]]


@pytest.mark.parametrize("levels", [1, 3, FEW_LEVELS, FEW_LEVELS + 1, 255])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_threshold_counts(levels: int, shape: tuple[int, ...]) -> None:
    thresholds = np.sort(codes_of(levels, 3, levels, low=-40, high=40), axis=1)
    node = Threshold("act", thresholds, IntegerType(12, signed=True), -7, np.zeros(3, dtype=np.bool_), 2)
    codes = codes_of(1, 50, 3, *shape, low=-42, high=42)
    made = node.apply(codes)
    for index in np.ndindex(codes.shape):
        assert made[index] == -7 + 2 * sum(t <= codes[index] for t in thresholds[index[1]].tolist())


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2)])
def test_elementwise_and_joins(shape: tuple[int, ...]) -> None:
    one, two, three = (codes_of(seed, 3, *shape) for seed in range(3))
    factors, offsets = array(2, -3, 0, 1), array(5, 0, -7, 1)
    scaled = Affine("affine", factors, offsets).apply(one)
    for channel in range(4):
        expected = one[:, channel] * int(factors[channel]) + int(offsets[channel])
        np.testing.assert_array_equal(scaled[:, channel], expected, strict=True)
    np.testing.assert_array_equal(Affine.bias("bias", offsets).apply(one)[:, 2], one[:, 2] - 7, strict=True)
    assert Affine.bias("bias", offsets).is_bias
    np.testing.assert_array_equal(Add("add").apply(one, two), onnxruntime_of("Add", [one, two])[0], strict=True)
    joined = onnxruntime_of("Concat", [one, two, three], axis=1)[0]
    np.testing.assert_array_equal(Concat("concat").apply(one, two, three), joined, strict=True)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0,)])
def test_transpose_equals_onnxruntime(axes: tuple[int, ...]) -> None:
    codes = codes_of(1, 2, *(4, 3, 5)[: len(axes)])
    made = Transpose("transpose", codes.shape[1:], axes).apply(codes)
    expected = onnxruntime_of("Transpose", [codes], perm=[0, *(axis + 1 for axis in axes)])[0]
    np.testing.assert_array_equal(made, expected, strict=True)


@pytest.mark.parametrize("shape", [(24,), (6, 4), (2, 12), (2, 2, 6), (24, 1, 1)])
def test_reshape_equals_onnxruntime(shape: tuple[int, ...]) -> None:
    codes = codes_of(1, 3, 4, 3, 2)
    expected = onnxruntime_of("Reshape", [codes, array(-1, *shape)])[0]
    np.testing.assert_array_equal(Reshape("reshape", (4, 3, 2), shape).apply(codes), expected, strict=True)


@pytest.mark.parametrize(("begin", "end"), [((1,), (2,)), ((0, 2), (1, 0)), ((0, 0), (0, 0))])
def test_pad_equals_onnxruntime(begin: tuple[int, ...], end: tuple[int, ...]) -> None:
    codes = codes_of(1, 2, *(3, 4, 5)[: 1 + len(begin)])
    expected = onnxruntime_of("Pad", [codes, array(0, 0, *begin, 0, 0, *end)])[0]
    made = Pad("pad", begin, end)
    np.testing.assert_array_equal(made.apply(codes), expected, strict=True)
    assert made.output_shape(codes.shape[1:]) == expected.shape[1:]


@pytest.mark.parametrize("count", [1, 3, 6])
def test_top_k_equals_onnxruntime_on_ties(count: int) -> None:
    codes = codes_of(1, 400, 6, low=-1, high=2)
    expected = onnxruntime_of("TopK", [codes, array(count)], outputs=2, axis=1)[1]
    np.testing.assert_array_equal(TopK("top", 6, count).apply(codes), expected, strict=True)
    lowest = array([-(1 << 62), 1 << 62, 1 << 62])
    assert TopK("top", 3, 3).apply(lowest).tolist() == [[1, 2, 0]]


# Ranges.
WINDOW = Window((2,), (1,), (0,), (0,), (1,))
PADDED = Window((2,), (1,), (1,), (0,), (1,))
SMALL = (Interval(-1, 1), Interval(0, 2))
AWAY = (Interval(2, 4), Interval(-3, -2))
NODES: dict[str, tuple[Node, tuple[int, ...], bool]] = {
    "matmul": (MatMul("n", array([2, -3], [-1, -1], [0, 0], [1, 5]), INT8), (2,), True),
    "conv": (Conv("n", codes_of(1, 3, 2, 2), INT8, WINDOW, 1), (2, 3), True),
    "conv, grouped": (Conv("n", codes_of(1, 4, 1, 2), INT8, WINDOW, 2), (2, 3), True),
    "conv, padded": (Conv("n", codes_of(1, 3, 2, 2), INT8, PADDED, 1), (2, 3), False),
    "threshold": (
        Threshold("n", array([-1, 0, 3], [-5, 1, 1]), INT8, -2, np.zeros(2, dtype=np.bool_), 2),
        (2, 2),
        True,
    ),
    "affine": (Affine("n", array(-2, 3), array(1, -4)), (2, 2), True),
    "max pool": (MaxPool("n", WINDOW), (2, 3), True),
    "max pool, padded": (MaxPool("n", PADDED), (2, 3), True),
    "sum pool": (SumPool("n", WINDOW), (2, 3), True),
    "sum pool, padded": (SumPool("n", PADDED), (2, 3), False),
    "reshape": (Reshape("n", (2, 2), (4,)), (2, 2), True),
    "reshape, joined": (Reshape("n", (2, 2), (1, 4)), (2, 2), True),
    "transpose": (Transpose("n", (2, 2, 1), (0, 2, 1)), (2, 2, 1), True),
    "transpose of the channels": (Transpose("n", (2, 2), (1, 0)), (2, 2), True),
    "pad": (Pad("n", (1,), (0,)), (2, 2), True),
    "top k": (TopK("n", 2, 2), (2,), False),
}


@pytest.mark.parametrize("ranges", [SMALL, AWAY])
@pytest.mark.parametrize("name", list(NODES))
def test_ranges_hold_every_output_of_every_input(name: str, ranges: Ranges) -> None:
    node, shape, tight = NODES[name]
    each = [range(i.low, i.high + 1) for i in ranges for _ in range(prod(shape[1:]))]
    codes = np.array(list(product(*each)), dtype=np.int64).reshape(-1, *shape)
    made = np.moveaxis(node.apply(codes), 1, 0)
    made = made.reshape(len(made), -1)
    bounds = node.ranges(ranges)
    lows, highs = made.min(axis=1).tolist(), made.max(axis=1).tolist()
    assert len(bounds) == len(lows)
    assert all(b.low <= low and high <= b.high for b, low, high in zip(bounds, lows, highs, strict=True))
    if tight:
        assert [(b.low, b.high) for b in bounds] == list(zip(lows, highs, strict=True))


def test_ranges_of_joins_are_those_of_independent_branches() -> None:
    one, two = SMALL, AWAY
    assert Add("n").ranges(one, two) == (Interval(1, 5), Interval(-3, 0))
    assert Concat("n").ranges(one, two, one) == (*one, *two, *one)


def test_ranges_are_exact_beyond_64_bits() -> None:
    node = MatMul("n", np.full((1, 4), 1 << 61, dtype=np.int64), IntegerType(63, signed=True))
    assert node.ranges((Interval(-1, 1 << 40),) * 4) == (Interval(-(1 << 63), 1 << 103),)


# The file.
def every_operation() -> IntegerModel:
    """Return a model that has each operation once, branches included, and every option of the model."""
    window = Window((2, 2), (1, 2), (1, 0), (0, 1), (1, 1))
    flips = np.array([True, False])
    nodes: list[tuple[Node, tuple[str, ...]]] = [
        (Conv("conv", codes_of(1, 2, 1, 2, 2, low=-3, high=3), IntegerType(3, signed=True), window, 2), ("input",)),
        (Threshold("act", array([-3, 1, 4], [0, 0, 2]), IntegerType(4, signed=True), -3, flips, 2), ("conv",)),
        (Affine("affine", array(2, -1), array(0, 5)), ("act",)),
        (Add("add"), ("act", "affine")),
        (Concat("concat"), ("add", "act", "affine")),
        (MaxPool("pool", Window((2, 1), (1, 1), (1, 0), (0, 0), (1, 1))), ("concat",)),
        (SumPool("sum", Window((1, 2), (1, 1), (0, 0), (0, 0), (1, 1))), ("pool",)),
        (Pad("pad", (1, 0), (0, 1)), ("sum",)),
        (Transpose("transpose", (6, 5, 2), (2, 0, 1)), ("pad",)),
        (Reshape("reshape", (2, 6, 5), (60,)), ("transpose",)),
        (MatMul("fc", codes_of(2, 3, 60, low=-7, high=7), IntegerType(4, signed=True)), ("reshape",)),
        (TopK("top", 3, 2), ("fc",)),
    ]
    return IntegerModel(
        name="all",
        input=IntegerType(3, signed=True),
        input_scale=Fraction(1, 3),
        shape=(2, 4, 4),
        nodes=tuple(node for node, _ in nodes),
        output_scale=Fraction(1),
        wiring=tuple(sources for _, sources in nodes),
        input_codes=range(-3, 4, 2),
        output_codings=(Coding(Fraction(1, 7), Fraction(-2, 3)), Coding(Fraction(5), root=7, shift=Fraction(1, 3))),
    )


def test_every_operation_survives_its_file(tmp_path: Path) -> None:
    model = every_operation()
    assert {node.op for node in model.nodes} == set(OPERATIONS)
    save(model, tmp_path)
    again = load(tmp_path)
    codes = np.random.default_rng(0).choice(np.array(model.allowed_codes), size=(50, model.inputs))
    before, after = trace(model, codes), trace(again, codes)
    for name, made in before.items():
        np.testing.assert_array_equal(after[name], made, strict=True)
    np.testing.assert_array_equal(run(again, codes), before["top"], strict=True)
    for one, two in zip(model.nodes, again.nodes, strict=True):
        for field in one.__dataclass_fields__:
            assert np.array_equal(getattr(one, field), getattr(two, field)), (one.name, field)
    kept = ("name", "input", "input_scale", "shape", "output_scale", "wiring", "input_codes", "output_codings")
    assert all(getattr(model, field) == getattr(again, field) for field in kept)


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
        save(every_operation(), folder)
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == two


def test_samples_that_go_through_in_groups_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = every_operation()
    codes = np.random.default_rng(0).choice(np.array(model.allowed_codes), size=(50, model.inputs))
    whole = run(model, codes)
    monkeypatch.setattr("bitproof.export.integer.interpret.ELEMENTS_AT_ONCE", 7 * 60)
    np.testing.assert_array_equal(run(model, codes), whole, strict=True)
    assert run(model, codes[:0]).shape == (0, 2)


def test_codes_that_the_input_does_not_have_are_refused() -> None:
    model = every_operation()
    codes = np.full((1, model.inputs), -3)
    for wrong, message in (
        (codes[:, 1:], "'all' takes codes of shape (N, 32), not (1, 31)"),
        (codes - 1, "'all' takes int3 codes (-3..3); given -4..-4"),
        (codes + 1, "'all' takes the codes [-3, -1, 1, 3] alone; others are given"),
    ):
        with pytest.raises(InputError) as caught:
            run(model, wrong)
        assert str(caught.value) == message
