"""The description of stitched RTL: a graph of nodes and streams, written to ``rtl.json`` and read by the test benches.

A stream has a name, one node that fills it and one that empties it; the streams at the ends of the design have one of
both. A fork or a join is a node with several streams on a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bitproof.hw.rtl.host_order import Columns
from bitproof.hw.rtl.providers import MATRIX_UNIT, THRESHOLDING, Op
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import InputError
from bitproof.pipeline.record import Record

FILE = "rtl.json"
TOP = "finn_top"
FORMAT: Literal[2] = 2
"""Version of ``rtl.json``: 1 was a chain without names of streams."""


class RtlPort(Record):
    """One stream port of a node.

    Attributes:
        port: prefix of its Verilog ports, for example ``in0_V``.
        stream: name of the stream that it is connected to, and of the wires.
        layout: words of the stream as this node sees them.
    """

    port: str
    stream: str
    layout: StreamLayout


class RtlNode(Record):
    """One node of the dataflow graph.

    Attributes:
        name: its name in FINN's graph, and of its instance.
        op: what it does.
        module: the Verilog module that was generated for it.
        inputs: its input ports.
        outputs: its output ports.
        parameters: what else the benches need: MW, MH, PE, SIMD, weight_bits for a matrix unit; channels, PE, levels,
            threshold_bits for thresholding; depth for a FIFO.
        covers: name of the node of the integer model that it carries out; None for a FIFO or a width converter.
        columns: of a matrix unit: how the columns that it takes lie in the model's; None: they are the same.
    """

    name: str
    op: Op
    module: str
    inputs: tuple[RtlPort, ...]
    outputs: tuple[RtlPort, ...]
    parameters: Mapping[str, int]
    covers: str | None = None
    columns: Columns | None = None

    @property
    def input(self) -> StreamLayout:
        """The stream into a node that has one, with the words that one vector takes if the node is a unit."""
        (port,) = self.inputs
        taken = {MATRIX_UNIT: "MW", THRESHOLDING: "channels"}.get(self.op)
        return port.layout if taken is None else port.layout.of(self.parameters[taken])

    @property
    def output(self) -> StreamLayout:
        """The stream out of a node that has one, with the words of one vector if the node is a unit."""
        (port,) = self.outputs
        given = {MATRIX_UNIT: "MH", THRESHOLDING: "channels"}.get(self.op)
        return port.layout if given is None else port.layout.of(self.parameters[given])


class RtlDescription(Record):
    """``rtl.json``.

    Attributes:
        format: its version.
        part: the FPGA.
        clock_ns: the period of the clock.
        fifo_depth: least depth of the FIFOs, in words.
        files: the Verilog sources in compile order, relative to the artifact.
        nodes: the graph; each node stands behind those that fill its input streams.
        input_stream: name of the stream that the host fills.
        output_stream: name of the stream that the host empties.
        input_shape: shape of the input codes as the model counts them, channels first; in the stream they are last.
        output_shape: the same of the outputs.
        slowest_node: name of the node that takes the most cycles from sample to sample.
        slowest_cycles: how many, computed: no design is faster.
        estimates: FINN's estimates, from the graph the RTL was made from.
        output_bias: what the program that reads the outputs adds to them, one number each; empty: nothing.
    """

    format: Literal[2] = FORMAT
    part: str
    clock_ns: int
    fifo_depth: int
    files: tuple[str, ...]
    nodes: tuple[RtlNode, ...]
    input_stream: str
    output_stream: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    slowest_node: str
    slowest_cycles: int
    estimates: Mapping[str, int]
    output_bias: tuple[int, ...] = ()

    @property
    def input(self) -> StreamLayout:
        """Stream of the input codes."""
        return next(p.layout for node in self.nodes for p in node.inputs if p.stream == self.input_stream)

    @property
    def output(self) -> StreamLayout:
        """Stream of the output codes."""
        return next(p.layout for node in self.nodes for p in node.outputs if p.stream == self.output_stream)

    def units(self, op: Op) -> tuple[RtlNode, ...]:
        """Return the nodes that do *op*, in execution order."""
        return tuple(node for node in self.nodes if node.op == op)

    def unit(self, node: str, op: Op) -> RtlNode:
        """Return the node that does *op* for *node*, a node of the integer model.

        Raises:
            InputError: there is none.
        """
        units = {unit.covers or unit.name: unit for unit in self.units(op)}
        if node not in units:
            raise InputError(f"there is no {op} for {node!r}; the RTL has one for {', '.join(units) or 'nothing'}")
        return units[node]


def read_description(folder: Path) -> RtlDescription:
    """Read ``rtl.json`` of the RTL artifact in *folder*.

    Raises:
        InputError: it is missing or malformed, or of another version.
    """
    try:
        return RtlDescription.model_validate_json((folder / FILE).read_text())
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder} does not hold stitched RTL: {error}") from error
