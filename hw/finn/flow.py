"""The stage that turns the integer model into FINN's dataflow graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bitproof.export.integer import load
from bitproof.hw.board import Board, load_board
from bitproof.hw.finn.process import DISTRIBUTION, run_child
from bitproof.hw.finn.walk import require_supported
from bitproof.pipeline import Artifact, ConfigError, Stage, StageContext, StageError

SUMMARY = "graph.json"


@dataclass(frozen=True)
class BuildFinnGraph(Stage):
    """Write ``hw.onnx`` (abstract hardware layers), ``folded.onnx`` (RTL layers) and ``graph.json``.

    Attributes:
        board: name of a file in ``hw/boards``.
        fps: the throughput aimed at, in images per second.
    """

    name: ClassVar[str] = "finn"
    consumes: ClassVar[str] = "integer-model"
    produces: ClassVar[str] = "finn-graph"
    distributions: ClassVar[tuple[str, ...]] = (DISTRIBUTION, "qonnx", "onnx")

    board: str = "pynq-z1"
    fps: int = 100_000

    def __post_init__(self) -> None:
        board = load_board(self.board)
        if self.fps < 1 or board.cycles_per_image(self.fps) < 1:
            raise ConfigError(
                f"fps = {self.fps} is not possible on {self.board}; allowed: 1..{1_000_000_000 // board.clock_ns}"
            )

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Build the graph in a child process.

        Raises:
            StageError: a layer is not supported, the frame rate is not reached, or the graph does not fit the board.
        """
        board = load_board(self.board)
        require_supported(load(source.path))
        cycles = board.cycles_per_image(self.fps)
        arguments: list[str | Path] = [source.path, ctx.workdir, board.generated_for, str(board.clock_ns), str(cycles)]
        run_child("build", arguments, needed_by=self.name, scratch=ctx.scratch)
        path = ctx.workdir / SUMMARY
        summary: dict[str, Any] = json.loads(path.read_text())
        if board.open_fpga is None:  # FINN estimates for AMD; the open tools count what they place
            _require_fit(summary["finn_estimates"], board, self)
        summary |= {"board": self.board, "part": board.part, "clock_ns": board.clock_ns, "target_fps": self.fps}
        path.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
        return {}


def _require_fit(estimates: Mapping[str, int], board: Board, stage: BuildFinnGraph) -> None:
    for name, available in (("LUT", board.lut), ("DSP", board.dsp), ("BRAM_18K", board.bram18)):
        if estimates[name] > available:
            raise StageError(
                f"FINN estimates {estimates[name]} {name} for {stage.fps} frames/s; {stage.board} has {available}. "
                "Ask for fewer frames per second, or use a smaller network"
            )
