"""The board shell by itself: what comes over the serial line goes through the network and back, or is refused."""

from __future__ import annotations

import os
import select
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from bitproof.hw.rtl.compile import compiled_bench
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.hw.synth.board_top import FOLDER, SHELL_SOURCES, Line, shell_parameters
from bitproof.hw.synth.frames import STATUSES, image_frame, reply_of
from bitproof.hw.synth.host import BoardExecutor, open_port
from bitproof.hw.synth.netlist import NetlistDescription
from bitproof.hw.synth.simulated_board import HARNESS, SimulatedPort, simulated_board
from bitproof.pipeline import Codes, InputError, StageError
from bitproof.pipeline.toolchain import VERILATOR

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("shell")]

WORDS = StreamLayout(bits=8, signed=False, elements=3, words=5)
LINE = Line(clocks_per_bit=8, silence=2000)
DESIGN = "0badcafe"
NETWORK = """\
module finn_top (
    input logic ap_clk, input logic ap_rst_n,
    input logic [23:0] s_axis_tdata, input logic s_axis_tvalid, output logic s_axis_tready,
    output logic [23:0] m_axis_tdata, output logic m_axis_tvalid, input logic m_axis_tready
);
    // Each word with its bits inverted, in every other cycle at most.
    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) m_axis_tvalid <= 1'b0;
        else if (s_axis_tready) m_axis_tvalid <= s_axis_tvalid;
        else if (m_axis_tready) m_axis_tvalid <= 1'b0;
        if (s_axis_tready) m_axis_tdata <= ~s_axis_tdata;
    end
    assign s_axis_tready = !m_axis_tvalid;
endmodule
"""


def bench() -> str:
    return f"""\
module bench (input logic clock, input logic rx, output logic tx);
    wire rst_n;
    reset_control reset (.clk(clock), .locked(1'b1), .rst_n(rst_n));
    uart_shell #({shell_parameters(LINE, WORDS, WORDS, DESIGN)}) shell (
        .clk(clock), .rst_n(rst_n), .rx(rx), .tx(tx), .busy(), .rejected()
    );
endmodule
"""


def sources() -> dict[str, str]:
    shell = {f"rtl/{name}": (FOLDER / name).read_text() for name in SHELL_SOURCES}
    return {**shell, "rtl/finn_top.sv": NETWORK, "rtl/bench.sv": bench()}


