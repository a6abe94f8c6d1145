"""What all executors of the generated C have in common: the commands that a test program carries out in a folder.

The test program is firmware in QEMU (:mod:`bitproof.hw.mcu.qemu`) or a process of this machine
(:mod:`bitproof.hw.mcu.host`). It reads ``input.bin`` and writes ``output.bin``; ``runtime/main.c`` says what they hold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

import numpy as np

from bitproof.hw.mcu.byte_codes import ByteCodes
from bitproof.hw.mcu.cores import CoreName
from bitproof.hw.mcu.manifest import ActivationEntry, Manifest, Method, ProductEntry
from bitproof.pipeline import Artifact, Codes, StageError, WeightSign

INPUT_FILE, OUTPUT_FILE = "input.bin", "output.bin"
START_S = 60.0
INSTRUCTIONS_PER_MAC = 16
INSTRUCTIONS_PER_ROW = 4000
INSTRUCTIONS_PER_S = 5_000_000
"""Far below what QEMU does (over 100 million): the time limit is for C that hangs."""

AFFINE = (
    "each step is monotone (a product with a constant, an addition, an arithmetic shift, a clamp) and none overflows"
)
WHY_MONOTONE: Mapping[Method, str] = {
    "multiply-shift": AFFINE,
    "multiply-shift-64": AFFINE,
    "rounding-shift": "rounding to the nearest integer, ties to one side, is monotone, so is the clamp; none overflows",
    "thresholds": "a search in a table: an accumulator takes the way of the ends of its run, which pass each "
    "comparison on that way on either side of it",
}

E = TypeVar("E", ProductEntry, ActivationEntry)


class Mode(IntEnum):
    """What the test program is told to do; see ``runtime/main.c``."""

    RUN = 1
    REQUANTIZE = 2
    MULTIPLY = 3
    MEASURE = 4
    REQUANTIZE_AT = 5
    TRACE = 6
    MEASURE_STEPS = 7


@dataclass(frozen=True, slots=True)
class Command:
    """What the test program is told.

    Attributes:
        number: of the product or activation that runs alone.
        count: how many rows.
        raw: the bytes of ``input.bin``.
        macs: multiply-accumulates of one row, or what takes as long.
        first: the accumulator of the first row of :attr:`Mode.REQUANTIZE`.
    """

    mode: Mode
    number: int
    count: int
    raw: bytes
    macs: int
    first: int = 0

    @property
    def timeout_s(self) -> float:
        """How long it may take."""
        work = self.count * (self.macs * INSTRUCTIONS_PER_MAC + INSTRUCTIONS_PER_ROW)
        return START_S + work / INSTRUCTIONS_PER_S


class CExecutor(ABC):
    """Runs the generated C of an artifact, whatever it was compiled for."""

    def __init__(self, artifact: Artifact, workdir: Path, core: CoreName) -> None:
        """Read the manifest of *artifact*; the files of every run are written into the folder *workdir*.

        Raises:
            StageError: the artifact is for another core.
            IntegrityError: the artifact has no readable manifest.
        """
        self.manifest = Manifest.load(artifact.path)
        if self.manifest.core != core:
            raise StageError(f"the {artifact.kind} is for {self.manifest.core}, not {core}: build it for {core}")
        self.folder = artifact.path
        self.workdir = workdir.resolve()
        self.workdir.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return f"c:{self.manifest.core}"

    @property
    def weight_sign(self) -> WeightSign:
        """The accumulators are those of the integer model."""
        return "lowered"

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the outputs, shape (N, outputs).

        Raises:
            StageError: the codes have another shape or range, or the C failed.
            ToolMissingError: what runs it is not installed.
        """
        return self.run_samples(Mode.RUN, codes)

    def turns(self, node: str) -> int:
        """Return how many vectors the product *node* multiplies at once."""
        return _entry(self.manifest.products, node, "product")[1].positions

    def multiply(self, node: str, codes: Codes, turn: int = 0) -> Codes:
        """Run the product *node* on *codes*, shape (N, inputs of an output), and return its accumulators.

        A convolution takes what one window shows, in the order (channels, *kernel). *turn* is how many positions on
        each vector stands among those that are multiplied at once.

        Raises:
            StageError: there is no such node, the codes have another shape or range, or the C failed.
        """
        number, entry = _entry(self.manifest.products, node, "product")
        raw = _raw(codes, entry.inputs, entry.codes, lambda numbers: entry.placed(entry.in_c(numbers), turn))
        calls, macs = len(raw) // entry.call_inputs, entry.call_inputs * entry.call_outputs
        output = self._output(Command(Mode.MULTIPLY, number, calls, raw, macs=macs))
        return entry.taken(_array(output, "<i4", (calls, entry.call_outputs)), turn, len(codes))

    def requantize(self, node: str, first: int, last: int) -> Codes:
        """Run the activation *node* on the accumulators *first* to *last*; return shape (last - first + 1, channels).

        Raises:
            StageError: there is no such node, the accumulators are not int32, or the C failed.
        """
        number, entry = _entry(self.manifest.activations, node, "activation")
        if not (-(1 << 31) <= first <= last < 1 << 31):
            raise StageError(f"accumulators {first} to {last} are not an ascending range of int32")
        rows = last - first + 1
        macs = entry.outputs * entry.levels
        output = self._output(Command(Mode.REQUANTIZE, number, rows, b"", macs=macs, first=first))
        return entry.codes.from_bytes(_array(output, "u1", (rows, entry.outputs)))

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        """Run the activation *node* on *accumulators*, shape (N, channels), and return its codes.

        Raises:
            StageError: there is no such node, the accumulators have another shape or range, or the C failed.
        """
        number, entry = _entry(self.manifest.activations, node, "activation")
        if accumulators.ndim != 2 or accumulators.shape[1] != entry.inputs:
            raise StageError(f"{entry.name} takes accumulators of shape (N, {entry.inputs}), not {accumulators.shape}")
        if accumulators.size and not -(1 << 31) <= accumulators.min() <= accumulators.max() < 1 << 31:
            raise StageError(f"accumulators {accumulators.min()} to {accumulators.max()} do not fit int32")
        raw = accumulators.astype("<i4").tobytes()
        macs = entry.outputs * entry.levels
        output = self._output(Command(Mode.REQUANTIZE_AT, number, len(accumulators), raw, macs=macs))
        return entry.codes.from_bytes(_array(output, "u1", (len(accumulators), entry.outputs)))

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str:
        """Say why the codes of the activation *node* are decided by the ends of their runs, by its method."""
        del lows, highs  # that no accumulator between them overflows was proven when the constants were chosen
        return WHY_MONOTONE[_entry(self.manifest.activations, node, "activation")[1].method]

    def trace(self, codes: Codes) -> dict[str, Codes]:
        """Run *codes*, shape (N, inputs), and return what every step leaves, shape (N, *sample shape), by its name.

        Raises:
            StageError: the codes have another shape or range, or the C failed.
        """
        raw = self._input(codes)
        macs = self.manifest.macs * len(self.manifest.values)
        output = np.frombuffer(self._output(Command(Mode.TRACE, 0, len(codes), raw, macs=macs)), dtype=np.uint8)
        if output.size != len(codes) * self.manifest.traced_bytes:
            raise StageError(f"the generated C wrote {output.size} bytes of a trace of {len(codes)} samples")
        return self.manifest.traced(output.reshape(len(codes), -1))

    @abstractmethod
    def measure(self, codes: Codes) -> Mapping[str, int | float | str]:
        """Return what one inference costs, measured on the first of *codes*, shape (N, inputs)."""

    def run_samples(self, mode: Mode, codes: Codes, options: Sequence[str] = ()) -> Codes:
        """Run whole inferences on *codes*, with further *options* of what runs them; return shape (N, outputs).

        Raises:
            StageError: the codes have another shape or range, or the C failed.
        """
        raw = self._input(codes)
        runs = len(self.manifest.steps) + 1 if mode == Mode.MEASURE_STEPS else 1
        output = self._output(Command(mode, 0, len(codes), raw, macs=runs * self.manifest.macs), options)
        return self.manifest.output.from_c(_array(output, "<i4", (len(codes), self.manifest.outputs)))

    def _input(self, codes: Codes) -> bytes:
        manifest = self.manifest
        assert manifest.input.codes is not None, "an input is bytes"
        return _raw(codes, manifest.inputs, manifest.input.codes, manifest.input.in_c, signed=manifest.signed_input)

    def _output(self, command: Command, options: Sequence[str] = ()) -> bytes:
        """Carry out *command* and return what was written."""
        (self.workdir / INPUT_FILE).write_bytes(command.raw)
        output = self.workdir / OUTPUT_FILE
        output.unlink(missing_ok=True)
        self._carry_out(command, options)
        return output.read_bytes()

    @abstractmethod
    def _carry_out(self, command: Command, options: Sequence[str]) -> None:
        """Run the C on ``input.bin`` in the folder ``workdir``, with further *options*, and write ``output.bin``."""


