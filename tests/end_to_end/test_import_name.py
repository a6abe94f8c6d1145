"""One import name: a user's own ``train.py`` or ``export.py`` harms nothing, and the wheel works by itself."""

from __future__ import annotations

import json
import subprocess  # noqa: TID251  programs of the user's are what is tested
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from bitproof_command import bitproof
from qonnx_files import random_mlp

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("pipeline", "train", "export", "hw")
"""Folders of the repository, and names that a user's own files have."""

pytestmark = pytest.mark.end_to_end

SCRIPT = """
import bitproof.hw.mcu.cores
from bitproof.export.integer import IntegerModel
from bitproof.pipeline.config import ModelConfig
from bitproof.train.models import build
from torch.utils.data import DataLoader, Dataset

class Numbers(Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, index):
        from bitproof.train.estimators import Guided
        return len(Guided.__name__) + index

if __name__ == "__main__":
    import train
    assert train.MINE
    loader = DataLoader(Numbers(), num_workers=1, batch_size=3, multiprocessing_context="spawn")
    print(IntegerModel.__name__, [batch.tolist() for batch in loader])
"""


def test_a_script_with_files_of_these_names_beside_it_has_both(tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "IntegerModel [[6, 7, 8]]\n"


@pytest.mark.tool
def test_wheel_and_source_archive_work_without_the_repository(tmp_path: Path) -> None:
    source, built = tmp_path / "source", tmp_path / "built"
    tracked = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    build = (
        "from setuptools import build_meta as b; import os, sys, tarfile; out = sys.argv[1]\n"
        "name = b.build_sdist(out); tarfile.open(f'{out}/{name}').extractall(out)\n"
    )
    built.mkdir()
    run_python(build, built, cwd=source)
    (unpacked,) = (path for path in built.iterdir() if path.is_dir())
    assert not any(path.is_symlink() for path in unpacked.rglob("*"))
    run_python("from setuptools import build_meta as b; import sys; b.build_wheel(sys.argv[1])", built, cwd=unpacked)
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"bitproof", wheel.name.rpartition("-py3")[0] + ".dist-info"}
    tracked_code = {name for name in tracked if name.split("/")[0] in FOLDERS and not name.endswith(".md")}
    assert {f"bitproof/{name}" for name in tracked_code} <= set(names), "every file of the packages is in the wheel"

    installed = tmp_path / "installed"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", installed], check=True)
    (site,) = installed.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    # The packages that it depends on; the links to the repository in that folder have no effect behind a .pth.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    random_mlp(tmp_path / "net.onnx", 3)
    targets = ("--target", "onnx-int8", "--target", "c{core=cortex-m4}")
    done = subprocess.run(
        [installed / "bin" / "python", "-m", "bitproof", "import", "net.onnx", "--samples", "20", *targets],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ledger = json.loads((tmp_path / "runs" / "net" / "ledger.json").read_text())
    assert {check["actual"]: check["differing"] for check in ledger["checks"]} == dict.fromkeys(
        ("qonnx", "qonnx-f64", "onnx-int8", "c:cortex-m4"), 0
    )
    assert (tmp_path / "runs" / "net" / "report.html").is_file()
    origin = "import bitproof, pathlib; print(pathlib.Path(bitproof.__file__).resolve())"
    asked = subprocess.run(
        [installed / "bin" / "python", "-c", origin], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(asked.stdout.strip()).is_relative_to(site)


def run_python(code: str, argument: Path, *, cwd: Path) -> None:
    """Run *code* with *argument* in *cwd*; a failure shows what it wrote."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, argument], cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_works_in_a_folder_with_files_of_these_names(tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the file of the user')\n")
    assert bitproof("doctor", "--json", modules=tmp_path).code in (0, 3)
