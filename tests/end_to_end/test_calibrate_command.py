"""``bitproof calibrate`` on the real command line: simulated chips, onnxruntime, firmware; then verify, run again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess  # noqa: TID251  exit codes and signals of the real command line are what is tested
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bitproof_command import bitproof, bitproof_without_scheduler
from default_signals import with_default_signals

from bitproof.pipeline.ledger import canonical_sha256, json_schema

pytestmark = [pytest.mark.tool, pytest.mark.end_to_end, pytest.mark.xdist_group("calibrate")]

CONFIG = Path(__file__).parent.parent.parent / "configs" / "digits_mlp.yaml"
QUICK = (
    *("--set", "train.epochs=6", "--set", "gates.float_vs_quantized=100"),
    *("--set", 'targets=[onnx-int8, "c{core=cortex-m4}"]'),
)
FAULTS = ("--faults", "stuck=0.1,offset=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    outcome = bitproof("run", CONFIG, "--runs", runs, *QUICK)
    assert outcome.code == 0, outcome.err
    return runs / "digits_mlp"


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual network on the digits, of 8 channels, trained for seconds."""
    runs = tmp_path_factory.mktemp("residual")
    model = "{name: resnet8, width: 0.5, weight_bits: 3, act_bits: 4, granularity: channel}"
    options = ("--set", "name=digits_resnet8", "--set", "train.epochs=6", "--set", "gates.float_vs_quantized=100")
    outcome = bitproof_without_scheduler(
        "run", CONFIG, "--runs", runs, *options, "--set", f"model={model}", "--set", "targets=[onnx-int8]"
    )
    assert outcome.code == 0, outcome.err
    return runs / "digits_resnet8"


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "digits_mlp")
    return tmp_path / "digits_mlp"


def ledger_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "ledger.json").read_text())
    return content


def calibrated(run: Path, *options: str) -> dict[str, Any]:
    outcome = bitproof("calibrate", run, *options, "--json")
    assert outcome.code == 0, outcome.err
    entry: dict[str, Any] = json.loads(outcome.out)
    return entry


def test_a_chip_is_repaired_recorded_verified_and_survives_the_next_run(copy: Path) -> None:
    scalar = calibrated(copy, *FAULTS)
    assert scalar["kept"]
    assert scalar["after"] < scalar["before"]
    assert (scalar["evaluations"], scalar["images"]) == (1504, 385_024)
    logits = calibrated(copy, *FAULTS, "--access", "logits")
    assert logits["before"] == scalar["before"]
    assert logits["after"] < scalar["after"]
    ledger = ledger_of(copy)
    jsonschema.validate(ledger, json_schema())
    assert ledger["calibrations"] == [logits]
    assert json.loads((copy / logits["path"] / "artifact.json").read_text())["made_from"] == [logits["made_from"]]
    worse = calibrated(copy, *FAULTS, "--evaluations", "16")  # a worse one of the same chip does not replace it
    assert not worse["kept"]
    assert ledger_of(copy) == ledger
    other = calibrated(copy, *FAULTS, "--fault-seed", "1", "--evaluations", "160")  # another chip, another folder
    assert other["path"] != logits["path"]
    assert ledger_of(copy)["calibrations"] == [logits, other]
    page = (copy / "report.html").read_text()
    assert all(f"<code>{entry['path']}</code>" in page for entry in (logits, other))
    assert f'<td class="num">{logits["after"]:.4f}</td>' in page
    verified = bitproof("verify", copy)
    assert verified.code == 0, verified.err
    assert f"loss after {logits['after']}, recorded {logits['after']}" in verified.err
    bytes_before = (copy / "ledger.json").read_bytes()
    assert bitproof("run", CONFIG, "--runs", copy.parent, *QUICK).code == 0
    assert (copy / "ledger.json").read_bytes() == bytes_before
    changed = bitproof_without_scheduler("run", CONFIG, "--runs", copy.parent, *QUICK, "--set", "seed=1")
    assert changed.code == 0, changed.err
    assert "the calibration on integer was dropped: the integer model has changed" in changed.err
    assert ledger_of(copy)["calibrations"] == []
    assert not list(copy.glob("calibrated-*"))


def test_verify_names_forged_fields_and_ends_with_exit_code_1(copy: Path) -> None:
    entry = calibrated(copy, *FAULTS, "--evaluations", "320")
    ledger = ledger_of(copy)
    false = ({"executor": "board"}, {"faults": "stuck"}, {"path": None})
    ledger["calibrations"] = [{**entry, **change} for change in false]
    ledger["sha256"] = canonical_sha256(ledger)
    (copy / "ledger.json").write_text(json.dumps(ledger))
    outcome = bitproof("verify", copy)
    assert outcome.code == 1, outcome.err
    assert "calibration on board: executor = 'board' cannot be calibrated in this run" in outcome.err
    assert "calibration on integer: faults = 'stuck' is no fault spec" in outcome.err
    assert "calibration on integer: path = None, but kept = True" in outcome.err
    ledger["calibrations"] = [{**entry, "after": entry["after"] - 0.001}]
    ledger["sha256"] = canonical_sha256(ledger)
    (copy / "ledger.json").write_text(json.dumps(ledger))
    outcome = bitproof("verify", copy)
    assert outcome.code == 1
    assert "calibration on integer: the loss after is" in outcome.err
    model = copy / entry["path"] / "model.json"
    model.write_text(model.read_text() + "\n")
    outcome = bitproof("verify", copy)
    assert outcome.code == 1
    assert "was changed after it was made" in outcome.err


