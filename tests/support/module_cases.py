"""The modules of ours that the tests simulate, over widths, foldings and kinds of codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from module_bench import Case, Draw

from bitproof.export.integer import IntegerType, Interval, Threshold
from bitproof.hw.rtl.modules import (
    BIPOLAR,
    Add,
    Affine,
    Concat,
    DepthwiseUnit,
    Duplicate,
    Encoding,
    MatrixUnit,
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
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Codes


def unsigned(bits: int) -> IntegerType:
    return IntegerType(bits, signed=False)


def signed(bits: int) -> IntegerType:
    return IntegerType(bits, signed=True)


def u(bits: int) -> Encoding:
    return Encoding(bits, "unsigned")


def s(bits: int) -> Encoding:
    return Encoding(bits, "signed")


WINDOWS = (
    Case(
        "largest_unsigned",
        WindowReducer(pe=3, taps=4, codes=unsigned(4), windows=5),
        mutants=(("else if (larger)", "else if (!larger)"), ("tap <= last ? '0", "tap <= first ? '0")),
    ),
    Case(
        "largest_signed",
        WindowReducer(pe=2, taps=9, codes=signed(5), windows=3),
        mutants=(("SIGNED ? $signed(widened) >", "!SIGNED ? $signed(widened) >"),),
    ),
    Case(
        "withdrawing",
        WindowReducer(pe=1, taps=2, codes=unsigned(6), windows=3),
        mutants=(("if (in0_V_TREADY) valid <= take && last;", "valid <= take && last;"),),
    ),
    Case("largest_of_one", WindowReducer(pe=1, taps=1, codes=signed(8), windows=7)),
    Case("largest_bit", WindowReducer(pe=5, taps=2, codes=unsigned(1), windows=2)),
    Case("largest_wide", WindowReducer(pe=1, taps=5, codes=signed(23), windows=4)),
    Case(
        "sum_unsigned",
        WindowReducer(pe=2, taps=6, codes=unsigned(3), windows=4, reduction="sum"),
        mutants=(("reduced[lane] + widened", "reduced[lane] | widened"), ("if (first)", "if (last)")),
    ),
    Case("sum_signed", WindowReducer(pe=3, taps=49, codes=signed(8), windows=2, reduction="sum")),
)


def weights_of(encoding: Encoding, shape: tuple[int, int], seed: int) -> Codes:
    """Random weights of the whole range; the first row is the least and the last one the greatest throughout."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(encoding.minimum, encoding.maximum, size=shape, endpoint=True)
    if encoding.kind == "bipolar":
        weights = rng.choice([-1, 1], size=shape)
    weights[0], weights[-1] = encoding.minimum, encoding.maximum
    return weights.astype(np.int64)


def depthwise(channels: int, taps: int, pe: int, pixels: int, codes: Encoding, encoding: Encoding) -> DepthwiseUnit:
    weights = weights_of(encoding, (channels, taps), channels + taps)
    return DepthwiseUnit(weights, pe, pixels, codes, encoding, accumulator_type(codes, encoding, taps))


DEPTHWISE = (
    Case(
        "depthwise_serial",
        depthwise(6, 9, 2, 2, u(4), s(4)),
        mutants=(("starts[1] ? '0", "starts[0] ? '0"), ("ADDRESS_BITS'(DEPTH - 1)", "ADDRESS_BITS'(DEPTH - 2)")),
    ),
    Case("depthwise_signed_by_unsigned", depthwise(4, 3, 4, 3, s(8), u(3))),
    Case("depthwise_unsigned_by_unsigned", depthwise(2, 5, 1, 2, u(3), u(2))),
    Case("depthwise_bipolar_weights", depthwise(6, 4, 3, 2, s(5), BIPOLAR)),
    Case("depthwise_bipolar", depthwise(3, 9, 3, 2, BIPOLAR, BIPOLAR)),
    Case("depthwise_point", depthwise(2, 1, 2, 3, u(8), s(8))),
    Case("depthwise_bits", depthwise(2, 4, 1, 2, u(1), s(1))),
)


def matrix(shape: tuple[int, int], pe: int, simd: int, codes: Encoding, encoding: Encoding) -> MatrixUnit:
    weights = weights_of(encoding, shape, sum(shape))
    return MatrixUnit(weights, pe, simd, codes, encoding, accumulator_type(codes, encoding, shape[1]))


