"""The executor of a synthesized netlist: its cells, simulated by Verilator, with the streams of the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bitproof.hw.rtl.bench import BENCH, Unit, bench_module
from bitproof.hw.rtl.compile import compiled_bench
from bitproof.hw.rtl.host_order import from_stream, to_stream
from bitproof.hw.rtl.output_bias import add_output_bias
from bitproof.hw.rtl.simulator import START_UP_CYCLES, Simulator, Stimulus
from bitproof.hw.rtl.stream import Bytes, StreamLayout
from bitproof.hw.rtl.tasks import require_known_tasks
from bitproof.hw.synth.family import FAMILIES
from bitproof.hw.synth.netlist import NETWORK, read_netlist, verilog_of
from bitproof.pipeline import Artifact, Codes, InputError


class NetlistExecutor:
    """The network's netlist, one model for every cell."""

    def __init__(
        self, artifact: Artifact, workdir: Path, cache: Path, *, stall_percent: int = 0, seed: int = 0
    ) -> None:
        """Simulate *artifact*, of kind ``netlist``; see :class:`~bitproof.hw.rtl.executor.RtlExecutor`."""
        self._folder, self._workdir, self._cache = artifact.path, workdir, cache
        self._stall_percent, self._seed = stall_percent, seed
        self._description = read_netlist(artifact.path)
        self._simulator: Simulator | None = None

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return f"netlist:{self._description.family}"

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes, shape (N, outputs), both in the model's order.

        Raises:
            InputError: the shape is another one, or a code does not fit the stream.
            StageError: the simulation failed.
        """
        described = self._description
        words = packed(codes, described.input, described.input_shape)
        simulator = self._compiled()
        (top,) = simulator.units
        given, _ = simulator.run(
            top,
            Stimulus(words, 1, len(codes) * top.output.words),
            memories=self._folder,
            workdir=self._workdir,
            stall_percent=self._stall_percent,
            seed=self._seed,
        )
        accumulators = top.output.unpack(given).reshape(-1, top.output.channels)
        return add_output_bias(from_stream(accumulators, described.output_shape), described.output_bias)

    def measure(self, codes: Codes) -> Mapping[str, int | float | str]:
        """Return the number of cells of each type, of the network alone."""
        del codes  # they do not change it
        cells = {f"cells_{name}": count for name, count in self._description.network_cells.items()}
        return {"board": self._description.board, **cells}

    def _compiled(self) -> Simulator:
        if self._simulator is None:
            described = self._description
            netlist = verilog_of(self._folder, NETWORK)
            require_known_tasks(NETWORK, netlist)
            unit = Unit(0, "top", None, described.input, described.output)
            sources = {
                "rtl/models.v": FAMILIES[described.family].cell_models(described.network_cells),
                f"rtl/{NETWORK}": netlist,
                f"rtl/{BENCH}.sv": bench_module([unit]),
            }
            executable = compiled_bench(sources, cache=self._cache, workdir=self._workdir)
            idle_limit = START_UP_CYCLES + (described.nodes + 1) * described.slowest_cycles
            self._simulator = Simulator(executable, (unit,), idle_limit)
        return self._simulator


def packed(codes: Codes, layout: StreamLayout, shape: tuple[int, ...]) -> Bytes:
    """Return *codes*, shape (N, inputs) in the model's order, as words of a stream, shape (words, word_bytes).

    Raises:
        InputError: the shape is another one, or a code does not fit.
    """
    if codes.ndim != 2 or codes.shape[1] != layout.channels or not len(codes):
        raise InputError(f"the network takes codes of shape (N >= 1, {layout.channels}), not {codes.shape}")
    try:
        return layout.pack(to_stream(codes, shape).reshape(-1, layout.elements))
    except ValueError as error:
        raise InputError(f"the network: {error}") from error
