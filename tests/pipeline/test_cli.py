"""The command line: every outcome has its exit code, and --json prints one object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import ToolMissingError
from pipeline.cli import run_command_line
from pipeline.commands import run as run_module


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("run", "stage", "verify", "report", "doctor"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "no-such-file.yaml"],
        ["verify", "no-such-run"],
        ["report", "no-such-run"],
        ["stage", "train", "--run", "no-such-run"],
        ["verify", "x" * 5000],
        ["import", "x" * 5000],
        ["no-such-verb"],
        ["run"],
    ],
)
def test_bad_input_is_exit_code_2_without_a_traceback(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_in_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["run", "no-such-file.yaml", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 2
    assert "no-such-file.yaml" in answer["error"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ToolMissingError("qemu", needed_by="target c", install="apt"), 3),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError(), 70),
    ],
)
def test_errors_end_with_their_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(run_module, "run_pipeline", fail)
    assert run_command_line(["run", "x.yaml"]) == code
    assert ("Traceback" in capsys.readouterr().err) is (code == 70)


def test_unknown_stage_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("name: tiny\ndata: {name: digits}\nmodel: {name: mlp, hidden: [8]}\ntargets: [onnx-int8]\n")
    assert run_command_line(["run", str(config), "--runs", str(tmp_path), "--until", "trian"]) == 2
    assert "no stage 'trian' in this run; it has data, train-float, train, export" in capsys.readouterr().err


def test_a_missing_python_package_is_exit_code_3_with_its_extra() -> None:
    from pipeline.registry import missing_package

    missing = missing_package(ModuleNotFoundError("No module named 'torch'", name="torch.nn"), needed_by="stage train")
    assert missing is not None
    assert str(missing) == ("stage train needs 'torch', which was not found. Install it: pip install 'bitproof[train]'")
    assert missing.exit_code == 3
    assert missing_package(ModuleNotFoundError("No module named 'x'", name="x"), needed_by="y") is None


def test_a_place_that_cannot_be_written_is_exit_code_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    config = Path(__file__).parent.parent.parent / "configs" / "digits_mlp.yaml"
    assert run_command_line(["run", str(config), "--runs", str(tmp_path / "file"), "--until", "data"]) == 4
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert "no permission, or not a folder?" in shown


@pytest.mark.parametrize("slot", ["../config", "check-../../x", "\x1b[2J", ""])
def test_a_stage_with_the_name_of_a_path_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], slot: str
) -> None:
    (tmp_path / "failures").mkdir()
    (tmp_path / "config.json").write_text("{}")
    assert run_command_line(["stage", slot, "--run", str(tmp_path)]) == 2
    assert "is not the name of a stage" in capsys.readouterr().err
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["config.json", "failures"]
