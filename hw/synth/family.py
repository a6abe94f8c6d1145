"""The two families of open FPGAs: how Yosys synthesizes for them, and what simulates the cells that it makes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bitproof.hw.synth.tools import OPEN_BOARDS, YOSYS
from bitproof.pipeline import StageError, ToolMissingError

MODELS = Path(__file__).parent / "models"
"""Our models of the cells that Yosys has none for: of each family, and what they have in common."""
SHARED_MODELS = "block_memory.v"
MODULE = re.compile(
    r"^(?P<attributes>\(\*[^\n]*\*\)\s*)?(?P<text>module +\\?(?P<name>[\w$]+).*?^[ \t]*endmodule)",
    re.MULTILINE | re.DOTALL,
)
TIMING = re.compile(r"^\s*specify\b.*?\bendspecify\b", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Family:
    """One family of FPGAs.

    Attributes:
        name: in boards' files and in the names of executors.
        synthesis: Yosys' command, without ``-top``.
        inner: what it takes in addition for a module that has no pins.
        models: files of Yosys with models of the family's cells, in its folder of data.
        counted: what nextpnr calls the cells that designs are measured by: ``lut``, ``ff``, ``bram`` and ``dsp``.
    """

    name: str
    synthesis: str
    inner: str
    models: tuple[str, ...]
    counted: Mapping[str, str]

    def cell_models(self, cells: Iterable[str]) -> str:
        """Return Verilog that simulates *cells* and what they are made of: Yosys' models, ours where it has none.

        Raises:
            ToolMissingError: Yosys is not installed.
            StageError: there is no model of a cell.
        """
        known = dict(self._shipped())
        for name in (SHARED_MODELS, f"{self.name}.v"):
            known |= _modules((MODELS / name).read_text())
        wanted, done = sorted(set(cells)), {}
        while wanted:
            name = wanted.pop(0)
            if name in done:
                continue
            if name not in known:
                raise StageError(
                    f"there is no model of the cell {name} of {self.name} FPGAs; add it to hw/synth/models"
                )
            done[name] = known[name]
            wanted += [word for word in WORD.findall(known[name]) if word in known and word not in done]
        return "\n".join(done[name] for name in sorted(done)) + "\n"

    def _shipped(self) -> Mapping[str, str]:
        package = YOSYS.package_folder()
        if package is None:
            raise ToolMissingError(YOSYS.name, needed_by=OPEN_BOARDS, install=YOSYS.install)
        found: dict[str, str] = {}
        for name in self.models:
            found |= _modules((package / "share" / name).read_text())
        return found


def _modules(text: str) -> dict[str, str]:
    """Return the modules in *text* by their names, without timing and comments; black boxes are no models."""
    found = MODULE.finditer(TIMING.sub("", COMMENT.sub("", text)))
    return {match["name"]: match["text"] for match in found if "blackbox" not in (match["attributes"] or "")}


FAMILIES: Mapping[str, Family] = {
    "ecp5": Family(
        *("ecp5", "synth_ecp5", "", ("ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh")),
        counted={"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "bram": "DP16KD", "dsp": "MULT18X18D"},
    ),
    "gowin": Family(
        *("gowin", "synth_gowin -family gw2a", "-noiopads", ("gowin/cells_sim.v",)),
        counted={"lut": "LUT4", "ff": "DFF", "bram": "BSRAM", "dsp": "MULT18X18"},
    ),
}
