"""Packed-int8 files in other versions of onnxruntime, and on an emulated processor with AVX2 and without VNNI.

``python -m benchmarks.onnx_versions [VERSION...]`` makes an environment with onnxruntime and numpy alone for each
version (the oldest that is supported and the newest that was tried, unless others are named), runs the files of
``make bench-onnx`` there on random and extreme codes, and writes ``benchmarks/results/onnx_versions.json``. With
qemu-user installed the pinned version runs on ``qemu-x86_64 -cpu Haswell``, too.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from benchmarks.lab.integer_networks import write_qonnx
from benchmarks.lab.onnx_forms import quantized_network
from benchmarks.onnx_int8 import WORKS
from benchmarks.results import Row, write_results
from bitproof.export.integer import run
from bitproof.export.lower import lower_file
from bitproof.export.onnx_int8 import build
from bitproof.pipeline.toolchain import distribution_version, run_program

COMMAND = "make bench-onnx-versions"
VERSIONS = ("1.17.3", "1.31.1")
LAST_WITH_NUMPY_1 = (1, 18)
SAMPLES, SEED, TIMEOUT_S = 32, 0, 1800
EMULATOR = "qemu-x86_64"
SCRIPT = """
import sys
sys.path[:0] = sys.argv[2:]
import numpy as np, onnxruntime
from pathlib import Path
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
for folder in sorted(Path(sys.argv[1]).iterdir()):
    session = onnxruntime.InferenceSession(str(folder / "m.onnx"), options, providers=["CPUExecutionProvider"])
    codes, expected = np.load(folder / "codes.npy"), np.load(folder / "expected.npy")
    made = session.run(None, {"codes": codes})[0].reshape(expected.shape)
    print(int((made == expected).all(axis=1).sum()), folder.name)
"""


def main(versions: Sequence[str]) -> None:
    """Compare all files in each of *versions*, and on the emulated processor."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder / "files")
        for version in versions or VERSIONS:
            own = str(_environment(folder / version, version))
            rows.extend(_rows(f"onnxruntime {version}", [own, "-c", SCRIPT, str(folder / "files")], folder))
        emulator = shutil.which(EMULATOR)
        if emulator is not None:
            packages = str(Path(np.__file__).parents[1])
            python = str(Path(sys.executable).resolve())
            command = [emulator, "-cpu", "Haswell", python, "-c", SCRIPT, str(folder / "files"), packages]
            rows.extend(_rows(f"onnxruntime {distribution_version('onnxruntime')}, Haswell", command, folder))
    write_results("onnx_versions", rows, command=COMMAND, distributions=("onnxruntime", "onnx", "numpy"))


def write_files(folder: Path) -> None:
    """Write into the new *folder* a folder for each network: the file, random and extreme codes, the expected ones."""
    generator = np.random.default_rng(SEED)
    for key, work in WORKS.items():
        place = folder / key.split(" (")[0].replace(" ", "-")
        place.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_qonnx(quantized_network(work.subject, nudged=work.nudged), (work.subject.inputs,), place / "net.onnx")
        model = lower_file(place / "net.onnx").model
        onnx.save_model(build(model)[0], place / "m.onnx")
        codes = generator.integers(0, 256, (SAMPLES, *model.shape)).astype(np.uint8)
        codes[0], codes[1] = 0, 255
        np.save(place / "codes.npy", codes)
        np.save(place / "expected.npy", run(model, codes.reshape(SAMPLES, -1).astype(np.int64)))


def _environment(folder: Path, version: str) -> Path:
    """Return the Python of a new environment with onnxruntime *version* and the numpy that it was built for."""
    number = tuple(int(part) for part in version.split(".")[:2])
    numpy = "numpy<2" if number <= LAST_WITH_NUMPY_1 else "numpy"
    _run([sys.executable, "-m", "venv", str(folder)], folder.parent)
    python = folder / "bin" / "python"
    _run([str(python), "-m", "pip", "install", "--quiet", f"onnxruntime=={version}", numpy], folder.parent)
    return python


def _run(command: Sequence[str], folder: Path) -> str:
    return run_program(command, needed_by=COMMAND, cwd=folder, log=folder / "log", timeout_s=TIMEOUT_S)


def _rows(where: str, command: Sequence[str], folder: Path) -> Iterator[Row]:
    for line in _run(command, folder).splitlines():
        count, _, name = line.partition(" ")
        if count.isdigit():
            share = int(count) / SAMPLES
            yield Row(f"{name}, {where}", "exact_share", f"of {SAMPLES} samples", share, goal="1", met=share == 1)


if __name__ == "__main__":
    main(sys.argv[1:])
