"""The descriptions of our modules: wrapper, memory files, references against the integer model, and refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from module_cases import CASES, scaled

from bitproof.export.integer import Concat as ConcatNode
from bitproof.export.integer import (
    Conv,
    IntegerType,
    Interval,
    MatMul,
    MaxPool,
    MultiplyShift,
    Pad,
    SumPool,
    Threshold,
    TopK,
    Window,
)
from bitproof.hw.finn.memory import weight_field
from bitproof.hw.rtl.description import RtlNode
from bitproof.hw.rtl.modules import (
    BIPOLAR,
    FOLDER,
    Affine,
    Concat,
    DepthwiseUnit,
    Encoding,
    MatrixUnit,
    Memory,
    Module,
    MultiplyShiftUnit,
    Padding,
    Place,
    RoundingShiftUnit,
    ScaledAdd,
    SelectLargest,
    WindowReducer,
    accumulator_type,
    requantizer_of,
)
from bitproof.pipeline import Codes, StageError

INT4, UINT4 = IntegerType(4, signed=True), IntegerType(4, signed=False)
CODES4, WEIGHTS3 = Encoding.of(UINT4), Encoding(3, "signed")


def random_codes(shape: tuple[int, ...], low: int = -8, high: int = 7) -> Codes:
    return np.random.default_rng(3).integers(low, high, size=shape, endpoint=True)


def test_the_wrapper_has_finns_ports_and_the_parameters() -> None:
    text = WindowReducer(pe=3, taps=4, codes=INT4, windows=5, reduction="sum").wrapper("pool0")
    assert text.startswith("module pool0 (\n  input ap_clk,\n  input ap_rst_n,\n  input [15:0] in0_V_TDATA,\n")
    assert "  output [23:0] out0_V_TDATA,\n  output out0_V_TVALID,\n  input out0_V_TREADY\n);\n" in text
    assert re.findall(r"\.([A-Z_]+)\((\d+)\)", text) == [
        *(("PE", "3"), ("TAPS", "4"), ("IN_BITS", "4"), ("SIGNED", "1"), ("SUM", "1"), ("OUT_BITS", "6"))
    ]


def test_a_memory_word_holds_element_0_in_its_lowest_bits() -> None:
    memory = Memory(np.array([[1, -1, 2], [-4, 3, 0]]), 3)
    assert memory.text() == "0b9\n01c\n"  # 010 111 001 and 000 011 100


def test_every_module_is_in_a_file_of_its_name_and_used_by_a_case() -> None:
    names = {path.name for path in FOLDER.glob("*.sv")}
    assert names == {name for case in CASES for name in case.module.sources}
    for name in names:
        assert re.findall(r"^module (\w+)", (FOLDER / name).read_text(), re.MULTILINE) == [Path(name).stem]


def test_the_parameters_are_those_of_the_module() -> None:
    for module in (case.module for case in CASES if case.module.parameters):
        text = (FOLDER / f"{module.module}.sv").read_text()
        declared = set(re.findall(r"^    parameter (?:int unsigned |int |bit )?(\w+) =", text, re.MULTILINE))
        assert declared == {*module.parameters, *(f"{memory.upper()}_FILE" for memory in module.memories)}


def test_weights_lie_where_finns_matrix_unit_has_them(tmp_path: Path) -> None:
    module = MatrixUnit(random_codes((6, 8), -4, 3), 2, 4, CODES4, WEIGHTS3, IntegerType(10, signed=True))
    (tmp_path / "data").mkdir()
    for path, text in module.memory_files("fc0").items():
        (tmp_path / path).write_text(text)
    named = SimpleNamespace(
        name="fc0", op="MatrixUnit", columns=None, parameters={**module.parameters, "weight_bits": 3}
    )
    node = cast("RtlNode", named)
    for (row, column), weight in np.ndenumerate(module.weights):
        assert weight_field(node, row, column).read(tmp_path) == weight


def windows_of(image: Codes, window: Window) -> Codes:
    """The words of one image, shape (C, H, W), as FINN's depthwise sliding window sends them with PE = C."""
    padded = window.pad(image[None], 0)
    counts = window.output_sizes(image.shape[1:])
    taps = np.stack([met[0] for _, met in window.taps(padded, counts)])  # (taps, C, H, W)
    return taps.transpose(2, 3, 0, 1).reshape(-1, image.shape[0])


WINDOW = Window(kernel=(3, 2), strides=(2, 1), begin=(0, 0), end=(0, 0), dilations=(1, 1))


