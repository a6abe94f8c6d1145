"""The host's side of a board: images go out over a serial line, codes come back, and both ends check what they get."""

from __future__ import annotations

import logging
import termios
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from bitproof.hw.rtl.host_order import from_stream
from bitproof.hw.rtl.output_bias import add_output_bias
from bitproof.hw.synth.board_top import SILENCE_S
from bitproof.hw.synth.executor import packed
from bitproof.hw.synth.frames import HEADER_BYTES, STATUSES, FrameError, image_frame, reply_bytes, reply_of
from bitproof.hw.synth.netlist import NetlistDescription
from bitproof.hw.synth.tools import INSTALL
from bitproof.pipeline import Codes, InputError, StageError, ToolMissingError

_log = logging.getLogger(__name__)

ATTEMPTS = 3


class Port(Protocol):
    """What is used of a serial port: :class:`serial.Serial` with a timeout has it."""

    def write(self, data: bytes, /) -> int | None:
        """Send *data*."""
        ...

    def read(self, size: int = 1, /) -> bytes:
        """Return *size* bytes, or fewer if the timeout is over."""
        ...

    def reset_input_buffer(self) -> None:
        """Drop what has come."""
        ...


class OpenPort(Port, Protocol):
    """A port that is closed when it is not needed any more."""

    def close(self) -> None:
        """Close it."""
        ...


def open_port(name: str, baud: int, *, timeout_s: float) -> OpenPort:
    """Open the serial port *name*, such as ``/dev/ttyUSB0``; a read gives up after *timeout_s* seconds.

    Raises:
        ToolMissingError: pyserial is not installed.
        InputError: the port is not there, or may not be opened.
    """
    try:
        import serial
    except ImportError as error:
        raise ToolMissingError("pyserial", needed_by="bitproof board", install=INSTALL) from error
    try:
        opened: OpenPort = serial.Serial(name, baudrate=baud, timeout=timeout_s, write_timeout=timeout_s)
    except (serial.SerialException, ValueError) as error:
        raise InputError(
            f"the serial port {name} cannot be opened: {error}. Name one that is there "
            "(python -m serial.tools.list_ports) and that this user may use (on Debian: group dialout)"
        ) from error
    return opened


class BoardExecutor:
    """A board, or its simulation, that holds the design of a netlist.

    Attributes:
        name: name in the ledger.
        repeated: how many frames had to be sent again.
    """

    def __init__(
        self, port: Port, description: NetlistDescription, name: str, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Talk over *port* to a board with the design of *description*; *pause* waits for some seconds."""
        self._port, self._description, self._pause = port, description, pause
        self.name = name
        self.repeated = 0

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes, shape (N, outputs), both in the model's order.

        Raises:
            InputError: the shape is another one, a code does not fit, or the board holds another design.
            StageError: the board does not answer, or what comes is damaged again and again.
        """
        described = self._description
        images = packed(codes, described.input, described.input_shape).reshape(len(codes), -1)
        replies = b"".join(self._exchange(image.tobytes()) for image in images)
        words = np.frombuffer(replies, dtype=np.uint8).reshape(-1, described.output.word_bytes)
        accumulators = described.output.unpack(words).reshape(-1, described.output.channels)
        return add_output_bias(from_stream(accumulators, described.output_shape), described.output_bias)

    def _exchange(self, image: bytes) -> bytes:
        """Send one image until its outputs come back."""
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self.repeated += 1
                _log.warning("sends an image again: %s", why)
                self._pause(2 * SILENCE_S)  # the board has given up a frame that it waits for the rest of
            try:
                self._port.reset_input_buffer()
                self._port.write(image_frame(image))
                status, design, outputs = self._reply(image)
            except FrameError as error:
                why = str(error)
                continue
            except (OSError, termios.error) as error:  # pyserial lets the second of a port that is gone through
                raise StageError(
                    f"{self.name}: the serial line failed: {error}; check the cable and the port"
                ) from error
            if design != self._description.design:
                raise InputError(
                    f"the board holds the design {design}, not {self._description.design}; load that of this run"
                )
            if status == 0:
                return outputs
            why = f"the board says that {STATUSES[status]}"
        raise StageError(
            f"{self.name}: {ATTEMPTS} attempts to have an image computed failed; the last one: {why}. Check the port, "
            "the cable, and that the board was loaded with this run's bitstream"
        )

    def _reply(self, image: bytes) -> tuple[int, str, bytes]:
        described = self._description
        output_bytes = described.output.words * described.output.word_bytes
        head = self._port.read(HEADER_BYTES)
        if len(head) < HEADER_BYTES:
            raise FrameError(f"the board did not answer in time: {len(head)} of {HEADER_BYTES} bytes came")
        rest = self._port.read(reply_bytes(head[1], output_bytes) - HEADER_BYTES)
        return reply_of(head + rest, output_bytes, image)
