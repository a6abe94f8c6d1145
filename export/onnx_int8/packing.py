"""Weights as offset-binary fields in bytes, which onnxruntime unpacks once, when it loads a file.

A field of 1, 2, 4 or 8 bits is packed with its neighbours, lowest field first. One of another width is taken apart into
parts of these widths, lowest bits first, which lie one region behind the other::

    field of 3 bits      c b a  ->  part of 2 bits  b a, part of 1 bit  c
    bytes                [b a][b a][b a][b a] ...  then  [c][c][c][c][c][c][c][c] ...

Weights that are all -1 or 1 take one bit: the field f stands for 2 f - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import IntegerType
from bitproof.pipeline import Codes, StageError

Bytes = NDArray[np.uint8]

WIDTHS = (8, 4, 2, 1)
"""Of the parts of a field: so many fit a byte."""
PART_BYTES = 512
"""About what the nodes that unpack one more part take in a file: narrower fields have to save more."""


@dataclass(frozen=True, slots=True)
class FieldLayout:
    """How the weights of one matrix lie in bytes.

    Attributes:
        bits: width of a field, 1 to 8; 1 for weights of -1 and 1.
        rows: number of inputs of the matrix; a field's index is ``input * outputs + output``.
        columns: number of outputs.
    """

    bits: int
    rows: int
    columns: int

    @property
    def zero_point(self) -> int:
        """What stands for weight 0 among unpacked bytes; those of 1-bit fields are 0 and 2."""
        return 1 if self.bits == 1 else 1 << (self.bits - 1)

    @property
    def parts(self) -> tuple[int, ...]:
        """The widths of the parts of a field, that of the lowest bits first."""
        return tuple(width for width in WIDTHS if self.bits & width)

    @property
    def fields(self) -> int:
        """How many there are."""
        return self.rows * self.columns

    @property
    def regions(self) -> tuple[tuple[int, int], ...]:
        """First byte of each part, and the one behind its last."""
        ends = np.cumsum([0, *(-(-self.fields * width // 8) for width in self.parts)]).tolist()
        return tuple(pairwise(ends))

    @classmethod
    def of(cls, name: str, weights: Codes, kind: IntegerType, *, whole: bool = False) -> FieldLayout:
        """Return the smallest layout for the *weights* of layer *name*, shape (outputs, inputs), of the type *kind*.

        If fields have to be *whole*, none is taken apart.

        Raises:
            StageError: a weight needs more than 8 bits.
        """
        outputs, inputs = weights.shape
        if (np.abs(weights) == 1).all():
            return cls(1, inputs, outputs)
        fitting = (bits for bits in range(2, 9) if IntegerType(bits, signed=True).holds(kind.minimum, kind.maximum))
        layouts = [cls(bits, inputs, outputs) for bits in fitting]
        if not layouts:
            raise StageError(f"onnx-int8: weights of {name!r} are {kind}; at most 8 signed bits fit a byte")
        return min((layout for layout in layouts if len(layout.parts) == 1 or not whole), key=cls._cost)

    def _cost(self) -> int:
        return self.regions[-1][1] + PART_BYTES * len(self.parts)

    def locate(self, output: int, source: int) -> tuple[int, int]:
        """Return the byte and the bit in it that holds the lowest bit of the weight from input *source* to *output*."""
        index, width = source * self.columns + output, self.parts[0]
        return index * width // 8, index * width % 8


def packed_name(product: str) -> str:
    """Return what the packed weights of *product* are called in a file."""
    return f"{product}.packed"


def is_packed(tensor: str) -> bool:
    """Tell whether *tensor* is called as packed weights are."""
    return tensor.endswith(packed_name(""))


def pack(weights: Codes, layout: FieldLayout) -> Bytes:
    """Pack *weights*, shape (outputs, inputs), into the bytes of *layout*; unused bits are 0."""
    stored = weights.T.reshape(-1) + layout.zero_point
    fields = (stored >> 1 if layout.bits == 1 else stored).astype(np.uint8)
    packed, lowest = [], 0
    for width in layout.parts:
        part = fields >> np.uint8(lowest) & np.uint8((1 << width) - 1)
        bits = np.unpackbits(part[:, None], axis=1, count=width, bitorder="little")
        packed.append(np.packbits(bits.reshape(-1), bitorder="little"))
        lowest += width
    return np.concatenate(packed)


def unpack(packed: Bytes, layout: FieldLayout) -> Codes:
    """Undo :func:`pack`: return the weights, shape (outputs, inputs).

    Raises:
        ValueError: there are more or fewer bytes than the layout has.
    """
    if packed.shape != (layout.regions[-1][1],):
        raise ValueError(f"{packed.size} bytes hold no {layout.rows} x {layout.columns} weights of {layout.bits} bits")
    fields, lowest = np.zeros(layout.fields, dtype=np.int64), 0
    for (start, end), width in zip(layout.regions, layout.parts, strict=True):
        bits = np.unpackbits(packed[start:end], count=layout.fields * width, bitorder="little").reshape(-1, width)
        fields += np.packbits(bits, axis=1, bitorder="little")[:, 0].astype(np.int64) << lowest
        lowest += width
    stored = 2 * fields if layout.bits == 1 else fields
    return (stored.reshape(layout.rows, layout.columns) - layout.zero_point).T.copy()
