"""The descriptions of our modules: wrapper, memory files, stream types, and what they refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bitproof.export.integer import IntegerType, SumPool, Window
from bitproof.hw.rtl.modules import FOLDER, Memory, WindowReducer
from bitproof.pipeline import StageError

INT4 = IntegerType(4, signed=True)


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


def test_every_module_has_a_file_of_its_name() -> None:
    names = {path.stem for path in FOLDER.glob("*.sv")}
    assert names
    for name in names:
        assert re.findall(r"^module (\w+)", (FOLDER / f"{name}.sv").read_text(), re.MULTILINE) == [name]


def test_sums_of_a_window_are_those_of_the_integer_model() -> None:
    codes = np.random.default_rng(3).integers(-8, 7, size=(1, 2, 3, 4), endpoint=True)
    pool = SumPool("pool", Window(kernel=(3, 4), strides=(1, 1), dilations=(1, 1), begin=(0, 0), end=(0, 0)))
    module = WindowReducer(pe=2, taps=12, codes=INT4, windows=1, reduction="sum")
    (sums,) = module.apply(codes[0].reshape(2, 12).T)
    np.testing.assert_array_equal(pool.apply(codes)[0, :, 0, 0], sums[0])


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(
        StageError, match=r"^module window_reducer takes \(pe, taps, windows\) of at least 1, not \(1, 0, 2\)$"
    ):
        WindowReducer(pe=1, taps=0, codes=INT4, windows=2)
