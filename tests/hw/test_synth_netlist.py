"""A small network through Yosys and nextpnr: equal codes of the netlist, alone and over a serial line; a bitstream."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from integer_nets import random_and_extreme_codes, random_network
from rtl_builds import build_rtl, run_stage

from bitproof.export.integer import IntegerModel, run
from bitproof.hw.synth.bitstream import BuildBitstream, read_bitstream
from bitproof.hw.synth.executor import NetlistExecutor
from bitproof.hw.synth.netlist import NETWORK, SynthesizeNetlist, read_netlist
from bitproof.hw.synth.simulated_board import SimulatedBoardExecutor
from bitproof.hw.synth.tools import NEXTPNR_ECP5, YOSYS
from bitproof.pipeline import Artifact

pytestmark = [
    pytest.mark.tool,
    pytest.mark.slow,
    pytest.mark.xdist_group("open_fpga"),
    *(pytest.mark.skipif(t.find() is None, reason=f"{t.name} is missing: {t.install}") for t in (YOSYS, NEXTPNR_ECP5)),
]


@dataclass(frozen=True)
class Built:
    model: IntegerModel
    rtl: Artifact
    netlist: Artifact


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("open") / "run"
    model = random_network((6, 4, 3), 5, levels=3)
    rtl = build_rtl(model, folder, fps=4_000_000, fifo_depth=8).rtl
    return Built(model, rtl, run_stage(SynthesizeNetlist(board="ulx3s-85f"), rtl, folder))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulators")


def test_the_netlist_equals_the_integer_model_and_a_flipped_bit_of_a_table_does_not(
    built: Built, cache: Path, tmp_path: Path
) -> None:
    codes = random_and_extreme_codes(built.model, 400)
    expected = run(built.model, codes)
    executor = NetlistExecutor(built.netlist, tmp_path, cache, stall_percent=25, seed=1)
    assert executor.name == "netlist:ecp5"
    np.testing.assert_array_equal(expected, executor(codes), strict=True)
    broken = replace(built.netlist, path=tmp_path / "broken")
    shutil.copytree(built.netlist.path, broken.path)
    flip_bit_of_table(broken.path / NETWORK, "MVAU_rtl_1")
    assert (NetlistExecutor(broken, tmp_path, cache)(codes) != expected).any()


def test_the_netlist_of_gowin_equals_the_integer_model(built: Built, cache: Path, tmp_path: Path) -> None:
    netlist = run_stage(SynthesizeNetlist(board="tang-nano-20k"), built.rtl, tmp_path / "run")
    codes = random_and_extreme_codes(built.model, 100)
    executor = NetlistExecutor(netlist, tmp_path, cache, stall_percent=25, seed=2)
    assert executor.name == "netlist:gowin"
    np.testing.assert_array_equal(run(built.model, codes), executor(codes), strict=True)


def flip_bit_of_table(path: Path, instance: str) -> None:
    """Flip the bits of the first lookup table of the products of *instance* in the netlist."""
    text = path.read_text()
    table = re.compile(rf"\.INIT\(16'h([0-9a-f]+)\)(\s*\) \\{instance}\.unit\.rows)")
    found = table.search(text)
    assert found is not None
    flipped = f".INIT(16'h{int(found.group(1), 16) ^ 0xFFFF:x}){found.group(2)}"
    path.write_text(text[: found.start()] + flipped + text[found.end() :])


def test_the_board_equals_the_integer_model_over_its_serial_line(built: Built, cache: Path, tmp_path: Path) -> None:
    codes = random_and_extreme_codes(built.model, 12)
    executor = SimulatedBoardExecutor(built.netlist, tmp_path, cache)
    assert executor.name == "uart:ulx3s-85f"
    np.testing.assert_array_equal(run(built.model, codes), executor(codes), strict=True)


def test_the_netlist_is_the_same_when_it_is_made_again(built: Built, tmp_path: Path) -> None:
    again = run_stage(SynthesizeNetlist(board="ulx3s-85f"), built.rtl, tmp_path / "elsewhere")
    assert again.sha256 == built.netlist.sha256
    described = read_netlist(again.path)
    assert described.layers["MVAU_rtl_0"] == "fc0"
    assert described.complete_cells["EHXPLLL"] == 1
    assert "EHXPLLL" not in described.network_cells


def test_the_bitstream_is_checked_and_the_same_when_it_is_made_again(built: Built, tmp_path: Path) -> None:
    made, again = (run_stage(BuildBitstream(), built.netlist, tmp_path / place) for place in ("here", "there"))
    assert again.sha256 == made.sha256
    described = read_bitstream(made.path)
    assert described.chosen.meets_timing
    assert described.chosen.cells["EHXPLLL"].used == 1
    assert (made.path / described.file).read_bytes().find(bytes.fromhex("e200000041113043")) > 0
    assert read_netlist(made.path) == read_netlist(built.netlist.path)
