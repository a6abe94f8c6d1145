"""Our models of block memories: in every width and kind they do what the arrays do that Yosys makes the cells of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from flag_bench import bench_of, flags_of
from numpy.typing import NDArray

from bitproof.hw.synth.family import FAMILIES
from bitproof.hw.synth.tools import YOSYS, read_slang, run_yosys
from bitproof.pipeline import StageError

pytestmark = [
    pytest.mark.tool,
    pytest.mark.slow,
    pytest.mark.xdist_group("open_fpga"),
    pytest.mark.skipif(YOSYS.find() is None, reason=f"{YOSYS.name} is missing: {YOSYS.install}"),
]

SAMPLES = 6000
FIELDS = {"to": 14, "from": 14, "data": 36, "other": 36, "bytes": 4, "we": 1, "we2": 1, "enable": 1, "clear": 1}
"""What goes into the memories in each cycle, and its bits, the lowest first."""
INPUT_BYTES = (sum(FIELDS.values()) + 7) // 8
PORTS = "input logic clk, " + ", ".join(f"input logic [{bits - 1}:0] {name}" for name, bits in FIELDS.items())


@dataclass(frozen=True)
class Memory:
    """A memory of 16 K bits with contents.

    Attributes:
        kind: a key of :data:`KINDS`.
        width: of its words.
    """

    kind: str
    width: int

    @property
    def name(self) -> str:
        return f"{self.kind}{self.width}"

    @property
    def depth(self) -> int:
        return (1 << 14) // (self.width if self.width < 9 else self.width // 9 * 8)

    def text(self) -> str:
        """SystemVerilog of the memory, whose reads are ``NAME_out``; ``NAME_free`` says that they are promised."""
        bits = (self.depth - 1).bit_length()
        body = KINDS[self.kind].format(M=self.name, A=f"to[{bits - 1}:0]", B=f"from[{bits - 1}:0]", W=self.width)
        loose = "(* no_rw_check *) " if self.kind in LOOSE else ""
        return f"""
    {loose}(* ram_style = "block" *) logic [{self.width - 1}:0] {self.name}[{self.depth}];
    logic [{self.width - 1}:0] {self.name}_out, {self.name}_out2 = '0;
    initial $readmemh("{self.name}.dat", {self.name});
    always_ff @(posedge clk) begin{body}
    end
