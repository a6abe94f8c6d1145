"""The target ``finn``: FINN dataflow RTL, simulated by Verilator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field

from bitproof.export.program.target import Target
from bitproof.hw.board import board_names, load_board
from bitproof.hw.finn.stitch import FIFO_DEPTHS
from bitproof.hw.synth.bitstream import DEFAULT_SEEDS, MAX_SEEDS, Timing, figures_of
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.stage import Stage, StagePlan
from bitproof.pipeline.toolchain import VERILATOR

if TYPE_CHECKING:
    from pathlib import Path

    from bitproof.export.integer import IntegerModel


MAX_UART_IMAGES = 100
"""An image of 784 bytes takes 800,000 clock cycles."""


def known_board(name: str) -> str:
    """Return *name* if there is a board of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in board_names():
        raise ValueError(f"unknown board {name!r}; known: {', '.join(board_names())}")
    return name


class FinnTarget(Target):
    """FINN dataflow RTL: *board*, the throughput aimed at in frames/s, and the depth of the FIFOs in words.

    A board that open tools know also gets its bitstream, placed with up to *seeds* seeds (None: 3); *timing* says
    whether one that is slower than its clock is a failure (None: it is). *uart_images* images go bit by bit over the
    serial line of the complete netlist (None: none do).
    """

    kind: ClassVar[str] = "finn"

    board: Annotated[str, AfterValidator(known_board)] = "pynq-z1"
    fps: int = Field(100_000, ge=1, le=100_000_000)
    fifo_depth: int = Field(32, ge=FIFO_DEPTHS[0], le=FIFO_DEPTHS[-1])
    seeds: int | None = Field(None, ge=1, le=MAX_SEEDS)
    timing: Timing | None = None
    uart_images: int | None = Field(None, ge=1, le=MAX_UART_IMAGES)

    def stages(self) -> tuple[StagePlan, ...]:
        """Return FINN's graph and the stitched RTL; for an open FPGA, its netlist and its bitstream.

        FIFOs are inserted when the RTL is stitched: their depth does not make the graph stale.
        """
        stitched = (
            StagePlan("finn", "integer", self._build, {"board": self.board, "fps": self.fps}, priority=10),
            StagePlan("rtl", "finn", self._stitch, {"fifo_depth": self.fifo_depth}, priority=10),
        )
        if load_board(self.board).open_fpga is None:
            return stitched
        routing = {"seeds": self.seeds or DEFAULT_SEEDS, "timing": self.timing or "met"}
        return (
            *stitched,
            StagePlan("netlist", "rtl", self._synthesize, {"board": self.board}, priority=10),
            StagePlan("bitstream", "netlist", self._route, routing, priority=10, measure=figures_of),
        )

    def require_options(self) -> None:
        """Refuse options of the open FPGA flow for a board whose bitstream its vendor's tools make."""
        given = [name for name in ("seeds", "timing", "uart_images") if getattr(self, name) is not None]
        if given and load_board(self.board).open_fpga is None:
            raise ConfigError(
                f"finn{{{given[0]}={getattr(self, given[0])}}} is for boards whose bitstream open tools make; "
                f"{self.board} is none of them. Leave it out"
            )

    def executors(self) -> tuple[ExecutorPlan, ...]:
        """Return FINN's Python execution of its graph, the simulated RTL, and the netlist of an open FPGA."""
        return (*self._of_rtl(), *self._of_netlist())

    def _of_netlist(self) -> tuple[ExecutorPlan, ...]:
        fpga = load_board(self.board).open_fpga
        if fpga is None:
            return ()
        about = f"the netlist for {self.board}, its cells simulated by Verilator"
        alone = ExecutorPlan(
            *(f"netlist:{fpga.family}", f"netlist-{fpga.family}", "netlist", about, _simulate_netlist),
            tools=(VERILATOR,),
            takes_output_bias=False,
        )
        if self.uart_images is None:
            return (alone,)
        about = f"the netlist for {self.board} with its shell, simulated bit by bit over its serial line"
        complete = ExecutorPlan(
            *(f"uart:{self.board}", f"uart-{self.board}", "netlist", about, _simulate_board),
            tools=(VERILATOR,),
            takes_output_bias=False,
            samples=self.uart_images,
        )
        return (alone, complete)

    def _of_rtl(self) -> tuple[ExecutorPlan, ...]:
        return (
            ExecutorPlan(
                *("finn-hw", "finn-hw", "finn", "FINN's hardware layers, executed in Python", _run_graph),
                evaluations={"scalar": 16, "logits": 8},
                takes_output_bias=False,
            ),
            ExecutorPlan(
                *("rtl", "rtl", "rtl", "FINN's RTL stitched into one top, simulated by Verilator", _simulate),
                flip=_flip,
                tools=(VERILATOR,),
                evaluations={"scalar": 320, "logits": 100},
                takes_output_bias=False,
            ),
        )

    def require_supported(self, model: IntegerModel) -> None:
        """Check what FINN's RTL layers can carry out, without starting FINN."""
        from bitproof.hw.finn.walk import require_supported

        require_supported(model)

    def reprogram(self, source: Path, copy: Path, original: IntegerModel, model: IntegerModel) -> bool:
        """Write other thresholds into the memories of RTL; FINN's graph, the other artifact, is built again."""
        from bitproof.hw.finn.reprogram import reprogram_thresholds

        return reprogram_thresholds(source, copy, original, model)

    def _build(self) -> Stage:
        from bitproof.hw.finn import BuildFinnGraph

        return BuildFinnGraph(board=self.board, fps=self.fps)

    def _stitch(self) -> Stage:
        from bitproof.hw.finn.stitch import StitchRtl

        return StitchRtl(fifo_depth=self.fifo_depth)

    def _synthesize(self) -> Stage:
        from bitproof.hw.synth.netlist import SynthesizeNetlist

        return SynthesizeNetlist(board=self.board)

    def _route(self) -> Stage:
        from bitproof.hw.synth.bitstream import BuildBitstream

        return BuildBitstream(seeds=self.seeds or DEFAULT_SEEDS, timing=self.timing or "met")


def _run_graph(place: Place) -> Executor:
    from bitproof.hw.finn import FinnExecutor

    return FinnExecutor(place.artifact, place.workdir)


def _simulate(place: Place) -> Executor:
    from bitproof.hw.rtl.executor import RtlExecutor

    return RtlExecutor(place.artifact, place.workdir, place.cache)


def _simulate_netlist(place: Place) -> Executor:
    from bitproof.hw.synth.executor import NetlistExecutor

    return NetlistExecutor(place.artifact, place.workdir, place.cache)


def _simulate_board(place: Place) -> Executor:
    from bitproof.hw.synth.simulated_board import SimulatedBoardExecutor

    return SimulatedBoardExecutor(place.artifact, place.workdir, place.cache)


def _flip(folder: Path, *, node: str, row: int, column: int) -> str:
    from bitproof.hw.finn.fault import flip_weight_bit

    return flip_weight_bit(folder, node=node, row=row, column=column)
