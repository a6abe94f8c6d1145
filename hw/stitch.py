"""The stage that makes one Verilog top of FINN's nodes: a chain of AXI-Streams, without Vivado."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from bitproof.hw.finn.patches import apply_patches
from bitproof.hw.finn.process import DISTRIBUTION, run_child
from bitproof.hw.rtl_node import FIFO, FILE, MATRIX_UNIT, THRESHOLDING, TOP, RtlDescription, RtlNode
from bitproof.pipeline import Artifact, ConfigError, Stage, StageContext, StageError

NODES = "nodes.json"
FIFO_DEPTHS = range(2, (1 << 15) + 1)
"""In words: what FINN's FIFOs can have."""
AXI_LITE = ("AWVALID", "AWADDR", "WVALID", "WDATA", "WSTRB", "BREADY", "ARVALID", "ARADDR", "RREADY")
"""Inputs of the configuration bus, which stays unused: weights and thresholds are fixed."""


@dataclass(frozen=True)
class StitchRtl(Stage):
    """Write ``rtl/`` (sources, ``rtl/finn_top.sv`` on top), ``data/`` (weights, thresholds) and ``rtl.json``.

    The sources name the memory files relative to the artifact, so a simulation runs with the artifact as its working
    directory.

    Attributes:
        fifo_depth: least depth of the FIFOs, in words.
    """

    name: ClassVar[str] = "rtl"
    consumes: ClassVar[str] = "finn-graph"
    produces: ClassVar[str] = "rtl"
    distributions: ClassVar[tuple[str, ...]] = (DISTRIBUTION, "qonnx", "onnx")

    fifo_depth: int = 32

    def __post_init__(self) -> None:
        if self.fifo_depth not in FIFO_DEPTHS:
            allowed = f"{FIFO_DEPTHS[0]}..{FIFO_DEPTHS[-1]}"
            raise ConfigError(f"fifo_depth = {self.fifo_depth} is not possible; allowed: {allowed} words")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Generate the RTL in a child process, patch it and stitch it.

        Raises:
            StageError: FINN failed, a node cannot be stitched, or a patch does not apply.
        """
        summary: dict[str, Any] = json.loads((source.path / "graph.json").read_text())
        part, clock_ns = str(summary["part"]), int(summary["clock_ns"])
        arguments: list[str | Path] = [
            source.path / "folded.onnx",
            ctx.workdir,
            part,
            str(clock_ns),
            str(self.fifo_depth),
        ]
        run_child("generate", arguments, needed_by=self.name, scratch=ctx.scratch)
        described = ctx.workdir / NODES
        generated: dict[str, Any] = json.loads(described.read_text())
        described.unlink()
        covered = {entry["name"]: entry["layer"] for entry in summary["layers"]}
        nodes = tuple(
            RtlNode.model_validate({**entry, "covers": covered.get(entry["name"])}) for entry in generated["nodes"]
        )
        for name in generated["sources"]:
            path = ctx.workdir / "rtl" / name
            path.write_text(apply_patches(name, path.read_text()))
        (ctx.workdir / "rtl" / f"{TOP}.sv").write_text(top_module(nodes))
        description = RtlDescription(
            part=part,
            clock_ns=clock_ns,
            fifo_depth=self.fifo_depth,
            files=tuple(f"rtl/{name}" for name in (*generated["sources"], f"{TOP}.sv")),
            nodes=nodes,
            output_bias=tuple(summary["output_bias"]),
            estimates={"initiation_interval": summary["estimated_initiation_interval"], **summary["finn_estimates"]},
        )
        _write_json(description, ctx.workdir / FILE)
        return {}


def _write_json(description: RtlDescription, path: Path) -> None:
    path.write_text(json.dumps(description.model_dump(mode="json", exclude_none=True), indent=1, sort_keys=True) + "\n")


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
