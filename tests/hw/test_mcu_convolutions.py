"""Convolutions in C, two positions at once: every width of weights, every place of a pair, and faults in either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from integer_graphs import Builder, graph_codes, window
from mcu_host import compile_host, host_executor

from bitproof.export.integer import INPUT, Conv, IntegerModel, IntegerType, MatMul, MaxPool, Window, run, trace
from bitproof.export.proofs import prove_matrix_units
from bitproof.hw.mcu.forms import Form
from bitproof.hw.mcu.manifest import ProductEntry
from bitproof.hw.mcu.plan import plan_network

pytestmark = pytest.mark.tool


def add_conv(build: Builder, source: str, outputs: int, place: Window, kind: IntegerType, groups: int = 1) -> str:
    """Add a convolution with weights of *kind*, both ends among them, and an activation of 16 codes."""
    members = build.values[source].shape[1] // groups
    shape = (outputs, members, *place.kernel)
    weights = build.generator.integers(kind.minimum, kind.maximum, shape, endpoint=True)
    weights.reshape(-1)[:2] = kind.minimum, kind.maximum
    name = f"conv{len(build.nodes)}"
    build.add(Conv(name, weights, kind, place, groups), source)
    return name


def convolutions(kind: IntegerType, *, input_bits: int = 4) -> IntegerModel:
    """Images of 1, 3, 5 and 8 channels, odd counts of positions and outputs, every option of a window, pools."""
    build = Builder((1, 7, 9), input=IntegerType(input_bits, signed=False))
    first = build.threshold(add_conv(build, INPUT, 3, window(3, padding=1), kind), 15)
    second = build.add(MaxPool("max0", window(2, stride=2)), add_conv(build, first, 8, window(3, padding=1), kind))
    second = build.threshold(second, 15)
    third = build.threshold(add_conv(build, second, 6, window(2, padding=1, dilation=2), kind, 2), 15)
    third = build.add(MaxPool("max1", window(3, stride=2, padding=1)), add_conv(build, third, 5, window(1), kind))
    fourth = build.threshold(third, 15)
    add_conv(build, fourth, 2, window(2, stride=2), kind)
    return build.model()


def first_layer(codes: IntegerType) -> IntegerModel:
    """One channel, kernels of 3 x 3, a max pool of 2 x 2 behind it that leaves out the last row, a matrix."""
    build = Builder((1, 7, 8), input=codes)
    place = window(3, padding=1)
    first = add_conv(build, INPUT, 6, place, IntegerType(8, signed=True))
    build.threshold(build.add(MaxPool("max0", window(2, stride=2)), first), 15)
    add_conv(build, build.nodes[-1].name, 3, window(3), IntegerType(8, signed=True))
    return build.model()


@pytest.mark.parametrize("lanes", [0, 1])
@pytest.mark.parametrize("kind", [IntegerType(8, signed=False), IntegerType(4, signed=True)], ids=str)
def test_a_first_layer_of_one_channel_equals_the_integer_model(kind: IntegerType, lanes: int, tmp_path: Path) -> None:
    model = first_layer(kind)
    executor, codes = host_executor(model, tmp_path / "host", lanes=lanes), graph_codes(model, 30)
    assert [entry.form for entry in executor.manifest.products] == ["square", "pair"]
    np.testing.assert_array_equal(executor(codes), run(model, codes), strict=True)
    made = executor.trace(codes[:6])["act2"]
    np.testing.assert_array_equal(made, trace(model, codes[:6])["act2"])
    proof, _ = prove_matrix_units(model, executor, seed=0)
    assert proof.holds
    assert "each at every of 4 places" in proof.method


WRONG_SQUARES = [
    (1, "of.d = bitproof_low_high_add(inner, even, of.d)", "of.d = bitproof_low_high_add(inner, odd, of.d)"),
    (1, "shown[2] = sum_of_three(rows[3], left)", "shown[2] = sum_of_three(rows[0], left)"),
    (0, "of.c += field * lower[column]", "of.c += field * upper[column]"),
]


@pytest.mark.parametrize(("lanes", "right", "wrong"), WRONG_SQUARES)
def test_a_kernel_that_mixes_up_the_four_places_is_found(tmp_path: Path, lanes: int, right: str, wrong: str) -> None:
    model = first_layer(IntegerType(8, signed=False))
    executor = host_executor(model, tmp_path / "host", lanes=lanes)
    with_text(executor.folder / "bitproof_squares.c", right, wrong)
    compile_host(executor.folder, executor.manifest, lanes=lanes)
    assert [proof.holds for proof in prove_matrix_units(model, executor, seed=0)] == [False, True]


def with_text(path: Path, right: str, wrong: str) -> None:
    """Replace the only *right* in the file *path* by *wrong*."""
    text = path.read_text()
    assert text.count(right) == 1
    path.write_text(text.replace(right, wrong))


def depthwise(kind: IntegerType) -> IntegerModel:
    """Kernels of 3 columns and of others, 5 and 8 channels, every option of a window, a pool, bipolar codes."""
    build = Builder((5, 8, 9), input=IntegerType(4, signed=True))
    first = build.threshold(add_conv(build, INPUT, 5, window(3, padding=1), kind, 5), 15)
    second = build.threshold(add_conv(build, first, 8, window(1), kind), 1, lowest=-1, step=2)
    third = add_conv(build, second, 8, Window((2, 5), (1, 2), (1, 2), (0, 2), (2, 1)), kind, 8)
    third = build.threshold(build.add(MaxPool("max", window(2, stride=2, padding=1)), third), 15)
    add_conv(build, third, 8, window(3, padding=2, dilation=2), kind, 8)
    return build.model()


@pytest.mark.parametrize("lanes", [0, 1])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_depthwise_layers_equal_the_integer_model(bits: int, lanes: int, tmp_path: Path) -> None:
    model = depthwise(IntegerType(bits, signed=True))
    executor, codes = host_executor(model, tmp_path / "host", lanes=lanes), graph_codes(model, 30)
    assert [entry.form for entry in executor.manifest.products] == ["depthwise", "pair", "depthwise", "depthwise"]
    assert executor.manifest.products[0].bits_per_weight == bits
    expected, made = trace(model, codes[:6]), executor.trace(codes[:6])
    for name, values in made.items():
        np.testing.assert_array_equal(values.reshape(6, -1), expected[name].reshape(6, -1), err_msg=name)
    assert all(proof.holds for proof in prove_matrix_units(model, executor, seed=0))


def test_depthwise_weights_that_no_signed_byte_holds_are_a_matrix_for_each_channel(tmp_path: Path) -> None:
    model = depthwise(IntegerType(8, signed=False))
    executor, codes = host_executor(model, tmp_path / "host", lanes=1), graph_codes(model, 30)
    assert {entry.form for entry in executor.manifest.products} == {"pair"}
    np.testing.assert_array_equal(executor(codes), run(model, codes), strict=True)
    assert all(proof.holds for proof in prove_matrix_units(model, executor, seed=0))


WRONG_DEPTHWISE = [
    (1, "s2 = bitproof_high_high_add(fields, even, s2)", "s2 = bitproof_high_high_add(fields, odd, s2)"),
    (0, "(lane & 1u) * bits", "(lane & 2u) * bits"),
]


@pytest.mark.parametrize(("lanes", "right", "wrong"), WRONG_DEPTHWISE)
def test_a_depthwise_kernel_that_mixes_up_channels_is_found(tmp_path: Path, lanes: int, right: str, wrong: str) -> None:
    model = depthwise(IntegerType(4, signed=True))
    executor = host_executor(model, tmp_path / "host", lanes=lanes)
    with_text(executor.folder / "bitproof_depthwise_fields.h", right, wrong)
    compile_host(executor.folder, executor.manifest, lanes=lanes)
    assert [proof.holds for proof in prove_matrix_units(model, executor, seed=0)] == [False, True, False, False]


CASES = [(IntegerType(bits, signed=True), lanes) for bits in (2, 4, 8) for lanes in (0, 1)]
CASES.append((IntegerType(8, signed=False), 1))


@pytest.mark.parametrize(("kind", "lanes"), CASES, ids=str)
def test_every_width_of_weights_equals_the_integer_model(kind: IntegerType, lanes: int, tmp_path: Path) -> None:
    model = convolutions(kind, input_bits=8 if kind.signed else 4)
    executor, codes = host_executor(model, tmp_path / "host", lanes=lanes), graph_codes(model, 30)
    np.testing.assert_array_equal(executor(codes), run(model, codes), strict=True)
    expected, made = trace(model, codes[:6]), executor.trace(codes[:6])
    for name, values in made.items():
        np.testing.assert_array_equal(values.reshape(6, -1), expected[name].reshape(6, -1), err_msg=name)
    proofs = prove_matrix_units(model, executor, seed=0)
    assert all(proof.holds and "each at every of 2 places" in proof.method for proof in proofs)


@pytest.mark.parametrize(
    ("lanes", "right", "wrong"),
    [
        (1, "b0 = bitproof_add_products(field, b, b0);", "b0 = bitproof_add_products(field, a, b0);"),
        (0, "of_rows[2] += b0 >> 16;", "of_rows[2] += a0 >> 16;"),
    ],
)
def test_a_kernel_that_mixes_up_the_two_places_is_found(tmp_path: Path, lanes: int, right: str, wrong: str) -> None:
    model = convolutions(IntegerType(4, signed=True))
    executor = host_executor(model, tmp_path / "host", lanes=lanes)
    with_text(executor.folder / "bitproof_pairs.h", right, wrong)
    compile_host(executor.folder, executor.manifest, lanes=lanes)
    assert not any(proof.holds for proof in prove_matrix_units(model, executor, seed=0))


def test_each_vector_is_at_every_place_of_a_pair() -> None:
    """So a weight that is wrong at the second place alone is seen in one of the turns."""
    vectors = np.arange(9).reshape(3, 3)
    placed = [unit("pair").placed(vectors, turn).reshape(-1, 2, 3) for turn in (0, 1)]
    for vector in vectors:
        places = {int(place) for calls in placed for _, place in np.argwhere((calls == vector).all(axis=2))}
        assert places == {0, 1}


def test_what_the_calls_of_a_unit_made_is_taken_from_where_the_vectors_were() -> None:
    entry = unit("pair")
    vectors = np.arange(15).reshape(5, 3)
    for turn in (0, 1):
        calls = entry.placed(vectors, turn)
        assert calls.shape == (3, 6)
        made = np.repeat(calls.reshape(3, 2, 3)[:, :, :1], 4, axis=2)
        assert entry.taken(made, turn, 5).tolist() == [[3 * row] * 4 for row in range(5)]


def unit(form: Form) -> ProductEntry:
    """A unit of 3 inputs and 4 outputs."""
    model = convolutions(IntegerType(4, signed=True))
    codes = plan_network(model).products[0].takes[0].bytes
    return ProductEntry(
        name="conv",
        inputs=3,
        outputs=4,
        form=form,
        patch=(1, 3, 1, 1),
        columns=None,
        bits_per_weight=4,
        layout="u4",
        zero_point=8,
        step=1,
        codes=codes,
        macs=12,
        weight_bytes=16,
        symbol="weights",
    )


def test_a_row_of_the_kernel_is_filled_up_to_whole_quads_of_columns() -> None:
    plan = plan_network(convolutions(IntegerType(8, signed=True)))
    first, second, third, *_ = plan.products
    assert [product.layout.columns for product in (first, second, third)] == [12, 36, 16]  # type: ignore[union-attr]
    weights = first.node.weights.reshape(3, 3, 3)
    filled = first.matrices[0].reshape(3, 3, 4)
    assert (filled[:, :, :3] == weights).all()
    assert not filled[:, :, 3].any()


def pooled(allowed: tuple[int, ...], bits: int) -> IntegerModel:
    """Pools of 2 x 2 whose upper and lower positions share what they show: several heights of kernels, odd sizes."""
    build = Builder((3, 9, 10), input=IntegerType(4, signed=False))
    places = [window(3, padding=1), Window((2, 3), (1, 2), (1, 1), (0, 1), (1, 1)), window(1)]
    name = INPUT
    for number, (place, outputs, stride) in enumerate(zip(places, (8, 7, 5), (1, 2, 1), strict=True)):
        weights = build.generator.choice(allowed, (outputs, build.values[name].shape[1], *place.kernel))
        weights.reshape(-1)[:2] = allowed[0], allowed[-1]
        conv = build.add(Conv(f"conv{number}", weights, IntegerType(bits, signed=True), place, 1), name)
        name = build.threshold(build.add(MaxPool(f"max{number}", window(2, stride=stride)), conv), 15)
    return build.model()


POOLED = {"u1": ((-1, 1), 2), "ternary": ((-1, 0, 1), 2), "u4": ((-8, 3, 7), 4), "u8": ((-128, 5, 127), 8)}


@pytest.mark.parametrize("lanes", [0, 1])
@pytest.mark.parametrize("kind", POOLED)
def test_positions_of_a_pool_that_share_rows_equal_the_integer_model(kind: str, lanes: int, tmp_path: Path) -> None:
    model = pooled(*POOLED[kind])
    assert [product.shared for product in plan_network(model).products] == [12, 24, 8]
    assert [product.layout.kind for product in plan_network(model).products] == [kind] * 3
    executor, codes = host_executor(model, tmp_path / "host", lanes=lanes), graph_codes(model, 30)
    np.testing.assert_array_equal(executor(codes), run(model, codes), strict=True)
    expected, made = trace(model, codes), executor.trace(codes)
    for name, values in made.items():
        np.testing.assert_array_equal(values.reshape(30, -1), expected[name].reshape(30, -1), err_msg=name)
    assert all(proof.holds for proof in prove_matrix_units(model, executor, seed=0))


WRONG_SHARED = [
    ("lower[0] = of.all[0] - of.first[0]", "lower[0] = of.all[0]"),
    ("lower[1] = of.all[1] - of.first[1]", "lower[1] = of.but_last[1]"),
    ("shown[0] = of.but_last[0]", "shown[0] = of.all[0]"),
    ("lower, sums, BITPROOF_LARGEST", "shown, sums, BITPROOF_LARGEST"),
]


@pytest.mark.parametrize(("right", "wrong"), WRONG_SHARED)
def test_rows_that_are_shared_wrongly_are_found(tmp_path: Path, right: str, wrong: str) -> None:
    model = pooled(*POOLED["u1"])
    executor, codes = host_executor(model, tmp_path / "host", lanes=1), graph_codes(model, 30)
    with_text(executor.folder / "bitproof_convolve.c", right, wrong)
    compile_host(executor.folder, executor.manifest, lanes=1)
    expected, made = trace(model, codes), executor.trace(codes)
    first = next(iter(made))
    assert not np.array_equal(made[first].reshape(30, -1), expected[first].reshape(30, -1))


@pytest.mark.parametrize("lanes", [0, 1])
def test_a_run_that_is_too_long_is_found(tmp_path: Path, lanes: int) -> None:
    """Weights of which every other row is 1 throughout: with one word more its sum reaches the second row of a word."""
    build = Builder((640,), input=IntegerType(8, signed=False))
    weights = np.where(np.arange(6)[:, None] % 2 == 0, 1, build.generator.choice((-1, 1), (6, 640)))
    build.add(MatMul("fc", weights, IntegerType(2, signed=True)), INPUT)
    model = build.model()
    (product,) = plan_network(model).products
    assert product.run == 8
    executor = host_executor(model, tmp_path / "host", lanes=lanes)
    codes = np.full((1, 640), 255)
    np.testing.assert_array_equal(executor(codes), run(model, codes), strict=True)
    source = next(path for path in executor.folder.glob("*_weights.c"))
    with_text(source, "640u, 1u, 8u, 2u", "640u, 1u, 16u, 2u")
    compile_host(executor.folder, executor.manifest, lanes=lanes)
    changed = executor(codes)
    assert np.array_equal(changed, run(model, codes)) == (lanes == 0), "256 * 255 is below 2**16, not below 2**15"
    assert all(proof.holds for proof in prove_matrix_units(model, executor, seed=0)) == (lanes == 0)
