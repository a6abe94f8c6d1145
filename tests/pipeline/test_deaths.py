"""What a stage leaves while it runs, and what is made of it if it died."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from bitproof.commands.deaths import logged, record_deaths
from bitproof.pipeline import InputError
from bitproof.pipeline.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.named("mine", runs=tmp_path)


def message(run: RunFolder, slot: str) -> str:
    entry = json.loads(run.failure(slot).read_text())
    assert entry["exit_code"] == 4
    return str(entry["message"])


def test_stage_that_ends_by_itself_leaves_no_mark(run: RunFolder) -> None:
    with logged(run, "data"):
        assert run.running("data").is_file()
        logging.getLogger("bitproof.train.loop").info("epoch %d", 7)
    with pytest.raises(InputError), logged(run, "train"):
        raise InputError("no")
    logging.getLogger("bitproof.train.loop").info("epoch %d", 8)
    assert "epoch 7" in run.log("data").read_text()
    assert "epoch 8" not in run.log("data").read_text()
    record_deaths(run)
    assert run.failures() == ()


def test_warnings_are_still_shown(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        with logged(run, "data"):
            logging.getLogger("bitproof.train.loop").warning("hardly used")
            logging.getLogger("bitproof.train.loop").info("epoch")
        assert root.handlers == []
    finally:
        root.handlers = handlers
    assert capsys.readouterr().err == "hardly used\n"


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("137", "ended by SIGKILL (something killed it: is the memory full?)"),
        ("139", "ended by SIGSEGV (native code crashed)"),
        ("143", "ended by SIGTERM"),
        ("3", "exit code 3"),
        (None, "it was killed, or crashed"),
    ],
)
def test_death_is_told_with_its_signal_and_its_last_lines(run: RunFolder, code: str | None, how: str) -> None:
    slot = "train"
    mark = run.running(slot) if code is None else run.ended(slot)
    mark.parent.mkdir(parents=True)
    mark.write_text("123\n" if code is None else f"{code}\n")
    run.log(slot).parent.mkdir(parents=True)
    run.log(slot).write_text("".join(f"line {number}\n" for number in range(99)))
    record_deaths(run)
    first, *lines = message(run, slot).splitlines()
    assert first == f"its process ended without a result: {how}. Its log is {run.log(slot)}; last lines:"
    assert lines == [f"line {number}" for number in range(84, 99)]


def test_crash_is_told_by_its_innermost_calls(run: RunFolder) -> None:
    run.ended("rtl").parent.mkdir(parents=True)
    run.ended("rtl").write_text("139\n")
    run.log("rtl").parent.mkdir(parents=True)
    run.log("rtl").write_text("begins\nFatal Python error: Segmentation fault\n" + "  File\n" * 50)
    record_deaths(run)
    assert message(run, "rtl").splitlines()[1:3] == ["Fatal Python error: Segmentation fault", "  File"]


def test_stage_that_said_why_it_failed_is_not_dead(run: RunFolder) -> None:
    run.ended("train").parent.mkdir(parents=True)
    run.ended("train").write_text("2\n")
    run.failure("train").parent.mkdir(parents=True)
    said = '{"stage": "train", "exit_code": 2, "message": "why"}'
    run.failure("train").write_text(said)
    record_deaths(run)
    assert run.failure("train").read_text() == said
