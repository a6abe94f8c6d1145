"""The real command line on runs that are not whole: a target that refused, a run that was stopped, one made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from bitproof_command import Outcome, bitproof
from foreign_files import ForeignFile, weights

pytestmark = [pytest.mark.tool, pytest.mark.end_to_end, pytest.mark.xdist_group("partial_runs")]

CONFIG = Path(__file__).parent.parent.parent / "configs" / "digits_mlp.yaml"
TARGETS = ["--target", "onnx-int8", "--target", "c{core=cortex-m4}"]
REFUSED = "stage c-cortex-m4 failed (exit code 4): layer 'fc1' takes the accumulators of layer 'fc0'"


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Import a network that multiplies sums which nothing quantized, which C does not take and onnx-int8 does."""
    folder = tmp_path_factory.mktemp("refused")
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4)
    tensor = file.add("Gemm", tensor, file.quant(file.constant(weights((3, 3), 1)), 0.5, 3), transB=1)
    tensor = file.add("Gemm", tensor, file.quant(file.constant(weights((3, 3), 2)), 0.5, 3), transB=1)
    onnx.save_model(file.model(file.quant(tensor, 0.25, 4), ["N", 3], ["N", 3]), folder / "net.onnx")
    outcome = bitproof("import", folder / "net.onnx", *TARGETS, "--runs", folder)
    return folder / "net", outcome


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("stopped")
    outcome = bitproof("run", CONFIG, "--runs", runs, "--set", "train.epochs=1", "--until", "integer")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"made {runs / 'digits_mlp' / 'integer' / 'artifact.json'}\n"
    return runs / "digits_mlp"


def test_a_run_of_which_a_target_refused_ends_with_the_table_of_the_others(refused: tuple[Path, Outcome]) -> None:
    run, outcome = refused
    assert outcome.code == 4
    assert "these stages failed: c-cortex-m4 (exit code 4)" in outcome.err
    rows = [line for line in outcome.out.splitlines() if "all equal" in line]
    assert [name for name in ("qonnx", "onnx-int8", "c:cortex-m4") if any(name in row for row in rows)] == [
        "qonnx",
        "onnx-int8",
    ]
    assert outcome.out.splitlines()[-2:] == [f"ledger: {run / 'ledger.json'}", f"report: {run / 'report.html'}"]


def test_the_executors_that_are_there_are_explained_and_the_refused_one_is_named(refused: tuple[Path, Outcome]) -> None:
    outcome = bitproof("explain", refused[0])
    assert outcome.code == 0, outcome.err
    *equal, third = outcome.out.splitlines()
    assert [line.partition(":")[0] for line in equal] == ["qonnx", "qonnx-f64", "onnx-int8"]
    assert all(line.endswith("all equal") for line in equal)
    assert third.startswith(f"c:cortex-m4: not explained: {REFUSED}")
    as_json = json.loads(bitproof("explain", refused[0], "--json").out)
    assert [found["executor"] for found in as_json["executors"]] == ["qonnx", "qonnx-f64", "onnx-int8"]
    assert [(entry["executor"], entry["why"].partition(";")[0]) for entry in as_json["absent"]] == [
        ("c:cortex-m4", REFUSED)
    ]


def test_a_flipped_bit_is_found_although_another_target_refused(refused: tuple[Path, Outcome]) -> None:
    outcome = bitproof("explain", refused[0], "--flip-bit", "onnx-int8")
    assert outcome.code == 1, outcome.err


@pytest.mark.parametrize("options", [["--executor", "c:cortex-m4"], ["--flip-bit", "c:cortex-m4"]])
def test_explaining_an_executor_that_is_not_there_is_exit_code_2(
    refused: tuple[Path, Outcome], options: list[str]
) -> None:
    outcome = bitproof("explain", refused[0], *options)
    assert outcome.code == 2
    assert f"  c:cortex-m4: {REFUSED}" in outcome.err
    assert (
        f"finish the run: bitproof import {refused[0].parent / 'net.onnx'} --name net --target onnx-int8" in outcome.err
    )


def test_a_run_until_the_integer_model_explains_what_is_before_it(stopped: Path) -> None:
    outcome = bitproof("explain", stopped, "--samples", "20")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert all(line.endswith("all equal") for line in lines[:2])
    assert lines[2:] == [
        "onnx-int8: not explained: stage onnx-int8 has not been carried out",
        "c:cortex-m4: not explained: stage c-cortex-m4 has not been carried out",
        "finn-hw: not explained: stage finn has not been carried out",
        "rtl: not explained: stage finn has not been carried out",
    ]


def test_what_is_up_to_date_is_not_said_to_be_made(stopped: Path) -> None:
    again = ("run", CONFIG, "--runs", stopped.parent, "--set", "train.epochs=1", "--until", "integer")
    goal = "integer/artifact.json"
    outcome = bitproof(*again)
    assert (outcome.code, outcome.out) == (0, f"up to date: {stopped / goal}\n")
    assert json.loads(bitproof(*again, "--json").out) == {"run": str(stopped), "made": goal, "up_to_date": True}


def test_a_run_without_an_integer_model_of_its_network_has_nothing_to_explain(stopped: Path, tmp_path: Path) -> None:
    run = tmp_path / stopped.name
    shutil.copytree(stopped, run)
    manifest = run / "integer" / "artifact.json"
    manifest.write_text(manifest.read_text().replace('"made_from": [\n    "', '"made_from": [\n    "0'))
    finish = f"finish the run: bitproof run {run / 'config.json'} --runs {tmp_path}"
    outcome = bitproof("explain", run)
    assert outcome.code == 2
    assert f"has nothing to compare with: integer was made from an earlier export; {finish}" in outcome.err
    manifest.unlink()
    outcome = bitproof("explain", run)
    assert outcome.code == 2
    assert f"has nothing to compare with: stage integer has not been carried out; {finish}" in outcome.err
