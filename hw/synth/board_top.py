"""The module on top of an FPGA: the pins of a board, its clock, its reset, and the shell around the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bitproof.hw.board import OpenFpga
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.hw.synth.pll import dividers_for

FOLDER = Path(__file__).parent / "shell"
BOARD_TOP = "board_top"
SHELL_SOURCES = (
    *("crc16_step.sv", "frame_receiver.sv", "image_buffer.sv", "reply_sender.sv", "reset_control.sv"),
    *("uart_receiver.sv", "uart_shell.sv", "uart_transmitter.sv"),
)
"""What every board takes; the PLL is that of the family."""
SILENCE_S = 0.1
"""A frame that stops for so long is dropped. USB pauses for some milliseconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """The serial line of a design: clock cycles of a bit, and of the silence after which a frame counts as stopped."""

    clocks_per_bit: int
    silence: int

    @classmethod
    def of(cls, fpga: OpenFpga) -> Line:
        """Return that of a board."""
        return cls(round(fpga.clock_hz / fpga.baud), round(fpga.clock_hz * SILENCE_S))


def shell_parameters(line: Line, source: StreamLayout, target: StreamLayout, design: str) -> str:
    """Return the parameters of ``uart_shell``, for the streams of the network and the eight digits of its *design*."""
    parameters: dict[str, int | str] = {
        "CLOCKS_PER_BIT": line.clocks_per_bit,
        "SILENCE": line.silence,
        "IN_BYTES": source.word_bytes,
        "IN_WORDS": source.words,
        "OUT_BYTES": target.word_bytes,
        "OUT_WORDS": target.words,
        "DESIGN": f"32'h{design}",
    }
    return ", ".join(f".{name}({value})" for name, value in parameters.items())


def board_top(fpga: OpenFpga, line: Line, source: StreamLayout, target: StreamLayout, design: str) -> str:
    """Return the Verilog module ``board_top`` with the ports that the board has pins for."""
    dividers = dividers_for(fpga)
    settings = f".INPUT({dividers.source}), .FEEDBACK({dividers.feedback}), .OUTPUT({dividers.output})"
    ports = ["input logic clock", "input logic rx", "output logic tx", "output logic busy", "output logic rejected"]
    high = ""
    if "high" in fpga.pins:
        ports.append("output logic high")
        high = "    assign high = 1'b1;\n"
    listed = ",\n".join(f"    {port}" for port in ports)
    return f"""\
module {BOARD_TOP} (
{listed}
);
{high}    wire clk, locked, rst_n;
    {fpga.family}_pll #({settings}) pll (.source(clock), .clk(clk), .locked(locked));
    reset_control reset (.clk(clk), .locked(locked), .rst_n(rst_n));
    uart_shell #(
        {shell_parameters(line, source, target, design)}
    ) shell (
        .clk(clk), .rst_n(rst_n), .rx(rx), .tx(tx), .busy(busy), .rejected(rejected)
    );
endmodule
"""


def network_stub(source: StreamLayout, target: StreamLayout) -> str:
    """Return the ports of the network, which is synthesized by itself."""
    return f"""\
(* blackbox *)
module finn_top (
    input ap_clk, input ap_rst_n,
    input [{source.width_bits - 1}:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready,
    output [{target.width_bits - 1}:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready
);
endmodule
"""