def _entry(entries: tuple[E, ...], node: str, kind: str) -> tuple[int, E]:
    """Return the entry of *node* and its number, by which the C knows it."""
    names = [entry.name for entry in entries]
    if node not in names:
        raise StageError(f"no {kind} {node!r}: the generated C has {', '.join(names) or 'none'}")
    return names.index(node), entries[names.index(node)]


def _raw(
    codes: Codes, inputs: int, stored: ByteCodes, in_c: Callable[[Codes], Codes], *, signed: bool = False
) -> bytes:
    """Return the file of *codes*: the bytes that stand for them, or themselves if the network takes *signed* codes."""
    if codes.ndim != 2 or codes.shape[1] != inputs:
        raise StageError(f"the generated C takes codes of shape (N, {inputs}), not {codes.shape}")
    try:
        numbers = stored.to_bytes(codes)
    except ValueError as error:
        raise StageError(f"the generated C was given {error}") from error
    return in_c(codes).astype(np.int8).tobytes() if signed else in_c(numbers).astype(np.uint8).tobytes()


def _array(raw: bytes, dtype: str, shape: tuple[int, int]) -> Codes:
    values = np.frombuffer(raw, dtype=dtype)
    if values.size != shape[0] * shape[1]:
        raise StageError(f"the generated C wrote {values.size} codes; expected {shape[0]} x {shape[1]}")
    return values.astype(np.int64).reshape(shape)