def test_windows_are_those_of_the_integer_model() -> None:
    image = random_codes((3, 7, 5))
    words = windows_of(image, WINDOW)
    pixels = len(words) // 6
    largest = WindowReducer(pe=3, taps=6, codes=INT4, windows=pixels).apply(words)[0]
    sums = WindowReducer(pe=3, taps=6, codes=INT4, windows=pixels, reduction="sum").apply(words)[0]
    np.testing.assert_array_equal(MaxPool("pool", WINDOW).apply(image[None])[0].reshape(3, -1).T, largest)
    np.testing.assert_array_equal(SumPool("pool", WINDOW).apply(image[None])[0].reshape(3, -1).T, sums)
    weights = random_codes((3, 1, 3, 2), -4, 3)
    unit = DepthwiseUnit(
        weights.reshape(3, 6), 3, pixels, Encoding.of(INT4), WEIGHTS3, accumulator_type(Encoding.of(INT4), WEIGHTS3, 6)
    )
    expected = Conv("conv", weights, IntegerType(3, signed=True), WINDOW, 3).apply(image[None])[0].reshape(3, -1).T
    np.testing.assert_array_equal(expected, unit.apply(words)[0])


def test_products_paddings_joins_and_selections_are_those_of_the_integer_model() -> None:
    codes, weights = random_codes((9, 8), 0, 15), random_codes((6, 8), -4, 3)
    unit = MatrixUnit(weights, 2, 4, CODES4, WEIGHTS3, accumulator_type(CODES4, WEIGHTS3, 8))
    products = MatMul("fc", weights, IntegerType(3, signed=True)).apply(codes)
    np.testing.assert_array_equal(products, unit.apply(codes.reshape(-1, 4))[0].reshape(9, 6))
    bits = random_codes((4, 6), 0, 1)
    signs = np.where(random_codes((2, 6)) < 0, -1, 1)
    unit = MatrixUnit(signs, 1, 2, BIPOLAR, BIPOLAR, accumulator_type(BIPOLAR, BIPOLAR, 6))
    np.testing.assert_array_equal((2 * bits - 1) @ signs.T, unit.apply(bits.reshape(-1, 2))[0].reshape(4, 2))
    largest = SelectLargest(IntegerType(5, signed=True), pe=1, folds=6, count=3).apply(products.reshape(-1, 1))[0]
    np.testing.assert_array_equal(TopK("top", 6, 3).apply(products), largest.reshape(9, 3))
    one, other = random_codes((1, 4, 2, 3)), random_codes((1, 2, 2, 3), 0, 3)
    joined = Concat(INT4, IntegerType(2, signed=False), INT4, pe=2, words=(2, 1), pixels=6)
    streams = [image[0].transpose(1, 2, 0).reshape(-1, 2) for image in (one, other)]
    expected = ConcatNode("join").apply(one, other)[0].transpose(1, 2, 0).reshape(-1, 2)
    np.testing.assert_array_equal(expected, joined.apply(*streams)[0])


def test_a_requantizer_is_proven_and_as_wide_as_its_sums() -> None:
    place = scaled(2, IntegerType(5, signed=True), -9, 20, IntegerType(12, signed=True), 12)
    unit = requantizer_of(place)
    assert isinstance(unit, MultiplyShiftUnit)
    ends = [
        end * m + b
        for interval, m, b in zip(place.reachable, unit.constants.multiplier, unit.constants.offset, strict=True)
        for end in (interval.low, interval.high)
    ]
    limit = 1 << (unit.sum_bits - 1)
    assert -limit <= min(ends) < -limit // 2 or limit // 2 <= max(ends) < limit
    wrong = MultiplyShift(unit.constants.multiplier, unit.constants.offset + (1 << 12), unit.constants.shift)
    with pytest.raises(StageError, match=r"^act: the constants of MultiplyShift give another code than the thresholds"):
        MultiplyShiftUnit(place, wrong)
    with pytest.raises(StageError, match=r"^act: the constants of RoundingShift give another code than the thresholds"):
        RoundingShiftUnit(place, np.zeros(2, dtype=np.int64), 3, "even")


def curve(edges: list[int], *, step: int = 1) -> Place:
    """One channel with thresholds *edges* over -100..100."""
    node = Threshold("act", np.array([edges]), INT4, 0, np.zeros(1, dtype=np.bool_), step)
    return Place(node, (Interval(-100, 100),), IntegerType(8, signed=True), INT4, 1)


