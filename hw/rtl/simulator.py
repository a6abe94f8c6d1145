"""The simulator of stitched RTL: the compiled bench and its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitproof.hw.rtl.bench import Unit, bench_module, bench_units
from bitproof.hw.rtl.compile import NEEDED_BY, compiled_bench
from bitproof.hw.rtl.description import RtlDescription
from bitproof.hw.rtl.progress import MONITORS, describe_stall, monitor_text, read_progress, unmonitored
from bitproof.hw.rtl.stream import Bytes
from bitproof.hw.rtl.tasks import require_known_tasks
from bitproof.pipeline import StageError
from bitproof.pipeline.toolchain import Confinement, run_program

START_UP_CYCLES = 10_000
RUN_TIMEOUT_S = 1800


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
        stuck: why the run ended before all outputs came; empty: it did not.
        lines: what the monitors of the bench wrote, one line each.
    """

    cycles: int
    latency_cycles: int
    initiation_interval: float
    stuck: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulator:
    """A compiled bench.

    Attributes:
        executable: the program.
        units: what it can run.
        idle_limit: in how many cycles a unit transfers at least one word, unless it is stuck.
        description: of the design whose streams are watched; None: those of a netlist are not.
    """

    executable: Path
    units: tuple[Unit, ...]
    idle_limit: int
    description: RtlDescription | None = None

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
        measured = measure_bench(self.executable, arguments, memories=memories, workdir=workdir, seed=seed)
        if measured.stuck and unit.node is None and self.description is not None:
            stall = describe_stall(self.description, read_progress(self.description, measured.lines))
            raise StageError(f"{NEEDED_BY}: {measured.stuck}; {stall}")
        require_outputs(measured)
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
    monitors = monitor_text(description, top=units[0].name, clock="clock[0]")
    sources["rtl/bench.sv"] = MONITORS + bench_module(units, monitors)
    executable = compiled_bench(sources, cache=cache, workdir=workdir)
    # While every node works on one sample, nothing may enter or leave.
    idle_limit = START_UP_CYCLES + (len(description.nodes) + 1) * description.slowest_cycles
    return Simulator(executable, units, idle_limit, description)


def run_bench(
    executable: Path, arguments: Mapping[str, int | str | Path], *, memories: Path, workdir: Path, seed: int
) -> Measurement:
    """Run a compiled bench as :func:`measure_bench` does, to its last output.

    Raises:
        StageError: the unit is stuck, or one of its assertions failed.
    """
    measured = measure_bench(executable, arguments, memories=memories, workdir=workdir, seed=seed)
    require_outputs(measured)
    return measured


def require_outputs(measured: Measurement) -> None:
    """Check that all outputs came.

    Raises:
        StageError: they did not; the message ends with what the design itself printed.
    """
    if measured.stuck:
        raise StageError("; ".join([f"{NEEDED_BY}: {measured.stuck}", *unmonitored(measured.lines)]))


def measure_bench(
    executable: Path, arguments: Mapping[str, int | str | Path], *, memories: Path, workdir: Path, seed: int
) -> Measurement:
    """Run a compiled bench with the *arguments* that ``harness.cpp`` lists; it may write into *workdir* only.

    Args:
        executable: what :func:`~bitproof.hw.rtl.compile.compiled_bench` returned.
        arguments: by their names.
        memories: the folder that holds ``data/``.
        workdir: an existing folder for the files exchanged and the log.
        seed: of the bits that the RTL leaves uninitialized.

    Raises:
        StageError: one of its assertions failed.
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
    *lines, last = stdout.strip().splitlines()
    measured = json.loads(last)
    return Measurement(
        int(measured["cycles"]),
        int(measured["latency_cycles"]),
        float(measured["initiation_interval"]),
        str(measured["stuck"]),
        tuple(lines),
    )
