"""The Vivado project of a design: sources, memory files, constraints and the Tcl that builds the bitstream."""

from __future__ import annotations

import shutil
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bitproof.hw.board import load_board
from bitproof.hw.pynq.accelerator import ACCELERATOR, SHELL, accelerator_module
from bitproof.hw.pynq.board import bitproof_driver as driver
from bitproof.hw.pynq.design import BoardStream, Design, load_zynq_board
from bitproof.hw.rtl.description import read_description
from bitproof.pipeline import Artifact

TEMPLATES = Path(__file__).parent / "templates"
BUILD, CONSTRAINTS = "build.tcl", "bitproof.xdc"
JOBS = 2
LEAST_MEMORY_BITS = 32
"""Of the DMA's side towards the memory (AMD PG021)."""
CLOCK = "ps/FCLK_CLK0"
INTERFACES = (
    ("ps/M_AXI_GP0", "control/S00_AXI"),
    ("control/M00_AXI", f"{driver.DMA_NAME}/S_AXI_LITE"),
    ("control/M01_AXI", f"{driver.ID_NAME}/S_AXI"),
    (f"{driver.DMA_NAME}/M_AXI_MM2S", "memory/S00_AXI"),
    (f"{driver.DMA_NAME}/M_AXI_S2MM", "memory/S01_AXI"),
    ("memory/M00_AXI", "ps/S_AXI_HP0"),
    (f"{driver.DMA_NAME}/M_AXIS_MM2S", "accelerator/s_axis"),
    ("accelerator/m_axis", f"{driver.DMA_NAME}/S_AXIS_S2MM"),
)
"""Master and slave of every connection."""
NETS = (
    (
        CLOCK,
        "ps/M_AXI_GP0_ACLK",
        "ps/S_AXI_HP0_ACLK",
        "reset/slowest_sync_clk",
        "control/aclk",
        "memory/aclk",
        f"{driver.DMA_NAME}/s_axi_lite_aclk",
        f"{driver.DMA_NAME}/m_axi_mm2s_aclk",
        f"{driver.DMA_NAME}/m_axi_s2mm_aclk",
        f"{driver.ID_NAME}/s_axi_aclk",
        "accelerator/ap_clk",
    ),
    ("ps/FCLK_RESET0_N", "reset/ext_reset_in"),
    (
        "reset/peripheral_aresetn",
        "control/aresetn",
        "memory/aresetn",
        f"{driver.DMA_NAME}/axi_resetn",
        f"{driver.ID_NAME}/s_axi_aresetn",
    ),
    (f"{driver.DMA_NAME}/mm2s_prmry_reset_out_n", "accelerator/ap_rst_n"),
    ("id_low/dout", f"{driver.ID_NAME}/gpio_io_i"),
    ("id_high/dout", f"{driver.ID_NAME}/gpio2_io_i"),
)
"""The pin that drives each net, and those that it drives."""
REGISTERS = (
    (driver.DMA_NAME, f"0x{driver.DMA_ADDRESS:08X}", f"{driver.DMA_NAME}/S_AXI_LITE/Reg"),
    (driver.ID_NAME, f"0x{driver.ID_ADDRESS:08X}", f"{driver.ID_NAME}/S_AXI/Reg"),
)


def write_project(rtl: Artifact, design: Design, folder: Path) -> None:
    """Write the project of *design*, whose network is *rtl*, into *folder*, the same bytes anywhere.

    Vivado's own results in *folder* (``build``, ``bitproof.bit``) are left alone.
    """
    description = read_description(rtl.path)
    for name in ("rtl", "data"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    for name in description.files:
        shutil.copyfile(rtl.path / name, folder / name)
    for memory in sorted((rtl.path / "data").iterdir()):
        shutil.copyfile(memory, folder / "data" / memory.name)
    for path in SHELL:
        shutil.copyfile(path, folder / "rtl" / path.name)
    (folder / "rtl" / f"{ACCELERATOR}.v").write_text(accelerator_module(design.input, design.output))
    sources = (*description.files, *(f"rtl/{path.name}" for path in SHELL), f"rtl/{ACCELERATOR}.v")
    for name in (BUILD, CONSTRAINTS):
        (folder / name).write_text(_rendered(name, design, sources))
    (folder / driver.DESIGN).write_text(design_json(design))


def design_json(design: Design) -> str:
    """Return *design* as ``design.json`` holds it."""
    return design.model_dump_json(indent=1) + "\n"


def memory_bits(stream: BoardStream) -> int:
    """Return the width of the DMA's side towards the memory for *stream*: it is never narrower than the stream."""
    return max(LEAST_MEMORY_BITS, stream.beat_bits)


def _rendered(name: str, design: Design, sources: tuple[str, ...]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  Tcl, no HTML; every name that goes in is checked or ours
    )
    return environment.get_template(f"{name}.j2").render(
        design=design,
        driver=driver,
        part=load_board(design.board).part,
        ps_clock_mhz=load_zynq_board(design.board).ps_clock_mhz,
        clock_mhz=f"{1000 / design.clock_ns:g}",
        length_bits=driver.MAX_TRANSFER_BYTES.bit_length(),
        accelerator=ACCELERATOR,
        sources=sources,
        interfaces=INTERFACES,
        nets=NETS,
        registers=REGISTERS,
        memory_bits=memory_bits,
        jobs=JOBS,
    )
