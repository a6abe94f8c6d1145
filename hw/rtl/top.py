"""The Verilog top of a graph of nodes: every stream leaves one node and enters one other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitproof.hw.rtl.description import TOP, RtlNode, RtlPort
from bitproof.hw.rtl.providers import AXI_LITE, MATRIX_UNIT, PROVIDERS
from bitproof.pipeline import StageError


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


HOST_INPUT = Stream("s_axis_tdata", "s_axis_tvalid", "s_axis_tready")
HOST_OUTPUT = Stream("m_axis_tdata", "m_axis_tvalid", "m_axis_tready")


def instance(node: RtlNode, name: str, *, clock: str, reset_n: str, streams: Mapping[str, Stream]) -> str:
    """Return the Verilog that instantiates *node* as *name*; *streams* are the wires of its streams, by their name.

    A matrix unit comes with the memory that streams its weights.
    """
    ports = [("ap_clk", clock), ("ap_rst_n", reset_n)]
    before = ""
    if node.op == MATRIX_UNIT:
        weights = Stream.named(f"{name}_weights")
        before = weights.declare(weight_stream_bits(node)) + _weight_memory(node, name, weights, clock, reset_n)
        ports += [("ap_clk2x", clock), *_stream_ports("in1_V", weights)]
    ports += PROVIDERS[node.op].ties
    for port in (*node.inputs, *node.outputs):
        ports += _stream_ports(port.port, streams[port.stream])
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
    return [(f"{prefix}_TDATA", stream.data), (f"{prefix}_TVALID", stream.valid), (f"{prefix}_TREADY", stream.ready)]


def _instantiate(module: str, name: str, ports: Sequence[tuple[str, str]]) -> str:
    connections = ",\n    ".join(f".{port}({expression})" for port, expression in ports)
    return f"  {module} {name} (\n    {connections}\n  );\n"


def top_module(nodes: Sequence[RtlNode], input_stream: str, output_stream: str) -> str:
    """Return the Verilog module ``finn_top``: *nodes* with their streams, of which the host fills one and empties one.

    Raises:
        StageError: a stream is not filled once and emptied once, or both ends disagree about its width.
    """
    fills = _ports([(node, port) for node in nodes for port in node.outputs], "filled", input_stream)
    empties = _ports([(node, port) for node in nodes for port in node.inputs], "emptied", output_stream)
    for stream, (node, _) in fills.items():
        if stream not in empties and stream != output_stream:
            raise StageError(f"nothing empties the stream {stream}, which {node.name} fills")
    for stream, (node, _) in empties.items():
        if stream not in fills and stream != input_stream:
            raise StageError(f"nothing fills the stream {stream}, which {node.name} empties")
    if input_stream not in empties or output_stream not in fills:
        raise StageError(f"the host fills {input_stream} and empties {output_stream}; no node does the rest")
    wires = {stream: Stream.named(stream) for stream in fills if stream != output_stream}
    lines = []
    for stream, wire in wires.items():
        (producer, filled), (consumer, emptied) = fills[stream], empties[stream]
        if filled.layout.width_bits != emptied.layout.width_bits:
            raise StageError(
                f"{producer.name} has an output of {filled.layout.width_bits} bits and {consumer.name} an input of "
                f"{emptied.layout.width_bits}; no width converter was inserted"
            )
        lines.append(wire.declare(filled.layout.width_bits))
    streams = {**wires, input_stream: HOST_INPUT, output_stream: HOST_OUTPUT}
    lines += [instance(node, node.name, clock="ap_clk", reset_n="ap_rst_n", streams=streams) for node in nodes]
    return "".join([_header(empties[input_stream][1], fills[output_stream][1]), *lines, "endmodule\n"])


def _ports(ports: Sequence[tuple[RtlNode, RtlPort]], done: str, host: str) -> dict[str, tuple[RtlNode, RtlPort]]:
    """Return node and port by stream; no stream is *done* twice, and *host* by the host alone."""
    found: dict[str, tuple[RtlNode, RtlPort]] = {}
    for node, port in ports:
        if port.stream in found or port.stream == host:
            other = "the host" if port.stream == host else found[port.stream][0].name
            raise StageError(f"the stream {port.stream} is {done} twice, by {other} and by {node.name}")
        found[port.stream] = (node, port)
    return found


def _header(source: RtlPort, target: RtlPort) -> str:
    return (
        f"module {TOP} (\n  input ap_clk,\n  input ap_rst_n,\n"
        f"  input [{source.layout.width_bits - 1}:0] s_axis_tdata,\n  input s_axis_tvalid,\n  output s_axis_tready,\n"
        f"  output [{target.layout.width_bits - 1}:0] m_axis_tdata,\n  output m_axis_tvalid,\n"
        f"  input m_axis_tready\n);\n"
    )
