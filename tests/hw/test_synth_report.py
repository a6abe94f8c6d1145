"""What is read from nextpnr's report and from a bitstream, and what is refused of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bitproof.hw.board import OpenFpga, load_board
from bitproof.hw.finn.target import FinnTarget
from bitproof.hw.synth.bitstream import BuildBitstream, require_timing
from bitproof.hw.synth.pack import gowin_idcode_of, idcode_of, require_bitstream, require_contents
from bitproof.hw.synth.place import Routed, routed_of
from bitproof.pipeline import ConfigError, StageError
from bitproof.pipeline.config_file import validate
from bitproof.plan import RunPlan
from bitproof.targets import check_targets

LAYERS = {"MVAU_rtl_0": "fc0", "StreamingFIFO_rtl_1": "StreamingFIFO_rtl"}


def fpga_of(board: str) -> OpenFpga:
    fpga = load_board(board).open_fpga
    assert fpga is not None
    return fpga


def report(*cells: str, achieved: float = 85.5) -> dict[str, Any]:
    steps = [{"from": {"cell": a}, "to": {"cell": b}} for a, b in pairwise(cells)]
    return {
        "fmax": {"$glbnet$clk": {"achieved": achieved, "constraint": 100}},
        "critical_paths": [
            {"from": "async", "to": "posedge $glbnet$clk", "path": [{"from": {"cell": "x"}, "to": {"cell": "y"}}]},
            {"from": "posedge $glbnet$clk", "to": "posedge $glbnet$clk", "path": steps},
        ],
        "utilization": {"TRELLIS_FF": {"used": 7, "available": 9}, "DP16KD": {"used": 0, "available": 208}},
    }


def routed(*cells: str, achieved: float = 85.5) -> Routed:
    return routed_of(report(*cells, achieved=achieved), fpga_of("ulx3s-85f"), LAYERS, 1)


def test_the_slowest_path_is_that_of_most_of_its_cells() -> None:
    network = "shell.network.MVAU_rtl_0.unit"
    made = routed(f"{network}.a", "$nextpnr_1", f"{network}.b", "shell.network.StreamingFIFO_rtl_1.x")
    assert (made.slowest_layer, made.fmax_mhz, made.meets_timing) == ("fc0 (MVAU_rtl_0)", 85.5, False)
    assert (made.slowest_from, made.slowest_to) == (f"{network}.a", "shell.network.StreamingFIFO_rtl_1.x")
    assert list(made.cells) == ["TRELLIS_FF"]
    assert routed("shell.reply.word", "shell.reply.crc", achieved=100.0).slowest_layer == "the board shell"
    assert routed("shell.reply.word", "shell.reply.crc", achieved=100.0).meets_timing


def test_a_design_that_misses_its_clock_is_refused_with_its_layer() -> None:
    made = routed("shell.network.MVAU_rtl_0.a", "shell.network.MVAU_rtl_0.b")
    wanted = (
        r"^the design for ulx3s-85f runs at 85.5 MHz at most, its clock has 100 MHz \(2 seeds tried\); the slowest "
        r"path runs through fc0 \(MVAU_rtl_0\), from shell.network.MVAU_rtl_0.a to shell.network.MVAU_rtl_0.b. Try "
    )
    with pytest.raises(StageError, match=wanted):
        require_timing(made, 2, "ulx3s-85f")
    require_timing(routed("a", "b", achieved=100.0), 1, "ulx3s-85f")


def test_a_bitstream_of_another_device_or_size_is_refused() -> None:
    fpga = fpga_of("ulx3s-85f").model_copy(update={"bitstream_bytes": 12})
    content = b"\xff\xff" + bytes.fromhex("e200000041113043") + b"\0\0"
    require_bitstream(content, fpga, 0)
    assert idcode_of(content) == 0x41113043
    with pytest.raises(StageError, match=r"^the bitstream has 12 bytes; one of 85k has 4648 here. The packer is "):
        require_bitstream(content, fpga, 2)
    with pytest.raises(StageError, match=r"^the bitstream is for the device 0x41113042; 85k is 0x41113043$"):
        require_bitstream(content.replace(b"\x43\0", b"\x42\0"), fpga, 0)
    with pytest.raises(StageError, match=r"^the bitstream names no device$"):
        idcode_of(b"\0" * 12)


def test_a_bitstream_of_gowin_names_its_device() -> None:
    line = "00000110" + "0" * 24 + f"{0x81B:032b}"
    assert gowin_idcode_of("1" * 16 + "\n" + line + "\n") == int(fpga_of("tang-nano-20k").idcode, 16)
    with pytest.raises(StageError, match=r"^the bitstream names no device$"):
        gowin_idcode_of("1" * 16)


SETTINGS = ".tile R2C3:PLC2\nword: SLICEA.K0.INIT 0000000000000001\n\n.bram_init 3\n000 001\n002 003\n"


def test_every_bit_of_a_table_and_a_memory_is_compared() -> None:
    unused = ".tile R9C9:PLC2\nword: SLICEA.K1.INIT 1111111111111111\n\n"
    require_contents(SETTINGS, unused + SETTINGS)
    with pytest.raises(StageError, match=r"^the bitstream has 0000000000000011 in the table .tile R2C3:PLC2 SLICEA.K0"):
        require_contents(SETTINGS, SETTINGS.replace("0001\n", "0011\n"))
    with pytest.raises(StageError, match=r"^the bitstream holds another content of the block memory .bram_init 3 than"):
        require_contents(SETTINGS, SETTINGS.replace("003", "001"))


def test_an_open_board_adds_netlist_and_bitstream_to_the_target() -> None:
    names = [stage.name for stage in FinnTarget(board="tang-nano-20k").stages()]
    assert names == ["finn", "rtl", "netlist", "bitstream"]
    assert [plan.name for plan in FinnTarget(board="ulx3s-85f").executors()] == ["finn-hw", "rtl", "netlist:ecp5"]
    assert [stage.name for stage in FinnTarget().stages()] == ["finn", "rtl"]
    complete = FinnTarget(board="ulx3s-85f", uart_images=2).executors()[-1]
    assert (complete.name, complete.source, complete.samples) == ("uart:ulx3s-85f", "netlist", 2)
    assert str(FinnTarget(seeds=2, board="ulx3s-85f")).endswith("seeds=2}")


def test_options_of_routing_are_for_open_boards() -> None:
    FinnTarget(board="ulx3s-85f", seeds=2, timing="any").require_options()
    with pytest.raises(ConfigError, match=r"^finn\{seeds=2\} is for boards whose bitstream open tools make; pynq-z1 "):
        FinnTarget(seeds=2).require_options()
    with pytest.raises(ConfigError, match=r"^finn\{uart_images=2\} is for boards whose bitstream open tools make; "):
        FinnTarget(uart_images=2).require_options()
    with pytest.raises(ConfigError, match=r"^seeds = 0 is not possible; allowed: 1..20$"):
        BuildBitstream(seeds=0)


@pytest.mark.parametrize(("board", "ends"), [("pynq-z1", ()), ("ulx3s-85f", ("bitstream",))])
def test_the_ledger_waits_for_a_bitstream_which_no_executor_runs(board: str, ends: tuple[str, ...]) -> None:
    content = {"name": "x", "data": {"name": "digits"}, "model": {"name": "mlp"}, "targets": [f"finn{{board={board}}}"]}
    assert RunPlan(validate(content, file=Path("x.yaml"), check_targets=check_targets)).ends == ends
