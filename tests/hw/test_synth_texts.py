"""What goes into Yosys: every patch applies to the library of FINN, and fails where it does not; frames; PLLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitproof.hw.board import OpenFpga, board_names, load_board
from bitproof.hw.rtl.modules import FOLDER
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.hw.synth.board_top import Line, board_top
from bitproof.hw.synth.constraints import constraints
from bitproof.hw.synth.family import FAMILIES
from bitproof.hw.synth.frames import FrameError, checksum, image_frame, reply_of
from bitproof.hw.synth.netlist import SynthesizeNetlist
from bitproof.hw.synth.patches import (
    PATCHES,
    patched,
    with_memory_for_fifos,
    with_registers_behind_memories,
    without_empty_slices,
    without_net_types,
)
from bitproof.hw.synth.pll import dividers_for
from bitproof.pipeline import ConfigError, StageError

OPEN = [name for name in board_names() if load_board(name).open_fpga is not None]
PATHS = {
    "fifo.sv": "fifo/hdl/fifo.sv",
    "vpc.sv": "dwc/hdl/vpc.sv",
    "thresholding.sv": "thresholding/hdl/thresholding.sv",
    "ConvolutionInputGenerator_rtl_0_impl.sv": "swg/swg_template_default.sv",
}


def library() -> Path:
    import finn

    return Path(finn.__path__[0]) / "finn-rtllib"


def fpga_of(board: str) -> OpenFpga:
    fpga = load_board(board).open_fpga
    assert fpga is not None
    return fpga


@pytest.mark.parametrize("file", [*PATCHES, "ConvolutionInputGenerator_rtl_0_impl.sv"])
def test_every_patch_applies_to_the_sources_once(file: str) -> None:
    text = (library() / PATHS[file] if file in PATHS else FOLDER / file).read_text()
    changed = patched(file, text)
    assert changed != text
    with pytest.raises(StageError, match=rf"^{file} holds .* 0 times, expected once. It is patched for open FPGAs "):
        patched(file, changed)


def test_net_types_of_a_module_are_left_to_the_default() -> None:
    text = "module m;\n`default_nettype none\nendmodule\n`default_nettype wire\n"
    assert without_net_types("vpc.sv", text) == "module m;\n\nendmodule\n\n"


def test_deep_fifos_take_memory_and_shallow_ones_registers() -> None:
    changed = with_memory_for_fifos("fifo.sv", (library() / PATHS["fifo.sv"]).read_text())
    styles = changed.split("localparam  RAM_STYLE_EFF =")[1].split(";")[0]
    assert [line.split("?")[0].strip() for line in styles.strip().splitlines()] == [
        "DEPTH <= 5",
        'RAM_STYLE != "auto"',
        "DEPTH <=  257 || DATA_WIDTH <  5",
        "DEPTH <= 2028",
        '/* else */                        "ultra"',
    ]


def test_the_scope_of_a_stage_is_taken_by_a_shift() -> None:
    text = "a < p.ptr[M-1:SN+1] < 2**stage - SCOPE_REDUCE;"
    assert without_empty_slices("thresholding.sv", text) == "a < (p.ptr[M-1:0] >> (SN+1)) < 2**stage - SCOPE_REDUCE;"


def test_a_matrix_unit_has_a_stage_more_behind_its_memories() -> None:
    changed = with_registers_behind_memories("matrix_unit.sv", (FOLDER / "matrix_unit.sv").read_text())
    assert "STAGES = 3 + $clog2(SIMD);" in changed
    assert changed.count("late_codes") == changed.count("late_weights") == 3


def test_a_file_without_patches_stays_as_it_is() -> None:
    assert patched("finn_top.sv", "module finn_top;") == "module finn_top;"
    parallel = (library() / "swg" / "swg_template_parallel.sv").read_text()
    assert patched("ConvolutionInputGenerator_rtl_0_impl.sv", parallel) == parallel


def test_a_checksum_is_crc_16_ccitt() -> None:
    assert checksum(b"123456789") == bytes.fromhex("29b1")
    assert checksum(b"123456789" + bytes.fromhex("29b1")) == b"\0\0"


def test_a_reply_is_read_and_every_flipped_bit_of_it_is_refused() -> None:
    content = bytes([0, 0xDE, 0xAD, 0xBE, 0xEF, 1, 2, 3])
    image = b"image"
    frame = bytes([0x5C]) + content + checksum(image + content)
    assert reply_of(frame, 3, image) == (0, "deadbeef", b"\1\2\3")
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            reply_of(bytes(damaged), 3, image)
    with pytest.raises(FrameError, match=r"they were damaged, or answer another image$"):
        reply_of(frame, 3, b"other")
    with pytest.raises(FrameError, match=r"^a reply of status 0 has 11 bytes, not 10$"):
        reply_of(frame[:-1], 3, image)


def test_a_frame_begins_with_its_head_and_ends_with_its_checksum() -> None:
    assert image_frame(b"123456789") == b"\xc5" + b"123456789" + bytes.fromhex("29b1")


@pytest.mark.parametrize(("board", "wanted"), [("ulx3s-85f", (1, 4, 6)), ("tang-nano-20k", (3, 11, 8))])
def test_a_pll_makes_the_frequency_of_the_board(board: str, wanted: tuple[int, int, int]) -> None:
    fpga, dividers = fpga_of(board), dividers_for(fpga_of(board))
    assert (dividers.source, dividers.feedback, dividers.output) == wanted
    assert fpga.crystal_hz * dividers.feedback == fpga.clock_hz * dividers.source


def test_a_frequency_that_no_pll_makes_is_refused() -> None:
    fpga = fpga_of("ulx3s-85f").model_copy(update={"clock_hz": 99_999_999})
    with pytest.raises(ConfigError, match=r"^no PLL of ecp5 makes 99999999 Hz of 25000000 Hz; choose a clock_hz "):
        dividers_for(fpga)


@pytest.mark.parametrize("board", OPEN)
def test_every_port_of_the_top_has_a_pin_with_its_source(board: str) -> None:
    fpga, stream = fpga_of(board), StreamLayout(bits=8, signed=False, elements=1, words=4)
    text = board_top(fpga, Line.of(fpga), stream, stream, "00000000")
    ports = [line.split()[-1].rstrip(",") for line in text.split(");")[0].splitlines()[1:]]
    assert sorted(ports) == sorted(fpga.pins)
    assert len({pin.site for pin in fpga.pins.values()}) == len(fpga.pins)
    for port, pin in fpga.pins.items():
        assert pin.source
        assert f'"{port}"' in constraints(fpga)
    assert "not on silicon" in fpga.tried


def test_a_board_of_a_vendors_tools_has_no_open_bitstream() -> None:
    message = r"^open tools make no bitstream for the board pynq-z1; use its vendor's$"
    with pytest.raises(ConfigError, match=message):
        SynthesizeNetlist(board="pynq-z1")


def test_a_cell_without_a_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES["ecp5"]
    monkeypatch.setattr(type(family), "_shipped", lambda _: {"LUT2": "module LUT2(input A); endmodule"})
    assert family.cell_models(["LUT2"]) == "module LUT2(input A); endmodule\n"
    with pytest.raises(StageError, match=r"^there is no model of the cell USRMCLK of ecp5 FPGAs; add it to hw/synth/m"):
        family.cell_models(["LUT2", "USRMCLK"])
