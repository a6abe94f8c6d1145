"""The report of a first run on a board: what Vivado and the board said, and what is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board_report import main, report_of, resources_of
from bitproof.pipeline.ledger import DeploymentEntry, write_ledger

UTILIZATION = """
1. Slice Logic
+----------------------------+------+-------+------------+-----------+-------+
|          Site Type         | Used | Fixed | Prohibited | Available | Util% |
+----------------------------+------+-------+------------+-----------+-------+
| Slice LUTs                 | 5021 |     0 |          0 |     53200 |  9.44 |
|   LUT as Logic             | 4800 |     0 |          0 |     53200 |  9.02 |
|   LUT as Memory            |  221 |     0 |          0 |     17400 |  1.27 |
| Slice Registers            | 7003 |     0 |          0 |    106400 |  6.58 |
| Block RAM Tile             |  5.5 |     0 |          0 |       140 |  3.93 |
| DSPs                       |   33 |     0 |          0 |       220 | 15.00 |
"""
BUILT = "design_id 0123456789abcdef\nvivado 2022.2\nsetup_slack_ns 0.412\nhold_slack_ns 0.021\n"
HASH = "ab" * 32


def entry(pynq: str) -> DeploymentEntry:
    return DeploymentEntry(
        executor="pynq:pynq-z1",
        vectors="test[0:5]",
        samples=5,
        compared=50,
        differing=0,
        first=None,
        outputs_sha256=HASH,
        design_id="0123456789abcdef",
        bundle_sha256=HASH,
        made_from=HASH,
        timing={"latency_us": 31.5, "images_per_s": 99000.5},
        tools={"pynq": pynq, "python": "3.10.4"},
    )


def make_run(folder: Path, pynq: str) -> Path:
    (folder / "vivado" / "pynq-z1").mkdir(parents=True)
    (folder / "vivado" / "pynq-z1" / "built.txt").write_text(BUILT)
    (folder / "vivado" / "pynq-z1" / "utilization.rpt").write_text(UTILIZATION)
    lists: dict[str, Any] = {key: [] for key in ("artifacts", "checks", "proofs")}
    maps: dict[str, Any] = {key: {} for key in ("tools", "inputs", "accuracy", "resources")}
    content = {"run": "net", "created_by": "bitproof 0.1.0", **lists, **maps, "deployments": [entry(pynq)]}
    write_ledger(content, folder / "ledger.json")
    return folder


def test_used_and_available_are_read() -> None:
    assert resources_of(UTILIZATION) == {
        "Slice LUTs": ("5021", "53200"),
        "LUT as Memory": ("221", "17400"),
        "Slice Registers": ("7003", "106400"),
        "Block RAM Tile": ("5.5", "140"),
        "DSPs": ("33", "220"),
    }
    assert resources_of("| Slice LUTs |") == {}


def test_the_report_has_everything(tmp_path: Path) -> None:
    lines, missing = report_of(make_run(tmp_path / "net", "3.0.1"), "pynq-z1")
    assert missing == []
    rows = ("| vivado | 2022.2 |", "| setup_slack_ns | 0.412 |", "| DSPs | 33 of 220 |", "| latency_us | 31.5 |")
    assert set(rows) < set(lines)
    assert "| self-test | pynq:pynq-z1 against integer on test[0:5]: 50 codes, all equal |" in lines
    assert str(tmp_path) not in "\n".join(lines)


def test_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "net", "simulated")
    assert report_of(run, "pynq-z1")[1] == ["the self-test ran on the simulated board, not on silicon"]
    for path in (run / "vivado" / "pynq-z1").iterdir():
        path.unlink()
    (run / "ledger.json").unlink()
    monkeypatch.setattr(sys, "argv", ["board_report", str(run)])
    assert main() == 1
    said = capsys.readouterr().err
    assert f"missing: no bitstream: bitproof bitstream {run}\n" in said
    assert f"missing: no self-test: bitproof deploy {run} --to USER@HOST\n" in said
    assert "missing: DSPs is not in utilization.rpt\n" in said
