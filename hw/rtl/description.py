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
from bitproof.hw.rtl.providers import PRODUCTS, REQUANTIZERS, Op
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
        parameters: what else the benches need: MW, MH, PE, weight_bits, bipolar and bipolar_weights for a product,
            SIMD and groups for a matrix unit, taps for a depthwise unit; channels, PE for an activation, with levels,
            threshold_bits, bipolar for thresholding; depth for a FIFO. *bipolar*: codes are bits, 1 for +1, 0 for -1.
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
        return port.layout.of(self._vector("MW")) if self.alone else port.layout

    @property
    def output(self) -> StreamLayout:
        """The stream out of a node that has one, with the words of one vector if the node is a unit."""
        (port,) = self.outputs
        return port.layout.of(self._vector("MH")) if self.alone else port.layout

    @property
    def alone(self) -> bool:
        """The benches run it alone, too: it is a unit, with weights or with the constants of an activation."""
        return self.op in (*PRODUCTS, *REQUANTIZERS)

    def _vector(self, side: str) -> int:
        return self.parameters[side if self.op in PRODUCTS else "channels"]


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

    def unit(self, node: str, *ops: Op) -> RtlNode:
        """Return the node that does one of *ops* for *node*, a node of the integer model.

        Raises:
            InputError: there is none.
        """
        units = {unit.covers or unit.name: unit for unit in self.nodes if unit.op in ops}
        if node not in units:
            sought = " or ".join(ops)
            raise InputError(f"there is no {sought} for {node!r}; the RTL has one for {', '.join(units) or 'nothing'}")
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
