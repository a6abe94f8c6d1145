"""``manifest.json``: what a folder of generated C sources, and the firmware made from them, hold."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitproof.export.program.order import Order, from_stored, to_stored
from bitproof.hw.mcu.byte_codes import ByteCodes
from bitproof.hw.mcu.cores import CoreName
from bitproof.hw.mcu.forms import POSITIONS, QUAD, Form
from bitproof.hw.mcu.weight_layout import DepthwiseLayout, LayoutKind, WeightLayout
from bitproof.pipeline import Codes, IntegrityError, StageError
from bitproof.pipeline.record import Record

FILE = "manifest.json"
FORMAT: Literal[5] = 5
OUTSIDE = -1
"""The offset of what lies in the memory of the caller."""


Method = Literal["multiply-shift", "rounding-shift", "multiply-shift-64", "thresholds"]
"""How codes are computed from accumulators; see :mod:`bitproof.export.integer.requantize`."""


class ProductEntry(Record):
    """One product with weights.

    Attributes:
        inputs: bytes that a unit takes: those of a vector, or what a window shows.
        outputs: accumulators that it gives.
        form: what it multiplies at once, see :data:`bitproof.hw.mcu.forms.Form`.
        patch: of a convolution: groups, channels of a group, height and width of the kernel. A window shows its bytes
            tap after tap, all channels of each.
        columns: of a matrix: for each byte the column that it meets; None: the one of its number.
        bits_per_weight: width of a field in flash.
        layout: how the fields are packed, see :mod:`bitproof.hw.mcu.weight_layout`.
        zero_point, step: a weight is ``step * field - zero_point``.
        codes: what the bytes that it takes stand for.
        macs: multiply-accumulates of one sample.
        symbol: the C array that holds the words.
    """

    name: str
    inputs: int
    outputs: int
    form: Form
    patch: tuple[int, int, int, int] | None
    columns: tuple[int, ...] | None
    bits_per_weight: int
    layout: LayoutKind | Literal["depthwise"]
    zero_point: int
    step: int
    codes: ByteCodes
    macs: int
    weight_bytes: int
    symbol: str

    def locate(self, row: int, column: int) -> tuple[int, int]:
        """Return the word and the lowest bit of the field of a weight: of output *row*, number *column* in C order.

        Raises:
            StageError: there is no such weight.
        """
        groups, members, height, width = self.patch or (1, self.inputs, 1, 1)
        taps = height * width
        each = members * taps
        if not (0 <= row < self.outputs and 0 <= column < each):
            raise StageError(f"no weight [{row}, {column}] in a matrix of {self.outputs} rows, {each} columns")
        if self.layout == "depthwise":
            return DepthwiseLayout(self.bits_per_weight, height, width, groups).locate(row, column)
        row_columns = self.inputs
        if self.patch is not None:
            member, i, j = column // taps, column % taps // width, column % width
            row_columns = width * members + -(width * members) % QUAD
            column = i * row_columns + j * members + member
        elif self.columns is not None:
            column = self.columns.index(column)
        layout = WeightLayout(self.layout, self.outputs // groups, height * row_columns, self.zero_point, self.step)
        group, row = divmod(row, layout.rows)
        word, bit = layout.locate(row, column)
        return group * layout.words + word, bit

    @property
    def positions(self) -> int:
        """How many vectors, or windows, it multiplies at once."""
        return POSITIONS[self.form]

    @property
    def call_inputs(self) -> int:
        """Bytes that one call takes: those of all positions; windows that overlap share them."""
        if self.form != "square" or self.patch is None:
            return self.positions * self.inputs
        *_, height, width = self.patch
        return (height + 1) * (width + 1)

    @property
    def call_outputs(self) -> int:
        """Accumulators that it gives."""
        return self.positions * self.outputs

    def shown(self, calls: Codes) -> Codes:
        """Return what each position shows of *calls*, shape (calls, call inputs): shape (calls, positions, inputs)."""
        if self.form == "square" and self.patch is not None:
            *_, height, width = self.patch
            images = calls.reshape(len(calls), height + 1, width + 1)
            places = ((row, column) for row in (0, 1) for column in (0, 1))
            windows = [images[:, row : row + height, column : column + width] for row, column in places]
            return np.stack(windows, axis=1).reshape(len(calls), self.positions, -1)
        return calls.reshape(len(calls), self.positions, self.inputs)

    def placed(self, vectors: Codes, turn: int) -> Codes:
        """Return *vectors*, shape (N, inputs), as calls of the unit take them: shape (calls, call inputs).

        In turn 0 they follow one another, the last call is filled up with the first; in each further turn those of a
        call stand one position on, so that in as many turns as positions each has been at every position. Of windows
        that overlap a call shows one vector, and around it codes of another.
        """
        if self.form == "square" and self.patch is not None:
            *_, height, width = self.patch
            calls = np.resize(np.roll(vectors, 1, axis=0), (len(vectors), height + 1, width + 1))
            row, column = divmod(turn, 2)
            calls[:, row : row + height, column : column + width] = vectors.reshape(-1, height, width)
            return calls.reshape(len(vectors), -1)
        missing = np.resize(vectors, (-len(vectors) % self.positions, self.inputs))
        calls = np.concatenate([vectors, missing]).reshape(-1, self.positions, self.inputs)
        return np.roll(calls, turn, axis=1).reshape(len(calls), -1)

    def taken(self, made: Codes, turn: int, count: int) -> Codes:
        """Return the accumulators, shape (*count*, outputs), of what the calls of :meth:`placed` *made*."""
        calls = made.reshape(-1, self.positions, self.outputs)
        if self.form == "square":
            return calls[:, turn]
        return np.roll(calls, -turn, axis=1).reshape(-1, self.outputs)[:count]

    def weight_of(self, field: int) -> int:
        """Return the weight that a *field* stands for."""
        if self.layout == "depthwise":
            return field - (field >> (self.bits_per_weight - 1) << self.bits_per_weight)
        return self.step * field - self.zero_point

    def in_c(self, codes: Codes) -> Codes:
        """Return *codes*, shape (N, inputs), in the order in which the unit takes them.

        They are given in the order of the integer model: a vector, or a patch of shape (channels, taps).
        """
        if self.patch is not None:
            groups, members, height, width = self.patch
            ordered = codes.reshape(len(codes), groups * members, height * width).transpose(0, 2, 1)
            return np.ascontiguousarray(ordered).reshape(len(codes), -1)
        return codes if self.columns is None else codes[:, list(self.columns)]


class ActivationEntry(Record):
    """One requantizing layer and how it is computed.

    Attributes:
        method: ``thresholds`` only if no constants of another form equal them on every reachable accumulator.
        shift: None of thresholds.
        codes: what the bytes that it gives stand for.
    """

    name: str
    inputs: int
    outputs: int
    method: Method
    shift: int | None
    levels: int
    codes: ByteCodes
    table_bytes: int


class ValueEntry(Record):
    """A value that a step leaves, the input, or the output.

    Attributes:
        name: of the node of the integer model that it equals.
        shape: of one sample, channels first.
        order: in which its codes lie.
        codes: what its bytes stand for; None: it holds numbers of 32 bits.
        offset: in the arena; :data:`OUTSIDE`: in the caller's input or output.
    """

    name: str
    shape: tuple[int, ...]
    order: Order
    codes: ByteCodes | None
    offset: int

    @property
    def size(self) -> int:
        """Codes of one sample."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of one sample."""
        return self.size * (4 if self.codes is None else 1)

    def in_c(self, codes: Codes) -> Codes:
        """Return *codes*, shape (N, codes of a sample) in the order of the integer model, as they lie in memory."""
        return to_stored(codes.reshape(len(codes), *self.shape), self.order)

    def from_c(self, stored: Codes) -> Codes:
        """Undo :meth:`in_c`."""
        return from_stored(stored, self.shape, self.order).reshape(len(stored), -1)


