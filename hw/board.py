"""The boards that a dataflow graph can be built for: part, clock and resources, one YAML file each."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field

from bitproof.pipeline import ConfigError
from bitproof.pipeline.record import Record

FOLDER = Path(__file__).parent / "boards"


class Board(Record):
    """One board.

    Attributes:
        part: the FPGA, as AMD's tools write it.
        clock_ns: the period of the dataflow clock.
        lut: number of look-up tables.
        bram18: number of 18 Kibit block memories.
        dsp: number of DSP slices.
    """

    part: str
    clock_ns: int = Field(ge=1)
    lut: int = Field(ge=1)
    bram18: int = Field(ge=1)
    dsp: int = Field(ge=1)

    def cycles_per_image(self, fps: int) -> int:
        """Return how many clock cycles one image may take at *fps* images per second; 0 if it is less than one."""
        return 1_000_000_000 // (self.clock_ns * fps)


def board_names() -> tuple[str, ...]:
    """Return the names of all boards."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_board(name: str) -> Board:
    """Return the board called *name*.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in board_names():
        raise ConfigError(f"unknown board {name!r}; known boards: {', '.join(board_names())}")
    return Board.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))
