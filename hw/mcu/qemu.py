"""The executor that runs firmware on an emulated Cortex-M and reads its codes back.

QEMU is a functional model: it executes every instruction with its architectural result, and has no notion of cycles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from bitproof.hw.mcu.byte_codes import ByteCodes
from bitproof.hw.mcu.cores import CoreName, core_of
from bitproof.hw.mcu.cost import measure
from bitproof.hw.mcu.firmware import ELF, Mode
from bitproof.hw.mcu.manifest import ActivationEntry, Manifest, Method, ProductEntry
from bitproof.pipeline import Artifact, Codes, StageError, WeightSign
from bitproof.pipeline.toolchain import QEMU_ARM, Confinement

COMMAND_MAGIC = 0x31435042
MACHINE_OPTIONS = (
    *("-nographic", "-monitor", "none", "-serial", "none"),
    *("-semihosting-config", "enable=on,target=native"),
    *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
)
"""The guest may open files of the host, those that it is confined to, and nothing else: semihosting also has an
operation that runs a command there, and QEMU may start no process."""
EXIT_CODES = (
    "its exit codes: 101 hard fault, 102 bad command, 103 a file cannot be read or written (is the disk full?), "
    "104 network"
)
START_S = 60.0
INSTRUCTIONS_PER_MAC = 16
INSTRUCTIONS_PER_ROW = 4000
INSTRUCTIONS_PER_S = 5_000_000
"""Far below what QEMU does (over 100 million): the time limit is for firmware that hangs."""

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


class FirmwareExecutor:
    """Runs a ``firmware`` artifact in ``qemu-system-arm``."""

    def __init__(self, artifact: Artifact, workdir: Path, core: CoreName = "cortex-m4") -> None:
        """Read the manifest of *artifact*; the files of every run are written into the folder *workdir*.

        Raises:
            StageError: the firmware is for another core.
            IntegrityError: the artifact has no readable manifest.
        """
        self.manifest = Manifest.load(artifact.path)
        if self.manifest.core != core:
            raise StageError(f"the firmware is for {self.manifest.core}, not {core}: build it for {core}")
        self.folder = artifact.path
        self._core = core_of(core)
        self._elf = (artifact.path / ELF).resolve()
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
            StageError: the codes have another shape or range, or the firmware failed.
            ToolMissingError: QEMU is not installed.
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
            StageError: there is no such node, the codes have another shape or range, or the firmware failed.
        """
        number, entry = _entry(self.manifest.products, node, "product")
        raw = _raw(codes, entry.inputs, entry.codes, lambda numbers: entry.placed(entry.in_c(numbers), turn))
        calls, macs = len(raw) // entry.call_inputs, entry.call_inputs * entry.call_outputs
        output = self._command(Mode.MULTIPLY, number, calls, 0, raw, macs=macs)
        return entry.taken(_array(output, "<i4", (calls, entry.call_outputs)), turn, len(codes))

    def requantize(self, node: str, first: int, last: int) -> Codes:
        """Run the activation *node* on the accumulators *first* to *last*; return shape (last - first + 1, channels).

        Raises:
            StageError: there is no such node, the accumulators are not int32, or the firmware failed.
        """
        number, entry = _entry(self.manifest.activations, node, "activation")
        if not (-(1 << 31) <= first <= last < 1 << 31):
            raise StageError(f"accumulators {first} to {last} are not an ascending range of int32")
        rows = last - first + 1
        output = self._command(Mode.REQUANTIZE, number, rows, first, b"", macs=entry.outputs * entry.levels)
        return entry.codes.from_bytes(_array(output, "u1", (rows, entry.outputs)))

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        """Run the activation *node* on *accumulators*, shape (N, channels), and return its codes.

        Raises:
            StageError: there is no such node, the accumulators have another shape or range, or the firmware failed.
        """
        number, entry = _entry(self.manifest.activations, node, "activation")
        if accumulators.ndim != 2 or accumulators.shape[1] != entry.inputs:
            raise StageError(f"{entry.name} takes accumulators of shape (N, {entry.inputs}), not {accumulators.shape}")
        if accumulators.size and not -(1 << 31) <= accumulators.min() <= accumulators.max() < 1 << 31:
            raise StageError(f"accumulators {accumulators.min()} to {accumulators.max()} do not fit int32")
        raw = accumulators.astype("<i4").tobytes()
        macs = entry.outputs * entry.levels
        output = self._command(Mode.REQUANTIZE_AT, number, len(accumulators), 0, raw, macs=macs)
        return entry.codes.from_bytes(_array(output, "u1", (len(accumulators), entry.outputs)))

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str:
        """Say why the codes of the activation *node* are decided by the ends of their runs, by its method."""
        del lows, highs  # that no accumulator between them overflows was proven when the constants were chosen
        return WHY_MONOTONE[_entry(self.manifest.activations, node, "activation")[1].method]

    def trace(self, codes: Codes) -> dict[str, Codes]:
        """Run *codes*, shape (N, inputs), and return what every step leaves, shape (N, *sample shape), by its name.

        Raises:
            StageError: the codes have another shape or range, or the firmware failed.
        """
        raw = self._input(codes)
        macs = self.manifest.macs * len(self.manifest.values)
        output = np.frombuffer(self._command(Mode.TRACE, 0, len(codes), 0, raw, macs=macs), dtype=np.uint8)
        if output.size != len(codes) * self.manifest.traced_bytes:
            raise StageError(f"the firmware wrote {output.size} bytes of a trace of {len(codes)} samples")
        return self.manifest.traced(output.reshape(len(codes), -1))

    def measure(self, codes: Codes) -> Mapping[str, int | float | str]:
        """Return what one inference costs, measured on the first of *codes* (:mod:`bitproof.hw.mcu.cost`)."""
        return measure(self, codes)

    def run_samples(self, mode: Mode, codes: Codes, options: Sequence[str] = ()) -> Codes:
        """Run whole inferences on *codes*, with further QEMU *options*; return shape (N, outputs).

        Raises:
            StageError: the codes have another shape or range, or the firmware failed.
        """
        raw = self._input(codes)
        output = self._command(mode, 0, len(codes), 0, raw, macs=self.manifest.macs, options=options)
        return self.manifest.output.from_c(_array(output, "<i4", (len(codes), self.manifest.outputs)))

    def _input(self, codes: Codes) -> bytes:
        manifest = self.manifest
        assert manifest.input.codes is not None, "an input is bytes"
        return _raw(codes, manifest.inputs, manifest.input.codes, manifest.input.in_c, signed=manifest.signed_input)

    def _command(
        self, mode: Mode, number: int, count: int, first: int, raw: bytes, *, macs: int, options: Sequence[str] = ()
    ) -> bytes:
        command = np.array([COMMAND_MAGIC, mode, number, count, first & 0xFFFF_FFFF], dtype="<u4")
        (self.workdir / "command.bin").write_bytes(command.tobytes())
        (self.workdir / "input.bin").write_bytes(raw)
        output = self.workdir / "output.bin"
        output.unlink(missing_ok=True)
        work = count * (macs * INSTRUCTIONS_PER_MAC + INSTRUCTIONS_PER_ROW)
        QEMU_ARM.require(f"target c{{core={self.manifest.core}}}")
        QEMU_ARM.run(
            ["-M", self._core.machine, *MACHINE_OPTIONS, "-kernel", self._elf, *options],
            needed_by=f"firmware for {self.manifest.core} ({EXIT_CODES})",
            cwd=self.workdir,
            log=self.workdir / "qemu.log",
            timeout_s=START_S + work / INSTRUCTIONS_PER_S,
            confined=Confinement(readable=(self._elf,), writable=(self.workdir,)),
        )
        return output.read_bytes()


