"""The cost of one inference: executed instructions, flash, RAM and stack, all exact and repeatable.

Instructions are counted by a TCG plugin for QEMU that is compiled here, between two markers around the call of the
network. They are not cycles: QEMU does not model time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from bitproof.hw.mcu.cores import Core
from bitproof.hw.mcu.executor import Mode
from bitproof.hw.mcu.firmware import SIZES
from bitproof.hw.mcu.manifest import Manifest
from bitproof.pipeline import Codes, StageError
from bitproof.pipeline.toolchain import GCC

PLUGIN = Path(__file__).parent / "plugin" / "count_instructions.c"
MEASURED_SAMPLES = 16
LEAST_INSTRUCTIONS_PER_MAC = 1 / 8
"""Fewer cannot be: the compiler would have moved work out of the counted region."""


class RunsFirmware(Protocol):
    """What runs the firmware of *folder* in *workdir* on *core*."""

    core: Core
    manifest: Manifest
    folder: Path
    workdir: Path

    def run_samples(self, mode: Mode, codes: Codes, options: Sequence[str] = ()) -> Codes:
        """Run whole inferences with further QEMU *options*."""
        ...


def measure(executor: RunsFirmware, codes: Codes) -> dict[str, int | float | str]:
    """Measure the network of *executor* on the first samples of *codes*, shape (N, inputs).

    Returns:
        ``instructions_per_inference``: executed from before the call of the network until after it, the most of any
        measured sample (``instructions_least``: the least; the kernels do not depend on the data).
        ``instructions_per_mac``, if there are any; ``macs``; ``weight_bytes``; ``flash_bytes``: the firmware with its
        test harness; ``arena_bytes``: RAM that the caller lends; ``stack_bytes``: high-water mark of the call;
        ``ram_bytes``: both.

    Raises:
        ToolMissingError: QEMU or the host compiler is not installed.
        StageError: there is no sample, the firmware failed, or the count is implausible.
    """
    counts, (stack_bytes,) = counted(executor, Mode.MEASURE, codes[:MEASURED_SAMPLES])
    manifest = executor.manifest
    if len(counts) != min(len(codes), MEASURED_SAMPLES) or min(counts) < manifest.macs * LEAST_INSTRUCTIONS_PER_MAC:
        raise StageError(f"implausible instruction counts {counts} for {manifest.macs} multiply-accumulates")
    sizes = json.loads((executor.folder / SIZES).read_text())
    return {
        "instructions_per_inference": max(counts),
        "instructions_least": min(counts),
        **({"instructions_per_mac": round(max(counts) / manifest.macs, 4)} if manifest.macs else {}),
        "macs": manifest.macs,
        "weight_bytes": sum(entry.weight_bytes for entry in manifest.products),
        "flash_bytes": int(sizes["flash_bytes"]),
        "arena_bytes": manifest.arena_bytes,
        "stack_bytes": stack_bytes,
        "ram_bytes": manifest.arena_bytes + stack_bytes,
    }


def counted(executor: RunsFirmware, mode: Mode, codes: Codes) -> tuple[list[int], list[int]]:
    """Run *codes*, shape (N, inputs), in *mode*; return the counts between the markers, and the bytes of stack.

    Raises:
        ToolMissingError: QEMU or the host compiler is not installed.
        StageError: there is no sample, or the firmware failed.
    """
    if not len(codes):
        raise StageError("nothing to measure on: give at least one sample")
    workdir = executor.workdir
    plugin = _build_plugin(workdir)
    report, stack = workdir / "instructions.txt", workdir / "stack.bin"
    for path in (report, stack):
        path.unlink(missing_ok=True)
    begin, end = (marker.hex() for marker in executor.core.architecture.markers)
    executor.run_samples(mode, codes, ["-plugin", f"./{plugin.name},out={report.name},begin={begin},end={end}"])
    return [int(line) for line in report.read_text().split()], np.frombuffer(stack.read_bytes(), dtype="<u4").tolist()


def _build_plugin(workdir: Path) -> Path:
    library = workdir / "count_instructions.so"
    GCC.run(
        ["-std=c99", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", PLUGIN, "-o", library],
        needed_by="instruction counting",
        cwd=workdir,
        log=workdir / "plugin.log",
        timeout_s=120,
    )
    return library
