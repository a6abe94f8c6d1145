"""The plan of the C back-end: layouts, ranges, and errors that name the layer."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_networks import random_network, saved

from bitproof.export.integer import IntegerModel, IntegerType, MatMul, Reshape, Threshold
from bitproof.hw.mcu import GenerateC, Manifest, weight_layout
from bitproof.hw.mcu.naming import prefix_of
from bitproof.hw.mcu.plan import plan_network
from bitproof.hw.mcu.weight_layout import LEAST_BINARY, DepthwiseLayout, LayoutKind, WeightLayout
from bitproof.pipeline import Codes, IntegrityError, StageContext, StageError


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 40),
    bits=st.integers(1, 8),
    signed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_packing_keeps_every_weight_where_locate_says(
    rows: int, columns: int, bits: int, signed: bool, seed: int
) -> None:
    kind = IntegerType(bits, signed)
    weights = np.random.default_rng(seed).integers(kind.minimum, kind.maximum, size=(rows, columns), endpoint=True)
    layout = WeightLayout.of("fc0", weights, kind, largest_code=255)
    packed = layout.pack(weights)
    assert len(packed) == layout.words
    assert (layout.unpack(packed) == weights).all()
    word, bit = layout.locate(rows - 1, columns - 1)
    field = int(packed[word]) >> bit & ((1 << layout.bits) - 1)
    assert layout.step * field - layout.zero_point == weights[-1, -1]


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 200),
    ends=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    largest_code=st.sampled_from([1, 2, 255]),
    seed=st.integers(0, 99),
)
def test_two_different_weights_take_one_bit_each(
    rows: int, columns: int, ends: tuple[int, int], largest_code: int, seed: int
) -> None:
    weights = np.random.default_rng(seed).choice(np.array(ends, dtype=np.int64), size=(rows, columns))
    layout = WeightLayout.of("fc0", weights, IntegerType(8, signed=True), largest_code)
    counted = largest_code == 1 and columns >= LEAST_BINARY[False]
    assert (layout.kind, layout.bits) == ("binary" if counted else "u1", 1)
    packed = layout.pack(weights)
    assert len(packed) == layout.words
    assert layout.words == (-(-rows // 4) * 4 * -(-columns // 32) if counted else -(-rows // 4) * 2 * -(-columns // 16))
    assert (layout.unpack(packed) == weights).all()
    places = {layout.locate(row, column) for row in range(rows) for column in range(columns)}
    assert len(places) == weights.size
    assert sum(int(word).bit_count() for word in packed) == (weights > weights.min()).sum(), "no other bit is set"


@pytest.mark.parametrize("kind", ["u1", "ternary", "u2", "u4", "u8"])
def test_a_run_keeps_every_partial_sum_in_its_part_of_the_word(kind: LayoutKind) -> None:
    """The largest sum of a part, that of as many products as columns share it, for every largest code."""
    layout = WeightLayout(kind, 4, 32, 0)
    bound = 1 << {"u1": 15, "ternary": 12}.get(kind, 16)
    field = {"u1": 1, "ternary": 2, "u2": 3, "u4": 15, "u8": 255}[kind]
    for largest in range(1, 256):
        run = layout.run_of(largest)
        word = layout.columns_per_word * field * largest
        assert word * run < bound <= word * (run + 1)
        assert run > 0 or kind == "u8", "the other kernels rely on it"


def fits(layout: WeightLayout, fields: Codes, largest: int, count: int) -> bool:
    """Tell whether *count* words may be added up wherever they begin, and with one bit flipped."""
    distance, flipped = {"u1": (15, 1), "ternary": (12, 2)}[layout.kind]
    columns = layout.columns_per_word
    words = -(-layout.columns // columns)
    return all(
        (row[start : start + count * columns].sum() + flipped) * largest < 1 << (16 if number % 2 else distance)
        for number, row in enumerate(fields)
        for start in range(0, (words - count + 1) * columns, columns)
    )


@pytest.mark.parametrize(("kind", "fields"), [("u1", 2), ("ternary", 3)])
def test_a_run_is_as_long_as_the_weights_of_all_groups_allow(kind: LayoutKind, fields: int) -> None:
    generator = np.random.default_rng(1)
    layout = WeightLayout(kind, 5, 331, 1)
    words, longer = -(-331 // layout.columns_per_word), 0
    for largest in (3, 15, 127, 255):
        drawn = [generator.integers(0, fields, (5, 331)) * (generator.random((5, 331)) < 0.3) for _ in range(2)]
        run, always = layout.run_of(largest, [each - 1 for each in drawn]), layout.run_of(largest)
        if run > always:
            longer += 1
            assert all(fits(layout, each, largest, run) for each in drawn)
            assert run == words or not all(fits(layout, each, largest, run + 1) for each in drawn)
    assert longer >= 2


@pytest.mark.parametrize("kind", ["u1", "ternary"])
def test_heavy_weights_shorten_no_run(kind: LayoutKind) -> None:
    """If all fields are the largest, a run is what any weights allow."""
    layout = WeightLayout(kind, 4, 640, 0)
    heaviest = np.full((4, 640), 1 if kind == "u1" else 2)
    for largest in (15, 255):
        assert layout.run_of(largest, [heaviest]) == layout.run_of(largest)


@given(
    channels=st.integers(1, 9),
    height=st.integers(1, 4),
    width=st.integers(1, 6),
    bits=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_packing_keeps_every_depthwise_weight_where_locate_says(
    channels: int, height: int, width: int, bits: int, seed: int
) -> None:
    kind = IntegerType(bits, signed=True)
    drawn = np.random.default_rng(seed).integers(kind.minimum, kind.maximum, (channels, height, width), endpoint=True)
    layout = DepthwiseLayout.of(drawn, 255)
    assert layout is not None
    weights = drawn.reshape(channels, -1)
    packed = layout.pack(weights)
    assert len(packed) == layout.words
    assert (layout.unpack(packed) == weights).all()
    word, bit = layout.locate(channels - 1, height * width - 1)
    field = int(packed[word]) >> bit & ((1 << layout.bits) - 1)
    assert field == weights[-1, -1] & ((1 << layout.bits) - 1)


def test_a_depthwise_sum_fits_on_top_of_the_unused_bits() -> None:
    """128 * 255 * 257 taps times 2**8 is below 2**31; with one tap more it is not: the next wider field is taken."""
    for least, taps, bits in ((-128, 257, 8), (-8, 257, 4), (-2, 257, 2), (-8, 258, 8), (-2, 258, 4)):
        layout = DepthwiseLayout.of(np.full((1, 1, taps), least, dtype=np.int64), 255)
        assert layout is not None
        assert layout.bits == bits
    for weight, taps in ((-128, 258), (128, 1)):
        assert DepthwiseLayout.of(np.full((1, 1, taps), weight, dtype=np.int64), 255) is None


def test_ternary_weights_of_any_type_share_words() -> None:
    weights = np.array([[-1, 0, 1]], dtype=np.int64)
    assert WeightLayout.of("fc0", weights, IntegerType(8, signed=True), 255).kind == "ternary"
    assert WeightLayout.of("fc0", weights * 2, IntegerType(3, signed=True), 255).kind == "u4"


@pytest.mark.parametrize(("act_bits", "run"), [(8, 1), (4, 17), (2, 85), (1, 255)])
def test_a_ternary_run_keeps_the_first_row_below_the_second(act_bits: int, run: int) -> None:
    plan = plan_network(random_network([8, 8, 8], weight_range=(-1, 1), act_bits=(act_bits,)))
    largest_sum = 2 * ((1 << act_bits) - 1) * 8
    product = plan.products[1]
    assert isinstance(product.layout, WeightLayout)
    assert product.run == run
    assert largest_sum * run < 4096 <= largest_sum * (run + 1)


def test_a_reshape_that_moves_nothing_is_planned_as_if_it_were_not_there() -> None:
    model = random_network((8, 4, 3))
    flattened = replace(model, shape=(2, 2, 2), nodes=(Reshape("flat", (2, 2, 2), (8,)), *model.nodes))
    plan, plain = plan_network(flattened), plan_network(model)
    assert [planned.node.name for planned in plan.products] == ["fc0", "fc1"]
    made, expected = ((each.input.codes, each.arena_bytes, each.outputs) for each in (plan, plain))
    assert made == expected


def test_names_become_identifiers() -> None:
    assert [prefix_of(name) for name in ("Fashion-MNIST */ mlp", "64x64", "", "bitproof_lanes")] == [
        "fashion_mnist_mlp",
        "net_64x64",
        "net_",
        "net_bitproof_lanes",
    ]


def chain(*nodes: MatMul | Threshold) -> IntegerModel:
    inputs = nodes[0].inputs if isinstance(nodes[0], MatMul) else nodes[0].channels
    return IntegerModel("net", IntegerType(8, signed=False), Fraction(1), (inputs,), nodes, Fraction(1))


def matrix(name: str, value: int, bits: int, columns: int = 4) -> MatMul:
    return MatMul(name, np.full((4, columns), value, dtype=np.int64), IntegerType(bits, signed=True))


def test_what_cannot_be_carried_out_is_named() -> None:
    model = random_network([4, 4, 4])
    cases = {
        "the network takes 512 codes from -256 to 255; a byte holds 256, in which the C back-end keeps": replace(
            model, input=IntegerType(9, signed=True)
        ),
        "layer 'fc1' takes the accumulators of layer 'fc0'": chain(matrix("fc0", 1, 2), matrix("fc1", 1, 2)),
        "layer 'fc0' has int9 weights; the C back-end takes 1 to 8 bits": chain(matrix("fc0", 200, 9)),
        r"accumulators of layer 'fc0' reach \[0, 2266950000\]; allowed are -2147483648 to 2147483646": chain(
            matrix("fc0", 127, 8, columns=70000)
        ),
    }
    for message, case in cases.items():
        with pytest.raises(StageError, match=message):
            plan_network(case)


def generated(model: IntegerModel, folder: Path) -> Path:
    workdir, scratch = folder / "c", folder / "scratch"
    workdir.mkdir(parents=True)
    scratch.mkdir()
    source = saved(model, folder / "integer")
    assert GenerateC().run(source, StageContext(workdir, scratch, 0)) == {}
    return workdir


def test_sources_depend_on_the_model_alone(tmp_path: Path) -> None:
    model = random_network([37, 5, 7, 3], act_bits=(4, 2))
    first, second = (generated(model, tmp_path / name) for name in ("a", "b"))
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*.*"))
    assert names == sorted(str(path.relative_to(second)) for path in second.rglob("*.*"))
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    manifest = Manifest.load(first)
    assert sorted(manifest.sources) == sorted(path.name for path in (first / "src").iterdir())
    assert manifest.macs == 37 * 5 + 5 * 7 + 7 * 3
    header = (first / "src/mlp.h").read_text()
    assert f" * model: {manifest.model_sha256}\n * target: c{{core=cortex-m4}}\n" in header
    assert "#define MLP_ARENA_BYTES 36\n" in header


def test_a_damaged_manifest_is_an_integrity_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(IntegrityError, match="Run the stage again"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("kind", ["u8", "u4", "u2", "ternary", "u1", "binary"])
def test_the_drawing_of_a_word_is_the_layout(kind: LayoutKind) -> None:
    """The fields that the module draws, highest bits first, are where :meth:`WeightLayout.locate` says."""
    layout = WeightLayout(kind, rows=4, columns=32 if kind == "binary" else 16, zero_point=1)
    drawn = re.search(rf"^ +{kind} +(\S.*)$", weight_layout.__doc__ or "", re.MULTILINE)
    assert drawn is not None
    fields = [re.fullmatch(r"([ab]?)([0-9]+)", field) for field in drawn[1].split()]
    assert len(fields) == 32 // layout.bits
    for place, field in enumerate(reversed(fields)):
        assert field is not None
        assert layout.locate("ab".index(field[1] or "a"), int(field[2])) == (0, place * layout.bits)
