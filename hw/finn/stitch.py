"""The stage that makes one Verilog top of FINN's nodes and ours, connected by AXI-Streams, without Vivado."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bitproof.hw.board import load_board
from bitproof.hw.finn.patches import apply_patches
from bitproof.hw.finn.process import DISTRIBUTION, run_child
from bitproof.hw.rtl.description import FILE, TOP, RtlDescription, RtlNode
from bitproof.hw.rtl.top import top_module
from bitproof.pipeline import Artifact, ConfigError, Stage, StageContext

NODES = "nodes.json"
FIFO_DEPTHS = range(2, (1 << 15) + 1)
"""In words: what FINN's FIFOs can have."""


@dataclass(frozen=True)
class StitchRtl(Stage):
    """Write ``rtl/`` (sources, ``rtl/finn_top.sv`` on top), ``data/`` (weights, thresholds) and ``rtl.json``.

    The sources name the memory files relative to the artifact, so a simulation runs with the artifact as its working
    directory.

    Attributes:
        fifo_depth: least depth of the FIFOs, in words; one is deeper where the throughput needs it.
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
            load_board(str(summary["board"])).generated_for,
            str(clock_ns),
            str(self.fifo_depth),
        ]
        run_child("generate", arguments, needed_by=self.name, scratch=ctx.scratch)
        described = ctx.workdir / NODES
        generated: dict[str, Any] = json.loads(described.read_text())
        described.unlink()
        covered = {entry["name"]: entry for entry in summary["layers"]}
        nodes = tuple(_node(entry, covered.get(entry["name"])) for entry in generated["nodes"])
        streams = {name: str(generated[name]) for name in ("input_stream", "output_stream")}
        for name in generated["sources"]:
            path = ctx.workdir / "rtl" / name
            path.write_text(apply_patches(name, path.read_text()))
        (ctx.workdir / "rtl" / f"{TOP}.sv").write_text(top_module(nodes, **streams))
        description = RtlDescription(
            part=part,
            clock_ns=clock_ns,
            fifo_depth=self.fifo_depth,
            files=tuple(f"rtl/{name}" for name in (*generated["sources"], f"{TOP}.sv")),
            nodes=nodes,
            **streams,
            slowest_node=str(generated["slowest_node"]),
            slowest_cycles=int(generated["slowest_cycles"]),
            input_shape=tuple(summary["input_shape"]),
            output_shape=tuple(summary["output_shape"]),
            output_bias=tuple(summary["output_bias"]),
            estimates={"initiation_interval": summary["estimated_initiation_interval"], **summary["finn_estimates"]},
        )
        _write_json(description, ctx.workdir / FILE)
        return {}


def _node(entry: Mapping[str, Any], layer: Mapping[str, Any] | None) -> RtlNode:
    """Return the node described by *entry*, with what it carries out of the integer model."""
    if layer is None:
        return RtlNode.model_validate(entry)
    parameters = {**layer["benches"], **entry["parameters"]}
    covers = {"covers": layer["layer"], "columns": layer.get("columns")}
    return RtlNode.model_validate({**entry, **covers, "parameters": parameters})


def _write_json(description: RtlDescription, path: Path) -> None:
    path.write_text(json.dumps(description.model_dump(mode="json", exclude_none=True), indent=1, sort_keys=True) + "\n")
