"""The modules of ours that the tests simulate, over widths, foldings and kinds of codes."""

from __future__ import annotations

from module_bench import Case

from bitproof.export.integer import IntegerType
from bitproof.hw.rtl.modules import WindowReducer


def unsigned(bits: int) -> IntegerType:
    return IntegerType(bits, signed=False)


def signed(bits: int) -> IntegerType:
    return IntegerType(bits, signed=True)


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

CASES = WINDOWS
