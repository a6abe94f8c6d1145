"""Place and route by nextpnr, and its report: speed, cells, and the layer that the slowest path runs through."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bitproof.hw.board import OpenFpga
from bitproof.hw.synth.constraints import constraints
from bitproof.hw.synth.netlist import FOR_ROUTING
from bitproof.hw.synth.tools import NEXTPNR_ECP5, NEXTPNR_GOWIN, TIMEOUT_S, PythonScript
from bitproof.pipeline import StageError
from bitproof.pipeline.record import Record

REPORT = "report.json"
NETWORK = "shell.network."
"""What the names of the network's cells begin with in the complete netlist."""
SHELL = "the board shell"

Megahertz = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Use(Record):
    """How many cells of a type there are, and are taken."""

    used: Annotated[int, Field(ge=0)]
    available: Annotated[int, Field(ge=0)]


class Routed(Record):
    """What place and route made with one seed.

    Attributes:
        seed: of the placer.
        fmax_mhz: the largest frequency of the design's clock, by static timing analysis.
        wanted_mhz: the frequency that the PLL gives.
        slowest_from: name of the cell that the slowest path begins at.
        slowest_to: the one that it ends at.
        slowest_layer: the layer of the network that most of the path runs through.
        cells: by type.
    """

    seed: int
    fmax_mhz: Megahertz
    wanted_mhz: Megahertz
    slowest_from: str
    slowest_to: str
    slowest_layer: str
    cells: Mapping[str, Use]

    @property
    def meets_timing(self) -> bool:
        """The design runs at the frequency of its clock."""
        return self.fmax_mhz >= self.wanted_mhz

    def cells_of(self, name: str) -> Use:
        """Return the use of the cells *name*; nextpnr does not tell of those that there are none of."""
        return self.cells.get(name, Use(used=0, available=0))


@dataclass(frozen=True, slots=True)
class Router:
    """nextpnr for one family.

    Attributes:
        tool: the program.
        constraints: name of the file of constraints.
        result: name of what it writes for the packer.
    """

    tool: PythonScript
    constraints: str
    result: str

    def arguments(self, fpga: OpenFpga, seed: int) -> Sequence[str]:
        """Return the arguments of a run with *seed*; the files are in the working directory."""
        shared = ["--json", FOR_ROUTING, "--seed", str(seed), "--report", REPORT]
        shared += ["--timing-allow-fail", "--threads", "1"]  # a miss is read from the report; the result is there
        if fpga.family == "ecp5":
            device = [f"--{fpga.device}", "--package", fpga.package, "--speed", fpga.speed]
            return [*device, "--lpf", self.constraints, "--textcfg", self.result, *shared]
        device = ["--device", fpga.device, "--vopt", "family=GW2A-18C", "--vopt", f"cst={self.constraints}"]
        return [*device, "--write", self.result, "--freq", f"{fpga.clock_hz / 1e6:.6f}", *shared]


ROUTERS: Mapping[str, Router] = {
    "ecp5": Router(NEXTPNR_ECP5, "board.lpf", "routed.config"),
    "gowin": Router(NEXTPNR_GOWIN, "board.cst", "routed.json"),
}


def place_and_route(
    fpga: OpenFpga, layers: Mapping[str, str], seed: int, *, needed_by: str, folder: Path, log: Path
) -> Routed:
    """Place and route ``complete.json`` in *folder* with *seed*; result and report lie there, too.

    Args:
        fpga: the FPGA.
        layers: what the instances of the network stand for.
        seed: of the placer.
        needed_by: what asks for it.
        folder: an existing folder with the netlist.
        log: the file that nextpnr's messages are appended to.

    Raises:
        ToolMissingError: nextpnr is not installed.
        StageError: it failed, as it does if the design does not fit.
    """
    router = ROUTERS[fpga.family]
    (folder / router.constraints).write_text(constraints(fpga))
    router.tool.run(
        router.arguments(fpga, seed), needed_by=needed_by, cwd=folder, log=log.resolve(), timeout_s=TIMEOUT_S
    )
    return read_report(folder / REPORT, fpga, layers, seed)


def read_report(path: Path, fpga: OpenFpga, layers: Mapping[str, str], seed: int) -> Routed:
    """Return what the report of nextpnr at *path* says.

    Raises:
        StageError: it is missing or malformed, or tells of no clock.
    """
    try:
        return routed_of(json.loads(path.read_bytes()), fpga, layers, seed)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        tool = ROUTERS[fpga.family].tool
        raise StageError(f"nextpnr left no report in {path}: {error!r}; use {tool.name} {tool.wanted}") from error


def routed_of(report: Mapping[str, Any], fpga: OpenFpga, layers: Mapping[str, str], seed: int) -> Routed:
    """Return what *report* of nextpnr says.

    Raises:
        StageError: it tells of no clock.
    """
    if not report["fmax"]:
        raise StageError("nextpnr's report names no clock; the design has no registers")
    clock, speed = min(report["fmax"].items(), key=lambda item: float(item[1]["achieved"]))
    paths = [path for path in report["critical_paths"] if path["from"] == path["to"] == f"posedge {clock}"]
    steps = paths[0]["path"] if paths else []
    cells = [step[end]["cell"] for step in steps for end in ("from", "to")]
    return Routed(
        seed=seed,
        fmax_mhz=round(float(speed["achieved"]), 2),
        wanted_mhz=fpga.clock_hz / 1e6,
        slowest_from=cells[0] if cells else "",
        slowest_to=cells[-1] if cells else "",
        slowest_layer=_layer_of(cells, layers),
        cells={name: Use.model_validate(use) for name, use in sorted(report["utilization"].items()) if use["used"]},
    )


def _layer_of(cells: Sequence[str], layers: Mapping[str, str]) -> str:
    """Return what most of *cells* belong to: a layer with the instance that carries it out, or the shell."""
    owners: Counter[str] = Counter()
    for cell in cells:
        match = re.match(rf"{re.escape(NETWORK)}(\w+)", cell)
        instance = match.group(1) if match else ""
        if instance in layers:
            owners[f"{layers[instance]} ({instance})"] += 1
        elif not cell.startswith("$"):
            owners[SHELL] += 1
    return owners.most_common(1)[0][0] if owners else SHELL
