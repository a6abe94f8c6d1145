"""The real command line on the digits data: one run, then everything that a user may do to it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess  # noqa: TID251  exit codes and signals of the real command line are what is tested
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bitproof_command import bitproof, bitproof_without_scheduler

from bitproof.pipeline.ledger import canonical_sha256, json_schema

pytestmark = [pytest.mark.tool, pytest.mark.end_to_end, pytest.mark.xdist_group("digits_run")]

CONFIG = Path(__file__).parent.parent.parent / "configs" / "digits_mlp.yaml"
EXECUTORS = ["torch", "qonnx", "onnx-int8", "c:cortex-m4", "finn-hw", "rtl"]
QUICK = ["--set", "train.epochs=4", "--set", "targets=[onnx-int8]", "--set", "gates.float_vs_quantized=100"]


def ledger_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "ledger.json").read_text())
    return content


def manifest_times(run: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in sorted(run.glob("*/artifact.json"))}


@pytest.fixture
def copy(digits_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(digits_run, tmp_path / "digits_mlp")
    return tmp_path / "digits_mlp"


def test_ledger_is_complete_and_valid(digits_run: Path) -> None:
    ledger = ledger_of(digits_run)
    jsonschema.validate(ledger, json_schema())
    assert sorted(check["actual"] for check in ledger["checks"]) == sorted(EXECUTORS)
    assert all(check["compared"] == 3600 and check["differing"] == 0 for check in ledger["checks"])
    assert len({check["outputs_sha256"] for check in ledger["checks"]}) == 1
    assert all(proof["holds"] and proof["cases"] > 0 for proof in ledger["proofs"])
    swept = {proof["actual"] for proof in ledger["proofs"] if "every reachable accumulator" in proof["method"]}
    assert swept >= {"torch", "qonnx", "onnx-int8", "c:cortex-m4", "rtl"}
    assert {"float", "quantized", "integer", *EXECUTORS} <= set(ledger["accuracy"])
    assert ledger["resources"]["c:cortex-m4"]["instructions_per_inference"] > 0


def test_report_is_self_contained_and_names_every_executor(digits_run: Path) -> None:
    page = (digits_run / "report.html").read_text()
    assert all(f"<b>{executor}</b>" in page for executor in EXECUTORS)
    assert "Every executor gave the integer model's codes" in page
    for outside in ("src=", "<link", "@import", "url(http"):
        assert outside not in page


def test_a_second_run_makes_nothing(copy: Path, digits_command: list[object]) -> None:
    before, ledger = manifest_times(copy), (copy / "ledger.json").read_bytes()
    assert bitproof(*digits_command, "--runs", copy.parent).code == 0
    assert manifest_times(copy) == before
    assert (copy / "ledger.json").read_bytes() == ledger


def test_what_was_deleted_is_made_again(copy: Path, digits_command: list[object]) -> None:
    deleted = [copy / "onnx-int8" / "artifact.json", copy / "checks" / "torch.json"]
    recorded = {path: json.loads(path.read_text()) for path in deleted}
    ledger = (copy / "ledger.json").read_bytes()
    for path in deleted:
        path.unlink()
    assert bitproof(*digits_command, "--runs", copy.parent).code == 0
    assert {path: json.loads(path.read_text()) for path in deleted} == recorded
    assert (copy / "ledger.json").read_bytes() == ledger


def test_a_changed_target_option_makes_only_that_target_again(copy: Path, digits_command: list[object]) -> None:
    before = manifest_times(copy)
    targets = "targets=[onnx-int8, 'c{core=cortex-m4}', 'finn{fps=150000}']"
    assert bitproof(*digits_command, "--runs", copy.parent, "--set", targets, "--until", "rtl").code == 0
    after = manifest_times(copy)
    assert {stage for stage in before if after[stage] != before[stage]} == {"finn", "rtl"}


def test_rtl_is_calibrated_by_its_thresholds_and_refuses_an_output_bias(copy: Path) -> None:
    refused = bitproof("calibrate", copy, "--executor", "rtl", "--parameters", "all", "--evaluations", "16")
    assert refused.code == 4, refused.err
    assert "layer 'output_bias' adds a bias to the output accumulators" in refused.err
    options = ("--parameters", "thresholds", "--evaluations", "16", "--images", "64")
    outcomes = {
        name: bitproof("calibrate", copy, "--executor", name, *options, "--json") for name in ("rtl", "integer")
    }
    assert all(outcome.code == 0 for outcome in outcomes.values()), outcomes
    rtl, integer = (json.loads(outcomes[name].out) for name in ("rtl", "integer"))
    assert (rtl["before"], rtl["after"]) == (integer["before"], integer["after"]), "the same codes, so the same losses"
    assert bitproof("verify", copy).code == 0


def test_verify_passes_and_finds_a_changed_byte(copy: Path) -> None:
    outcome = bitproof("verify", copy)
    assert outcome.code == 0, outcome.err
    target = copy / "onnx-int8" / "model.onnx"
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    outcome = bitproof("verify", copy, "--quick")
    assert outcome.code == 1
    assert "artifact 'onnx-int8'" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("emptied", ["checks", "artifacts", "proofs"])
def test_verify_refuses_a_ledger_with_nothing_in_it(copy: Path, emptied: str) -> None:
    forged = ledger_of(copy)
    forged[emptied] = []
    forged["sha256"] = canonical_sha256(forged)
    (copy / "ledger.json").write_text(json.dumps(forged))
    outcome = bitproof("verify", copy, "--quick")
    assert outcome.code == 1
    assert "the ledger" in outcome.err


@pytest.mark.parametrize("executor", ["onnx-int8", "c:cortex-m4", "rtl"])
def test_one_flipped_weight_bit_is_found_and_named(copy: Path, executor: str) -> None:
    outcome = bitproof("verify", copy, "--flip-bit", executor, "--json")
    assert outcome.code == 1, outcome.err
    found = json.loads(outcome.out.splitlines()[0])
    assert found["differing"] > 0
    assert found["first"]["expected"] != found["first"]["actual"]
    assert "first at image" in outcome.err
    assert bitproof("verify", copy, "--quick").code == 0  # the run itself was left alone


@pytest.mark.parametrize(
    "executor",
    ["onnx-int8", "c:cortex-m4", "rtl", "onnx-int8@fc0", "c:cortex-m4@fc0", "rtl@fc0", "rtl@fc1:3,2", "integer@fc0"],
)
def test_explain_names_the_weight_that_was_flipped(copy: Path, executor: str) -> None:
    outcome = bitproof("explain", copy, "--flip-bit", executor, "--json")
    assert outcome.code == 1, outcome.err
    (found,) = json.loads(outcome.out.splitlines()[0])["executors"]
    said = re.search(r"weight \[(\d+), (\d+)\]\D*(fc|MVAU_rtl_)(\d).*: (-?\d+) (?:became|->) (-?\d+)", outcome.err)
    assert said is not None, outcome.err
    row, column, layer, old, new = (int(said.group(i)) for i in (1, 2, 4, 5, 6))
    divergence = found["divergence"]
    assert (divergence["layer"], divergence["channel"]) == (f"fc{layer}", row)
    assert divergence["cause"] == "wrong weight"
    named = divergence["facts"].get("weights") or divergence["facts"]["one_of"]
    assert {"index": [row, column], "expected": old, "actual": new} in named
    if "@" in executor:
        assert f"({executor}" in outcome.err


def test_explain_says_that_all_executors_are_equal(copy: Path) -> None:
    outcome = bitproof("explain", copy, "--samples", "50")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == EXECUTORS
    assert all(line.endswith("all equal") for line in lines)
    refused = bitproof("explain", copy, "--executor", "nobody")
    assert refused.code == 2
    assert "this run has no executor 'nobody'; it has torch, qonnx, onnx-int8" in refused.err


def test_a_missing_tool_is_exit_code_3_and_the_other_targets_are_recorded(
    copy: Path, tmp_path: Path, digits_command: list[object]
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in (Path("/usr/bin"), Path("/bin"), Path(sys.executable).parent):
        for program in folder.iterdir():
            if program.name != "qemu-system-arm" and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    (copy / "checks" / "c-cortex-m4.json").unlink()
    outcome = bitproof(*digits_command, "--runs", copy.parent, path=str(programs))
    assert outcome.code == 3
    assert "qemu-system-arm" in outcome.err
    assert "apt-get install" in outcome.err
    ledger = ledger_of(copy)
    assert sorted(check["actual"] for check in ledger["checks"]) == sorted(set(EXECUTORS) - {"c:cortex-m4"})
    assert [failure["stage"] for failure in ledger["failures"]] == ["check-c-cortex-m4"]
    assert bitproof(*digits_command, "--runs", copy.parent).code == 0  # with the tool back, the run is whole again


def test_a_missed_gate_is_exit_code_1_and_says_by_how_much(tmp_path: Path) -> None:
    outcome = bitproof_without_scheduler(
        "run", CONFIG, "--runs", tmp_path, *QUICK[:4], "--set", "train.epochs=1", "--set", "gates.float_vs_quantized=0"
    )
    ledger = ledger_of(tmp_path / "digits_mlp")
    loss = ledger["accuracy"]["float"] - ledger["accuracy"]["quantized"]
    assert outcome.code == (1 if loss > 0 else 0)
    if loss > 0:
        assert f"the quantized network loses {loss:.2f} points" in outcome.err


def test_a_missing_data_set_is_exit_code_2_with_the_three_ways(tmp_path: Path) -> None:
    assignments = ["--set", "data.name=fashion-mnist", "--set", f"data.root={tmp_path}"]
    outcome = bitproof("run", CONFIG, "--runs", tmp_path, *assignments)
    assert outcome.code == 2
    assert all(way in outcome.err for way in ("dataset-fashion-mnist", "data.root", "download"))
    assert outcome.err.count("dataset-fashion-mnist") == 1, "what went wrong is said once"
    assert "these stages failed: data (exit code 2)" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_bug_in_a_stage_is_exit_code_70_and_shown_once(tmp_path: Path) -> None:
    """The stage that reads the data is replaced by a number, which is no stage."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(
        "from bitproof import network_source\nnetwork_source._prepare_data = lambda config: 3\n"
    )
    outcome = bitproof("run", CONFIG, "--runs", tmp_path, *QUICK, "--json", modules=modules)
    assert outcome.code == 70, outcome.err
    message = "'int' object has no attribute 'distributions'"
    assert outcome.err.count(f"AttributeError: {message}") == 1
    assert outcome.err.count("this is a bug of bitproof; please report it with the lines above") == 1
    assert "these stages failed: data (exit code 70)" in outcome.err
    assert json.loads(outcome.out)["error"] == f"data: a bug of bitproof, AttributeError: {message}"
    recorded = json.loads((tmp_path / "digits_mlp" / "failures" / "data.json").read_text())
    assert recorded["exit_code"] == 70
    assert bitproof("run", CONFIG, "--runs", tmp_path, *QUICK, "--until", "data").code == 0


def test_a_full_disk_is_a_failed_stage_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    # A limit on the size of files makes every larger write fail, as a full disk would.
    command = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "from bitproof.cli import run_command_line; sys.exit(run_command_line(sys.argv[1:]))"
    )
    run = tmp_path / "digits_mlp"
    assert bitproof("run", CONFIG, "--runs", tmp_path, *QUICK, "--until", "data").code == 0
    shutil.rmtree(run / "data")
    done = subprocess.run(
        [sys.executable, "-P", "-c", command, "stage", "data", "--run", str(run)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 4
    assert "is the disk full?" in done.stderr
    assert not (run / "data").exists()
