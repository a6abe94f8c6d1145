"""Weights as offset-binary fields, packed lowest field first: four 2-bit, two 4-bit or one 8-bit field to a byte."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import IntegerType
from bitproof.pipeline import Codes, StageError

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FieldLayout:
    """How the weights of one matrix lie in bytes.

    Attributes:
        bits: width of a field: 2, 4 or 8.
        zero_point: the field that stands for weight 0.
        rows: number of inputs of the matrix; a field's index is ``input * outputs + output``.
        columns: number of outputs.
    """

    bits: int
    zero_point: int
    rows: int
    columns: int

    @property
    def per_byte(self) -> int:
        """Fields in one byte."""
        return 8 // self.bits

    @classmethod
    def of(cls, name: str, kind: IntegerType, outputs: int, inputs: int) -> FieldLayout:
        """Return the narrowest layout for the weights of layer *name*: *kind*, shape (outputs, inputs).

        Raises:
            StageError: a weight needs more than 8 bits.
        """
        for bits in (2, 4, 8):
            field = IntegerType(bits, signed=True)
            if field.holds(kind.minimum, kind.maximum):
                return cls(bits, -field.minimum, inputs, outputs)
        raise StageError(f"onnx-int8: weights of {name!r} are {kind}; at most 8 signed bits fit a byte")

    def locate(self, output: int, source: int) -> tuple[int, int]:
        """Return the byte and the lowest bit of the field of the weight from input *source* to *output*."""
        index = source * self.columns + output
        return index // self.per_byte, index % self.per_byte * self.bits


def pack(weights: Codes, layout: FieldLayout) -> Bytes:
    """Pack *weights*, shape (outputs, inputs), into ceil(size / per_byte) bytes; unused fields are 0."""
    fields = (weights.T.reshape(-1) + layout.zero_point).astype(np.uint8)
    padded = np.zeros(-(-fields.size // layout.per_byte) * layout.per_byte, dtype=np.uint8)
    padded[: fields.size] = fields
    packed = np.zeros(padded.size // layout.per_byte, dtype=np.uint8)
    for position in range(layout.per_byte):
        packed |= padded[position :: layout.per_byte] << np.uint8(position * layout.bits)
    return packed


def unpack(packed: Bytes, layout: FieldLayout) -> Codes:
    """Undo :func:`pack`: return the weights, shape (outputs, inputs)."""
    shifts = np.arange(layout.per_byte, dtype=np.uint8) * np.uint8(layout.bits)
    fields = (packed[:, None] >> shifts & np.uint8((1 << layout.bits) - 1)).reshape(-1)
    used = fields[: layout.rows * layout.columns].astype(np.int64)
    return (used.reshape(layout.rows, layout.columns) - layout.zero_point).T.copy()
