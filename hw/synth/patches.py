"""Changes to a copy of stitched RTL, so that Yosys' SystemVerilog front end takes it and small FPGAs hold it.

Each is a function from text to text, with its reason; a text that it was not written for stops the build. The RTL
artifact itself stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from bitproof.pipeline import StageError


def _replaced(file: str, text: str, old: str, new: str, why: str) -> str:
    """Return *text* with *old*, which occurs exactly once, replaced by *new*.

    Raises:
        StageError: it does not occur exactly once.
    """
    count = text.count(old)
    if count != 1:
        raise StageError(
            f"{file} holds {old.strip()!r} {count} times, expected once. It is patched for open FPGAs because {why}. "
            "Install finn-plus==1.6.1, or adapt hw/synth/patches.py"
        )
    return text.replace(old, new)


def without_net_types(file: str, text: str) -> str:
    """Return *text* without its two settings of the default net type.

    They stand within a module, where the front end does not allow them; nothing in the file needs an implicit net.
    """
    why = "a directive is not allowed within a module"
    for kind in ("none", "wire"):
        text = _replaced(file, text, f"`default_nettype {kind}\n", "\n", why)
    return text


def with_memory_for_fifos(file: str, text: str) -> str:
    """Return the FIFO *text* with distributed memory where it has shift registers of more than 4 words.

    AMD's FPGAs have shift registers that are read at any place; others would spend a flip-flop on every bit.
    """
    why = "FPGAs of Lattice and Gowin have no addressable shift registers"
    text = _replaced(file, text, '\t\tDEPTH <= 33?                      "shift" :\n', _SHALLOW, why)
    return _replaced(file, text, '\t\tDEPTH <=   64 && DATA_WIDTH < 12? "shift" :\n', "", why)


_SHALLOW = '\t\tDEPTH <= 5?                       "shift" :\n'


def without_empty_slices(file: str, text: str) -> str:
    """Return the thresholding unit *text* without slices that are empty in its first stage.

    They stand where the stage does not come to: ``ptr[M-1:M]``. The front end looks at them all the same.
    """
    why = "a slice from bit M-1 down to bit M is not synthesizable"
    return _replaced(
        *(file, text, "p.ptr[M-1:SN+1] < 2**stage - SCOPE_REDUCE"),
        *("(p.ptr[M-1:0] >> (SN+1)) < 2**stage - SCOPE_REDUCE", why),
    )


def with_registers_behind_memories(file: str, text: str) -> str:
    """Return the plain matrix unit *text* with a register more between its memories and its products.

    The block memory of ECP5 takes 5.8 ns of a cycle of 10 ns to give a word, which leaves too little for a product and
    the first level of the sums behind it.
    """
    why = "the block memories of ECP5 are too slow for a product within the same cycle"
    text = _replaced(file, text, "STAGES = 2 + $clog2(SIMD);  // codes", "STAGES = 3 + $clog2(SIMD);  // codes", why)
    text = _replaced(file, text, "    logic [PE-1:0][ACC_BITS-1:0] sums;\n", _LATE, why)
    return _replaced(
        *(file, text, ".codes(codes), .weights(weights[row])"),
        *(".codes(late_codes), .weights(late_weights[row])", why),
    )


_LATE = """\
    logic [SIMD-1:0][CODE_BITS-1:0] late_codes;
    logic [PE-1:0][SIMD-1:0][WEIGHT_BITS-1:0] late_weights;
    always_ff @(posedge ap_clk) begin
        if (advance) begin
            late_codes <= codes;
            late_weights <= weights;
        end
    end
    logic [PE-1:0][ACC_BITS-1:0] sums;
