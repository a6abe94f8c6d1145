"""``make bench-rtl-modules``: the size of our SystemVerilog modules on two FPGA families, as Yosys synthesizes them.

Counts of cells before placement and routing: an estimate, for comparing modules with each other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.lab.integer_page import fill, table
from benchmarks.lab.yosys import Cells, Family, cells_of
from benchmarks.results import Row, write_results
from bitproof.export.integer import IntegerType, Interval, Threshold
from bitproof.hw.rtl.modules import (
    BIPOLAR,
    Add,
    Concat,
    DepthwiseUnit,
    Duplicate,
    Encoding,
    MatrixUnit,
    Module,
    Padding,
    Place,
    ScaledAdd,
    SelectLargest,
    WindowReducer,
    accumulator_type,
    requantizer_of,
)
from bitproof.hw.synth.tools import YOSYS
from bitproof.pipeline import Codes

PAGE = Path(__file__).parents[1] / "docs" / "rtl-modules.md"
COMMAND = "make bench-rtl-modules"
FAMILIES: tuple[Family, ...] = ("xc7", "ecp5")
UINT4, UINT8, INT8, INT16 = (
    *(IntegerType(bits, signed=False) for bits in (4, 8)),
    *(IntegerType(bits, signed=True) for bits in (8, 16)),
)


def subjects() -> Mapping[str, Module]:
    """Return the modules that are synthesized, by what the table calls them."""
    rng = np.random.default_rng(0)

    def weights(shape: tuple[int, int], encoding: Encoding) -> Codes:
        if encoding == BIPOLAR:
            return rng.choice(np.array([-1, 1]), size=shape).astype(np.int64)
        return rng.integers(encoding.minimum, encoding.maximum, size=shape, endpoint=True).astype(np.int64)

    def matrix(shape: tuple[int, int], pe: int, simd: int, codes: Encoding, encoding: Encoding) -> MatrixUnit:
        return MatrixUnit(
            weights(shape, encoding), pe, simd, codes, encoding, accumulator_type(codes, encoding, shape[1])
        )

    u4, u8, s2, s4, s8 = Encoding.of(UINT4), Encoding.of(UINT8), *(Encoding(bits, "signed") for bits in (2, 4, 8))
    depthwise = weights((32, 9), s4)
    stream = WindowReducer(pe=8, taps=4, codes=UINT4, windows=1).outputs[0]
    return {
        "largest of 2 x 2, uint4, PE 8": WindowReducer(pe=8, taps=4, codes=UINT4, windows=1),
        "sum of 7 x 7, uint4, PE 8": WindowReducer(pe=8, taps=49, codes=UINT4, windows=1, reduction="sum"),
        "depthwise 3 x 3, 32 channels, int4 x uint4, PE 8": DepthwiseUnit(
            depthwise, 8, 1, u4, s4, accumulator_type(u4, s4, 9)
        ),
        "matrix 64 x 32, int2 x uint2, PE 8, SIMD 8": matrix((32, 64), 8, 8, Encoding(2, "unsigned"), s2),
        "matrix 64 x 32, int4 x uint4, PE 4, SIMD 8": matrix((32, 64), 4, 8, u4, s4),
        "matrix 64 x 32, int8 x uint8, PE 2, SIMD 4": matrix((32, 64), 2, 4, u8, s8),
        "matrix 64 x 32, bipolar x uint8, PE 4, SIMD 8": matrix((32, 64), 4, 8, u8, BIPOLAR),
        "matrix 64 x 32, bipolar x bipolar, PE 8, SIMD 32": matrix((32, 64), 8, 32, BIPOLAR, BIPOLAR),
        "multiply-shift, 32 channels, int16 to uint8, PE 2": requantizer_of(_scaled(32, 2)),
        "rounding shift, int16 to uint8, PE 2": requantizer_of(_halved(2)),
        "duplicate, uint4, PE 8": Duplicate(stream),
        "add, uint4 + int8, PE 8": Add(UINT4, INT8, pe=8, words=1),
        "scaled add, int8, 6-bit factors, 32 channels, PE 2": ScaledAdd(
            INT8, INT8, 2, 1, rng.integers(-31, 32, (2, 32)), rng.integers(-999, 1000, 32)
        ),
        "concatenation, uint4, PE 8": Concat(UINT4, UINT4, UINT4, pe=8, words=(4, 4), pixels=1),
        "padding by 1 with 7, 32 x 32, uint4, PE 8": Padding(UINT4, 7, 8, 4, (32, 32), (1, 1), (1, 1)),
        "largest of 10, int16, PE 1": SelectLargest(INT16, pe=1, folds=10),
        "largest of 10, int16, PE 5": SelectLargest(INT16, pe=5, folds=2),
        "5 largest of 100, int16, PE 1": SelectLargest(INT16, pe=1, folds=100, count=5),
    }


def _scaled(channels: int, pe: int) -> Place:
    rng = np.random.default_rng(1)
    multiplier = rng.integers(60_000, 65_536, size=channels)
    steps = np.arange(1, 256) << 24
    offset = (1 << 31) + rng.integers(-(1 << 25), 1 << 25, size=channels)
    edges = -((offset[:, None] - steps) // multiplier[:, None])
    node = Threshold("act", edges.astype(np.int64), UINT8, 0, np.zeros(channels, dtype=np.bool_))
    return Place(node, (Interval(INT16.minimum, INT16.maximum),) * channels, INT16, UINT8, pe)


def _halved(pe: int) -> Place:
    steps = np.arange(1, 256)
    edges = (steps << 6) - 32 + (steps & 1)
    node = Threshold("act", np.repeat(edges[None], pe, axis=0), UINT8, 0, np.zeros(pe, dtype=np.bool_))
    return Place(node, (Interval(INT16.minimum, INT16.maximum),) * pe, INT16, UINT8, pe)


def main() -> None:
    """Synthesize every module for every family; write the rows and the table of the page."""
    modules = {f"unit{number}": module for number, module in enumerate(subjects().values())}
    with tempfile.TemporaryDirectory() as folder:
        cells = {family: cells_of(modules, family, Path(folder)) for family in FAMILIES}
    found = {
        title: {family: cells[family][name] for family in FAMILIES}
        for title, name in zip(subjects(), modules, strict=True)
    }
    rows = [
        Row(title, f"{family}: {metric}", "cells", float(getattr(counted, metric)), note=counted.memory)
        for title, families in found.items()
        for family, counted in families.items()
        for metric in ("logic", "registers", "multipliers")
    ]
    write_results("rtl_modules", rows, command=COMMAND, distributions=[YOSYS.name])
    headings = ["module", *(f"{family} {what}" for family in FAMILIES for what in ("LUT", "FF", "DSP", "memory"))]
    lines = [
        [title, *(text for family in FAMILIES for text in _texts(families[family]))]
        for title, families in found.items()
    ]
    fill(PAGE, "sizes", table(headings, lines), COMMAND)


def _texts(cells: Cells) -> tuple[str, ...]:
    return (str(cells.logic), str(cells.registers), str(cells.multipliers), cells.memory)


if __name__ == "__main__":
    main()
