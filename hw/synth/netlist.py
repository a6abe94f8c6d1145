"""The stage that synthesizes stitched RTL with Yosys: the network, the shell around it, and both as one netlist."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from bitproof.hw.board import OpenFpga, load_board
from bitproof.hw.rtl.description import TOP, RtlDescription, read_description
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.hw.synth.board_top import BOARD_TOP, FOLDER, SHELL_SOURCES, Line, board_top, network_stub
from bitproof.hw.synth.family import FAMILIES, Family
from bitproof.hw.synth.patches import patched
from bitproof.hw.synth.plain import plain_units, replaced_files
from bitproof.hw.synth.tools import YOSYS, read_slang, run_yosys
from bitproof.pipeline import Artifact, ConfigError, InputError, Stage, StageContext, StageError
from bitproof.pipeline.record import Record

FILE = "netlist.json"
NETWORK, COMPLETE = "network.v", "complete.v"
FOR_ROUTING = "complete.json"
FORMAT: Literal[1] = 1

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class NetlistDescription(Record):
    """``netlist.json``.

    Attributes:
        format: its version.
        board: name of a file in ``hw/boards``.
        family: of its FPGA.
        design: eight hexadecimal digits, which every reply of the board holds.
        clocks_per_bit: of the serial line.
        silence: clock cycles without a byte after which the shell drops a frame.
        input: stream of the input codes.
        output: stream of the output codes.
        input_shape: shape of the input codes as the model counts them.
        output_shape: the same of the outputs.
        output_bias: what the reader of the outputs adds to them; empty: nothing.
        nodes: number of nodes of the stitched RTL.
        slowest_cycles: of its slowest node.
        layers: by the instance of a node in the network: the node of the integer model, or what the node does.
        network_cells: number of cells of each type in the network.
        complete_cells: the same with the shell.
    """

    format: Literal[1] = FORMAT
    board: str
    family: Literal["ecp5", "gowin"]
    design: Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
    clocks_per_bit: Positive
    silence: Positive
    input: StreamLayout
    output: StreamLayout
    input_shape: tuple[Positive, ...]
    output_shape: tuple[Positive, ...]
    output_bias: tuple[int, ...]
    nodes: Positive
    slowest_cycles: Positive
    layers: Mapping[str, str]
    network_cells: Mapping[str, Count]
    complete_cells: Mapping[str, Count]

    @model_validator(mode="after")
    def _shapes_are_those_of_the_streams(self) -> Self:
        for name, layout, shape in (
            ("input", self.input, self.input_shape),
            ("output", self.output, self.output_shape),
        ):
            if math.prod(shape) != layout.channels:
                raise ValueError(f"{name}_shape = {list(shape)} has not the {layout.channels} codes of the stream")
        if self.output_bias and len(self.output_bias) != self.output.channels:
            raise ValueError(f"output_bias has {len(self.output_bias)} values for {self.output.channels} outputs")
        return self


def read_netlist(folder: Path) -> NetlistDescription:
    """Read ``netlist.json`` of the artifact in *folder*.

    Raises:
        InputError: it is missing or malformed, or of another version.
    """
    try:
        return NetlistDescription.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder} does not hold a synthesized netlist: {FILE}: {error}") from error


def verilog_of(folder: Path, name: str) -> str:
    """Return the text of the netlist *name* of the artifact in *folder*.

    Raises:
        InputError: it is missing, or holds something else than text.
    """
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder} does not hold a synthesized netlist: {name}: {error}") from error


def open_fpga_of(board: str) -> OpenFpga:
    """Return the FPGA of *board*.

    Raises:
        ConfigError: there is no such board, or open tools make no bitstream for it.
    """
    fpga = load_board(board).open_fpga
    if fpga is None:
        raise ConfigError(f"open tools make no bitstream for the board {board}; use its vendor's")
    return fpga


@dataclass(frozen=True)
class SynthesizeNetlist(Stage):
    """Write the netlists of the network (``network.v``) and of all (``complete.v``, ``complete.json``).

    ``src/`` and ``data/`` are what Yosys read.

    Attributes:
        board: name of a file in ``hw/boards`` whose FPGA open tools know.
    """

    name: ClassVar[str] = "netlist"
    consumes: ClassVar[str] = "rtl"
    produces: ClassVar[str] = "netlist"

    board: str

    def __post_init__(self) -> None:
        open_fpga_of(self.board)

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Patch the sources, synthesize, and count the cells.

        Raises:
            StageError: a patch does not apply, or Yosys failed.
            ToolMissingError: Yosys is not installed.
        """
        fpga, rtl = open_fpga_of(self.board), read_description(source.path)
        family, line, design = FAMILIES[fpga.family], Line.of(fpga), source.sha256[:8].rjust(8, "0")
        sources = network_sources(rtl, source.path)
        shell = {name: (FOLDER / name).read_text() for name in (*SHELL_SOURCES, f"{family.name}_pll.sv")}
        shell[f"{BOARD_TOP}.sv"] = board_top(fpga, line, rtl.input, rtl.output, design)
        shell["network_stub.sv"] = network_stub(rtl.input, rtl.output)
        write_sources({**sources, **shell}, ctx.workdir / "src")
        shutil.copytree(source.path / "data", ctx.workdir / "data")
        work = ctx.scratch / "yosys"
        shutil.copytree(ctx.workdir, work)
        run_yosys(
            commands(family, tuple(sources), tuple(shell)),
            script="synthesize.ys",
            needed_by=f"target finn{{board={self.board}}}",
            cwd=work,
            log=ctx.scratch / "yosys.log",
        )
        for name in (NETWORK, COMPLETE, FOR_ROUTING):
            shutil.copyfile(work / name, ctx.workdir / name)
        counts = {name: _counts(work / f"{name}.stat.json") for name in ("network", "complete")}
        description = NetlistDescription(
            board=self.board,
            family=fpga.family,
            design=design,
            clocks_per_bit=line.clocks_per_bit,
            silence=line.silence,
            input=rtl.input,
            output=rtl.output,
            input_shape=rtl.input_shape,
            output_shape=rtl.output_shape,
            output_bias=rtl.output_bias,
            nodes=len(rtl.nodes),
            slowest_cycles=rtl.slowest_cycles,
            layers={node.name: node.covers or node.op for node in rtl.nodes},
            network_cells=counts["network"],
            complete_cells=counts["complete"],
        )
        text = json.dumps(description.model_dump(mode="json"), indent=1, sort_keys=True)
        (ctx.workdir / FILE).write_text(text + "\n")
        return {YOSYS.name: YOSYS.version() or "unknown"}


