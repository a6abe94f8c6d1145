"""Our model of ECP5's block memory: in every width it does what the memory does that Yosys makes it of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bitproof.hw.rtl.compile import compiled_bench
from bitproof.hw.rtl.simulator import run_bench
from bitproof.hw.synth.family import FAMILIES
from bitproof.hw.synth.tools import YOSYS, read_slang, run_yosys
from bitproof.pipeline import StageError

pytestmark = [
    pytest.mark.tool,
    pytest.mark.slow,
    pytest.mark.xdist_group("open_fpga"),
    pytest.mark.skipif(YOSYS.find() is None, reason=f"{YOSYS.name} is missing: {YOSYS.install}"),
]

WIDTHS = (36, 18, 9, 4, 2, 1)
SAMPLES = 6000
PORTS = "input logic clk, input logic we, input logic [13:0] to, input logic [13:0] from, input logic [35:0] data"


def depth(width: int) -> int:
    return (1 << 14) // (32 if width == 36 else 16 if width == 18 else 8 if width == 9 else width)


def memories(name: str) -> str:
    """The module *name*: a memory of each width, with contents, one port to write and one to read."""
    lines = [f"module {name} ({PORTS}, output logic [{sum(WIDTHS) - 1}:0] out);"]
    place = 0
    for width in WIDTHS:
        bits = (depth(width) - 1).bit_length()
        lines.append(f"""
    (* ram_style = "block" *) logic [{width - 1}:0] memory{width}[{depth(width)}];
    initial $readmemh("contents{width}.dat", memory{width});
    always_ff @(posedge clk) begin
        if (we) memory{width}[to[{bits - 1}:0]] <= data[{width - 1}:0];
        out[{place} +: {width}] <= memory{width}[from[{bits - 1}:0]];
    end""")
        place += width
    return "\n".join([*lines, "endmodule\n"])


BENCH = f"""\
module bench (
    input [0:0] clock, input [15:0] unit, input reset_n, input [71:0] in_data, input in_valid, output in_ready,
    output [7:0] out_data, output out_valid, input out_ready
);
    wire [{sum(WIDTHS) - 1}:0] written, synthesized;
    memories reference (
        .clk(clock[0]), .we(in_data[64] && in_valid), .to(in_data[13:0]), .from(in_data[27:14]),
        .data(in_data[63:28]), .out(written)
    );
    netlist made (
        .clk(clock[0]), .we(in_data[64] && in_valid), .to(in_data[13:0]), .from(in_data[27:14]),
        .data(in_data[63:28]), .out(synthesized)
    );
    logic valid = 0;
    always_ff @(posedge clock[0]) valid <= in_valid;
    assign in_ready = 1'b1;
    assign out_valid = valid;
    wire [{sum(WIDTHS) - 1}:0] differs = written ^ synthesized;
    assign out_data = {{
        2'b0, differs[69], |differs[68:67], |differs[66:63], |differs[62:54], |differs[53:36], |differs[35:0]
    }};
endmodule
"""


@pytest.fixture(scope="module")
def netlist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with the contents of the memories, and the netlist that Yosys makes of them."""
    folder = tmp_path_factory.mktemp("memories")
    generator = np.random.default_rng(7)
    for width in WIDTHS:
        words = generator.integers(0, 1 << width, size=depth(width))
        (folder / f"contents{width}.dat").write_text("".join(f"{word:x}\n" for word in words))
    (folder / "memories.sv").write_text(memories("memories"))
    commands = [
        *(read_slang("memories", ["memories.sv"]), "synth_ecp5 -top memories", "rename memories netlist"),
        *("write_verilog -noattr netlist.v", "tee -q -o cells.json stat -json"),
    ]
    run_yosys(commands, script="run.ys", needed_by="this test", cwd=folder, log=folder / "yosys.log")
    return folder, (folder / "netlist.v").read_text()


def differing(folder: Path, netlist: str, place: Path) -> list[int]:
    """How often each memory of *netlist* gives something else than its description."""
    cells = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    assert "DP16KD" in cells
    sources = {
        "rtl/models.v": FAMILIES["ecp5"].cell_models(cells),
        "rtl/memories.sv": memories("memories"),
        "rtl/netlist.v": netlist,
        "rtl/bench.sv": BENCH,
    }
    place.mkdir()
    program = compiled_bench(sources, cache=place / "cache", workdir=place)
    words = np.random.default_rng(1).integers(0, 256, size=(SAMPLES, 9), dtype=np.uint8)
    words[1::2, 1] = words[::2, 1]  # neighbours meet at the same addresses more often
    words.tofile(place / "in")
    arguments: dict[str, int | str | Path] = {
        "unit": 0,
        "input": place / "in",
        "input-bytes": 9,
        "repeat": 1,
        "output": place / "out",
        "output-bytes": 1,
        "outputs": SAMPLES,
        "words-out": 1,
        "stall": 0,
        "seed": 0,
        "idle-limit": 100,
    }
    run_bench(program, arguments, memories=folder, workdir=place, seed=0)
    flags = np.fromfile(place / "out", dtype=np.uint8)
    return [int((flags >> index & 1).sum()) for index in range(len(WIDTHS))]


def test_memories_of_every_width_are_block_memories_that_work(netlist: tuple[Path, str], tmp_path: Path) -> None:
    folder, text = netlist
    widths = {int(width) for width in re.findall(r"DATA_WIDTH_B\(32'd(\d+)\)", text)}
    assert widths == set(WIDTHS)
    assert differing(folder, text, tmp_path / "sound") == [0] * len(WIDTHS)


def test_one_flipped_bit_of_the_contents_is_found(netlist: tuple[Path, str], tmp_path: Path) -> None:
    folder, text = netlist
    found = re.search(r"INITVAL_3F\(320'h(\w+)\)", text)
    assert found is not None
    flipped = f"{int(found.group(1), 16) ^ ((1 << 320) - 1):x}"
    broken = text[: found.start(1)] + flipped + text[found.end(1) :]
    assert sum(differing(folder, broken, tmp_path / "broken")) > 0


def test_what_is_not_modelled_ends_the_simulation(netlist: tuple[Path, str], tmp_path: Path) -> None:
    folder, text = netlist
    other = text.replace('.REGMODE_B("NOREG")', '.REGMODE_B("OUTREG")', 1)
    assert other != text
    with pytest.raises(StageError, match=r"DP16KD: this setting of port B is not modelled"):
        differing(folder, other, tmp_path / "other")
