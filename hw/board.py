"""The boards that a dataflow graph can be built for: part, clock and resources, one YAML file each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from bitproof.pipeline import ConfigError
from bitproof.pipeline.record import Record

FOLDER = Path(__file__).parent / "boards"


class Pin(Record):
    """A port of the board shell on a pin of the FPGA.

    Attributes:
        site: name of the pin.
        source: where that is published.
        settings: electrical ones, as the constraints of the family write them.
    """

    site: str
    source: str
    settings: str


class OpenFpga(Record):
    """What the open tools have to know of a board, whose bitstream they make.

    Attributes:
        family: of the FPGA; also the suffix of the executor's name.
        device: the FPGA, as nextpnr calls it.
        package: its package; empty: part of *device*.
        speed: its speed grade; empty: part of *device*.
        idcode: what the bitstream names as its device.
        bitstream_bytes: size of the file that the packer writes if the design has no block memories.
        memory_bytes: what each block memory with contents adds to it; 0: not checked.
        crystal_hz: frequency of the clock on the board.
        clock_hz: frequency that a PLL makes of it, for the design; the constraint of place and route.
        baud: of the serial line, which is the board's USB port.
        tried: whether a design ran on such a board.
        pins: by the port of the shell: clock, rx, tx, busy, rejected, high (a pin that has to be 1).
    """

    family: Literal["ecp5", "gowin"]
    device: str
    package: str = ""
    speed: str = ""
    idcode: str
    bitstream_bytes: int = Field(ge=1)
    memory_bytes: int = Field(0, ge=0)
    crystal_hz: int = Field(ge=1)
    clock_hz: int = Field(ge=1)
    baud: int = Field(ge=1)
    tried: str
    pins: dict[Literal["clock", "rx", "tx", "busy", "rejected", "high"], Pin]


class Board(Record):
    """One board.

    Attributes:
        part: the FPGA, as its vendor writes it.
        clock_ns: the period of the dataflow clock.
        lut: number of look-up tables.
        bram18: number of 18 Kibit block memories.
        dsp: number of DSP slices, or multipliers.
        finn_part: the FPGA of AMD that FINN writes RTL for; None: *part*.
        open_fpga: the board's bitstream is made by open tools; None: by the vendor's.
    """

    part: str
    clock_ns: int = Field(ge=1)
    lut: int = Field(ge=1)
    bram18: int = Field(ge=1)
    dsp: int = Field(ge=1)
    finn_part: str | None = None
    open_fpga: OpenFpga | None = None

    @property
    def generated_for(self) -> str:
        """The FPGA of AMD that FINN writes RTL for."""
        return self.finn_part or self.part

    def cycles_per_image(self, fps: int) -> int:
        """Return how many clock cycles one image may take at *fps* images per second; 0 if it is less than one."""
        return 1_000_000_000 // (self.clock_ns * fps)


def board_names() -> tuple[str, ...]:
    """Return the names of all boards."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def open_board_names() -> tuple[str, ...]:
    """Return the names of the boards whose bitstream open tools make."""
    return tuple(name for name in board_names() if load_board(name).open_fpga is not None)


def load_board(name: str) -> Board:
    """Return the board called *name*.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in board_names():
        raise ConfigError(f"unknown board {name!r}; known boards: {', '.join(board_names())}")
    return Board.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))