MATRICES = (
    Case(
        "matrix_serial",
        matrix((6, 8), 2, 4, u(4), s(2)),
        mutants=(
            ("again ? kept : incoming", "kept"),
            ("if (last_column) fresh <= last_word;", "if (last_column) fresh <= 1'b0;"),
            ("column == '0}", "last_column}"),
        ),
    ),
    Case("matrix_one_by_one", matrix((3, 5), 1, 1, s(8), s(8))),
    Case("matrix_at_once", matrix((4, 7), 4, 7, s(3), s(3))),
    Case("matrix_columns_at_once", matrix((6, 6), 2, 6, u(8), s(4))),
    Case("matrix_rows_at_once", matrix((3, 9), 3, 3, u(2), u(3))),
    Case("matrix_xnor", matrix((6, 15), 3, 5, BIPOLAR, BIPOLAR)),
    Case("matrix_xnor_one_by_one", matrix((2, 4), 1, 1, BIPOLAR, BIPOLAR)),
    Case("matrix_bipolar_weights", matrix((4, 6), 2, 3, u(8), BIPOLAR)),
    Case("matrix_bipolar_codes", matrix((4, 6), 2, 3, BIPOLAR, s(4))),
    Case("matrix_bits", matrix((4, 12), 1, 6, u(1), u(1))),
)


def threshold(edges: Codes, codes: IntegerType, lowest: int) -> Threshold:
    """The activation with thresholds *edges*, shape (channels, levels)."""
    return Threshold("act", edges, codes, lowest, np.zeros(len(edges), dtype=np.bool_))