"""


KINDS = {
    # One port to write and one to read, which reads the old word: Yosys has to see to it.
    "apart": """
        if (we) {M}[{A}] <= data[{W}-1:0];
        {M}_out <= {M}[{B}];""",
    # The same, but no word is read while it is written, so that nothing has to be seen to; an enable and a reset.
    "loose": """
        if (we) {M}[{A}] <= data[{W}-1:0];
        if (clear) {M}_out <= '0;
        else if (enable && !(we && {A} == {B})) {M}_out <= {M}[{B}];""",
    "hold": """
        if (enable) begin
            if (we) {M}[{A}] <= data[{W}-1:0];
            else {M}_out <= {M}[{A}];
        end""",
    "new": """
        if (we) {M}[{A}] <= data[{W}-1:0];
        {M}_out <= we ? data[{W}-1:0] : {M}[{A}];""",
    "old": """
        if (we) {M}[{A}] <= data[{W}-1:0];
        {M}_out <= {M}[{A}];""",
    # Bytes are written one by one.
    "bytes": """
        for (int lane = 0; lane < {W} / 9; lane++) begin
            if (we && bytes[lane]) {M}[{A}][9*lane +: 9] <= data[9*lane +: 9];
        end
        {M}_out <= {M}[{A}];""",
    # Two ports for both, which never are at the same word.
    "dual": """
        if (we) {M}[{A}] <= data[{W}-1:0];
        else {M}_out <= {M}[{A}];
        if ({A} != {B}) begin
            if (we2) {M}[{B}] <= other[{W}-1:0];
            else {M}_out2 <= {M}[{B}];
        end""",
}
LOOSE = ("loose", "dual")
"""Kinds of which Yosys is told that no word is read while it is written."""

WIDTHS = {
    "apart": (36, 18, 9, 4, 2, 1),
    "loose": (36, 4),
    "hold": (36, 2),
    "new": (36, 9),
    "old": (18, 4),
    "bytes": (36, 18),
    "dual": (18, 9, 1),
}
MEMORIES = tuple(Memory(kind, width) for kind, widths in WIDTHS.items() for width in widths)
CELLS = {"ecp5": {"DP16KD"}, "gowin": {"SP", "SPX9", "SDPX9B", "DPB", "DPX9B"}}
FIRST_WORD = re.compile(r"(INIT(?:VAL|_RAM)_00\((?:320|288|256)'h)(\w+)")
FLAGS_BYTES = (2 * len(MEMORIES) + 7) // 8


def memories(name: str) -> str:
    """The module *name* with all memories."""
    outputs = [f"output logic [{2 * memory.width - 1}:0] {memory.name}_both" for memory in MEMORIES]
    bodies = [
        f"{memory.text()}    assign {memory.name}_both = {{{memory.name}_out2, {memory.name}_out}};\n"
        for memory in MEMORIES
    ]
    return f"module {name} ({PORTS},\n{', '.join(outputs)});\n{''.join(bodies)}endmodule\n"


def inputs_of() -> str:
    """The connections of the ports that take the fields of an input word."""
    ports, place = [".clk(clock[0])"], 0
    for name, bits in FIELDS.items():
        gated = " & {1{in_valid}}" if name in ("we", "we2") else ""
        ports.append(f".{name}(in_data[{place} +: {bits}]{gated})")
        place += bits
    return ", ".join(ports)


def bench() -> str:
    """A bench that puts out a flag for each memory of each netlist: it gives something else than the arrays."""
    body = []
    for side, module in (("arrays", "memories"), ("made", "netlist"), ("broken", "broken")):
        body += [f"    wire [{2 * memory.width - 1}:0] {side}_{memory.name};" for memory in MEMORIES]
        outputs = ", ".join(f".{memory.name}_both({side}_{memory.name})" for memory in MEMORIES)
        body.append(f"    {module} {side} ({inputs_of()}, {outputs});")
    flags = [f"arrays_{m.name} != {side}_{m.name}" for side in ("made", "broken") for m in MEMORIES]
    return bench_of("\n".join(body), f"{{{', '.join(reversed(flags))}}}", INPUT_BYTES, FLAGS_BYTES)


@dataclass(frozen=True)
class Synthesized:
    """A folder with the contents of the memories, and the netlist that Yosys makes of them."""

    family: str
    folder: Path
    netlist: str
    cells: frozenset[str]


@pytest.fixture(scope="module", params=["ecp5", "gowin"])
def synthesized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    family = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp(family.name)
    generator = np.random.default_rng(7)
    for memory in MEMORIES:
        words = generator.integers(0, 1 << memory.width, size=memory.depth)
        (folder / f"{memory.name}.dat").write_text("".join(f"{word:x}\n" for word in words))
    (folder / "memories.sv").write_text(memories("memories"))
    commands = [
        read_slang("memories", ["memories.sv"]),
        f"{family.synthesis} {family.inner} -top memories",
        *("rename memories netlist", "write_verilog -noattr netlist.v", "tee -q -o cells.json stat -json"),
    ]
    run_yosys(commands, script="run.ys", needed_by="this test", cwd=folder, log=folder / "yosys.log")
    cells = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    return Synthesized(family.name, folder, (folder / "netlist.v").read_text(), frozenset(cells))


def stimulus() -> NDArray[np.uint8]:
    """The input of every cycle: first word 0 is read everywhere, then addresses meet often, or are anywhere."""
    generator = np.random.default_rng(1)
    fields = {name: generator.integers(0, 1 << bits, size=SAMPLES) for name, bits in FIELDS.items()}
    places = generator.integers(0, 1 << 14, size=12)
    for name in ("to", "from"):
        near = generator.random(SAMPLES) < 0.7
        fields[name] = np.where(near, generator.choice(places, size=SAMPLES), fields[name])
    fields["clear"] &= generator.random(SAMPLES) < 0.2
    for name in FIELDS:
        fields[name][:2] = name == "enable"
    fields["from"][1] = 1
    content = bytearray()
    for sample in range(SAMPLES):
        word = place = 0
        for name, bits in FIELDS.items():
            word |= int(fields[name][sample]) << place
            place += bits
        content += word.to_bytes(INPUT_BYTES, "little")
    return np.frombuffer(bytes(content), dtype=np.uint8).reshape(SAMPLES, INPUT_BYTES)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulators")


def with_flipped_bits(netlist: str) -> str:
    """The netlist as module ``broken``, with the lowest bit of each block memory flipped."""
    flipped = FIRST_WORD.sub(lambda found: f"{found[1]}{int(found[2], 16) ^ 1:x}", netlist)
    return flipped.replace("module netlist(", "module broken(")


def test_memories_of_every_kind_are_block_memories_that_work_and_one_flipped_bit_of_each_is_found(
    synthesized: Synthesized, cache: Path, tmp_path: Path
) -> None:
    assert CELLS[synthesized.family] <= synthesized.cells
    sources = {
        "rtl/models.v": FAMILIES[synthesized.family].cell_models(synthesized.cells),
        "rtl/memories.sv": memories("memories"),
        "rtl/netlist.v": synthesized.netlist,
        "rtl/broken.v": with_flipped_bits(synthesized.netlist),
        "rtl/bench.sv": bench(),
    }
    flags = flags_of(sources, stimulus(), FLAGS_BYTES, memories=synthesized.folder, cache=cache, place=tmp_path)
    counts = flags.sum(axis=0, dtype=int)
    sound, broken = counts[: len(MEMORIES)], counts[len(MEMORIES) : 2 * len(MEMORIES)]
    names = [memory.name for memory in MEMORIES]
    assert dict(zip(names, sound, strict=True)) == dict.fromkeys(names, 0)
    assert [name for name, count in zip(names, broken, strict=True) if not count] == []


def narrow_to_wide(settings: str) -> dict[str, str]:
    """A block of Gowin's with words of 4 bits to write and of 32 to read, which Yosys seldom makes, beside an array."""

    def block(out: str, flipped: int) -> str:
        return f"""SDPB #(
        .BIT_WIDTH_0(4), .BIT_WIDTH_1(32), .INIT_RAM_00(256'h{0xFEDCBA9876543210 ^ flipped:x}){settings}
    ) {out}_block (
        .DO({out}), .DI({{28'b0, data}}), .ADA({{to, 2'b0}}), .ADB({{from[11:3], 5'b0}}), .BLKSELA(3'b0),
        .BLKSELB(3'b0), .CLKA(clock[0]), .CEA(we), .RESETA(1'b0), .CLKB(clock[0]), .CEB(re), .RESETB(1'b0), .OCE(1'b1)
    );"""

    return {
        "rtl/models.v": FAMILIES["gowin"].cell_models(["SDPB"]),
        "rtl/bench.sv": bench_of(
            f"""
    wire [11:0] to = in_data[11:0], from = in_data[25:14];
    wire [3:0] data = in_data[31:28];
    wire we = in_data[104] && in_valid, re = !(we && to >> 3 == from >> 3);
    wire [31:0] made, broken;
    {block("made", 0)}
    {block("broken", 1)}
    logic [3:0] words[4096];
    logic [31:0] read = '0;
    initial for (int at = 0; at < 4096; at++) words[at] = at < 16 ? 4'(at) : '0;
    always_ff @(posedge clock[0]) begin
        if (we) words[to] <= data;
        if (re) for (int lane = 0; lane < 8; lane++) read[4*lane +: 4] <= words[{{from[11:3], 3'(lane)}}];
    end""",
            "{6'b0, broken != read, made != read}",
            *(INPUT_BYTES, 1),
        ),
    }


def test_words_are_written_narrow_and_read_wide(cache: Path, tmp_path: Path) -> None:
    flags = flags_of(narrow_to_wide(""), stimulus(), 1, memories=tmp_path, cache=cache, place=tmp_path)
    assert not flags[:, 0].any()
    assert flags[:, 1].any()  # of the block with a flipped bit


def test_what_is_not_modelled_ends_the_simulation(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"SDPB: this setting is not modelled"):
        flags_of(narrow_to_wide(", .READ_MODE(1'b1)"), stimulus(), 1, memories=tmp_path, cache=cache, place=tmp_path)
