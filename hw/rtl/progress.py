"""What a simulation saw of the streams of a design: how many words each carried and when, and how full each FIFO was.

The bench holds a monitor for every stream and every FIFO of the stitched top, and each writes a line when the
simulation ends. From these lines follows what a design that does not move any more waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bitproof.hw.rtl.description import RtlDescription, RtlNode
from bitproof.hw.rtl.providers import FIFO

MONITORS = """\
module stream_monitor #(parameter NAME = "") (
  input clk, input reset_n, input [63:0] cycle, input valid, input ready, output logic [31:0] words
);
  logic [63:0] last;
  always_ff @(posedge clk) begin
    if (!reset_n) begin
      words <= '0;
      last <= '0;
    end else if (valid && ready) begin
      words <= words + 1'b1;
      last <= cycle;
    end
  end
  final $display("stream %s %0d %0d %0d %0d", NAME, words, last, valid, ready);
endmodule
module fifo_monitor #(parameter NAME = "") (input clk, input reset_n, input [31:0] came, input [31:0] left);
  logic [31:0] most;
  always_ff @(posedge clk) begin
    if (!reset_n) most <= '0;
    else if (came - left > most) most <= came - left;
  end
  final $display("fifo %s %0d %0d", NAME, most, came - left);
endmodule
"""
"""A line ``stream NAME WORDS LAST-CYCLE VALID READY`` for each stream, and ``fifo NAME MOST HELD`` for each FIFO."""


@dataclass(frozen=True, slots=True)
class StreamUse:
    """What went through a stream.

    Attributes:
        words: how many.
        last_cycle: when the last did; 0: none did.
        valid: a word is offered now.
        ready: it would be taken now.
    """

    words: int
    last_cycle: int
    valid: bool
    ready: bool


@dataclass(frozen=True, slots=True)
class FifoUse:
    """What lay in a FIFO.

    Attributes:
        most: words at most.
        held: words at the end.
        depth: words that it was made for; its registers hold a few more.
    """

    most: int
    held: int
    depth: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What the monitors saw.

    Attributes:
        streams: by name.
        fifos: by the name of the node.
    """

    streams: Mapping[str, StreamUse]
    fifos: Mapping[str, FifoUse]


def monitor_text(description: RtlDescription, *, top: str, clock: str) -> str:
    """Return the Verilog of all monitors of the instance *top* of the stitched design on *clock*."""
    ends = {description.input_stream: "s_axis_t", description.output_stream: "m_axis_t"}
    streams = [port.stream for node in description.nodes for port in node.inputs] + [description.output_stream]
    lines = [f"  logic [63:0] cycle;\n  always_ff @(posedge {clock}) cycle <= reset_n ? cycle + 1'b1 : '0;\n"]
    for number, stream in enumerate(streams):
        wires = ends.get(stream, f"{stream}_")
        connected = f".clk({clock}), .reset_n(reset_n), .cycle(cycle), .words(words_{number})"
        lines.append(
            f"  wire [31:0] words_{number};\n"
            f'  stream_monitor #(.NAME("{stream}")) monitor_{number} ({connected}, .valid({top}.{wires}valid), '
            f".ready({top}.{wires}ready));\n"
        )
    for node in (node for node in description.nodes if node.op == FIFO):
        came, left = (streams.index(ports[0].stream) for ports in (node.inputs, node.outputs))
        lines.append(
            f'  fifo_monitor #(.NAME("{node.name}")) monitor_{node.name} (.clk({clock}), .reset_n(reset_n), '
            f".came(words_{came}), .left(words_{left}));\n"
        )
    return "".join(lines)


def read_progress(description: RtlDescription, lines: Iterable[str]) -> Progress:
    """Return what the *lines* of the monitors say; others are left alone."""
    depths = {node.name: node.parameters["depth"] for node in description.nodes if node.op == FIFO}
    streams, fifos = {}, {}
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "stream":
            name, *numbers = rest.split()
            words, last, valid, ready = map(int, numbers)
            streams[name] = StreamUse(words, last, bool(valid), bool(ready))
        elif kind == "fifo":
            name, *numbers = rest.split()
            most, held = map(int, numbers)
            fifos[name] = FifoUse(most, held, depths[name])
    return Progress(streams, fifos)


def unmonitored(lines: Iterable[str]) -> list[str]:
    """Return those of *lines* that no monitor printed."""
    return [line for line in lines if line.partition(" ")[0] not in ("stream", "fifo")]


def describe_stall(description: RtlDescription, progress: Progress) -> str:
    """Return which FIFOs are full and which empty, and in which cycle each other node moved its last word."""
    fifos = [node for node in description.nodes if node.op == FIFO]
    full = [node for node in fifos if _waits(progress, node, valid=True)]
    empty = [node for node in fifos if _waits(progress, node, valid=False)]
    places = {node.name: _place(description, node) for node in fifos}
    parts = [
        f"full FIFOs: {_listed(f'{n.name} {places[n.name]}, {progress.fifos[n.name].held} words' for n in full)}",
        f"empty FIFOs: {_listed(f'{n.name} {places[n.name]}' for n in empty)}",
    ]
    moved = [f"{_named(node)} in cycle {_last(progress, node)}" for node in description.nodes if node.op != FIFO]
    return "; ".join([*parts, f"last word of each node: {_listed(moved)}"])


def _waits(progress: Progress, fifo: RtlNode, *, valid: bool) -> bool:
    """Tell whether a word is offered to *fifo* and not taken, or one is asked from it and not there."""
    stream = progress.streams[(fifo.inputs if valid else fifo.outputs)[0].stream]
    return (stream.valid, stream.ready) == (valid, not valid)


def _last(progress: Progress, node: RtlNode) -> int:
    return max(progress.streams[port.stream].last_cycle for port in (*node.inputs, *node.outputs))


def _place(description: RtlDescription, fifo: RtlNode) -> str:
    """Return between which nodes *fifo* lies."""
    (taken,), (given,) = fifo.inputs, fifo.outputs
    before = [node for node in description.nodes for port in node.outputs if port.stream == taken.stream]
    behind = [node for node in description.nodes for port in node.inputs if port.stream == given.stream]
    ends = (_named(nodes[0]) if nodes else "the host" for nodes in (before, behind))
    return "from {} to {}".format(*ends)


def _named(node: RtlNode) -> str:
    return node.name if node.covers is None else f"{node.name} ({node.covers})"


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items) or "none"
