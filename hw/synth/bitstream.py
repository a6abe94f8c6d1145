"""The stage that makes the bitstream of a netlist: place and route, pack, and check what was packed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from bitproof.hw.synth import netlist
from bitproof.hw.synth.family import FAMILIES
from bitproof.hw.synth.netlist import FOR_ROUTING, open_fpga_of, read_netlist
from bitproof.hw.synth.pack import pack
from bitproof.hw.synth.place import ROUTERS, Routed, place_and_route
from bitproof.pipeline import Artifact, ConfigError, InputError, Stage, StageContext, StageError
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.ledger import Sha256
from bitproof.pipeline.record import Record

FILE = "bitstream.json"
FORMAT: Literal[1] = 1
DEFAULT_SEEDS, MAX_SEEDS = 3, 20

Timing = Literal["met", "any"]
"""Whether a bitstream that misses its timing is a failure."""


class BitstreamDescription(Record):
    """``bitstream.json``.

    Attributes:
        format: its version.
        board: name of a file in ``hw/boards``.
        file: name of the bitstream.
        sha256: of the bitstream.
        idcode: the device that it names.
        seed: that it was placed with.
        routed: what place and route made with each seed that was tried.
    """

    format: Literal[1] = FORMAT
    board: str
    file: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    sha256: Sha256
    idcode: str
    seed: int
    routed: tuple[Routed, ...]

    @model_validator(mode="after")
    def _seed_was_tried(self) -> Self:
        tried = [routed.seed for routed in self.routed]
        if tried.count(self.seed) != 1:
            raise ValueError(f"seed = {self.seed} is not one of the seeds that were routed, {tried}")
        return self

    @property
    def chosen(self) -> Routed:
        """What is in the bitstream."""
        return next(routed for routed in self.routed if routed.seed == self.seed)


def read_bitstream(folder: Path) -> BitstreamDescription:
    """Read ``bitstream.json`` of the artifact in *folder*.

    Raises:
        InputError: it is missing or malformed, or of another version.
    """
    try:
        return BitstreamDescription.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder} does not hold a bitstream: {FILE}: {error}") from error


def figures_of(folder: Path) -> Mapping[str, int | float | str]:
    """Return speed and cells of the bitstream in *folder*, as the ledger and the report show them.

    Raises:
        InputError: there is none, or its description is malformed.
    """
    described = read_bitstream(folder)
    chosen, counted = described.chosen, FAMILIES[open_fpga_of(described.board).family].counted
    return {
        "board": described.board,
        "fmax_mhz": chosen.fmax_mhz,
        "clock_mhz": chosen.wanted_mhz,
        "slowest_path": chosen.slowest_layer,
        "seed": chosen.seed,
        **{name: chosen.cells_of(cell).used for name, cell in counted.items()},
    }


@dataclass(frozen=True)
class BuildBitstream(Stage):
    """Write the bitstream, ``bitstream.json``, and ``netlist.json``, which a host needs to talk to the board.

    Attributes:
        seeds: how many seeds are tried, from 1 on, until one meets the timing.
        timing: whether a design that is slower than its clock is a failure.
    """

    name: ClassVar[str] = "bitstream"
    consumes: ClassVar[str] = "netlist"
    produces: ClassVar[str] = "bitstream"

    seeds: int = DEFAULT_SEEDS
    timing: Timing = "met"

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= MAX_SEEDS:
            raise ConfigError(f"seeds = {self.seeds} is not possible; allowed: 1..{MAX_SEEDS}")
        if self.timing not in get_args(Timing):
            raise ConfigError(f"timing = {self.timing!r} is not possible; allowed: {', '.join(get_args(Timing))}")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Try the seeds, pack the fastest design and check the bitstream.

        Raises:
            StageError: a tool failed, the bitstream is not what was routed, or the timing is missed.
            ToolMissingError: nextpnr or the packer is not installed.
        """
        description = read_netlist(source.path)
        fpga, needed_by = open_fpga_of(description.board), f"target finn{{board={description.board}}}"
        tried: list[Routed] = []
        for seed in range(1, self.seeds + 1):
            work = ctx.scratch / f"seed{seed}"
            work.mkdir()
            shutil.copyfile(source.path / FOR_ROUTING, work / FOR_ROUTING)
            log = ctx.scratch / f"seed{seed}.log"
            tried.append(place_and_route(fpga, description.layers, seed, needed_by=needed_by, folder=work, log=log))
            if tried[-1].meets_timing:
                break
        best = max(tried, key=lambda routed: routed.fmax_mhz)
        if self.timing == "met":
            require_timing(best, len(tried), description.board)
        made = pack(fpga, needed_by=needed_by, folder=ctx.scratch / f"seed{best.seed}", log=ctx.scratch / "pack.log")
        shutil.copyfile(made, ctx.workdir / made.name)
        shutil.copyfile(source.path / netlist.FILE, ctx.workdir / netlist.FILE)
        described = BitstreamDescription(
            board=description.board,
            file=made.name,
            sha256=sha256_of_bytes(made.read_bytes()),
            idcode=fpga.idcode,
            seed=best.seed,
            routed=tuple(tried),
        )
        text = json.dumps(described.model_dump(mode="json"), indent=1, sort_keys=True)
        (ctx.workdir / FILE).write_text(text + "\n")
        return {tool.name: tool.version() or "unknown" for tool in (ROUTERS[fpga.family].tool,)}


def require_timing(best: Routed, tried: int, board: str) -> None:
    """Check that the design runs at the frequency of its clock.

    Raises:
        StageError: it does not; the message names the layer that is too slow.
    """
    if not best.meets_timing:
        raise StageError(
            f"the design for {board} runs at {best.fmax_mhz:g} MHz at most, its clock has "
            f"{best.wanted_mhz:g} MHz ({tried} seeds tried); the slowest path runs through {best.slowest_layer}, from "
            f"{best.slowest_from} to {best.slowest_to}. Try more seeds (finn{{seeds=...}}), fewer frames per second, "
            "or take the bitstream as it is (finn{timing=any})"
        )
