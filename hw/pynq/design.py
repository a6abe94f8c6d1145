"""The design for a board: what driver, Vivado project and simulated board must agree on, as ``design.json``."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import Field

from bitproof.hw.board import load_board, open_board_names
from bitproof.hw.pynq.accelerator import SHELL, accelerator_module
from bitproof.hw.rtl.description import RtlDescription, read_description
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Artifact, ConfigError, InputError, StageError
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.config import RUN_NAME
from bitproof.pipeline.record import Record

BOARDS = Path(__file__).parent / "boards"
DMA_WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Widths in bits that a stream of the AXI DMA may have (AMD PG021)."""


class ZynqBoard(Record):
    """What the processing system of a board needs.

    Attributes:
        ps_clock_mhz: the oscillator at PS_CLK, from which the clock of the fabric is made.
        image: the system that its vendor made for it last.
    """

    ps_clock_mhz: int = Field(ge=1)
    image: str


def board_names() -> tuple[str, ...]:
    """Return the boards that a PYNQ design can be made for."""
    return tuple(sorted(path.stem for path in BOARDS.glob("*.yaml")))


def load_zynq_board(name: str) -> ZynqBoard:
    """Return the board called *name*.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in open_board_names():
        raise ConfigError(
            f"board = {name!r} has no PYNQ design (those of {', '.join(board_names())}); a run makes its bitstream: "
            "bitproof run CONFIG --until bitstream; then bitproof board RUN --port PORT compares it"
        )
    if name not in board_names():
        raise ConfigError(f"board = {name!r} has no PYNQ design; allowed: {', '.join(board_names())}")
    return ZynqBoard.model_validate(yaml.safe_load((BOARDS / f"{name}.yaml").read_text()))


class BoardStream(StreamLayout):
    """A stream as the DMA moves it: each word padded to *beat_bytes*."""

    beat_bytes: int = Field(ge=1)

    @property
    def beat_bits(self) -> int:
        """Width of the DMA's stream."""
        return 8 * self.beat_bytes


class Design(Record):
    """``design.json``.

    Attributes:
        format: its version.
        name: of the run.
        board: what it is built for.
        design_id: 16 hexadecimal digits that the fabric answers with: of everything that is synthesized.
        rtl_sha256: digest of the RTL artifact.
        clock_ns: period of the clock.
        input: stream of the input codes.
        output: stream of the output codes.
        input_shape: of the input codes as the model counts them, channels first.
        output_shape: the same of the outputs.
        output_bias: what the driver adds to the outputs, one number each; empty: nothing.
    """

    format: int = 1
    name: str = Field(pattern=RUN_NAME)
    board: str
    design_id: str = Field(pattern="^[0-9a-f]{16}$")
    rtl_sha256: str
    clock_ns: int
    input: BoardStream
    output: BoardStream
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    output_bias: tuple[int, ...]


def design_of(rtl: Artifact, *, name: str, board: str) -> Design:
    """Return the design of the stitched RTL *rtl* for *board*.

    Raises:
        InputError: *name* is none that a run can have.
        ConfigError: there is no such board, or it has another FPGA than the RTL was made for.
        InputError: *name*, which goes into scripts, is not one that a run has.
        StageError: a stream is wider than the DMA's.
    """
    if re.fullmatch(RUN_NAME, name) is None:
        raise InputError(
            f"a design cannot be called {name!r}: its name goes into Tcl and onto the board; rename the run's folder: "
            "a letter or digit, then up to 99 letters, digits, '_', '.' or '-'"
        )
    load_zynq_board(board)
    if re.fullmatch(RUN_NAME, name) is None:
        raise InputError(f"a design cannot be called {name!r}; the run's folder needs a name that matches {RUN_NAME}")
    description = read_description(rtl.path)
    part = load_board(board).part
    if description.part != part:
        raise ConfigError(f"board = {board!r} has the part {part}, and the RTL is for {description.part}")
    source = board_stream(description.input, f"the input of {name}")
    target = board_stream(description.output, f"the outputs of {name}")
    shell = "".join(path.read_text() for path in SHELL)
    synthesized = accelerator_module(source, target) + shell + rtl.sha256
    return Design(
        name=name,
        board=board,
        design_id=sha256_of_bytes(synthesized.encode())[:16],
        rtl_sha256=rtl.sha256,
        clock_ns=description.clock_ns,
        input=source,
        output=target,
        input_shape=description.input_shape,
        output_shape=description.output_shape,
        output_bias=_bias_of(description),
    )


def board_stream(stream: StreamLayout, what: str) -> BoardStream:
    """Return *stream* with its words padded to a width that the DMA has.

    Raises:
        StageError: there is none.
    """
    width = next((width for width in DMA_WIDTHS if width >= stream.width_bits), None)
    if width is None:
        raise StageError(
            f"{what} has words of {stream.width_bits} bits, and the AXI DMA moves {DMA_WIDTHS[-1]} at most; ask for "
            "fewer images per second (fps of the target finn), so that FINN folds them into narrower words"
        )
    return BoardStream(**stream.model_dump(), beat_bytes=width // 8)


def _bias_of(description: RtlDescription) -> tuple[int, ...]:
    return tuple(description.output_bias)
