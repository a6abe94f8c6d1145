"""The matrix units of a design in plain logic, in the place of FINN's, which are made for DSP slices of AMD.

FINN's matrix unit, written for a DSP48, is larger and slower on other FPGAs. Ours has the same streams and the weight
memory of the same file and order; it reads that itself, so the module that streams FINN its weights falls silent.
"""

from __future__ import annotations

from collections.abc import Mapping

from bitproof.hw.rtl.description import RtlDescription, RtlNode
from bitproof.hw.rtl.modules import FOLDER, MatrixUnit
from bitproof.hw.rtl.modules.encoding import NUMBERS
from bitproof.hw.rtl.providers import MATRIX_UNIT
from bitproof.hw.rtl.top import weight_stream_bits

LIBRARY = (*MatrixUnit.needs, f"{MatrixUnit.module}.sv")
"""Files of our modules that a plain matrix unit takes."""
FINNS = frozenset(
    {
        *("mvu_pkg.sv", "mvu_vvu_axi.sv", "mvu.sv", "mvu_vvu_8sx9_dsp58.sv", "replay_buffer.sv", "add_multi.sv"),
        *("memstream.sv", "memstream_axi.sv"),
    }
)
"""Files that FINN's matrix units alone take."""


def plain_units(description: RtlDescription) -> Mapping[str, str]:
    """Return the files that take the place of FINN's matrix units: the text of each by its name, in compile order."""
    units = description.units(MATRIX_UNIT)
    if not units:
        return {}
    library = {name: (FOLDER / name).read_text() for name in LIBRARY}
    return {**library, **{f"{unit.name}_plain.sv": _module(unit) for unit in units}}


def replaced_files(description: RtlDescription) -> frozenset[str]:
    """Return the names of the files of *description* that :func:`plain_units` takes the place of."""
    units = description.units(MATRIX_UNIT)
    own = {f"{unit.module}{kind}.v" for unit in units for kind in ("_wrapper", "_memstream_wrapper")}
    return FINNS | own


def _module(node: RtlNode) -> str:
    """Return the modules that the top instantiates for *node*: the matrix unit, and the streamer of its weights."""
    weights = weight_stream_bits(node)
    (taken,), (given,) = node.inputs, node.outputs
    parameters = {
        **{name: node.parameters[name] for name in ("MW", "MH", "PE", "SIMD")},
        "CODE_BITS": taken.layout.bits,
        "CODE_KIND": NUMBERS["signed" if taken.layout.signed else "unsigned"],
        "WEIGHT_BITS": node.parameters["weight_bits"],
        "WEIGHT_KIND": NUMBERS["signed"],
        "ACC_BITS": given.layout.bits,
    }
    settings = ", ".join(f".{name}({value})" for name, value in parameters.items())
    streams = ", ".join(
        f".{port}_{wire}({port}_{wire})" for port in ("in0_V", "out0_V") for wire in ("TDATA", "TVALID", "TREADY")
    )
    return f"""\
// Plain matrix unit of {node.name}, with the ports of FINN's. Its weight stream and its second clock are not used.
module {node.module} (
    input logic ap_clk,
    input logic ap_clk2x,
    input logic ap_rst_n,
    input logic [{weights - 1}:0] in1_V_TDATA,
    input logic in1_V_TVALID,
    output logic in1_V_TREADY,
    input logic [{taken.layout.width_bits - 1}:0] in0_V_TDATA,
    input logic in0_V_TVALID,
    output logic in0_V_TREADY,
    output logic [{given.layout.width_bits - 1}:0] out0_V_TDATA,
    output logic out0_V_TVALID,
    input logic out0_V_TREADY
);
    assign in1_V_TREADY = 1'b0;
    matrix_unit #(
        {settings}, .WEIGHTS_FILE("data/{node.name}_memblock.dat")
    ) unit (
        .ap_clk(ap_clk), .ap_rst_n(ap_rst_n), {streams}
    );
endmodule

module {node.module}_memstream_wrapper (
    input logic ap_clk,
    input logic ap_clk2x,
    input logic ap_rst_n,
    input logic s_axilite_AWVALID,
    input logic [31:0] s_axilite_AWADDR,
    input logic [2:0] s_axilite_AWPROT,
    input logic s_axilite_WVALID,
    input logic [31:0] s_axilite_WDATA,
    input logic [3:0] s_axilite_WSTRB,
    input logic s_axilite_BREADY,
    input logic s_axilite_ARVALID,
    input logic [31:0] s_axilite_ARADDR,
    input logic [2:0] s_axilite_ARPROT,
    input logic s_axilite_RREADY,
    input logic s_axis_0_tvalid,
    input logic [{weights - 1}:0] s_axis_0_tdata,
    output logic [{weights - 1}:0] m_axis_0_tdata,
    output logic m_axis_0_tvalid,
    input logic m_axis_0_tready
);
    assign m_axis_0_tdata = '0;
    assign m_axis_0_tvalid = 1'b0;
endmodule
"""
