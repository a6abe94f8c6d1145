"""The Verilog top of a chain of nodes: every stream of one goes into the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bitproof.hw.rtl.description import FIFO, MATRIX_UNIT, THRESHOLDING, TOP, RtlNode
from bitproof.pipeline import StageError

AXI_LITE = ("AWVALID", "AWADDR", "WVALID", "WDATA", "WSTRB", "BREADY", "ARVALID", "ARADDR", "RREADY")
"""Inputs of the configuration bus, which stays unused: weights and thresholds are fixed."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The three wires of a stream, by their Verilog expressions."""

    data: str
    valid: str
    ready: str

    @classmethod
    def named(cls, name: str) -> Stream:
        """Return the wires ``name_data``, ``name_valid`` and ``name_ready``."""
        return cls(f"{name}_data", f"{name}_valid", f"{name}_ready")

    def declare(self, width_bits: int) -> str:
        """Return the declaration of the wires."""
        return f"  wire [{width_bits - 1}:0] {self.data};\n  wire {self.valid}, {self.ready};\n"


def instance(node: RtlNode, name: str, *, clock: str, reset_n: str, source: Stream, target: Stream) -> str:
    """Return the Verilog that instantiates *node* as *name* between *source* and *target*.

    A matrix unit comes with the memory that streams its weights.
    """
    ports = [("ap_clk", clock), ("ap_rst_n", reset_n)]
    before = ""
    if node.op == MATRIX_UNIT:
        weights = Stream.named(f"{name}_weights")
        before = weights.declare(weight_stream_bits(node)) + _weight_memory(node, name, weights, clock, reset_n)
        ports += [("ap_clk2x", clock), *_stream_ports("in1_V_T", weights)]
    if node.op == THRESHOLDING:
        ports += [*((f"s_axilite_{port}", "'0") for port in AXI_LITE), ("in1_V_TVALID", "'0"), ("in1_V_TDATA", "'0")]
        ports += [("in1_V_TREADY", "")]
    if node.op == FIFO:
        ports += [("count", ""), ("maxcount", "")]
    ports += [*_stream_ports("in0_V_T", source), *_stream_ports("out0_V_T", target)]
    return before + _instantiate(node.module, name, ports)


def weight_stream_bits(node: RtlNode) -> int:
    """Return the width of a matrix unit's weight stream, padded to whole bytes."""
    parameters = node.parameters
    return 8 * -(-parameters["PE"] * parameters["SIMD"] * parameters["weight_bits"] // 8)


def _weight_memory(node: RtlNode, name: str, weights: Stream, clock: str, reset_n: str) -> str:
    ports = [("ap_clk", clock), ("ap_clk2x", clock), ("ap_rst_n", reset_n)]
    ports += [(f"s_axilite_{port}", "'0") for port in (*AXI_LITE, "AWPROT", "ARPROT")]
    ports += [("s_axis_0_tvalid", "1'b1"), ("s_axis_0_tdata", "'0")]
    ports += [("m_axis_0_tdata", weights.data), ("m_axis_0_tvalid", weights.valid), ("m_axis_0_tready", weights.ready)]
    return _instantiate(f"{node.module}_memstream_wrapper", f"{name}_memory", ports)


def _stream_ports(prefix: str, stream: Stream) -> list[tuple[str, str]]:
    return [(f"{prefix}DATA", stream.data), (f"{prefix}VALID", stream.valid), (f"{prefix}READY", stream.ready)]


def _instantiate(module: str, name: str, ports: Sequence[tuple[str, str]]) -> str:
    connections = ",\n    ".join(f".{port}({expression})" for port, expression in ports)
    return f"  {module} {name} (\n    {connections}\n  );\n"


def top_module(nodes: Sequence[RtlNode]) -> str:
    """Return the Verilog module ``finn_top``: *nodes* in a chain, with one input and one output stream.

    Raises:
        StageError: two neighbours disagree about the width of the stream between them.
    """
    for producer, consumer in pairwise(nodes):
        if producer.output.width_bits != consumer.input.width_bits:
            raise StageError(
                f"{producer.name} has an output of {producer.output.width_bits} bits and {consumer.name} an input of "
                f"{consumer.input.width_bits}; no width converter was inserted"
            )
    streams = [Stream("s_axis_tdata", "s_axis_tvalid", "s_axis_tready")]
    streams += [Stream.named(f"stream_{position}") for position in range(1, len(nodes))]
    streams.append(Stream("m_axis_tdata", "m_axis_tvalid", "m_axis_tready"))
    header = (
        f"module {TOP} (\n  input ap_clk,\n  input ap_rst_n,\n"
        f"  input [{nodes[0].input.width_bits - 1}:0] s_axis_tdata,\n  input s_axis_tvalid,\n  output s_axis_tready,\n"
        f"  output [{nodes[-1].output.width_bits - 1}:0] m_axis_tdata,\n  output m_axis_tvalid,\n"
        f"  input m_axis_tready\n);\n"
    )
    lines = [stream.declare(node.output.width_bits) for stream, node in zip(streams[1:-1], nodes, strict=False)]
    lines += [
        instance(node, node.name, clock="ap_clk", reset_n="ap_rst_n", source=source, target=target)
        for node, source, target in zip(nodes, streams, streams[1:], strict=False)
    ]
    return "".join([header, *lines, "endmodule\n"])