def scaled(channels: int, codes: IntegerType, lowest: int, levels: int, accumulators: IntegerType, shift: int) -> Place:
    """Codes ``(a * M + B) >> shift`` of random M and B, over most of the accumulators' type."""
    rng = np.random.default_rng(channels + levels)
    span = accumulators.maximum - accumulators.minimum
    multiplier = rng.integers(levels << (shift - 2), levels << shift, size=channels, endpoint=True) // (span >> 1) + 1
    middle = (accumulators.maximum + accumulators.minimum + 1) // 2
    offset = (((2 * lowest + levels) << (shift - 1)) - multiplier * middle) + rng.integers(-999, 999, size=channels)
    steps = (np.arange(1, levels + 1) + lowest) << shift
    edges = -((offset[:, None] - steps) // multiplier[:, None])
    spans = (Interval(accumulators.minimum + c, accumulators.maximum - 2 * c) for c in range(channels))
    return Place(threshold(edges.astype(np.int64), codes, lowest), tuple(spans), accumulators, codes, 1, 3)


def halved(shift: int, ties: str, codes: IntegerType, lowest: int, levels: int, accumulators: IntegerType) -> Place:
    """Codes ``a / 2^shift`` to the nearest, a tie to the even one, the odd one or up, with offsets of 4 channels."""
    offsets = np.array([0, 1, -3, 2])
    steps = np.arange(1, levels + 1) + lowest
    late = {"even": steps & 1, "odd": (steps + 1) & 1, "up": 0 * steps}[ties]
    edges = (steps << shift) - (1 << (shift - 1)) + late
    span = Interval(accumulators.minimum, accumulators.maximum)
    node = threshold((edges[None] - offsets[:, None]).astype(np.int64), codes, lowest)
    return Place(node, (span,) * 4, accumulators, codes, 2, 2)


def at_the_ends(module: MultiplyShiftUnit | RoundingShiftUnit) -> Draw:
    """Random reachable accumulators, and both sides of every threshold."""
    place = module.place

    def draw(rng: np.random.Generator) -> tuple[Codes, ...]:
        low = np.array([interval.low for interval in place.reachable])
        high = np.array([interval.high for interval in place.reachable])
        edges = place.node.thresholds.T
        pixels = np.concatenate([low[None], high[None], edges, edges - 1, rng.integers(low, high + 1, (60, len(low)))])
        pixels = np.clip(pixels, low, high)[: len(pixels) // place.pixels * place.pixels]
        return (pixels.reshape(-1, place.pe).astype(np.int64),)

    return draw


def requantizer(name: str, place: Place, *, flipped_bit: int = 0, mutants: tuple[tuple[str, str], ...] = ()) -> Case:
    module = requantizer_of(place)
    return Case(name, module, draw=at_the_ends(module), mutants=mutants, flipped_bit=flipped_bit)


REQUANTIZERS = (
    requantizer(
        "multiply_shift_unsigned",
        scaled(3, unsigned(4), 0, 15, signed(12), 12),
        flipped_bit=1,
        mutants=(("SUM_BITS'(product) + SUM_BITS'(offset)", "SUM_BITS'(product)"),),
    ),
    requantizer("multiply_shift_signed", scaled(2, signed(8), -127, 254, signed(16), 24), flipped_bit=11),
    requantizer("multiply_shift_of_unsigned", scaled(2, signed(5), -9, 20, unsigned(9), 10), flipped_bit=1),
    requantizer(
        "to_even",
        halved(3, "even", signed(4), -8, 15, signed(9)),
        mutants=(("up ? HALF : HALF - SUM_BITS'(1)", "HALF"), ("wire up = TIES == 0", "wire up = TIES == 1")),
    ),
    requantizer("to_odd", halved(2, "odd", unsigned(3), 0, 7, signed(7))),
    requantizer("up", halved(4, "up", signed(6), -20, 50, signed(11))),
)

KINDS = (
    StreamLayout(bits=5, signed=True, elements=3, words=4),
    StreamLayout(bits=8, signed=False, elements=1, words=6),
)


def scaled_add(first: IntegerType, second: IntegerType, channels: int, pe: int, factors: int) -> ScaledAdd:
    rng = np.random.default_rng(channels)
    offsets = rng.integers(-200, 200, channels).astype(np.int64)
    return ScaledAdd(first, second, pe, 3, rng.integers(-factors, factors + 1, (2, channels)).astype(np.int64), offsets)


def affine(codes: IntegerType, channels: int, pe: int, factors: int) -> Affine:
    rng = np.random.default_rng(channels)
    offsets = rng.integers(-200, 200, channels).astype(np.int64)
    return Affine(codes, pe, 3, rng.integers(-factors, factors + 1, channels).astype(np.int64), offsets)


@dataclass(frozen=True)
class ForkAndJoin(Module):
    """A stream that is duplicated and added to itself: every handshake of both modules meets one of the other."""

    module: ClassVar[str] = "stream_add"
    needs: ClassVar[tuple[str, ...]] = ("stream_duplicate.sv",)

    add: Add

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        return self.add.inputs[:1]

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        return self.add.outputs

    @property
    def parameters(self) -> Mapping[str, int]:
        return {}

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        return (2 * streams[0],)

    def wrapper(self, name: str) -> str:
        def ports(direction: str, stream: StreamLayout) -> str:
            way, back = ("input", "output") if direction == "in" else ("output", "input")
            return (
                f", {way} [{stream.width_bits - 1}:0] {direction}0_V_TDATA, {way} {direction}0_V_TVALID, "
                f"{back} {direction}0_V_TREADY"
            )

        def connections(port: str, wires: str) -> str:
            return ", ".join(f".{port}_V_T{end}({wires}{end})" for end in ("DATA", "VALID", "READY"))

        width = self.inputs[0].width_bits
        branches = "".join(
            f"  wire [{width - 1}:0] branch{i}_DATA;\n  wire branch{i}_VALID, branch{i}_READY;\n" for i in (0, 1)
        )
        parameters = ", ".join(f".{key}({int(value)})" for key, value in self.add.parameters.items())
        clock = ".ap_clk(ap_clk), .ap_rst_n(ap_rst_n)"
        return (
            f"module {name} (input ap_clk, input ap_rst_n{ports('in', self.inputs[0])}{ports('out', self.outputs[0])});"
            f"\n{branches}  stream_duplicate #(.WIDTH({width})) fork_ ({clock}, {connections('in0', 'in0_V_T')}, "
            f"{connections('out0', 'branch0_')}, {connections('out1', 'branch1_')});\n"
            f"  stream_add #({parameters}) join_ ({clock}, {connections('in0', 'branch0_')}, "
            f"{connections('in1', 'branch1_')}, {connections('out0', 'out0_V_T')});\nendmodule\n"
        )


JOINS = (
    Case(
        "duplicate",
        Duplicate(KINDS[0]),
        mutants=(
            ("in0_V_TREADY = left == '0", "in0_V_TREADY = left != '1"),
            ("waiting & ~{out1_V_TREADY, out0_V_TREADY}", "waiting & ~{2{out1_V_TREADY & out0_V_TREADY}}"),
        ),
    ),
    Case("duplicate_bytes", Duplicate(KINDS[1])),
    Case(
        "add",
        Add(signed(5), unsigned(3), pe=3, words=5),
        mutants=(("in0_V_TREADY = advance && in1_V_TVALID", "in0_V_TREADY = advance"),),
    ),
    Case("add_unsigned", Add(unsigned(8), unsigned(8), pe=1, words=7)),
    Case("scaled_add", scaled_add(unsigned(4), signed(6), 6, 2, 7), mutants=(("if (take) fold", "if (advance) fold"),)),
    Case("scaled_add_narrow", scaled_add(signed(3), signed(3), 3, 3, 1)),
    Case("affine", affine(signed(6), 6, 2, 7), mutants=(("if (take) fold", "if (advance) fold"),)),
    Case("affine_unsigned", affine(unsigned(4), 3, 3, 1)),
    Case(
        "concat",
        Concat(unsigned(3), signed(4), signed(4), pe=2, words=(3, 2), pixels=3),
        mutants=(("second ? in1_V_TVALID : in0_V_TVALID", "1'b1"),),
    ),
    Case("fork_and_join", ForkAndJoin(Add(signed(6), signed(6), pe=2, words=5))),
    Case("concat_of_two", Concat(unsigned(8), unsigned(2), unsigned(8), pe=1, words=(1, 1), pixels=5)),
)


IMAGES = (
    Case(
        "padding",
        Padding(unsigned(4), 7, pe=2, folds=3, size=(3, 4), begin=(1, 2), end=(2, 1)),
        samples=8,
        mutants=(("COLUMN_BITS'(LEFT + WIDTH)", "COLUMN_BITS'(LEFT + WIDTH - 1)"), ("{PE{BITS'(CODE)}}", "'0")),
    ),
    Case(
        "padding_on_one_side", Padding(signed(5), -3, pe=1, folds=1, size=(2, 3), begin=(0, 1), end=(0, 0)), samples=8
    ),
    Case("padding_below", Padding(unsigned(1), 1, pe=9, folds=2, size=(1, 1), begin=(0, 0), end=(2, 0)), samples=8),
    Case("padding_of_nothing", Padding(signed(8), 0, pe=1, folds=1, size=(2, 2), begin=(0, 0), end=(0, 0)), samples=8),
)


def few_values(module: Module) -> Draw:
    """Codes of few values, so that many are equal, and vectors of random ones."""

    def draw(rng: np.random.Generator) -> tuple[Codes, ...]:
        (layout,) = module.inputs
        values = [layout.minimum, 0, layout.maximum]
        equal = rng.choice(values, size=(30 * layout.words, layout.elements))
        other = rng.integers(layout.minimum, layout.maximum, size=equal.shape, endpoint=True)
        return (np.concatenate([equal, other]).astype(np.int64),)

    return draw


def select(name: str, module: SelectLargest, *mutants: tuple[str, str]) -> Case:
    return Case(name, module, draw=few_values(module), mutants=mutants)


SELECTIONS = (
    select(
        "select_one",
        SelectLargest(signed(7), pe=1, folds=10),
        ("wire larger = SIGNED ? $signed(candidate) >", "wire larger = SIGNED ? $signed(candidate) >="),
    ),
    select(
        "select_of_words",
        SelectLargest(signed(5), pe=5, folds=4),
        ("SIGNED ? $signed(other) > $signed(one)", "SIGNED ? $signed(other) >= $signed(one)"),
    ),
    select("select_at_once", SelectLargest(unsigned(4), pe=6, folds=1)),
    select(
        "select_three",
        SelectLargest(unsigned(6), pe=1, folds=8, count=3),
        ("!starts[STAGES-1] && filled[place-1]", "filled[place-1]"),
    ),
    select(
        "select_all",
        SelectLargest(signed(4), pe=1, folds=4, count=4),
        ("left == LEFT_BITS'(1) && out0_V_TREADY", "left == LEFT_BITS'(2) && out0_V_TREADY"),
    ),
)

CASES = (*WINDOWS, *DEPTHWISE, *MATRICES, *REQUANTIZERS, *JOINS, *IMAGES, *SELECTIONS)
