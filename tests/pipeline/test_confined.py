"""A confined program reads and writes what it is given, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitproof.pipeline import StageError
from bitproof.pipeline.toolchain import Confinement, run_program

INSIDE, OUTSIDE = "inside", "outside"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in (INSIDE, OUTSIDE, "given"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(name)
    return tmp_path


def run(folders: Path, *argv: str) -> str:
    confined = Confinement(readable=(folders / "given",), writable=(folders / INSIDE,))
    log = folders / "log"
    return run_program(argv, needed_by="test", cwd=folders / INSIDE, log=log, timeout_s=60, confined=confined)


def test_what_is_given_can_be_read_and_written(folders: Path) -> None:
    assert run(folders, "/bin/cat", "text", str(folders / "given" / "text")) == "insidegiven"
    run(folders, "/bin/cp", "text", "copy")
    assert (folders / INSIDE / "copy").read_text() == INSIDE
    assert "not confined" not in (folders / "log").read_text(), "this kernel has Landlock"


@pytest.mark.parametrize(
    "argv",
    [
        ("/bin/cat", "../outside/text"),
        ("/bin/cat", "/etc/passwd"),
        ("/bin/cp", "text", "../outside/copy"),
        ("/bin/cp", "text", "../given/copy"),
        ("/bin/rm", "../outside/text"),
        ("/bin/mv", "text", "../outside/moved"),
        ("/bin/ln", "-s", "text", "../outside/link"),
        ("/bin/sh", "-c", "cat ../outside/text"),
    ],
)
def test_everything_else_is_denied(folders: Path, argv: tuple[str, ...]) -> None:
    with pytest.raises(StageError, match=r"(?i)permission denied|cross-device"):
        run(folders, *argv)
    assert sorted(path.name for path in (folders / OUTSIDE).iterdir()) == ["text"]
    assert sorted(path.name for path in (folders / "given").iterdir()) == ["text"]


def test_the_network_is_denied(folders: Path) -> None:
    code = "import socket; socket.create_server(('127.0.0.1', 0))"
    with pytest.raises(StageError, match="Permission denied"):
        run(folders, "/usr/bin/python3", "-c", code)