def network_sources(description: RtlDescription, folder: Path) -> dict[str, str]:
    """Return the patched sources of the stitched RTL in *folder*, with plain matrix units: text by name, in order.

    Raises:
        StageError: a patch does not apply.
    """
    gone = replaced_files(description)
    sources = {name: patched(name, text) for name, text in plain_units(description).items()}
    for path in description.files:
        name = Path(path).name
        if name not in gone:
            sources[name] = patched(name, (folder / path).read_text())
    return sources


def write_sources(sources: Mapping[str, str], folder: Path) -> None:
    """Write the text of each of *sources* into the new *folder*."""
    folder.mkdir(parents=True)
    for name, text in sources.items():
        (folder / name).write_text(text)


def commands(family: Family, network: Sequence[str], shell: Sequence[str]) -> tuple[str, ...]:
    """Return Yosys' commands: the network by itself, the shell around a black box, then the one within the other.

    The network's cells in the complete netlist are those that are simulated by themselves.
    """
    complete = (
        "setattr -unset src",  # as long as all the rest
        *(f"write_json {FOR_ROUTING}", f"write_verilog -noattr {COMPLETE}"),
        "tee -q -o complete.stat.json stat -json",
    )
    return (
        read_slang(TOP, [f"src/{name}" for name in network]),
        f"{family.synthesis} {family.inner} -top {TOP}",
        "check -assert",
        f"write_verilog -noattr {NETWORK}",
        "tee -q -o network.stat.json stat -json",
        "design -save network",
        "design -reset",
        read_slang(BOARD_TOP, [f"src/{name}" for name in shell]),
        f"{family.synthesis} -top {BOARD_TOP}",
        f"delete ={TOP}",
        f"design -copy-from network {TOP}",
        f"hierarchy -check -top {BOARD_TOP}",
        "flatten -noscopeinfo",
        "clean",
        "check -assert",
        *complete,
    )


def _counts(path: Path) -> dict[str, int]:
    try:
        return dict(sorted(json.loads(path.read_bytes())["design"]["num_cells_by_type"].items()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StageError(
            f"Yosys left no counts of cells in {path}: {error}; use {YOSYS.name} {YOSYS.wanted}"
        ) from error
