"""The Vivado project: deterministic, checked in tclsh and against the driver; every change of it is seen."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from bitproof_command import bitproof
from pynq_boards import PynqCase

from bitproof.hw.pynq.accelerator import SHELL, accelerator_module
from bitproof.hw.pynq.bitstream import Built, bitstream_in, build_bitstream, what_is_built
from bitproof.hw.pynq.board import bitproof_driver as driver
from bitproof.hw.pynq.check_project import check_project
from bitproof.hw.pynq.design import BoardStream, board_names, board_stream, design_of, load_zynq_board
from bitproof.hw.pynq.project import write_project
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.hw.synth.tools import YOSYS
from bitproof.pipeline import ConfigError, InputError, StageError, ToolMissingError
from bitproof.pipeline.toolchain import TCLSH, VERILATOR, VIVADO

pytestmark = [
    pytest.mark.tool,
    pytest.mark.xdist_group("pynq"),
    pytest.mark.skipif(TCLSH.find() is None, reason=f"{TCLSH.name} is missing: {TCLSH.install}"),
]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_project_has_the_same_bytes_anywhere_and_names_no_path(pynq_case: PynqCase, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "a longer name" / "two"]
    for folder in folders:
        write_project(pynq_case.rtl, pynq_case.design, folder)
    first, second = map(files_of, folders)
    assert first == second
    assert not [name for name, content in first.items() if str(tmp_path).encode() in content]


def test_the_block_design_is_complete_and_the_drivers(pynq_case: PynqCase, tmp_path: Path) -> None:
    made = check_project(pynq_case.project, pynq_case.design, scratch=tmp_path)
    assert {segment: (offset, size) for space, segment, offset, size in made.addresses if space == "ps/Data"} == {
        "dma/S_AXI_LITE/Reg": (driver.DMA_ADDRESS, driver.REGISTER_RANGE),
        "design_id/S_AXI/Reg": (driver.ID_ADDRESS, driver.REGISTER_RANGE),
    }
    assert made.external == ["ps/DDR", "ps/FIXED_IO"]
    assert made.parameters["ps"]["PCW_FPGA0_PERIPHERAL_FREQMHZ"] == "100"


CHANGES = {
    "an unknown command": ("validate_bd_design", "validate_design", 'invalid command name "validate_design"'),
    "an unknown option": ("make_wrapper -files", "make_wrapper -file", "make_wrapper has no option -file"),
    "a missing value": (" -to_step route_design -jobs 2", " -jobs", "launch_runs: option -jobs has no value"),
    "too many arguments": ("create_bd_design bitproof", "create_bd_design a b", "takes 1 to 1 arguments, not 2"),
    "a cell that is not there": ("[get_bd_cells memory]", "[get_bd_cells ram]", "there is no cell ram"),
    "no Tcl": ("close_project\n", "close_project {\n", "missing close-brace"),
    "an unknown IP": ("axi_dma:7.1", "axi_dma:9.9", "cell dma is of an IP that is not recorded: xilinx.com:ip:axi_dma"),
    "an unknown parameter": ("c_include_sg 0", "c_with_sg 0", "has no parameter c_with_sg"),
    "a parameter out of range": ("NUM_SI 2", "NUM_SI 17", "NUM_SI = 17 is not possible; allowed: 1..16"),
    "a bus that is left open": (
        "connect_bd_intf_net [get_bd_intf_pins memory/M00_AXI] [get_bd_intf_pins ps/S_AXI_HP0]\n",
        "",
        "memory/M00_AXI is not connected",
    ),
    "slave and master exchanged": (
        "[get_bd_intf_pins dma/M_AXIS_MM2S] [get_bd_intf_pins accelerator/s_axis]",
        "[get_bd_intf_pins accelerator/s_axis] [get_bd_intf_pins dma/M_AXIS_MM2S]",
        "accelerator/s_axis is not one of the masters",
    ),
    "a clock that is left open": (" [get_bd_pins dma/m_axi_s2mm_aclk]", "", "dma/m_axi_s2mm_aclk is not driven"),
    "an input as a driver": ("[get_bd_pins id_low/dout]", "[get_bd_pins reset/ext_reset_in]", "is no output of"),
    "a net of two widths": ("[get_bd_pins id_low/dout]", "[get_bd_pins ps/FCLK_CLK0]", "has 1 bits and"),
    "a pin that is driven twice": ("[get_bd_pins design_id/gpio2_io_i]", "[get_bd_pins design_id/gpio_io_i]", "twice"),
    "another address": ("-offset 0x40400000", "-offset 0x40410000", "the driver expects it at 0x40400000"),
    "an address without alignment": ("-offset 0x41200000", "-offset 0x41200800", "is not within"),
    "two segments at one address": ("-offset 0x41200000", "-offset 0x40400000", "overlap in ps/Data"),
    "a shorter length register": ("c_sg_length_width 26", "c_sg_length_width 14", "sends up to 67108863 bytes"),
    "scatter and gather": ("c_include_sg 0", "c_include_sg 1", "the driver has the simple mode only"),
    "a stream of another width": ("c_m_axis_mm2s_tdata_width 8 ", "c_m_axis_mm2s_tdata_width 32 ", "has 32 bits"),
    "another design": ("CONFIG.CONST_VAL 0x", "CONFIG.CONST_VAL 0xf", "the fabric would say that it is design"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_script_is_refused(change: str, pynq_case: PynqCase, tmp_path: Path) -> None:
    old, new, message = CHANGES[change]
    folder = tmp_path / "project"
    shutil.copytree(pynq_case.project, folder)
    text = (folder / "build.tcl").read_text()
    assert old in text
    (folder / "build.tcl").write_text(text.replace(old, new))
    with pytest.raises(StageError, match=re.escape(message)):
        check_project(folder, pynq_case.design, scratch=tmp_path)


def test_an_accelerator_of_another_width_is_refused(pynq_case: PynqCase, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(pynq_case.project, folder)
    path = folder / "rtl" / "bitproof_accelerator.v"
    path.write_text(path.read_text().replace("[7:0] s_axis_tdata", "[31:0] s_axis_tdata"))
    with pytest.raises(StageError, match=r"s_axis_tdata of the accelerator has 32 bits, and design.json says 8"):
        check_project(folder, pynq_case.design, scratch=tmp_path)


def test_without_vivado_the_project_is_ready(pynq_case: PynqCase) -> None:
    if VIVADO.find() is not None:
        pytest.skip("Vivado is installed")
    with pytest.raises(ToolMissingError, match=r"^the bitstream needs 'vivado', which was not found. Install it: "):
        build_bitstream(pynq_case.design, pynq_case.project)


def test_a_vivado_that_builds_is_believed_only_for_this_design(
    pynq_case: PynqCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program called vivado leaves what the script says that it leaves."""
    program = tmp_path / "vivado"
    lines = ["#!/bin/sh", 'test "$*" = "-mode batch -nojournal -log vivado.log -source build.tcl" || exit 7']
    for name, value in (("design_id", "$ID"), ("vivado", "2023.2"), ("setup_slack_ns", "0.5")):
        lines.append(f"echo {name} {value} >> built.txt")
    program.write_text("\n".join([*lines, "echo hold_slack_ns 0.1 >> built.txt", "echo bits > bitproof.bit"]) + "\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    folder = tmp_path / "project"
    shutil.copytree(pynq_case.project, folder)
    monkeypatch.setenv("ID", "0" * 16)
    with pytest.raises(StageError, match=r"left no built.txt of this design"):
        build_bitstream(pynq_case.design, folder)
    with pytest.raises(InputError, match=f"holds a bitstream of the design {'0' * 16}, and this run is"):
        bitstream_in(folder, pynq_case.design)
    (folder / "built.txt").unlink()
    monkeypatch.setenv("ID", pynq_case.design.design_id)
    built = build_bitstream(pynq_case.design, folder)
    assert built == Built(pynq_case.design.design_id, "2023.2", "0.5", "0.1")
    program.unlink()  # what is built is not built again
    assert build_bitstream(pynq_case.design, folder) == built == what_is_built(folder)


def test_another_board_has_no_design(pynq_case: PynqCase) -> None:
    for name in board_names():
        assert load_zynq_board(name).ps_clock_mhz == 50
    with pytest.raises(ConfigError, match=r"^board = 'vcu118' has no PYNQ design; allowed: pynq-z1, pynq-z2$"):
        design_of(pynq_case.rtl, name="small", board="vcu118")
    with pytest.raises(ConfigError, match=r"^board = 'ulx3s-85f' has no PYNQ design .* bitproof board RUN --port PORT"):
        load_zynq_board("ulx3s-85f")


def test_every_part_that_is_synthesized_changes_the_number_of_the_design(pynq_case: PynqCase, tmp_path: Path) -> None:
    flipped = pynq_case.flipped(tmp_path / "flipped")
    other = design_of(type(flipped)("rtl", "rtl", flipped.path, "0" * 64), name="small", board="pynq-z1")
    assert other.design_id != pynq_case.design.design_id
    assert design_of(pynq_case.rtl, name="else", board="pynq-z2").design_id == pynq_case.design.design_id


def test_words_are_padded_to_a_width_of_the_dma() -> None:
    def beat(bits: int, elements: int) -> int:
        return board_stream(StreamLayout(bits=bits, signed=False, elements=elements, words=1), "x").beat_bytes

    assert [beat(3, 1), beat(8, 3), beat(5, 13), beat(8, 128)] == [1, 4, 16, 128]
    with pytest.raises(
        StageError, match=r"^x has words of 1032 bits, and the AXI DMA moves 1024 at most; ask for fewer"
    ):
        beat(8, 129)


def test_a_word_that_fits_gets_no_padding() -> None:
    stream = BoardStream(bits=8, signed=False, elements=4, words=2, beat_bytes=4)
    assert "assign m_axis_tdata = target_data;" in accelerator_module(stream, stream)


@pytest.mark.parametrize("words", [(1, 1), (3, 2), (16, 10)])
def test_our_module_is_free_of_lint(words: tuple[int, int], tmp_path: Path) -> None:
    parameters = (f"-GIN_WORDS={words[0]}", f"-GOUT_WORDS={words[1]}")
    VERILATOR.run(
        ["--lint-only", "-Wall", *parameters, *SHELL],
        needed_by="lint",
        cwd=tmp_path,
        log=tmp_path / "lint.log",
        timeout_s=120,
    )


@pytest.mark.skipif(YOSYS.find() is None, reason=f"{YOSYS.name} is missing: {YOSYS.install}")
def test_our_module_synthesizes_for_the_board(tmp_path: Path) -> None:
    shutil.copy(SHELL[0], tmp_path)  # the file system of Yosys is the working directory
    script = tmp_path / "synthesize.ys"
    script.write_text(
        f"read_slang --threads 1 --top batch_end -G IN_WORDS=3 -G OUT_WORDS=2 {SHELL[0].name}\n"
        "synth_xilinx -family xc7 -noiopad -noclkbuf -flatten -top batch_end\ncheck -assert\n"
    )
    YOSYS.run(["-q", script.name], needed_by="synthesis", cwd=tmp_path, log=tmp_path / "log", timeout_s=3600)


def test_the_command_needs_a_run(tmp_path: Path) -> None:
    outcome = bitproof("bitstream", tmp_path)
    assert outcome.code == 2
    assert "is not a run" in outcome.err
