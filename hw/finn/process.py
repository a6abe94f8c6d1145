"""A process of its own for a command of :mod:`bitproof.hw.finn.child`.

FINN keeps its settings and its build folder in process-global state that is fixed at first use, reads them from the
environment, and would create ``~/.finn``. In a child process with these variables set it touches nothing but *scratch*.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bitproof.pipeline import StageError, ToolMissingError
from bitproof.pipeline.toolchain import distribution_version, run_python_module

TIMEOUT_S = 1200
DISTRIBUTION = "finn-plus"


def run_child(command: str, arguments: Sequence[str | Path], *, needed_by: str, scratch: Path) -> None:
    """Run *command* of the child with *arguments*; its files and its log ``<command>.log`` stay in *scratch*.

    Raises:
        ToolMissingError: FINN is not installed.
        StageError: the command failed; the message ends with the last lines of its log.
    """
    if distribution_version(DISTRIBUTION) is None:
        raise ToolMissingError(DISTRIBUTION, needed_by=needed_by, install="pip install 'bitproof[fpga]'")
    scratch = scratch.resolve()
    build = scratch / "finn-build"
    build.mkdir(parents=True, exist_ok=True)
    log = scratch / f"{command}.log"
    refusal = scratch / f"{command}.refused"
    refusal.unlink(missing_ok=True)
    try:
        run_python_module(
            "bitproof.hw.finn.child",
            [command, refusal, *(a.resolve() if isinstance(a, Path) else a for a in arguments)],
            needed_by=needed_by,
            cwd=scratch,
            log=log,
            timeout_s=TIMEOUT_S,
            environment={
                "FINN_BUILD_DIR": str(build),
                "FINN_SETTINGS": str(scratch / "no-finn-settings.yaml"),
                "OMP_NUM_THREADS": "1",
            },
        )
    except StageError as error:
        if refusal.is_file():
            raise StageError(refusal.read_text()) from error
        raise
