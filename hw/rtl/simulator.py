"""The simulator: the bench, compiled by Verilator once for each set of Verilog sources, and run.

The key of a compiled simulator is a hash of everything that goes into it. Weights and thresholds are read at run time
and are no part of it, so a retrained network of the same shape needs no compilation.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitproof.hw.rtl.bench import BENCH, Unit, bench_module, bench_units
from bitproof.hw.rtl.description import RtlDescription
from bitproof.hw.rtl.stream import Bytes
from bitproof.hw.rtl.tasks import require_known_tasks
from bitproof.pipeline import StageError
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.toolchain import GXX, MAKE, VERILATOR, Confinement, cpu_count, run_program

HARNESS = Path(__file__).parent / "harness.cpp"
EXECUTABLE = f"V{BENCH}"
DIGEST = "program.sha256"
NEEDED_BY = "target finn (RTL simulation)"
COMPILE_TIMEOUT_S = 1800
START_UP_CYCLES = 10_000
RUN_TIMEOUT_S = 1800

VERILATOR_FLAGS = (
    "--cc",
    "--exe",
    "-O3",
    "--assert",
    "--no-timing",
    # undriven and uninitialized bits are random instead of zero, so that a result does not rest on them
    "--x-assign",
    "unique",
    "--x-initial",
    "unique",
    # FINN's RTL relies on implicit width changes and leaves ports open
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    # the wheel's makefile is configured without the flag for precompiled headers
    "-MAKEFLAGS",
    "CFG_CXXFLAGS_PCH_I=-include",
    "--Mdir",
    "obj",
    "--top-module",
    BENCH,
)
MAKE_FLAGS = ("CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O2", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1")


@dataclass(frozen=True, slots=True)
class Stimulus:
    """Input words for one unit.

    Attributes:
        words: shape (words, word_bytes).
        repeat: how often each word is sent.
        outputs: number of output words that they cause.
    """

    words: Bytes
    repeat: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the harness measured.

    Attributes:
        cycles: clock cycles of the whole run.
        latency_cycles: from the first input word of the first sample to its last output word.
        initiation_interval: cycles between two samples, once the pipeline is full; 0 for fewer than three samples.
    """

    cycles: int
    latency_cycles: int
    initiation_interval: float


@dataclass(frozen=True, slots=True)
class Simulator:
    """A compiled bench.

    Attributes:
        executable: the program.
        units: what it can run.
        idle_limit: in how many cycles a unit transfers at least one word, unless it is stuck.
    """

    executable: Path
    units: tuple[Unit, ...]
    idle_limit: int

    def run(
        self, unit: Unit, stimulus: Stimulus, *, memories: Path, workdir: Path, stall_percent: int, seed: int
    ) -> tuple[Bytes, Measurement]:
        """Run *stimulus* through *unit* and return the output words, shape (outputs, word_bytes).

        Args:
            unit: one of :attr:`units`.
            stimulus: its input.
            memories: the folder that holds ``data/``.
            workdir: an existing folder for the files exchanged.
            stall_percent: in how many of 100 cycles source and sink pause, each.
            seed: of the pauses and of the bits that the RTL leaves uninitialized.

        Raises:
            StageError: the unit is stuck, or one of its assertions failed.
        """
        source, target = workdir / f"{unit.name}.in", workdir / f"{unit.name}.out"
        stimulus.words.tofile(source)
        arguments: dict[str, int | str | Path] = {
            "unit": unit.index,
            "input": source.resolve(),
            "input-bytes": unit.input.word_bytes,
            "repeat": stimulus.repeat,
            "output": target.resolve(),
            "output-bytes": unit.output.word_bytes,
            "outputs": stimulus.outputs,
            "words-out": unit.output.words,
            "stall": stall_percent,
            "seed": seed,
            "idle-limit": self.idle_limit,
        }
        measured = run_bench(self.executable, arguments, memories=memories, workdir=workdir, seed=seed)
        words = np.fromfile(target, dtype=np.uint8).reshape(-1, unit.output.word_bytes)
        return words, measured


def simulator_for(description: RtlDescription, artifact: Path, *, cache: Path, workdir: Path) -> Simulator:
    """Return the simulator of the RTL in *artifact*, from *cache* if it has been compiled before.

    Raises:
        ToolMissingError: Verilator, make or g++ is not installed.
        StageError: they failed.
    """
    units = bench_units(description)
    sources = {name: (artifact / name).read_text() for name in description.files}
    for name, text in sources.items():
        require_known_tasks(name, text)
    sources["rtl/bench.sv"] = bench_module(units)
    executable = compiled_bench(sources, cache=cache, workdir=workdir)
    # While every node works on one sample, nothing may enter or leave.
    idle_limit = START_UP_CYCLES + (len(description.nodes) + 1) * description.slowest_cycles
    return Simulator(executable, units, idle_limit)


