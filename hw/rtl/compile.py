"""The compiler of simulators: Verilator and g++, once for each set of Verilog sources.

The key of a compiled simulator is a hash of everything that goes into it. Weights and thresholds are read at run time
and are no part of it, so a retrained network of the same shape needs no compilation. Verilator's own runtime is the
same for all designs and takes as long as a small design: its objects are kept, too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bitproof.hw.rtl.bench import BENCH
from bitproof.pipeline import StageError
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.toolchain import GXX, MAKE, VERILATOR, cpu_count, optimization_of_simulators

HARNESS = Path(__file__).parent / "harness.cpp"
EXECUTABLE = f"V{BENCH}"
RUNTIME = ("verilated.o", "verilated_random.o", "verilated_threads.o")
"""Objects of Verilator's runtime that a bench of any design may need."""
NEEDED_BY = "target finn (RTL simulation)"
COMPILE_TIMEOUT_S = 1800

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
    # a design is one C++ file up to this many statements: reading Verilator's headers takes longer than compiling it
    "--output-split",
    "100000",
    "--output-split-cfuncs",
    "20000",
    # the wheel's makefile is configured without the flag for precompiled headers
    "-MAKEFLAGS",
    "CFG_CXXFLAGS_PCH_I=-include",
    "--Mdir",
    "obj",
    "--top-module",
    BENCH,
)
MAKE_FLAGS = ("CFG_CXXFLAGS_PCH_I=-include", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1")


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
    if not _are_whole(folder, (EXECUTABLE,)):
        cache.mkdir(parents=True, exist_ok=True)
        # GNU make cannot build in a folder whose path has a space.
        spaced = any(character.isspace() for character in str(cache.resolve()))
        build = Path(tempfile.mkdtemp(prefix="building-", dir=None if spaced else cache)).resolve()
        try:
            _compile(sources, build, runtime=cache / f"runtime-{_key({})}", log=(workdir / "compile.log").resolve())
            _keep(build / "obj", (EXECUTABLE,), folder)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return (folder / EXECUTABLE).resolve()


def _key(sources: Mapping[str, str]) -> str:
    """Return the hash of the sources, in compile order, and of the tools and flags."""
    hasher = hashlib.sha256()
    versions = (VERILATOR.version(), GXX.version())
    flags = (*VERILATOR_FLAGS, *MAKE_FLAGS, optimization_of_simulators())
    for part in (repr(versions), *flags, *(text for pair in sources.items() for text in pair)):
        hasher.update(f"{len(part)}:".encode() + part.encode())
    return hasher.hexdigest()[:32]


def _compile(sources: Mapping[str, str], build: Path, *, runtime: Path, log: Path) -> None:
    (build / "rtl").mkdir()
    for name, text in sources.items():
        (build / name).write_text(text)
    VERILATOR.run([*VERILATOR_FLAGS, *sources], needed_by=NEEDED_BY, cwd=build, log=log, timeout_s=COMPILE_TIMEOUT_S)
    GXX.require(NEEDED_BY)
    if not _are_whole(runtime, RUNTIME):
        _make(RUNTIME, build, log)
        _keep(build / "obj", RUNTIME, runtime)
    for name in RUNTIME:  # newer than the makefile that Verilator has just written, so make leaves them
        shutil.copy(runtime / name, build / "obj" / name)
    _make((), build, log)


def _make(goals: Sequence[str], build: Path, log: Path) -> None:
    """Make *goals* in the folder that Verilator wrote; none: the program."""
    # The makefile calls "python", which Debian does not have; it is part of the command, not of the program's identity.
    python = f"PYTHON3={sys.executable}"
    flags = (*MAKE_FLAGS, f"OPT_FAST={optimization_of_simulators()}")
    arguments = ["-C", "obj", "-f", f"{EXECUTABLE}.mk", f"-j{cpu_count()}", python, *flags, *goals]
    MAKE.run(arguments, needed_by=NEEDED_BY, cwd=build, log=log, timeout_s=COMPILE_TIMEOUT_S)


def _keep(made: Path, names: Sequence[str], folder: Path) -> None:
    """Copy finished files into the cache; another process may have been faster, with the same files.

    Raises:
        StageError: one was not made.
    """
    folder.mkdir(exist_ok=True)
    for name in names:
        if not (made / name).is_file():
            raise StageError(f"{NEEDED_BY}: make ended without an error but left no {name}")
        (folder / f"{name}.sha256").write_text(sha256_of_bytes((made / name).read_bytes()))
        partial = folder / f"{name}.{os.getpid()}"
        shutil.copy2(made / name, partial)  # it may have been built on another file system
        partial.replace(folder / name)


def _are_whole(folder: Path, names: Sequence[str]) -> bool:
    """Tell whether the files *names* in *folder* are those that were put there."""
    try:
        return all(
            sha256_of_bytes((folder / name).read_bytes()) == (folder / f"{name}.sha256").read_text() for name in names
        )
    except OSError:
        return False
