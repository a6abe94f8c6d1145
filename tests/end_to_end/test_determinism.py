"""Two runs of one file: other folders, locales, time zones, hash seeds and numbers of cores, the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bitproof_command import bitproof, bitproof_without_scheduler
from qonnx_files import random_mlp

pytestmark = [pytest.mark.tool, pytest.mark.end_to_end, pytest.mark.slow]

OTHERS = {"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "2"}
"""Not those of this process."""


def test_surroundings_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    runs = [tmp_path / "one", tmp_path / "another folder with a longer name"]
    for folder, start in zip(runs, (bitproof_without_scheduler, bitproof), strict=True):
        targets = ("--target", "onnx-int8", "--target", "c{core=cortex-m0}", "--target", "finn")
        outcome = start("import", tmp_path / "net.onnx", *targets, "--samples", "50", "--runs", folder)
        assert outcome.code == 0, outcome.err
        for name, value in OTHERS.items():
            monkeypatch.setenv(name, value)
    one, two = (json.loads((folder / "net" / "ledger.json").read_text()) for folder in runs)
    assert one == two, "the ledger has no date, and no path of the machine"
    assert {entry["stage"] for entry in one["artifacts"]} >= {"finn", "rtl", "firmware-cortex-m0", "onnx-int8"}
    assert [check["differing"] for check in one["checks"]] == [0] * 6
    pages = [(folder / "net" / "report.html").read_bytes() for folder in runs]
    assert pages[0] == pages[1]
