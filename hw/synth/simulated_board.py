"""A board that is simulated: the complete netlist, whose serial lines are driven bit by bit behind a pair of pipes."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen  # noqa: TID251  # the type of what toolchain runs

from bitproof.hw.rtl.bench import BENCH
from bitproof.hw.rtl.compile import compiled_bench
from bitproof.hw.rtl.simulator import START_UP_CYCLES
from bitproof.hw.rtl.tasks import require_known_tasks
from bitproof.hw.synth.board_top import BOARD_TOP
from bitproof.hw.synth.family import FAMILIES
from bitproof.hw.synth.host import BoardExecutor
from bitproof.hw.synth.netlist import COMPLETE, NetlistDescription, read_netlist, verilog_of
from bitproof.pipeline import Artifact, Codes, StageError
from bitproof.pipeline.toolchain import Confinement, running_beside

HARNESS = Path(__file__).parent / "uart_harness.cpp"
NEEDED_BY = "the simulation of a board"
WAIT_S = 600.0
"""For one reply, and for the start and the end of the simulation."""
POLL_S = 0.01
BENCH_MODULE = f"""\
module {BENCH} (input clock, input rx, output tx);
  {BOARD_TOP} top (.clock(clock), .rx(rx), .tx(tx));
endmodule
"""


@dataclass(frozen=True, slots=True)
class SimulatedPort:
    """The host's ends of the pipes, with what a serial port has of :class:`~bitproof.hw.synth.host.Port`."""

    to_board: int
    from_board: int
    process: Popen[bytes]

    def write(self, data: bytes, /) -> int | None:
        """Send *data*."""
        return os.write(self.to_board, data)

    def read(self, size: int = 1, /) -> bytes:
        """Return *size* bytes, or fewer if none came for long or the simulation has ended."""
        content = b""
        deadline = time.monotonic() + WAIT_S
        while len(content) < size and time.monotonic() < deadline:
            if select.select([self.from_board], [], [], POLL_S * 10)[0]:
                came = os.read(self.from_board, size - len(content))
                if not came:
                    break
                content += came
            elif self.process.poll() is not None:
                break
        return content

    def reset_input_buffer(self) -> None:
        """Drop what has come."""
        while select.select([self.from_board], [], [], 0)[0] and os.read(self.from_board, 4096):
            pass


@contextmanager
def simulated_board(
    executable: Path, description: NetlistDescription, *, workdir: Path, quiet_clocks: int | None = None
) -> Iterator[SimulatedPort]:
    """Run the compiled board *executable* while the block runs; pipes and log lie in the existing folder *workdir*.

    Raises:
        StageError: the simulation did not start or failed.
    """
    pipes = [workdir.resolve() / name for name in ("to-board", "from-board")]
    for pipe in pipes:
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
    quiet = quiet_clocks or START_UP_CYCLES + (description.nodes + 1) * description.slowest_cycles
    arguments = [f"+from={pipes[0]}", f"+to={pipes[1]}", f"+bit-clocks={description.clocks_per_bit}"]
    arguments += [f"+quiet-clocks={quiet}", "+verilator+rand+reset+2", "+verilator+seed+1"]
    confined = Confinement(writable=(workdir.resolve(),)).of([str(executable), *arguments])
    with running_beside(confined, needed_by=NEEDED_BY, cwd=workdir, log=workdir / "board.log") as process:
        from_board = os.open(pipes[1], os.O_RDONLY | os.O_NONBLOCK)
        try:
            to_board = _opened(pipes[0], process)
            os.set_blocking(to_board, True)
            try:
                yield SimulatedPort(to_board, from_board, process)
            finally:
                os.close(to_board)
            process.wait(WAIT_S)
        finally:
            os.close(from_board)
            for pipe in pipes:
                pipe.unlink(missing_ok=True)


def _opened(pipe: Path, process: Popen[bytes]) -> int:
    """Open *pipe* for writing when the simulation has opened it for reading."""
    deadline = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(POLL_S)
    raise StageError(f"{NEEDED_BY} did not start; its log is {pipe.parent / 'board.log'}")


def compiled_board(folder: Path, *, cache: Path, workdir: Path) -> Path:
    """Return the program that the complete netlist in *folder* was compiled to, now or before.

    Raises:
        ToolMissingError: Verilator, make, g++ or Yosys, which has the models of the cells, is not installed.
        StageError: they failed, or there is no model of a cell.
    """
    description, netlist = read_netlist(folder), verilog_of(folder, COMPLETE)
    require_known_tasks(COMPLETE, netlist)
    sources = {
        "rtl/models.v": FAMILIES[description.family].cell_models(description.complete_cells),
        f"rtl/{COMPLETE}": netlist,
        f"rtl/{BENCH}.sv": BENCH_MODULE,
    }
    return compiled_bench(sources, cache=cache, workdir=workdir, harness=HARNESS)


class SimulatedBoardExecutor:
    """The complete netlist of a board, image by image over its simulated serial line."""

    def __init__(self, artifact: Artifact, workdir: Path, cache: Path) -> None:
        """Simulate *artifact*, of kind ``netlist``, with pipes and logs in *workdir*; programs are kept in *cache*."""
        self._folder, self._workdir, self._cache = artifact.path, workdir, cache
        self._description = read_netlist(artifact.path)

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return f"uart:{self._description.board}"

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes, shape (N, outputs), both in the model's order.

        Raises:
            InputError: the shape is another one, or a code does not fit.
            StageError: the simulation failed.
        """
        executable = compiled_board(self._folder, cache=self._cache, workdir=self._workdir)
        with simulated_board(executable, self._description, workdir=self._workdir) as port:
            return BoardExecutor(port, self._description, self.name, pause=_no_pause)(codes)


def _no_pause(_: float) -> None:
    """Return at once: the time of a simulation is not that of the host."""