def compiled_bench(sources: Mapping[str, str], *, cache: Path, workdir: Path, harness: Path = HARNESS) -> Path:
    """Return the program that the module ``bench`` in *sources* was compiled to, now or before.

    Args:
        sources: text of the Verilog files by their path, in compile order; they lie in ``rtl``.
        cache: a folder for compiled simulators.
        workdir: an existing folder for the log.
        harness: the C++ that drives it.

    Raises:
        ToolMissingError: Verilator, make or g++ is not installed.
        StageError: they failed.
    """
    sources = {**sources, "harness.cpp": harness.read_text()}
    folder = cache / _key(sources)
    if not _is_whole(folder):
        cache.mkdir(parents=True, exist_ok=True)
        # GNU make cannot build in a folder whose path has a space.
        spaced = any(character.isspace() for character in str(cache.resolve()))
        build = Path(tempfile.mkdtemp(prefix="building-", dir=None if spaced else cache))
        try:
            _compile(sources, build, log=workdir / "compile.log")
            _commit(build / "obj" / EXECUTABLE, folder)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return (folder / EXECUTABLE).resolve()


def run_bench(
    executable: Path, arguments: Mapping[str, int | str | Path], *, memories: Path, workdir: Path, seed: int
) -> Measurement:
    """Run a compiled bench with the *arguments* that ``harness.cpp`` lists; it may write into *workdir* only.

    Args:
        executable: what :func:`compiled_bench` returned.
        arguments: by their names.
        memories: the folder that holds ``data/``.
        workdir: an existing folder for the files exchanged and the log.
        seed: of the bits that the RTL leaves uninitialized.

    Raises:
        StageError: the unit is stuck, or one of its assertions failed.
    """
    argv = [str(executable), *(f"+{name}={value}" for name, value in arguments.items())]
    argv += ["+verilator+rand+reset+2", f"+verilator+seed+{seed + 1}"]
    stdout = run_program(
        argv,
        needed_by=NEEDED_BY,
        cwd=memories,
        log=workdir / "simulation.log",
        timeout_s=RUN_TIMEOUT_S,
        confined=Confinement(readable=(memories.resolve(),), writable=(workdir.resolve(),)),
    )
    measured = json.loads(stdout.strip().splitlines()[-1])
    return Measurement(int(measured["cycles"]), int(measured["latency_cycles"]), float(measured["initiation_interval"]))


def _key(sources: Mapping[str, str]) -> str:
    """Return the hash of the sources, in compile order, and of the tools and flags."""
    hasher = hashlib.sha256()
    versions = (VERILATOR.version(), GXX.version())
    for part in (repr(versions), *VERILATOR_FLAGS, *MAKE_FLAGS, *(text for pair in sources.items() for text in pair)):
        hasher.update(f"{len(part)}:".encode() + part.encode())
    return hasher.hexdigest()[:32]


def _compile(sources: Mapping[str, str], build: Path, *, log: Path) -> None:
    build, log = build.resolve(), log.resolve()
    (build / "rtl").mkdir()
    for name, text in sources.items():
        (build / name).write_text(text)
    VERILATOR.run([*VERILATOR_FLAGS, *sources], needed_by=NEEDED_BY, cwd=build, log=log, timeout_s=COMPILE_TIMEOUT_S)
    GXX.require(NEEDED_BY)
    jobs = f"-j{cpu_count()}"
    # The makefile calls "python", which Debian does not have; it is part of the command, not of the program's identity.
    python = f"PYTHON3={sys.executable}"
    arguments: Sequence[str] = ["-C", "obj", "-f", f"V{BENCH}.mk", jobs, python, *MAKE_FLAGS]
    MAKE.run(arguments, needed_by=NEEDED_BY, cwd=build, log=log, timeout_s=COMPILE_TIMEOUT_S)


def _commit(executable: Path, folder: Path) -> None:
    """Move the finished program into the cache; another process may have been faster, with the same program."""
    if not executable.is_file():
        raise StageError(f"{NEEDED_BY}: make ended without an error but left no {executable.name}")
    folder.mkdir(exist_ok=True)
    (folder / DIGEST).write_text(sha256_of_bytes(executable.read_bytes()))
    partial = folder / f"{EXECUTABLE}.{os.getpid()}"
    shutil.copy2(executable, partial)  # it may have been built on another file system
    partial.replace(folder / EXECUTABLE)


def _is_whole(folder: Path) -> bool:
    """Tell whether the program in *folder* is the one that was put there."""
    try:
        return sha256_of_bytes((folder / EXECUTABLE).read_bytes()) == (folder / DIGEST).read_text()
    except OSError:
        return False
