"""What a user is shown: calibrations in the report, accuracy at the end of a part of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bitproof.commands.parity import judge
from bitproof.commands.report import costs_of, write_report
from bitproof.commands.summary import summarize_part
from bitproof.pipeline import IntegrityError
from bitproof.pipeline.ledger import CalibrationEntry, CostEntry, Ledger, write_ledger
from bitproof.pipeline.run_folder import RunFolder
from bitproof.report import render
from bitproof.yaml_file import read_config

ENTRY = CalibrationEntry(
    executor="integer",
    faults="stuck=0.05,offset=0.5",
    fault_seed=3,
    access="logits",
    parameters="all",
    weights=True,
    pairs=8,
    evaluations=1504,
    images=385_024,
    seed=0,
    held_out="validation[0:300]",
    samples=300,
    before=1.50004,
    after=1.24996,
    kept=True,
    path="calibrated-integer-0123456789ab",
    sha256="ab" * 32,
    made_from="cd" * 32,
)


def ledger(*calibrations: CalibrationEntry) -> Ledger:
    accuracy: dict[str, float | int] = {"samples": 10, "float": 98.0, "quantized": 97.0, "test_samples": 10}
    content: dict[str, Any] = {"tools": {}, "inputs": {}, "artifacts": [], "checks": [], "proofs": [], "resources": {}}
    gates = {"float_vs_quantized": 2.0, "quantized_vs_target": 0.0}
    return Ledger.model_validate(
        {
            **content,
            "run": "tiny",
            "created_by": "bitproof",
            "accuracy": accuracy,
            "gates": gates,
            "calibrations": calibrations,
            "previous": None,
            "sha256": "ef" * 32,
        }
    )


def calibrations_of(page: str) -> list[list[str]]:
    """Return the cells of the section of calibrations, row by row; empty if there is no such section."""
    _, found, rest = page.partition("<h2>Calibrations</h2>")
    rows = re.findall(r"<tr>(.*?)</tr>", rest.partition("<h2>")[0] if found else "", flags=re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.DOTALL) for row in rows]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]


def test_the_report_shows_every_calibration() -> None:
    changes = {"executor": "c:cortex-m4", "faults": "", "fault_seed": 0, "access": "scalar", "parameters": "thresholds"}
    rejected = {"weights": False, "after": 1.75, "kept": False, "path": None, "sha256": None, "evaluations": 320}
    page = render(ledger(ENTRY, ENTRY.model_copy(update={**changes, **rejected})), [], {}, {}, [])
    heading, kept, other = calibrations_of(page)
    assert heading[:2] == ["executor", "faults"]
    assert kept[:2] == ["integer", "stuck=0.05,offset=0.5, chip 3"]
    assert kept[2:6] == ["output codes", "all and weights", "1.5000", "1.2500"]
    assert kept[6:] == ["yes, calibrated-integer-0123456789ab", "1,504", "385,024"]
    assert other[:2] == ["c:cortex-m4", "none simulated"]
    assert other[2:6] == ["one loss", "thresholds", "1.5000", "1.7500"]
    assert other[6:] == ["no, the original stays", "320", "385,024"]
    assert page.count("<code>validation[0:300]</code>") == 1


def test_the_report_shows_the_accuracy_before_and_after_the_nudge() -> None:
    plain = {"test_accuracy": 92.5, "validation_accuracy": 93.5, "epochs": []}
    nudged = plain | {"test_accuracy_before_nudge": 92.75, "nudged_channels": 32}
    page = render(ledger(), [], {"train-float": plain, "train": nudged}, {}, [])
    (found,) = re.findall(r"<p>Nudge of (.*?)</p>", page)
    assert found == "<code>train</code>: 32 channels moved; test accuracy 92.75 % before, 92.50 % after."


def test_a_report_without_calibrations_has_no_such_section_and_text_is_escaped() -> None:
    assert "Calibrations" not in render(ledger(), [], {}, {}, [])
    page = render(ledger(ENTRY.model_copy(update={"faults": "<script>"})), [], {}, {}, [])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    for stage in ("train", "export"):
        (tmp_path / stage).mkdir()
    metrics = {"test_accuracy": 92.7777, "test_samples": 360, "validation_accuracy": 93.5, "epochs": []}
    (tmp_path / "train" / "metrics.json").write_text(json.dumps(metrics))
    return RunFolder(tmp_path)


def test_a_run_until_a_training_says_how_accurate_its_network_is(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    summarize_part(run, run.path / "train" / "artifact.json", made=True, as_json=False)
    made, accuracy = capsys.readouterr().out.splitlines()
    assert made == f"made {run.path / 'train' / 'artifact.json'}"
    assert accuracy == "accuracy 92.78 % of 360 test images, 93.50 % of the validation split"
    summarize_part(run, run.path / "train" / "artifact.json", made=True, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["accuracy"] == {"test_accuracy": 92.7777, "test_samples": 360, "validation_accuracy": 93.5}


@pytest.mark.parametrize(("made", "word"), [(True, "made"), (False, "up to date:")])
def test_a_run_until_another_stage_says_what_it_made(
    run: RunFolder, capsys: pytest.CaptureFixture[str], *, made: bool, word: str
) -> None:
    for goal in ("export/artifact.json", "checks/torch.json"):
        summarize_part(run, run.path / goal, made=made, as_json=False)
        assert capsys.readouterr().out == f"{word} {run.path / goal}\n"
        summarize_part(run, run.path / goal, made=made, as_json=True)
        shown = json.loads(capsys.readouterr().out)
        assert shown == {"run": str(run.path), "made": goal, "up_to_date": not made}


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_metrics_that_no_training_wrote_are_no_bug_of_ours(run: RunFolder, content: str) -> None:
    run.write_config(read_config(Path(__file__).parent.parent.parent / "configs" / "digits_mlp.yaml"))
    write_ledger(ledger().model_dump(mode="json", exclude={"schema_version", "sha256"}), run.ledger)
    (run.path / "train" / "metrics.json").write_text(content)
    with pytest.raises(IntegrityError, match="holds figures that no run wrote"):
        write_report(run)


def test_a_ledger_without_checks_and_proofs_shows_that_nothing_was_compared() -> None:
    empty = ledger().model_copy(update={"checks": (), "proofs": ()})
    reasons = judge(empty, ())
    assert reasons[:2] == [
        "the ledger holds no checks: nothing was compared or proven",
        "the ledger holds no proofs: nothing was compared or proven",
    ]
    page = render(empty, reasons, {}, {}, ["train: its weights come from the training"])
    assert "Nothing was compared." in page
    assert "Equal." not in page
    assert "Stated, not verified" in page
    assert "<li>train: its weights come from the training</li>" in page


def test_the_costs_of_every_part_are_in_the_page_and_beside_it() -> None:
    layer = CostEntry(
        executor="c:cortex-m4", kind="layer", part="fc0", flash_bytes=1234, ram_bytes=56, macs=7, instructions=8901
    )
    harness = CostEntry(executor="c:cortex-m4", kind="code", part="test harness", flash_bytes=1600)
    held = ledger().model_copy(
        update={"costs": (layer, harness), "resources": {"c:cortex-m4": {"flash_bytes": 2834, "macs": 7}}}
    )
    page = render(held, [], {}, {}, [])
    assert "Cost of each layer" in page
    cells = '<td class="num">1,234</td><td class="num">56</td><td class="num">7</td><td class="num">8,901</td>'
    assert cells + '<td class="num">-</td>' in page
    assert "Cost of each layer" not in render(ledger(), [], {}, {}, [])
    content = json.loads(costs_of(held))
    assert content == {
        "schema": 1,
        "run": "tiny",
        "ledger": "ef" * 32,
        "executors": {
            "c:cortex-m4": {
                "parts": [entry.model_dump(exclude={"executor"}) for entry in (layer, harness)],
                "total": {"flash_bytes": 2834, "macs": 7},
            }
        },
    }
    assert json.loads(costs_of(ledger()))["executors"] == {}
