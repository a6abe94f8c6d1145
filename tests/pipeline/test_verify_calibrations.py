"""A calibration entry that was forged and sealed again is found, whichever field it was, and that field is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integer_networks import random_codes, random_network

from bitproof.commands.calibrate import CalibrateRequest, calibrate_run
from bitproof.commands.verify_calibrations import verify_calibrations
from bitproof.export.integer import TopK, save
from bitproof.export.integer import run as run_model
from bitproof.pipeline.artifact import Artifact, seal
from bitproof.pipeline.ledger import CalibrationEntry, read_ledger, replace_calibrations, write_ledger
from bitproof.pipeline.run_folder import RunFolder
from bitproof.yaml_file import read_config

MODEL = replace(
    random_network((20, 12, 8, 4), act_bits=(2,), spacing="even", weight_range=(-1, 1), input_bits=2, seed=1),
    output_scale=Fraction(1, 4),
)
CONFIG = """
name: tiny
data: {name: digits}
model: {name: mlp, hidden: [12, 8], input_bits: 2}
targets: [onnx-int8, "finn{board=pynq-z1}"]
"""


def sealed(run: RunFolder, slot: str, kind: str, made_from: tuple[str, ...] = ()) -> Artifact:
    return seal(run.path / "tmp" / slot, run.path / slot, stage=slot, kind=kind, made_from=made_from, tools={})


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that holds a data set, an integer model and its calibration on two chips; the second was not kept."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "tiny")
    for slot in ("data", "integer"):
        (run.path / "tmp" / slot).mkdir(parents=True)
    (run.path / "tiny.yaml").write_text(CONFIG)
    run.write_config(read_config(run.path / "tiny.yaml", ()))
    codes = random_codes(MODEL, 400, seed=2)
    labels = run_model(MODEL, codes).argmax(axis=1)
    for split, rows in (("train", slice(0, 250)), ("validation", slice(250, 400))):
        np.save(run.path / "tmp" / "data" / f"{split}_codes.npy", codes[rows].astype(np.uint8))
        np.save(run.path / "tmp" / "data" / f"{split}_labels.npy", labels[rows])
    save(MODEL, run.path / "tmp" / "integer")
    sealed(run, "data", "dataset")
    sealed(run, "integer", "integer-model")
    empty: dict[str, Any] = {"tools": {}, "inputs": {}, "accuracy": {}, "resources": {}}
    lists: dict[str, Any] = {"artifacts": [], "checks": [], "proofs": []}
    write_ledger({"run": "tiny", "created_by": "bitproof", **empty, **lists}, run.ledger)
    request = CalibrateRequest(faults="stuck=0.1,offset=1.0", evaluations=320, images=100)
    calibrate_run(run, request, as_json=True)
    worse = replace(request, faults="", evaluations=16, images=1, pairs=1, seed=5)  # one image per step is too little
    calibrate_run(run, worse, as_json=True)
    kept, other = read_ledger(run.ledger).calibrations
    assert kept.kept
    assert not other.kept
    return run.path


@pytest.fixture
def run(calibrated: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(calibrated, tmp_path / "tiny")
    return RunFolder(tmp_path / "tiny")


def verified(run: RunFolder, entries: tuple[CalibrationEntry, ...]) -> list[str]:
    """Seal a ledger with *entries* and return what is found."""
    return verify_calibrations(run, run, replace_calibrations(run.ledger, entries))


def test_what_calibrate_recorded_is_found_right(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = read_ledger(run.ledger)
    assert verify_calibrations(run, run, ledger) == []
    assert f"loss after {ledger.calibrations[0].after}, recorded" in capsys.readouterr().err
    assert verify_calibrations(run, run, ledger.model_copy(update={"calibrations": ()})) == []


KEPT: list[tuple[dict[str, Any], str]] = [
    ({"path": None}, "path = None, but kept = True"),
    ({"sha256": None}, "sha256 = None, but kept = True"),
    ({"kept": False}, "kept = False, but after = "),
    ({"kept": False, "after": 9.5}, "sha256 = '"),
    ({"after": 9.5}, "kept = True, but after = 9.5 and before = "),
    ({"after": 0.001}, "the ledger has after = 0.001"),
    ({"after": -0.5}, "after = -0.5 is no cross-entropy"),
    ({"before": 9.5}, "the ledger has before = 9.5"),
    ({"before": float("inf")}, "before = inf is no cross-entropy"),
    ({"samples": 149}, "held_out = 'validation[0:150]' with samples = 149; expected 'validation[0:149]'"),
    ({"samples": 151}, "samples = 151, but validation[0:150] is all that there is"),
    ({"samples": 151, "held_out": "validation[0:151]"}, "samples = 151, but validation[0:150] is all that there is"),
    ({"held_out": "train[0:150]"}, "held_out = 'train[0:150]' with samples = 150; expected 'validation[0:150]'"),
    ({"held_out": "validation[0:149]", "samples": 149}, "the ledger has before = "),
    (
        {"executor": "board"},
        "executor = 'board' cannot be calibrated in this run; allowed: integer, onnx-int8, finn-hw",
    ),
    ({"executor": "qonnx"}, "executor = 'qonnx' cannot be calibrated in this run"),
    ({"executor": "c:cortex-m4"}, "executor = 'c:cortex-m4' cannot be calibrated in this run"),
    ({"executor": "onnx-int8"}, "faults = 'stuck=0.1,offset=1.0' on 'onnx-int8': faults are simulated by the executor"),
    ({"executor": "rtl", "faults": ""}, "parameters = 'all': rtl takes no output bias; allowed: thresholds"),
    ({"faults": "stuck"}, "faults = 'stuck' is no fault spec"),
    ({"faults": "stuck=2"}, "faults = 'stuck=2' is no fault spec: fault stuck = 2.0 is not possible"),
    ({"faults": "bad=1"}, "faults = 'bad=1' is no fault spec"),
    ({"faults": "stuck=0.10,offset=1"}, "faults = 'stuck=0.10,offset=1' would have been recorded as 'stuck=0.1,offset"),
    ({"faults": "stuck=0.2"}, "the ledger has before = "),
    ({"faults": "", "fault_seed": 1}, "fault_seed = 1 draws nothing where faults is empty"),
    ({"fault_seed": 1}, "the ledger has before = "),
    ({"weights": True}, "weights = True with access = 'scalar'"),
    ({"pairs": 0}, "pairs = 0 is not possible"),
    ({"pairs": 7}, "evaluations = 320 is no multiple of 14"),
    ({"seed": -1}, "seed = -1 is not possible"),
    ({"images": 32_001}, "images = 32001 is not evaluations = 320 times a batch"),
    ({"images": 320 * 251}, "images = 80320 is not evaluations = 320 times a batch; allowed: batches of 1 to 250"),
    ({"made_from": "0" * 64}, "made_from = 000"),
    ({"sha256": "0" * 64}, "sha256 = 000"),
    ({"path": "calibrated-none"}, "path = 'calibrated-none': "),
]


@pytest.mark.parametrize(("changes", "message"), KEPT)
def test_a_changed_field_is_named(run: RunFolder, changes: dict[str, Any], message: str) -> None:
    kept, other = read_ledger(run.ledger).calibrations
    forged = CalibrationEntry.model_validate({**kept.model_dump(), **changes})
    reasons = verified(run, (forged, other))
    assert any(message in reason for reason in reasons), reasons
    assert all(reason.startswith(f"calibration on {forged.executor}: ") for reason in reasons)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "calibrated-integer"}, "path = 'calibrated-integer', but kept = False"),
        ({"sha256": "0" * 64}, f"sha256 = '{'0' * 64}', but kept = False"),
        ({"kept": True}, "kept = True, but after = "),
        ({"after": float("nan")}, "after = nan is no cross-entropy"),
        ({"after": 0.0}, "kept = False, but after = 0.0"),
    ],
)
def test_an_entry_that_was_not_kept_names_no_model(run: RunFolder, changes: dict[str, Any], message: str) -> None:
    kept, other = read_ledger(run.ledger).calibrations
    reasons = verify_calibrations(
        run, run, read_ledger(run.ledger).model_copy(update={"calibrations": (kept, other.model_copy(update=changes))})
    )
    assert any(message in reason for reason in reasons), reasons


def test_two_entries_of_one_device_are_found_and_two_chips_are_not(run: RunFolder) -> None:
    kept, other = read_ledger(run.ledger).calibrations
    (reason,) = verified(run, (kept, other, kept))
    assert reason == (
        "calibration on integer: executor = 'integer', faults = 'stuck=0.1,offset=1.0', fault_seed = 0: this device is "
        "recorded twice; a device has one calibration"
    )
    assert verified(run, (other, kept)) == []


def test_a_model_of_another_run_is_found(run: RunFolder) -> None:
    entries = read_ledger(run.ledger).calibrations
    manifest = run.path / str(entries[0].path) / "artifact.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "made_from": ["0" * 64]}))
    (reason,) = verified(run, entries)
    assert "made from something else than the run's integer model" in reason


def test_a_model_of_another_shape_is_found(run: RunFolder) -> None:
    kept, other = read_ledger(run.ledger).calibrations
    (run.path / "tmp" / "calibrated-small").mkdir(parents=True)
    save(random_network((20, 4)), run.path / "tmp" / "calibrated-small")
    small = sealed(run, "calibrated-small", "integer-model", (kept.made_from,))
    forged = kept.model_copy(update={"path": "calibrated-small", "sha256": small.sha256})
    (reason,) = verified(run, (forged, other))
    assert "it cannot be carried out: the chip has weights and thresholds of shapes" in reason


def test_a_network_that_cannot_be_calibrated_has_no_calibration(run: RunFolder) -> None:
    indices = TopK("topk0", 4, 1)
    shutil.rmtree(run.path / "integer")
    (run.path / "tmp" / "integer").mkdir(parents=True)
    save(replace(MODEL, nodes=(*MODEL.nodes, indices)), run.path / "tmp" / "integer")
    made_from = sealed(run, "integer", "integer-model").sha256
    _, other = read_ledger(run.ledger).calibrations
    (reason,) = verified(run, (other.model_copy(update={"made_from": made_from}),))
    assert "cannot be carried out: layer 'topk0' of 'mlp' gives indices of classes" in reason