"""


def with_registers_behind_thresholds(file: str, text: str) -> str:
    """Return the thresholding unit *text* with a register more between its memories and its comparisons.

    What goes along with a threshold through the stage waits for it, and the queue of results has a place more for each
    stage, so that all that is under way still fits when the consumer stalls.
    """
    why = "the block memories of ECP5 are too slow for a comparison within the same cycle"
    for old, new in (
        ("MAX_PENDING = (DEEP_PIPELINE+1)*M + 3;", "MAX_PENDING = (DEEP_PIPELINE+2)*M + 3;"),
        ("\t\t\tval_t  Thresh;\t// Read-out register\n", "\t\t\tval_t  Thresh, ThreshRead;\n"),
        ("\t\t\t\t\t\tThresh <= Threshs[addr];\n", _LATE_THRESHOLD),
        ("\t\t\tpipe_t  P = '{ op: NOP, default: 'x };\n", _EARLY_STATE),
        ("\t\t\t\t\tP <= p;\n", "\t\t\t\t\tEarly <= p;\n\t\t\t\t\tP <= Early;\n"),
        ("\t\t\t\t\tReval <= (p.op", "\t\t\t\t\tReval <= EarlyReval;\n\t\t\t\t\tEarlyReval <= (p.op"),
        ("\t\t\t\t\tScope <= (SCOPE", "\t\t\t\t\tScope <= EarlyScope;\n\t\t\t\t\tEarlyScope <= (SCOPE"),
        ("\t\t\t\t\tP <= '{ op: NOP, default: 'x };\n", _EARLY_RESET),
    ):
        text = _replaced(file, text, old, new, why)
    return text


_LATE_THRESHOLD = "\t\t\t\t\t\tThreshRead <= Threshs[addr];\n\t\t\t\t\t\tThresh <= ThreshRead;\n"
_EARLY_STATE = """\
\t\t\tpipe_t  Early = '{ op: NOP, default: 'x };
\t\t\tlogic  EarlyReval = 'x;
\t\t\tlogic  EarlyScope = 'x;
\t\t\tpipe_t  P = '{ op: NOP, default: 'x };
"""
_EARLY_RESET = "\t\t\t\t\tP <= '{ op: NOP, default: 'x };\n\t\t\t\t\tEarly <= '{ op: NOP, default: 'x };\n"


def with_counters_of_one_level(file: str, text: str) -> str:
    """Return the window generator *text* with counters that do not wait for one another within a cycle.

    It subtracts the size of its buffer from the newest element before it compares, and chooses what it adds to the
    newest element after that: four carry chains in a row. Here the difference has a register of its own, and the choice
    is made behind the sum. Likewise it compares the next address with the ends of its buffer, and then adds what that
    gives: here both sums are made beside the comparison. Every signal has the value in every cycle that it had.
    """
    why = "four carry chains in a row are too slow for one cycle of ECP5"
    text = _replaced(file, text, "    logic  ReadingLast = LAST_READ_ELEM == 0;\n", _OLDEST, why)
    for compared in (" First_elem_next_window &&", " Current_elem\n"):
        old = f"$signed(Newest_buffered_elem - (BUF_ELEM_TOTAL - 1)) <{compared}"
        text = _replaced(file, text, old, f"Oldest_buffered_elem <{compared}", why)
    reset = "            Newest_buffered_elem <= -1;\n"
    text = _replaced(file, text, reset, f"{reset}            Oldest_buffered_elem <= -BUF_ELEM_TOTAL;\n", why)
    old = "            Newest_buffered_elem <= Newest_buffered_elem + (nbe_rst? ~Newest_buffered_elem : nbe_inc);\n"
    text = _replaced(file, text, old, _CHOSEN_LATE, why)
    text = _replaced(file, text, _CORRECTION, _BOTH_CORRECTED, why)
    old = "                Window_buffer_read_addr_reg <= ra + ra_correct;\n"
    return _replaced(file, text, old, _CHOSEN_ADDRESS, why)


_OLDEST = """\
    logic signed [$clog2(LAST_READ_ELEM+BUF_ELEM_TOTAL+1):0]  Oldest_buffered_elem = -BUF_ELEM_TOTAL;
    logic  ReadingLast = LAST_READ_ELEM == 0;
"""
_CHOSEN_LATE = """\
            if (nbe_rst) begin
                Newest_buffered_elem <= -1;
                Oldest_buffered_elem <= -BUF_ELEM_TOTAL;
            end
            else if (nbe_inc) begin
                Newest_buffered_elem <= Newest_buffered_elem + 1;
                Oldest_buffered_elem <= Oldest_buffered_elem + 1;
            end
"""

_CORRECTION = """\
                automatic logic signed [$clog2(  BUF_ELEM_TOTAL+1):0]  ra_correct =                                   // -BUF_ELEM_TOTAL, 0, BUF_ELEM_TOTAL
                    (ra >= BUF_ELEM_TOTAL)? -BUF_ELEM_TOTAL :
                    (ra <               0)?  BUF_ELEM_TOTAL : 0;
"""  # noqa: E501  FINN's line
_BOTH_CORRECTED = """\
                automatic logic signed [$clog2(2*BUF_ELEM_TOTAL):0]  ra_less = ra - BUF_ELEM_TOTAL;
                automatic logic signed [$clog2(2*BUF_ELEM_TOTAL):0]  ra_more = ra + BUF_ELEM_TOTAL;
"""
_CHOSEN_ADDRESS = """\
                Window_buffer_read_addr_reg <= (ra_less >= 0)? ra_less : (ra < 0)? ra_more : ra;
"""

WINDOWS = re.compile(r"ConvolutionInputGenerator_rtl_\d+_impl\.sv")
"""Window generators, which FINN makes for each layer from one of its templates."""
SERIAL = "First_elem_next_window"
"""What a window generator has that gives one element of a window after the other."""

PATCHES: Mapping[str, tuple[Callable[[str, str], str], ...]] = {
    "fifo.sv": (without_net_types, with_memory_for_fifos),
    "vpc.sv": (without_net_types,),
    "thresholding.sv": (without_empty_slices, with_registers_behind_thresholds),
    "matrix_unit.sv": (with_registers_behind_memories,),
}
"""By the name of the file, in their order."""


def patched(file: str, text: str) -> str:
    """Return the *text* of the RTL file *file* as Yosys is to read it.

    Raises:
        StageError: a patch does not apply.
    """
    for patch in PATCHES.get(file, ()):
        text = patch(file, text)
    return with_counters_of_one_level(file, text) if WINDOWS.fullmatch(file) and SERIAL in text else text
