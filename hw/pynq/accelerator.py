"""The accelerator: the stitched top behind streams as wide as those of the DMA, in Verilog that Vivado packages."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bitproof.hw.rtl.description import TOP

ACCELERATOR = "bitproof_accelerator"
SHELL = (Path(__file__).parent / "rtl" / "batch_end.sv",)
"""SystemVerilog that is the same in every design."""


class WideStream(Protocol):
    """The widths of a stream that are met here."""

    @property
    def width_bits(self) -> int:
        """Of the data port of the stitched top."""
        ...

    @property
    def beat_bits(self) -> int:
        """Of the DMA's stream."""
        ...

    @property
    def words(self) -> int:
        """How many words one image takes."""
        ...


def accelerator_module(source: WideStream, target: WideStream) -> str:
    """Return the module: words are padded at their upper end, and ``batch_end`` gives the outputs their TLAST."""
    padding = target.beat_bits - target.width_bits
    padded = f"{{{padding}'d0, target_data}}" if padding else "target_data"
    return (
        f"module {ACCELERATOR} (\n  input wire ap_clk,\n  input wire ap_rst_n,\n"
        f"  input wire [{source.beat_bits - 1}:0] s_axis_tdata,\n  input wire s_axis_tvalid,\n"
        f"  output wire s_axis_tready,\n  input wire s_axis_tlast,\n"
        f"  output wire [{target.beat_bits - 1}:0] m_axis_tdata,\n  output wire m_axis_tvalid,\n"
        f"  input wire m_axis_tready,\n  output wire m_axis_tlast\n);\n"
        f"  wire source_valid, source_ready, target_valid, target_ready;\n"
        f"  wire [{target.width_bits - 1}:0] target_data;\n"
        f"  assign m_axis_tdata = {padded};\n"
        f"  batch_end #(.IN_WORDS({source.words}), .OUT_WORDS({target.words})) batches (\n"
        "    .ap_clk(ap_clk), .ap_rst_n(ap_rst_n),\n"
        "    .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready), .s_axis_tlast(s_axis_tlast),\n"
        "    .source_valid(source_valid), .source_ready(source_ready),\n"
        "    .target_valid(target_valid), .target_ready(target_ready),\n"
        "    .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready), .m_axis_tlast(m_axis_tlast)\n  );\n"
        f"  {TOP} network (\n    .ap_clk(ap_clk), .ap_rst_n(ap_rst_n),\n"
        f"    .s_axis_tdata(s_axis_tdata[{source.width_bits - 1}:0]), .s_axis_tvalid(source_valid),\n"
        "    .s_axis_tready(source_ready),\n"
        "    .m_axis_tdata(target_data), .m_axis_tvalid(target_valid), .m_axis_tready(target_ready)\n  );\n"
        "endmodule\n"
    )