def test_real_targets_are_programmed_again_and_again(copy: Path) -> None:
    for executor, evaluations in (("onnx-int8", "48"), ("c-cortex-m4", "16")):
        entry = calibrated(copy, "--executor", executor, "--evaluations", evaluations)
        assert entry["executor"] == executor.replace("c-", "c:")
        assert entry["evaluations"] == int(evaluations)
        assert entry["kept"] is (entry["after"] < entry["before"])
        assert bool(list(copy.glob(f"calibrated-{executor}-*"))) is entry["kept"]
        healthy = calibrated(copy, "--evaluations", evaluations)
        assert healthy["before"] == entry["before"], "the target gives the integer model's codes, so the same loss"
        assert healthy["after"] == entry["after"], "and it is led to the same model"
    assert bitproof("verify", copy).code == 0


@pytest.mark.slow
def test_a_residual_network_is_calibrated_on_its_chip_and_in_onnxruntime(residual: Path) -> None:
    faults = ("--faults", "stuck=0.05,offset=0.5")
    scalar = calibrated(residual, *faults, "--evaluations", "96")
    logits = calibrated(residual, *faults, "--access", "logits", "--evaluations", "60")
    assert scalar["before"] == logits["before"]
    assert logits["after"] < scalar["after"] < scalar["before"]
    packed = calibrated(residual, "--executor", "onnx-int8", "--evaluations", "32")
    healthy = calibrated(residual, "--evaluations", "32")
    assert packed["before"] == healthy["before"] < logits["before"], "a healthy chip is better than a faulty one"
    assert packed["after"] == healthy["after"]
    assert len(ledger_of(residual)["calibrations"]) == 3
    page = (residual / "report.html").read_text()
    assert f"<code>{logits['path']}</code>" in page
    verified = bitproof("verify", residual)
    assert verified.code == 0, verified.err
    assert f"loss after {logits['after']}, recorded {logits['after']}" in verified.err


def test_bad_input_ends_with_a_clear_message(copy: Path) -> None:
    before = (copy / "ledger.json").read_bytes()
    cases = {
        ("--executor", "board"): (2, "this run has no executor 'board'; calibrate one of: integer, onnx-int8, c:cor"),
        ("--executor", "qonnx"): (2, "executor 'qonnx' runs what the integer model is made from"),
        ("--faults", "stuck=2"): (2, "fault stuck = 2.0 is not possible; allowed: 0 to 1"),
        ("--faults", "wrap=9", "--executor", "onnx-int8"): (2, "faults are simulated by the executor 'integer' only"),
        ("--access", "all"): (2, "access 'all' is not known; allowed: scalar, logits"),
        ("--parameters", "some"): (2, "no parameters 'some'; allowed: output, thresholds, all"),
        ("--held-out", "0"): (2, "held-out images = 0 is not possible"),
        ("--keep-weights",): (2, "--keep-weights has no effect without --access logits"),
        ("--fault-seed", "3"): (2, "--fault-seed 3 has no effect without --faults"),
        ("--evaluations", "3"): (2, "3 evaluations are less than one step of 16"),
    }
    for options, (code, message) in cases.items():
        outcome = bitproof("calibrate", copy, *options)
        assert outcome.code == code, outcome.err
        assert message in outcome.err
    outcome = bitproof("calibrate", copy, "--executor", "c:cortex-m4", path="/nonexistent")
    assert outcome.code == 3
    assert "arm-none-eabi-gcc" in outcome.err
    labels = copy / "data" / "train_labels.npy"
    labels.write_bytes(labels.read_bytes()[:-8] + (99).to_bytes(8, "little"))
    outcome = bitproof("calibrate", copy)
    assert outcome.code == 1
    assert "artifact 'data'" in outcome.err
    assert "was changed after it was made" in outcome.err
    assert (copy / "ledger.json").read_bytes() == before


def test_a_run_of_which_a_part_was_made_again_is_not_calibrated_until_it_is_finished(copy: Path) -> None:
    part = ("run", CONFIG, "--runs", copy.parent, *QUICK, "--set", "train.epochs=1", "--until", "train")
    assert bitproof_without_scheduler(*part).code == 0
    before = (copy / "ledger.json").read_bytes()
    finish = f"bitproof run {copy / 'config.json'} --runs {copy.parent}"
    told = f"artifact 'train' at {copy / 'train'} is not the one in the ledger; finish the run: {finish}"
    for command, code in (("calibrate", 2), ("verify", 1)):
        outcome = bitproof(command, copy)
        assert outcome.code == code, outcome.err
        assert told in outcome.err.splitlines()[-1]
    assert (copy / "ledger.json").read_bytes() == before
    assert bitproof_without_scheduler(*finish.split()[1:]).code == 0
    assert bitproof("verify", copy, "--quick").code == 0
    assert bitproof("calibrate", copy, *FAULTS, "--evaluations", "16").code == 0


def test_an_interrupted_calibration_leaves_the_run_as_it_was(copy: Path) -> None:
    before = (copy / "ledger.json").read_bytes()
    command = [sys.executable, "-P", "-m", "bitproof", "calibrate", str(copy), "--executor", "c:cortex-m4"]
    with subprocess.Popen(with_default_signals(command), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while "evaluations of" not in process.stderr.readline():
                assert process.poll() is None, "it ended before it said what it will cost"
            time.sleep(1.0)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert (copy / "ledger.json").read_bytes() == before
    assert not list(copy.glob("calibrated-*"))
    assert bitproof("verify", copy, "--quick").code == 0