def _entry(entries: tuple[E, ...], node: str, kind: str) -> tuple[int, E]:
    """Return the entry of *node* and its number, by which the firmware knows it."""
    names = [entry.name for entry in entries]
    if node not in names:
        raise StageError(f"no {kind} {node!r}: the firmware has {', '.join(names) or 'none'}")
    return names.index(node), entries[names.index(node)]


def _raw(
    codes: Codes, inputs: int, stored: ByteCodes, in_c: Callable[[Codes], Codes], *, signed: bool = False
) -> bytes:
    """Return the file of *codes*: the bytes that stand for them, or themselves if the network takes *signed* codes."""
    if codes.ndim != 2 or codes.shape[1] != inputs:
        raise StageError(f"the firmware takes codes of shape (N, {inputs}), not {codes.shape}")
    try:
        numbers = stored.to_bytes(codes)
    except ValueError as error:
        raise StageError(f"the firmware was given {error}") from error
    return in_c(codes).astype(np.int8).tobytes() if signed else in_c(numbers).astype(np.uint8).tobytes()


def _array(raw: bytes, dtype: str, shape: tuple[int, int]) -> Codes:
    values = np.frombuffer(raw, dtype=dtype)
    if values.size != shape[0] * shape[1]:
        raise StageError(f"the firmware wrote {values.size} codes; expected {shape[0]} x {shape[1]}")
    return values.astype(np.int64).reshape(shape)
