"""Files of the kinds that users report, with what they gave beside them; those alone are in test_lint_agrees."""

from __future__ import annotations

import json
import shutil
import subprocess  # noqa: TID251  the script that writes the large cases is run as a user would run it
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitproof_command import Outcome, bitproof_without_scheduler

CASES = Path(__file__).parent.parent.parent.parent / "shared" / "cases"
"""Files that others gave; they are not part of the project."""

pytestmark = [
    pytest.mark.tool,
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("shared_cases"),
    pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there"),
]

TAKEN = {
    "binary_activation_int32_bias": ("--vectors", "binary_activation_int32_bias.x.npy"),
    "preprocessing_inside": ("--input", "uint8", "--vectors", "preprocessing.pixels.npy"),
    "w8a8_default_mlp": ("--vectors", "w8a8_default_mlp.x.npy"),
}
"""Cases that have vectors, with the options that they are imported with."""


def imported(path: Path, runs: Path, *options: str) -> Outcome:
    given = [str(CASES / option) if option.endswith(".npy") else option for option in options]
    return bitproof_without_scheduler("import", path, "--target", "onnx-int8", *given, "--runs", runs, "--name", "net")


def checks_of(runs: Path) -> dict[str, dict[str, Any]]:
    ledger = json.loads((runs / "net" / "ledger.json").read_text())
    assert ledger["failures"] == []
    return {check["actual"]: check for check in ledger["checks"]}


@pytest.mark.parametrize("name", TAKEN)
def test_case_is_imported_with_equal_integers(name: str, tmp_path: Path) -> None:
    done = imported(CASES / f"{name}.onnx", tmp_path, *TAKEN[name])
    assert done.code == 0, done.err
    checks = checks_of(tmp_path)
    qonnx = checks.pop("qonnx")
    assert qonnx["differing"] == qonnx["explained"]
    assert qonnx["unexplained"] is None
    assert checks.keys() >= {"qonnx-f64", "onnx-int8"}
    assert {executor: check["differing"] for executor, check in checks.items()} == dict.fromkeys(checks, 0)
    if name == "binary_activation_int32_bias":
        assert qonnx["compared"] == np.load(CASES / f"{name}.y.npy").size
        assert qonnx["explained"] > 0, "float32 breaks the ties of integer biases"


@pytest.mark.parametrize(("name", "code"), [("ordinary_weights", 0), ("too_large_for_flash", 2)])
def test_large_case_ends_as_it_should(name: str, code: int, tmp_path: Path) -> None:
    subprocess.run([sys.executable, CASES / "make_large.py", tmp_path], check=True, timeout=300)
    options = ("--samples", "50", *(("--target", "c{core=cortex-m4}") if code else ()))
    done = imported(tmp_path / f"{name}.onnx", tmp_path / "runs", *options)
    assert done.code == code, done.err
    if code:
        assert "does not fit the memory" in done.err
        assert not (tmp_path / "runs").exists(), "nothing was made"


@pytest.mark.parametrize(
    ("folder", "network", "code", "said"),
    [
        ("own-lstm", "lstm.py:net", 2, "LSTM"),
        ("own-lstm", "lstm.py:att", 2, "ttention"),
        ("own-lstm", "own_bad.py:net", 2, "own_bad.py"),
        ("own-sibling", "mynet.py:net", 0, ""),
    ],
)
def test_own_code_works_or_is_blamed_before_training(
    folder: str, network: str, code: int, said: str, tmp_path: Path
) -> None:
    shutil.copytree(CASES / "own_code" / folder, tmp_path / folder)
    file = tmp_path / folder / network.partition(":")[0]
    if f"def {network.partition(':')[2]}(" not in file.read_text():
        pytest.skip(f"{file.name} has no such function")
    options = ["--set", f"model.name={network}", "--until", "train", "--runs", tmp_path / "runs"]
    done = bitproof_without_scheduler("run", tmp_path / folder / "mine.yaml", *options)
    assert done.code == code, done.err
    assert said in done.err
    if code:
        assert not list((tmp_path / "runs").glob("*/train*")), "nothing was trained"
