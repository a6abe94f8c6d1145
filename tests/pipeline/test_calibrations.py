"""Calibrations in the ledger: recorded, carried over while the integer model stays, else dropped and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bitproof.commands.run import forget_calibrations
from bitproof.pipeline import IntegrityError
from bitproof.pipeline.ledger import (
    CalibrationEntry,
    read_ledger,
    recorded_calibrations,
    replace_calibrations,
    write_ledger,
)
from bitproof.pipeline.run_folder import RunFolder

OLD, NEW, HASH = "ab" * 32, "cd" * 32, "ef" * 32


def content() -> dict[str, Any]:
    return {
        "run": "tiny",
        "created_by": "bitproof 0.1.0",
        "tools": {},
        "inputs": {},
        "artifacts": [],
        "checks": [],
        "proofs": [],
        "accuracy": {},
        "resources": {},
    }


def entry(**changes: Any) -> CalibrationEntry:  # noqa: ANN401  any field
    base: dict[str, Any] = {
        "executor": "integer",
        "faults": "stuck=0.1",
        "fault_seed": 0,
        "access": "scalar",
        "parameters": "all",
        "weights": False,
        "pairs": 8,
        "evaluations": 16,
        "images": 4096,
        "seed": 0,
        "held_out": "validation[0:10]",
        "samples": 10,
        "before": 1.5,
        "after": 1.25,
        "kept": True,
        "path": "calibrated-integer",
        "sha256": HASH,
        "made_from": OLD,
    }
    return CalibrationEntry(**{**base, **changes})


def test_a_ledger_without_calibrations_is_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    write_ledger(content(), path)
    assert recorded_calibrations(path) == ()
    assert recorded_calibrations(tmp_path / "none.json") == ()


def test_calibrations_are_recorded_and_the_chain_of_ledgers_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    first = write_ledger(content(), path)
    second = replace_calibrations(path, (entry(),))
    assert second.previous == first.sha256
    assert read_ledger(path).calibrations == (entry(),)
    assert recorded_calibrations(path, OLD) == (entry(),)
    assert recorded_calibrations(path, NEW) == ()
    path.write_text(path.read_text().replace("1.25", "0.25"))
    with pytest.raises(IntegrityError, match="was edited"):
        read_ledger(path)


@pytest.mark.parametrize("path", ["../elsewhere", "calibrated-x/../..", "/tmp", "calibrated-"])
def test_an_entry_cannot_name_a_folder_outside_its_run(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        entry(path=path)


def test_a_dropped_calibration_is_named_and_its_model_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path)
    stays, goes = entry(executor="onnx-int8", path="calibrated-onnx-int8", made_from=NEW), entry()
    for name in ("calibrated-integer", "calibrated-onnx-int8"):
        (tmp_path / name).mkdir()
    write_ledger(content(), run.ledger)
    replace_calibrations(run.ledger, (stays,))
    forget_calibrations(run, (stays, goes))
    shown = capsys.readouterr().err
    assert "the calibration on integer was dropped: the integer model has changed" in shown
    assert "onnx-int8" not in shown
    assert [path.name for path in tmp_path.glob("calibrated-*")] == ["calibrated-onnx-int8"]
