"""The executor of stitched RTL, in Verilator: whole images, single thresholding units, single matrix units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bitproof.hw.rtl.bench import Unit
from bitproof.hw.rtl.description import read_description
from bitproof.hw.rtl.host_order import from_stream, to_stream
from bitproof.hw.rtl.output_bias import add_output_bias
from bitproof.hw.rtl.progress import read_progress
from bitproof.hw.rtl.providers import PRODUCTS, REQUANTIZERS, THRESHOLDING, Op
from bitproof.hw.rtl.simulator import Measurement, Simulator, Stimulus, simulator_for
from bitproof.pipeline import Artifact, Codes, InputError, WeightSign
from bitproof.pipeline.toolchain import VERILATOR

MEASURED_SAMPLES = 64


class RtlExecutor:
    """The RTL of FINN's layers and ours, stitched to one top and simulated cycle by cycle."""

    name = "rtl"
    weight_sign: WeightSign = "lowered"

    def __init__(
        self, artifact: Artifact, workdir: Path, cache: Path, *, stall_percent: int = 0, seed: int = 0
    ) -> None:
        """Simulate *artifact*.

        Args:
            artifact: of kind ``rtl``.
            workdir: an existing folder for stimuli, outputs and logs.
            cache: a folder for compiled simulators.
            stall_percent: in how many of 100 cycles the source withholds a word and the sink is not ready, each.
            seed: of these pauses, and of the bits that the RTL leaves uninitialized.
        """
        if not 0 <= stall_percent <= 99:
            raise InputError(f"stall_percent = {stall_percent} is not possible; allowed: 0..99")
        self._artifact, self._workdir, self._cache = artifact, workdir, cache
        self._stall_percent, self._seed = stall_percent, seed
        self._description = read_description(artifact.path)
        self._simulator: Simulator | None = None

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), through the stitched top and return the output codes, shape (N, outputs).

        Both are in the order of the model, channels first. A bias of the outputs, which the RTL does not hold, is added
        to what it gives.
        """
        accumulators = self._images(codes)[0]
        return add_output_bias(from_stream(accumulators, self._description.output_shape), self._description.output_bias)

    def requantize(self, node: str, first: int, last: int) -> Codes:
        """Run every accumulator from *first* to *last* through the thresholding unit of *node*, in all its channels.

        Raises:
            InputError: the unit's input type does not hold one of them.
        """
        unit = self._activation(node, first, last)
        accumulators = np.arange(first, last + 1, dtype=np.int64)[:, None]
        words = unit.input.pack(np.repeat(accumulators, unit.input.elements, axis=1))
        stimulus = Stimulus(words, repeat=unit.input.words, outputs=len(words) * unit.output.words)
        return _codes(unit, self._simulate(unit, stimulus)[0])

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        """Run *accumulators*, shape (N, channels), through the thresholding unit of *node*.

        Raises:
            InputError: the unit takes another number of channels, or its input type does not hold one of them.
        """
        unit = self._activation(node, int(accumulators.min(initial=0)), int(accumulators.max(initial=0)))
        return _codes(unit, self._vectors(unit, accumulators)[0])

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str:
        """Say why the codes of the thresholding unit of *node* are decided by the ends of their runs."""
        del lows, highs  # the input type is wide enough, or the simulation refuses them
        if self._description.unit(node, *REQUANTIZERS).op != THRESHOLDING:
            return (
                "a product with a factor that is not negative, a sum and a shift, none of which wraps on what is "
                "reached: each step keeps the order of accumulators"
            )
        return (
            "a search in a table, one comparison per stage: an accumulator takes the way of the ends of its run, which "
            "pass each comparison on that way on either side of it"
        )

    def _activation(self, node: str, first: int, last: int) -> Unit:
        unit = self._unit_of(node, *REQUANTIZERS)
        if not unit.input.minimum <= first <= last <= unit.input.maximum:
            raise InputError(
                f"accumulators {first}..{last} do not fit the input of {unit.name}, "
                f"{unit.input.minimum}..{unit.input.maximum}"
            )
        return unit

    def multiply(self, node: str, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), through the matrix unit of *node* with its weight memory.

        A convolution takes what one of its windows shows, shape (channels, *kernel) as a vector.

        Returns:
            The accumulators, shape (N, outputs).
        """
        unit = self._unit_of(node, *PRODUCTS)
        self._require_shape(unit, codes)
        columns = None if unit.node is None else unit.node.columns
        streamed = codes if columns is None else codes[:, columns.streamed]
        if _has(unit, "bipolar"):
            if not np.isin(streamed, (-1, 1)).all():
                raise InputError(f"{unit.name} takes the codes -1 and 1; given {streamed.min()}..{streamed.max()}")
            streamed = (streamed + 1) // 2
        return self._vectors(unit, streamed)[0]

    def measure(self, codes: Codes) -> Mapping[str, int | float | str]:
        """Return cycles and throughput, measured without pauses on the first of *codes*, beside FINN's estimates.

        Fewer than 64 images are repeated: the cycles do not depend on them.
        """
        _, measured = self._images(np.resize(codes, (MEASURED_SAMPLES, codes.shape[1])), stall_percent=0)
        description = self._description
        fifos = read_progress(description, measured.lines).fifos.values()
        return {
            "simulator": f"verilator {VERILATOR.version()}",
            "part": description.part,
            "clock_ns": description.clock_ns,
            "cycles_per_image": measured.initiation_interval,
            "slowest_node": description.slowest_node,
            "slowest_node_cycles": description.slowest_cycles,
            "latency_cycles": measured.latency_cycles,
            "fifo_words": sum(fifo.depth for fifo in fifos),
            "fifo_words_held": sum(fifo.most for fifo in fifos),
            "images_per_s_at_clock": round(1e9 / (description.clock_ns * measured.initiation_interval)),
            **({"output_bias": "added to what the RTL gives"} if description.output_bias else {}),
            **{f"finn_estimate_{name.lower()}": value for name, value in description.estimates.items()},
        }

    def _compiled(self) -> Simulator:
        if self._simulator is None:
            self._simulator = simulator_for(
                self._description, self._artifact.path, cache=self._cache, workdir=self._workdir
            )
        return self._simulator

    def _unit_of(self, node: str, *ops: Op) -> Unit:
        wanted = self._description.unit(node, *ops)
        return next(unit for unit in self._compiled().units if unit.node == wanted)

    def _images(self, codes: Codes, stall_percent: int | None = None) -> tuple[Codes, Measurement]:
        """Run *codes* in the order of the model; return the output codes in the order of the stream."""
        top = self._compiled().units[0]
        self._require_shape(top, codes)
        return self._vectors(top, to_stream(codes, self._description.input_shape), stall_percent)

    def _require_shape(self, unit: Unit, codes: Codes) -> None:
        if codes.ndim != 2 or codes.shape[1] != unit.input.channels or not len(codes):
            raise InputError(f"{unit.name} takes codes of shape (N >= 1, {unit.input.channels}), not {codes.shape}")

    def _vectors(self, unit: Unit, codes: Codes, stall_percent: int | None = None) -> tuple[Codes, Measurement]:
        self._require_shape(unit, codes)
        try:
            words = unit.input.pack(codes.reshape(-1, unit.input.elements))
        except ValueError as error:
            raise InputError(f"{unit.name}: {error}") from error
        return self._simulate(unit, Stimulus(words, 1, len(codes) * unit.output.words), stall_percent)

    def _simulate(self, unit: Unit, stimulus: Stimulus, stall_percent: int | None = None) -> tuple[Codes, Measurement]:
        words, measured = self._compiled().run(
            unit,
            stimulus,
            memories=self._artifact.path,
            workdir=self._workdir,
            stall_percent=self._stall_percent if stall_percent is None else stall_percent,
            seed=self._seed,
        )
        return unit.output.unpack(words).reshape(-1, unit.output.channels), measured


def _has(unit: Unit, flag: str) -> bool:
    return unit.node is not None and bool(unit.node.parameters.get(flag, 0))


def _codes(unit: Unit, elements: Codes) -> Codes:
    """Return what *elements* that leave the activation *unit* stand for."""
    return 2 * elements - 1 if _has(unit, "bipolar") else elements
