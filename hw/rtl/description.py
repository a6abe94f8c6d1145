"""The description of stitched RTL: one record per FINN node, written to ``rtl.json`` and read by the test benches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import InputError
from bitproof.pipeline.record import Record

FILE = "rtl.json"
TOP = "finn_top"

Op = Literal["MVAU_rtl", "Thresholding_rtl", "StreamingDataWidthConverter_rtl", "StreamingFIFO_rtl"]

MATRIX_UNIT: Literal["MVAU_rtl"] = "MVAU_rtl"
THRESHOLDING: Literal["Thresholding_rtl"] = "Thresholding_rtl"
WIDTH_CONVERTER: Literal["StreamingDataWidthConverter_rtl"] = "StreamingDataWidthConverter_rtl"
FIFO: Literal["StreamingFIFO_rtl"] = "StreamingFIFO_rtl"


class RtlNode(Record):
    """One node of the dataflow chain.

    Attributes:
        name: its name in FINN's graph, and of its instance.
        op: what it does.
        module: the Verilog module that FINN generated for it.
        input: its input stream.
        output: its output stream.
        parameters: what else the benches need: MW, MH, PE, SIMD, weight_bits for a matrix unit; channels, PE, levels,
            threshold_bits for thresholding; depth for a FIFO.
        covers: name of the node of the integer model that it carries out; None for a FIFO or a width converter.
    """

    name: str
    op: Op
    module: str
    input: StreamLayout
    output: StreamLayout
    parameters: Mapping[str, int]
    covers: str | None = None


class RtlDescription(Record):
    """``rtl.json``.

    Attributes:
        part: the FPGA.
        clock_ns: the period of the clock.
        fifo_depth: least depth of the FIFOs, in words.
        files: the Verilog sources in compile order, relative to the artifact.
        nodes: the chain from input to output.
        estimates: FINN's estimates, from the graph the RTL was made from.
        output_bias: what the program that reads the outputs adds to them, one number each; empty: nothing.
    """

    part: str
    clock_ns: int
    fifo_depth: int
    files: tuple[str, ...]
    nodes: tuple[RtlNode, ...]
    estimates: Mapping[str, int]
    output_bias: tuple[int, ...] = ()

    @property
    def input(self) -> StreamLayout:
        """Stream of the input codes."""
        return self.nodes[0].input

    @property
    def output(self) -> StreamLayout:
        """Stream of the output codes."""
        return self.nodes[-1].output

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
        InputError: it is missing or malformed.
    """
    try:
        return RtlDescription.model_validate_json((folder / FILE).read_text())
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder} does not hold stitched RTL: {error}") from error