REFUSALS: dict[str, tuple[Callable[[], Module], str]] = {
    "sizes": (
        lambda: WindowReducer(pe=1, taps=0, codes=INT4, windows=2),
        r"^module window_reducer takes \(pe, taps, windows\) of at least 1, not \(1, 0, 2\)$",
    ),
    "folding": (
        lambda: MatrixUnit(np.ones((4, 6), dtype=np.int64), 3, 2, CODES4, WEIGHTS3, IntegerType(9, signed=True)),
        r"^module matrix_unit takes 4 outputs and 6 inputs by \(pe, simd\) that divide them, not \(3, 2\); choose div",
    ),
    "weights": (
        lambda: MatrixUnit(np.full((1, 2), 4), 1, 1, CODES4, WEIGHTS3, IntegerType(9, signed=True)),
        r"^module matrix_unit cannot hold weights 4..4 as int3; take a wider encoding$",
    ),
    "bipolar weights": (
        lambda: DepthwiseUnit(np.zeros((1, 2), dtype=np.int64), 1, 1, CODES4, BIPOLAR, IntegerType(9, signed=True)),
        r"^module depthwise_unit cannot hold weights 0..0 as bipolar; take a wider encoding$",
    ),
    "accumulator": (
        lambda: DepthwiseUnit(np.full((1, 9), -4), 1, 1, CODES4, WEIGHTS3, IntegerType(10, signed=True)),
        r"^module depthwise_unit has sums -540..0, which int10 does not hold; take int11 or wider$",
    ),
    "frame": (
        lambda: Padding(UINT4, 16, 1, 1, (2, 2), (1, 1), (1, 1)),
        r"^module image_padding pads with 16, which uint4 does not hold$",
    ),
    "several of wide words": (
        lambda: SelectLargest(INT4, pe=2, folds=3, count=2),
        r"^module select_largest selects 2 codes of words of 1 code only, not of 2; put a width converter before it$",
    ),
    "types of a concatenation": (
        lambda: Concat(UINT4, INT4, INT4, pe=1, words=(1, 1), pixels=1),
        r"^module stream_concat joins uint4 into int4, which does not hold it; take a wider output$",
    ),
    "factors of one stream": (
        lambda: Affine(INT4, 1, 1, np.ones(2, dtype=np.int64), np.zeros(3, dtype=np.int64)),
        r"^module stream_affine takes as many factors as offsets, 3, not \(2,\)$",
    ),
    "lanes of one stream": (
        lambda: Affine(INT4, 2, 1, np.ones(3, dtype=np.int64), np.zeros(3, dtype=np.int64)),
        r"^module stream_affine takes 3 channels by a pe that divides them, not 2; choose a divisor$",
    ),
    "factors": (
        lambda: ScaledAdd(INT4, INT4, 1, 1, np.ones((2, 2), dtype=np.int64), np.zeros(3, dtype=np.int64)),
        r"^module stream_scaled_add takes factors of shape \(2, 3\) with as many offsets, not \(2, 2\)$",
    ),
    "a curve": (
        lambda: requantizer_of(curve([-90, -80, -10, 0, 90])),
        r"^layer 'act' has codes 0..5 in steps of 1 that neither a multiplication .*; take a thresholding unit for it$",
    ),
    "a step": (
        lambda: requantizer_of(curve([0], step=2)),
        r"^layer 'act' has codes 0..2 in steps of 2 that neither a multiplication .*; take a thresholding unit for it$",
    ),
    "a narrow stream": (
        lambda: requantizer_of(
            Place(curve([-50, 50]).node, (Interval(-100, 100),), IntegerType(7, signed=True), INT4, 1)
        ),
        r"has accumulators -100..100 of 'act', which int7 does not hold; take int8 or wider$",
    ),
    "narrow codes": (
        lambda: requantizer_of(
            Place(
                curve([-50, 50]).node,
                (Interval(-100, 100),),
                IntegerType(8, signed=True),
                IntegerType(2, signed=True),
                1,
            )
        ),
        r"has codes 0..2 of 'act', which int2 does not hold or is wider than 31 bits; take uint2$",
    ),
}


@pytest.mark.parametrize("name", list(REFUSALS))
def test_what_a_module_cannot_do_is_refused(name: str) -> None:
    make, message = REFUSALS[name]
    with pytest.raises(StageError, match=message):
        make()


def test_padding_is_that_of_the_integer_model() -> None:
    image = random_codes((1, 2, 3, 4), 0, 15)
    module = Padding(UINT4, 0, pe=2, folds=1, size=(3, 4), begin=(1, 0), end=(2, 1))
    expected = Pad("pad", begin=(1, 0), end=(2, 1)).apply(image)[0].transpose(1, 2, 0).reshape(-1, 2)
    np.testing.assert_array_equal(expected, module.apply(image[0].transpose(1, 2, 0).reshape(-1, 2))[0])
