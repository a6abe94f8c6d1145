"""``bitproof tune`` writes a table that is whole or not at all, and prints it for people or as JSON."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from bitproof.cli import run_command_line
from bitproof.export.onnx_int8 import tune
from bitproof.export.onnx_int8.costs import CostTable, read_table
from bitproof.export.onnx_int8.tune import Probe, measure

PROBES = (
    Probe("convolution", 1, 4, 3, 4),
    Probe("pointwise", 4, 4, 1, 4),
    Probe("depthwise", 4, 4, 3, 4),
    Probe("matrix", 4, 4),
)


@pytest.fixture(autouse=True)
def _few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "measure", partial(measure, PROBES))


def test_it_writes_a_valid_table_and_prints_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned.json"
    assert run_command_line(["tune", "--out", str(out), "--seconds", "0"]) == 0
    table = read_table(out)
    assert [layer.shape for layer in table.layers] == [probe.shape for probe in PROBES]
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.json"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(table.about)
    assert [line.split()[0] for line in lines[2:-1]] == [probe.kind for probe in PROBES]
    assert lines[-1] == f"written to {out}; a run takes it by the target 'onnx-int8{{table={out}}}'"


def test_it_prints_the_table_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned.json"
    assert run_command_line(["tune", "--out", str(out), "--seconds", "0", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content.pop("table") == str(out)
    assert CostTable.model_validate_json(json.dumps(content)) == read_table(out)


def test_an_interruption_leaves_the_table_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> CostTable:
        raise KeyboardInterrupt

    out = tmp_path / "tuned.json"
    out.write_text("old")
    monkeypatch.setattr(tune, "measure", interrupted)
    assert run_command_line(["tune", "--out", str(out)]) == 130
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"tuned.json": "old"}


@pytest.mark.parametrize("name", ["", "none/tuned.json"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(tune, "measure")
    out = tmp_path / name
    assert run_command_line(["tune", "--out", str(out)]) == 2
    advice = "give a file in a folder that exists, for example --out tuned.json"
    assert capsys.readouterr().err == f"error: {out} cannot be written: {advice}\n"