class StepEntry(Record):
    """One step, which is a layer of the report of costs.

    Attributes:
        name: of the main node that it carries out.
        symbols: the C names of its constants.
        macs: multiply-accumulates of one sample.
        arena_bytes: of the arena that it reads, writes and works in.
    """

    name: str
    symbols: tuple[str, ...]
    macs: int
    arena_bytes: int


class Manifest(Record):
    """The network as it was generated.

    Attributes:
        sources: the files in ``src``, see :mod:`bitproof.hw.mcu.package`.
        input: its codes.
        signed_input: its caller gives the codes themselves, as int8_t; else bytes that stand for them.
        output: its outputs; the caller is given numbers of 32 bits in any case.
        arena_bytes: what the caller lends.
        values_bytes: of it for values between steps; the rest is what a step works with.
        values_bound_bytes: what is alive at one step at most: they never take less.
        steps: in execution order, like all that follows.
        values: what each step leaves.
    """

    format: Literal[5] = FORMAT
    generator: str
    target: str
    core: CoreName
    prefix: str
    model_sha256: str
    input: ValueEntry
    signed_input: bool
    output: ValueEntry
    arena_bytes: int
    values_bytes: int
    values_bound_bytes: int
    sources: tuple[str, ...]
    steps: tuple[StepEntry, ...]
    products: tuple[ProductEntry, ...]
    activations: tuple[ActivationEntry, ...]
    values: tuple[ValueEntry, ...]

    def traced(self, raw: NDArray[np.uint8]) -> dict[str, Codes]:
        """Return what each step leaves, shape (N, *sample shape), by name, of the bytes *raw*, shape (N, bytes)."""
        start, found = 0, {}
        for value in self.values:
            part = np.ascontiguousarray(raw[:, start : start + value.size_bytes])
            start += value.size_bytes
            stored = part.view("<i4" if value.codes is None else "u1").astype(np.int64)
            made = stored if value.codes is None else value.codes.from_bytes(stored)
            found[value.name] = value.from_c(made).reshape(len(raw), *value.shape)
        return found

    @property
    def traced_bytes(self) -> int:
        """Of what all steps leave, for one sample."""
        return sum(value.size_bytes for value in self.values)

    @property
    def inputs(self) -> int:
        """Codes of one input."""
        return self.input.size

    @property
    def outputs(self) -> int:
        """Numbers of one output."""
        return self.output.size

    @property
    def most_codes(self) -> int:
        """Codes of the input, or of what a layer takes or gives, whichever are most."""
        takes = (entry.call_inputs for entry in self.products)
        return max((self.inputs, *takes, *(entry.outputs for entry in self.activations)))

    @property
    def most_accumulators(self) -> int:
        """Outputs, or accumulators of a layer, whichever are most."""
        gives = (entry.call_outputs for entry in self.products)
        return max((self.outputs, *gives, *(entry.inputs for entry in self.activations)))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(entry.macs for entry in self.products)

    def save(self, folder: Path) -> None:
        """Write the manifest into *folder*."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True)
        (folder / FILE).write_text(text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest of *folder*.

        Raises:
            IntegrityError: it is missing or malformed.
        """
        try:
            return cls.model_validate_json((folder / FILE).read_text())
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{folder / FILE} cannot be read: {error}. Run the stage again") from error
