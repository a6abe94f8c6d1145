"""The bitstream of a design: the project is written and checked, then Vivado builds it if it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bitproof.hw.pynq.board import bitproof_driver as driver
from bitproof.hw.pynq.bundle import HARDWARE, MAX_FILE_BYTES, Bitstream
from bitproof.hw.pynq.check_project import check_project
from bitproof.hw.pynq.design import Design
from bitproof.hw.pynq.project import BUILD, write_project
from bitproof.pipeline import Artifact, InputError, StageError
from bitproof.pipeline.plain_file import read_bytes
from bitproof.pipeline.toolchain import VIVADO

NEEDED_BY = "the bitstream"
BUILT = "built.txt"
TIMEOUT_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Built:
    """What Vivado left, by its own words: its version, and the slacks in ns."""

    design_id: str
    vivado: str
    setup_slack_ns: str
    hold_slack_ns: str


def prepare_bitstream(rtl: Artifact, design: Design, folder: Path) -> None:
    """Write the project of *design* into *folder* and check all that can be checked without Vivado.

    Raises:
        ToolMissingError: tclsh is not installed.
        StageError: a check failed.
    """
    write_project(rtl, design, folder)
    check_project(folder, design, scratch=folder)


def build_bitstream(design: Design, folder: Path) -> Built:
    """Run Vivado on the project in *folder* and return what it says; one that is built of *design* is left alone.

    Raises:
        ToolMissingError: Vivado is not installed; the project is checked and ready.
        StageError: Vivado failed, or timing is not met.
    """
    built = what_is_built(folder)
    if built is None or built.design_id != design.design_id or not (folder / driver.BITSTREAM).is_file():
        arguments = ["-mode", "batch", "-nojournal", "-log", "vivado.log", "-source", BUILD]
        VIVADO.run(arguments, needed_by=NEEDED_BY, cwd=folder, log=folder / "vivado.out", timeout_s=TIMEOUT_S)
        built = what_is_built(folder)
    if built is None or built.design_id != design.design_id:
        raise StageError(f"Vivado ended without an error but left no {BUILT} of this design; see {folder}/vivado.log")
    return built


def what_is_built(folder: Path) -> Built | None:
    """Return what *folder* holds of an earlier build; None if there is none that is whole."""
    try:
        lines = read_bytes(folder / BUILT, 1 << 12).decode().splitlines()
        found = dict(line.split(" ", 1) for line in lines)
        return Built(**found)
    except (OSError, ValueError, TypeError):
        return None


def bitstream_in(folder: Path, design: Design) -> Bitstream | None:
    """Return the bitstream of *design* that was built in *folder*; None if there is none.

    Raises:
        InputError: what was built there is another design.
    """
    built = what_is_built(folder)
    if built is None:
        return None
    if built.design_id != design.design_id:
        raise InputError(
            f"{folder} holds a bitstream of the design {built.design_id}, and this run is {design.design_id}; build it "
            "again: bitproof bitstream RUN"
        )
    return read_bitstream(folder / driver.BITSTREAM, folder / HARDWARE)


def read_bitstream(bit: Path, hwh: Path) -> Bitstream:
    """Return the bitstream in these two files.

    Raises:
        InputError: one cannot be read.
    """
    try:
        return Bitstream(read_bytes(bit, MAX_FILE_BYTES), read_bytes(hwh, MAX_FILE_BYTES))
    except (OSError, ValueError) as error:
        raise InputError(f"the bitstream cannot be read: {error}; bit and hwh file lie beside each other") from error
