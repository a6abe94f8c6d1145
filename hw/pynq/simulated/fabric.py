"""The "bit file" and the ``hwh`` of the simulated board: the accelerator of a project, compiled by Verilator."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

from bitproof.hw.pynq.accelerator import ACCELERATOR, SHELL, accelerator_module
from bitproof.hw.pynq.board import bitproof_driver as driver
from bitproof.hw.pynq.check_project import BlockDesign
from bitproof.hw.pynq.design import BoardStream, Design
from bitproof.hw.rtl.bench import BENCH
from bitproof.hw.rtl.compile import compiled_bench
from bitproof.hw.rtl.description import read_description
from bitproof.hw.rtl.simulator import START_UP_CYCLES
from bitproof.hw.rtl.tasks import require_known_tasks
from bitproof.pipeline import Artifact

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every member of an archive: the same files give the same bytes."""
SYSTEM = "ps"
CLOCKS = {
    f"PCW_{name}": value
    for clock in range(4)
    for name, value in {
        f"FPGA_FCLK{clock}_ENABLE": str(int(clock == 0)),
        f"FCLK{clock}_PERIPHERAL_CLKSRC": "IO PLL",
        f"FCLK{clock}_PERIPHERAL_DIVISOR0": "5" if clock == 0 else "1",
        f"FCLK{clock}_PERIPHERAL_DIVISOR1": "2" if clock == 0 else "1",
    }.items()
}
"""Parameters of the clocks that Vivado works out, and pynq reads: 1000 MHz divided by 10."""
MODULE = Path(__file__).parent / "pynq.py"
"""The module that a driver imports instead of the package ``pynq``."""


def simulated_bitstream(
    rtl: Artifact, design: Design, *, cache: Path, workdir: Path, never_ends: bool = False, stall_percent: int = 0
) -> bytes:
    """Return the bit file of *design* for the simulated board: an archive of a program, its memories and its widths.

    Args:
        rtl: the network; of another one with the same widths (a flipped weight), the fabric says that it is *design*.
        design: what the fabric says that it is.
        cache: a folder for compiled simulators.
        workdir: an existing folder for the log.
        never_ends: a fault: the fabric never ends a batch.
        stall_percent: in how many of 100 cycles the memory pauses on either side.
    """
    description = read_description(rtl.path)
    sources = {name: (rtl.path / name).read_text() for name in description.files}
    sources |= {f"rtl/{path.name}": path.read_text() for path in SHELL}
    sources[f"rtl/{ACCELERATOR}.v"] = accelerator_module(design.input, design.output)
    for name, text in sources.items():
        require_known_tasks(name, text)
    sources["rtl/bench.sv"] = fabric_bench(design.input, design.output)
    executable = compiled_bench(sources, cache=cache, workdir=workdir)
    about = {
        "design_id": design.design_id,
        "dma_address": driver.DMA_ADDRESS,
        "id_address": driver.ID_ADDRESS,
        "in_beat_bytes": design.input.beat_bytes,
        "in_words": design.input.words,
        "out_beat_bytes": design.output.beat_bytes,
        "out_words": design.output.words,
        "idle_limit": START_UP_CYCLES + (len(description.nodes) + 1) * description.slowest_cycles,
        "never_ends": never_ends,
        "stall_percent": stall_percent,
    }
    members = {"fabric.json": json.dumps(about, sort_keys=True).encode(), "fabric": executable.read_bytes()}
    members |= {f"data/{path.name}": path.read_bytes() for path in sorted((rtl.path / "data").iterdir())}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), member, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def fabric_bench(source: BoardStream, target: BoardStream) -> str:
    """Return the module ``bench``: the accelerator, with TLAST in a byte above the data of each stream."""
    return (
        f"module {BENCH} (\n  input [0:0] clock,\n  input [15:0] unit,\n  input reset_n,\n"
        f"  input [{source.beat_bits + 7}:0] in_data,\n  input in_valid,\n  output in_ready,\n"
        f"  output [{target.beat_bits + 7}:0] out_data,\n  output out_valid,\n  input out_ready\n);\n"
        f"  wire last;\n  assign out_data[{target.beat_bits + 7}:{target.beat_bits}] = {{7'd0, last}};\n"
        f"  {ACCELERATOR} accelerator (\n    .ap_clk(clock[0]), .ap_rst_n(reset_n),\n"
        f"    .s_axis_tdata(in_data[{source.beat_bits - 1}:0]), .s_axis_tvalid(in_valid), .s_axis_tready(in_ready),\n"
        f"    .s_axis_tlast(in_data[{source.beat_bits}]),\n"
        f"    .m_axis_tdata(out_data[{target.beat_bits - 1}:0]), .m_axis_tvalid(out_valid),\n"
        "    .m_axis_tready(out_ready),\n"
        "    .m_axis_tlast(last)\n  );\nendmodule\n"
    )


def hardware_description(made: BlockDesign) -> str:
    """Return the ``hwh`` of the block design *made*, as far as pynq reads one: cells, buses, parameters, addresses."""
    registers = [entry for entry in made.addresses if entry[0] == f"{SYSTEM}/Data"]
    system = ET.Element("EDKSYSTEM", VERSION="1.2")
    ET.SubElement(system, "SYSTEMINFO", NAME="bitproof")
    ET.SubElement(system, "EXTERNALPORTS")
    ET.SubElement(system, "EXTERNALINTERFACES")
    modules = ET.SubElement(system, "MODULES")
    for name, vlnv in made.cells.items():
        kind = vlnv.split(":")[2]
        module = ET.SubElement(modules, "MODULE", FULLNAME=f"/{name}", INSTANCE=name, MODTYPE=kind, VLNV=vlnv)
        parameters = ET.SubElement(module, "PARAMETERS")
        written = {**(CLOCKS if name == SYSTEM else {}), **made.parameters.get(name, {})}
        for key, value in written.items():
            ET.SubElement(parameters, "PARAMETER", NAME=key, VALUE=value)
        buses = ET.SubElement(module, "BUSINTERFACES")
        for master, slave in made.interfaces:
            for role, pin in (("MASTER", master), ("SLAVE", slave)):
                cell, _, bus = pin.partition("/")
                if cell == name:
                    protocol = "axis" if "AXIS" in bus.upper() else "aximm"
                    found = ET.SubElement(buses, "BUSINTERFACE", BUSNAME=master.replace("/", "_"), NAME=bus)
                    found.set("TYPE", role)
                    found.set("VLNV", f"xilinx.com:interface:{protocol}:1.0")
        if name == SYSTEM:
            _add_memory_map(module, registers)
    ET.indent(system, " ")
    return ET.tostring(system, encoding="unicode", xml_declaration=True) + "\n"


def _add_memory_map(module: ET.Element, registers: list[tuple[str, str, int, int]]) -> None:
    ranges = ET.SubElement(module, "MEMORYMAP")
    for _, segment, offset, size in registers:
        cell, bus, block = segment.split("/")
        ET.SubElement(
            ranges,
            "MEMRANGE",
            ADDRESSBLOCK=block,
            BASEVALUE=f"0x{offset:08X}",
            HIGHVALUE=f"0x{offset + size - 1:08X}",
            INSTANCE=cell,
            MASTERBUSINTERFACE="M_AXI_GP0",
            MEMTYPE="REGISTER",
            SLAVEBUSINTERFACE=bus,
        )
