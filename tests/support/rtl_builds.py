"""Build FINN graphs and stitched RTL of small networks for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bitproof.export.integer import IntegerModel, save
from bitproof.hw.finn import BuildFinnGraph
from bitproof.hw.finn.stitch import StitchRtl
from bitproof.pipeline import Artifact, Stage
from bitproof.pipeline.stage import execute
from bitproof.pipeline.toolchain import cache_folder


def simulators() -> Path:
    """The folder of compiled simulators that all tests share."""
    return cache_folder(Path("set by conftest.py"))


@dataclass(frozen=True)
class RtlBuild:
    """A network with its FINN graph and its RTL; *folder* is the run that holds them."""

    model: IntegerModel
    folder: Path
    graph: Artifact
    rtl: Artifact


def integer_artifact(model: IntegerModel, folder: Path) -> Artifact:
    """Write *model* as an artifact without a manifest."""
    folder.mkdir(parents=True)
    save(model, folder)
    return Artifact("integer", "integer-model", folder, "0")


def run_stage(stage: Stage, source: Artifact, run: Path) -> Artifact:
    return execute(stage, source, run / stage.name, seed=0, versions={}, name=stage.name)


def build_rtl(model: IntegerModel, run: Path, *, fps: int, fifo_depth: int = 32) -> RtlBuild:
    """Make the FINN graph and the RTL of *model* in the folder *run*."""
    graph = run_stage(BuildFinnGraph(fps=fps), integer_artifact(model, run / "integer"), run)
    return RtlBuild(model, run, graph, run_stage(StitchRtl(fifo_depth=fifo_depth), graph, run))
