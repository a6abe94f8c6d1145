"""The command line: every outcome has its exit code, and --json prints one object."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from bitproof.cli import run_command_line
from bitproof.commands import doctor
from bitproof.commands import run as run_module
from bitproof.pipeline import ToolMissingError, toolchain
from bitproof.pipeline.toolchain import PYTHON_H, TOOLS, PythonHeader

CONFIG = Path(__file__).parent.parent.parent / "configs" / "digits_mlp.yaml"


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("run", "stage", "verify", "report", "doctor"))


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--version"]) == 0
    assert capsys.readouterr().out == f"bitproof {version('bitproof')}\n"


NO_HEADER = PythonHeader("no-such-header.h", "3.11", "apt-get install headers", "train.compile")


def test_doctor_names_a_missing_header_with_what_needs_it_and_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert PYTHON_H in TOOLS
    monkeypatch.setattr(doctor, "TOOLS", (NO_HEADER,))
    assert run_command_line(["doctor", "--json"]) == 3
    out, err = capsys.readouterr()
    (row,) = [row for row in json.loads(out.splitlines()[0])["tools"] if row["tool"] == "no-such-header.h"]
    assert row == {
        "tool": "no-such-header.h",
        "version": None,
        "wanted": "3.11",
        "ok": False,
        "needed_by": "train.compile",
        "install": "apt-get install headers",
    }
    assert "no-such-header.h, for train.compile (apt-get install headers)" in err


def test_every_tool_says_what_needs_it() -> None:
    assert all(finding.needed_by and finding.install for finding in doctor.findings())


def test_training_that_could_not_compile_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(toolchain, "PYTHON_H", NO_HEADER)
    arguments = ["run", str(CONFIG), "--runs", str(tmp_path / "runs"), "--until", "data"]
    assert run_command_line([*arguments, "--set", "train.compile=true"]) == 3
    assert capsys.readouterr().err == (
        "error: train.compile = true needs 'no-such-header.h', which was not found. "
        "Install it: apt-get install headers\n"
    )
    assert not (tmp_path / "runs").exists()


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
    from bitproof.extras import missing_package

    missing = missing_package(ModuleNotFoundError("No module named 'torch'", name="torch.nn"), needed_by="stage train")
    assert missing is not None
    assert str(missing) == ("stage train needs 'torch', which was not found. Install it: pip install 'bitproof[train]'")
    assert missing.exit_code == 3
    assert missing_package(ModuleNotFoundError("No module named 'x'", name="x"), needed_by="y") is None


LONG = "x" * 5_000
PATHS = ("loop", "loop/x", "file/x", "missing", "dangling", "two\nlines", LONG, "/dev/null", "\udcff", "")
OF_RUNS = (
    ["verify"],
    ["verify", "--flip-bit", "onnx-int8"],
    ["explain"],
    ["report"],
    ["calibrate"],
    ["stage", "data", "--run"],
)
OF_FILES = (
    ["run"],
    ["lint"],
    ["import"],
    ["import", "net.onnx", "--vectors"],
    ["import", "net.onnx", "--vectors", "net.onnx", "--labels"],
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the working folder one with a loop of links, a link to nothing and a file."""
    (tmp_path / "loop").symlink_to("other")
    (tmp_path / "other").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "net.onnx").write_bytes(b"no network")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("command", [*OF_RUNS, *OF_FILES])
def test_a_path_that_leads_nowhere_is_exit_code_2(
    command: list[str], path: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert run_command_line([*command, path]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "path"), [*((run, "file") for run in OF_RUNS), *((file, "folder") for file in OF_FILES)]
)
def test_a_file_is_no_run_and_a_folder_no_file(
    command: list[str], path: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "folder").mkdir()
    assert run_command_line([*command, path]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("path", ["loop", "loop/run", "file", "file/run", LONG, "/dev/null", "/dev/null/run"])
@pytest.mark.parametrize("command", [["run", str(CONFIG), "--until", "data"], ["import", "net.onnx"]])
def test_runs_that_cannot_be_kept_there_are_exit_code_2(
    command: list[str], path: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert run_command_line([*command, "--runs", path]) == 2
    shown = capsys.readouterr().err
    assert "--runs FOLDER" in shown
    assert "Traceback" not in shown
    assert sorted(place.rglob("*")) == before


@contextmanager
def _nobody() -> Iterator[None]:
    """Be a user without rights; who tests as one already is one."""
    privileged = os.geteuid() == 0
    if privileged:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if privileged:
            os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """Make a folder that every user can look into, which the folders of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["verify"], "ledger.json"),
        (["explain"], "integer/artifact.json"),
        (["calibrate"], "ledger.json"),
    ],
)
def test_a_run_that_may_not_be_read_is_exit_code_2(
    command: list[str], name: str, public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (public / "integer").mkdir()
    for file in ("config.json", "ledger.json", "integer/artifact.json"):
        (public / file).write_text("{}")
    assert run_command_line([*command, str(public)]) in (1, 2)
    assert "Permission denied" not in capsys.readouterr().err
    (public / name).chmod(0)
    (public / ".lock").touch()
    (public / ".lock").chmod(0o666)
    with _nobody():
        assert run_command_line([*command, str(public)]) == 2
    assert f"{public / name}: Permission denied; give a path" in capsys.readouterr().err


def test_runs_in_a_folder_that_may_not_be_written_are_exit_code_2(
    public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public.chmod(0o555)
    with _nobody():
        assert run_command_line(["run", str(CONFIG), "--runs", str(public / "runs"), "--until", "data"]) == 2
    assert f"{public / 'runs'}: Permission denied; give a path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code"),
    [
        *((number, 2) for number in (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)),
        *((number, 4) for number in (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENOMEM)),
    ],
)
def test_what_the_system_says_of_a_path_is_the_users_mistake_and_all_else_the_machines(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "said", "a\nb")

    monkeypatch.setattr(run_module, "run_pipeline", fail)
    assert run_command_line(["run", "x.yaml"]) == code
    shown = capsys.readouterr().err
    assert shown.startswith("error: 'a\\nb': said")
    assert ("is the disk full?" in shown) is (code == 4)


@pytest.mark.parametrize("slot", ["../config", "check-../../x", "\x1b[2J", ""])
def test_a_stage_with_the_name_of_a_path_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], slot: str
) -> None:
    (tmp_path / "failures").mkdir()
    (tmp_path / "config.json").write_text("{}")
    assert run_command_line(["stage", slot, "--run", str(tmp_path)]) == 2
    assert "is not the name of a stage" in capsys.readouterr().err
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["config.json", "failures"]