DESCRIPTION = NetlistDescription(
    board="ulx3s-85f",
    family="ecp5",
    design=DESIGN,
    clocks_per_bit=LINE.clocks_per_bit,
    silence=LINE.silence,
    input=WORDS,
    output=WORDS,
    input_shape=(15,),
    output_shape=(15,),
    output_bias=(),
    nodes=1,
    slowest_cycles=1,
    layers={},
    network_cells={},
    complete_cells={},
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shell")
    return compiled_bench(sources(), cache=folder / "cache", workdir=folder, harness=HARNESS)


@contextmanager
def board(program: Path, folder: Path) -> Iterator[SimulatedPort]:
    with simulated_board(program, DESCRIPTION, workdir=folder, quiet_clocks=3 * LINE.silence) as port:
        yield port


def images(count: int) -> Codes:
    return np.random.default_rng(3).integers(0, 256, size=(count, 15), dtype=np.int64)


def status_of(port: SimulatedPort, frame: bytes) -> int:
    port.write(frame)
    return reply_of(port.read(8), 15, b"")[0]


def test_images_go_through_in_order(program: Path, tmp_path: Path) -> None:
    with board(program, tmp_path) as port:
        executor = BoardExecutor(port, DESCRIPTION, "board")
        np.testing.assert_array_equal(executor(images(9)), 255 - images(9), strict=True)
    assert executor.repeated == 0


def test_every_flipped_bit_of_a_frame_is_refused_and_the_next_frame_is_taken(program: Path, tmp_path: Path) -> None:
    image = images(1).astype(np.uint8).tobytes()
    frame = image_frame(image)
    with board(program, tmp_path) as port:
        for bit in range(8, 8 * len(frame), 7):
            damaged = bytearray(frame)
            damaged[bit // 8] ^= 1 << bit % 8
            assert STATUSES[status_of(port, bytes(damaged))] == "the image came with a wrong checksum"
        port.write(frame)
        assert reply_of(port.read(23), 15, image) == (0, DESIGN, bytes(255 - byte for byte in image))


def test_a_frame_that_stops_is_given_up_and_noise_between_frames_is_dropped(program: Path, tmp_path: Path) -> None:
    image = images(1).astype(np.uint8).tobytes()
    with board(program, tmp_path) as port:
        assert STATUSES[status_of(port, image_frame(image)[:9])] == "the image stopped before its end"
        port.write(b"\x00\xff\x5c" + image_frame(image))
        assert reply_of(port.read(23), 15, image)[0] == 0


class Noisy:
    """A port that flips a bit of every second frame on its way to the board, or of every frame."""

    def __init__(self, port: SimulatedPort, every: int) -> None:
        self._port, self._every, self._frames = port, every, 0

    def write(self, data: bytes, /) -> int | None:
        self._frames += 1
        broken = bytes([*data[:4], data[4] ^ 1, *data[5:]])
        return self._port.write(broken if self._frames % self._every == 0 else data)

    def read(self, size: int = 1, /) -> bytes:
        return self._port.read(size)

    def reset_input_buffer(self) -> None:
        self._port.reset_input_buffer()


def test_a_damaged_image_is_sent_again_and_a_dead_line_is_named(program: Path, tmp_path: Path) -> None:
    with board(program, tmp_path) as port:
        executor = BoardExecutor(Noisy(port, 2), DESCRIPTION, "board", pause=lambda _: None)
        np.testing.assert_array_equal(executor(images(4)), 255 - images(4), strict=True)
        assert executor.repeated == 3
        never = BoardExecutor(Noisy(port, 1), DESCRIPTION, "board", pause=lambda _: None)
        with pytest.raises(StageError, match=r"^board: 3 attempts .*: the board says that the image came with "):
            never(images(1))


class Late:
    """A port that gives the reply to the first frame only after another frame was sent, and all others behind it."""

    def __init__(self, port: SimulatedPort) -> None:
        self._port, self._frames, self._held = port, 0, b""

    def write(self, data: bytes, /) -> int | None:
        self._frames += 1
        return self._port.write(data)

    def read(self, size: int = 1, /) -> bytes:
        if len(self._held) < size:
            self._held += self._port.read(23)
        if self._frames == 1:
            return b""
        came, self._held = self._held[:size], self._held[size:]
        return came

    def reset_input_buffer(self) -> None:
        """What is late has not come yet."""


def test_a_late_reply_is_not_taken_for_that_of_the_next_image(
    program: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with board(program, tmp_path) as port:
        executor = BoardExecutor(Late(port), DESCRIPTION, "board", pause=lambda _: None)
        np.testing.assert_array_equal(executor(images(3)), 255 - images(3), strict=True)
    assert executor.repeated > 1
    assert "they were damaged, or answer another image" in caplog.text


class Unplugged:
    """A port that is gone."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def write(self, data: bytes, /) -> int | None:
        raise self._error

    def read(self, size: int = 1, /) -> bytes:
        raise self._error

    def reset_input_buffer(self) -> None:
        raise self._error


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), termios.error(5, "Input/output error")])
def test_a_port_that_is_gone_is_named(error: Exception) -> None:
    with pytest.raises(StageError, match=r"^board: the serial line failed: .*Input/output error.*; check the cable"):
        BoardExecutor(Unplugged(error), DESCRIPTION, "board")(images(1))


@contextmanager
def terminal(port: SimulatedPort) -> Iterator[str]:
    """Yield the name of a pseudo terminal whose other end is the board: what a serial port is to a program."""
    try:
        master, slave = os.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo terminal here: {error}")
    tty.setraw(slave)
    stop = threading.Event()

    def pump() -> None:
        while not stop.is_set():
            for source in select.select([master, port.from_board], [], [], 0.02)[0]:
                target = port.to_board if source == master else master
                os.write(target, os.read(source, 4096))

    thread = threading.Thread(target=pump)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        stop.set()
        thread.join()
        os.close(master)
        os.close(slave)


def test_the_host_program_talks_to_a_serial_port(program: Path, tmp_path: Path) -> None:
    pytest.importorskip("serial", reason="pyserial is missing: pip install 'bitproof[synth]'")
    with board(program, tmp_path) as port, terminal(port) as name:
        with closing(open_port(name, 115200, timeout_s=120)) as opened:
            executor = BoardExecutor(opened, DESCRIPTION, "board")
            np.testing.assert_array_equal(executor(images(5)), 255 - images(5), strict=True)
        assert executor.repeated == 0
    with pytest.raises(InputError, match=r"^the serial port /dev/no-such-port cannot be opened: "):
        open_port("/dev/no-such-port", 115200, timeout_s=1)


def test_a_board_with_another_design_is_refused(program: Path, tmp_path: Path) -> None:
    other = DESCRIPTION.model_copy(update={"design": "00000001"})
    with board(program, tmp_path) as port:
        executor = BoardExecutor(port, other, "board")
        with pytest.raises(InputError, match=r"^the board holds the design 0badcafe, not 00000001; load "):
            executor(images(1))


def test_the_shell_is_clean_in_lint(tmp_path: Path) -> None:
    for name, text in sources().items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    arguments = ["--lint-only", "-Wall", "-Wno-PINCONNECTEMPTY", "--top-module", "bench", *sources()]
    VERILATOR.run(arguments, needed_by="this test", cwd=tmp_path, log=tmp_path / "lint.log", timeout_s=600)
