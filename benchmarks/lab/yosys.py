"""What Yosys makes of a module: its cells on an FPGA family, before placement and routing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bitproof.hw.rtl.modules import FOLDER, Module
from bitproof.hw.synth.tools import YOSYS

Family = Literal["xc7", "ecp5"]
SYNTHESIS: dict[Family, str] = {
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf -flatten",
    "ecp5": "synth_ecp5 -noabc9",
}
SCRIPT = "synthesize.ys"
TIMEOUT_S = 3600
"""The first run translates WebAssembly, which takes minutes on a slow machine; the result is kept for later ones."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a module by what they are.

    Attributes:
        logic: lookup tables; a LUT6 or a smaller one of xc7, a LUT4 of ecp5. Carry cells of ecp5 (CCU2C) count as two.
        registers: flip-flops.
        multipliers: DSP48E1 of xc7, MULT18X18D of ecp5.
        memory: cells of distributed memory and blocks of memory, by their names.
    """

    logic: int
    registers: int
    multipliers: int
    memory: str


def cells_of(modules: Mapping[str, Module], family: Family, folder: Path) -> dict[str, Cells]:
    """Synthesize *modules*, each under its name, for *family*, in the existing *folder*.

    Raises:
        ToolMissingError: Yosys is not installed.
        StageError: it failed.
    """
    return {name: _counted(types) for name, types in cell_types_of(modules, SYNTHESIS[family], folder).items()}


def cell_types_of(modules: Mapping[str, Module], commands: str, folder: Path) -> dict[str, dict[str, int]]:
    """Read each of *modules*, carry out *commands* of Yosys, and return how many cells of each type there are.

    Raises:
        ToolMissingError: Yosys is not installed.
        StageError: it failed, or left a wire with no driver or with several.
    """
    (folder / "data").mkdir(exist_ok=True)
    script = []
    for name, module in modules.items():
        sources = (*module.sources, f"{name}.sv")
        texts = {source: (FOLDER / source).read_text() for source in module.sources}
        for path, text in {**texts, f"{name}.sv": module.wrapper(name), **module.memory_files(name)}.items():
            (folder / path).write_text(text)
        script += [f"read_slang --threads 1 --top {name} {' '.join(sources)}", commands, "check -assert"]
        script += [f"tee -q -o {name}.json stat -json", "design -reset"]
    # Its file system is that of the working directory, so paths are relative.
    (folder / SCRIPT).write_text("\n".join(script) + "\n")
    YOSYS.run(["-q", SCRIPT], needed_by="synthesis", cwd=folder, log=folder / "yosys.log", timeout_s=TIMEOUT_S)
    return {name: json.loads((folder / f"{name}.json").read_text())["design"]["num_cells_by_type"] for name in modules}


def _counted(types: dict[str, int]) -> Cells:
    groups: Counter[str] = Counter()
    memory = []
    for cell, count in types.items():
        if cell.startswith(("RAM", "DPR", "DP16", "SRL")):
            memory.append(f"{count} {cell}")
        elif cell.startswith(("LUT", "INV")):
            groups["logic"] += count
        elif cell == "CCU2C":
            groups["logic"] += 2 * count
        elif cell.startswith(("FD", "TRELLIS_FF")):
            groups["registers"] += count
        elif cell.startswith(("DSP", "MULT", "ALU54")):
            groups["multipliers"] += count
    return Cells(groups["logic"], groups["registers"], groups["multipliers"], ", ".join(sorted(memory)))
