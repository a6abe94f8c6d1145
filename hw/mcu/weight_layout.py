"""The layout of weights in flash: offset-binary fields in 32-bit words, ordered for the multiply-accumulate kernels.

A field holds ``weight + zero_point`` and is never negative, so no kernel extends signs; the kernel subtracts
``zero_point * sum(codes)`` once per vector. Rows come in blocks of four that share every load of the input codes. In a
word the fields of inputs ``i`` and ``i + 2`` lie 16 bits apart: one AND leaves both in the two halves of a register,
as the dual multiply ``SMLAD`` takes them. The fields of one word, highest bits first, by input::

    u8       3 2 1 0
    u4       7 6 3 2 5 4 1 0
    u2       15 14 11 10 7 6 3 2 13 12 9 8 5 4 1 0

A ternary word holds two rows, a and b, so that one product with an input serves both. Rotated right by 0, 2, 8 or 10
bits, it has the fields of two inputs at bits 0 and 12 (row a, row b) and at 16 and 28::

    ternary  b3 b2 a7 a6 b5 b4 a3 a2 b1 b0 a5 a4 b7 b6 a1 a0

Two different weights, such as -1 and 1, take one bit each, which says whether a weight is the larger one. Two rows
share a word again: rotated right by 0, 2, 4 to 14 bits, it has row a at bits 0 and 16, row b at 15 and 31::

    u1       b2 a15 b13 a14 b12 a11 b9 a10 b8 a7 b5 a6 b4 a3 b1 a2 b0 a13 b15 a12 b14 a9 b11 a8 b10 a5 b7 a4 b6 a1 b3 a0

Beside codes of one bit, one row has a word alone. The fields of four inputs lie a byte apart, as the bytes of their
codes do, so that codes are packed by shifts of whole words, and ones of both are counted::

    binary   3 7 11 15 19 23 27 31 2 6 10 14 18 22 26 30 1 5 9 13 17 21 25 29 0 4 8 12 16 20 24 28
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import IntegerType
from bitproof.pipeline import Codes, StageError

LayoutKind = Literal["binary", "u1", "ternary", "u2", "u4", "u8"]
Words = NDArray[np.uint32]

ROWS_PER_BLOCK = 4
CHANNELS_PER_BLOCK = 4
LANE_BITS = 16
ROTATIONS: Mapping[LayoutKind, tuple[int, ...]] = {"ternary": (0, 2, 8, 10), "u1": (0, 2, 4, 6, 8, 10, 12, 14)}
SECOND_ROW: Mapping[LayoutKind, int] = {"ternary": 12, "u1": 15}
"""Bit distance of the two rows that share a word; a partial sum of the first row must stay below 2**distance."""
BITS: Mapping[LayoutKind, int] = {"binary": 1, "u1": 1, "ternary": 2, "u2": 2, "u4": 4, "u8": 8}
LEAST_BINARY: Mapping[bool, int] = {False: 128, True: 512}
"""From how many columns on codes of one bit are packed and ones counted: of a matrix, and (True) of a convolution,
whose other kernel unpacks a weight once for two windows.

On a Cortex-M4 it pays from 128 and about 800 columns on, on cores without dual products from fewer.
"""


def field_of(name: str, kind: IntegerType) -> tuple[int, int]:
    """Return the width of the field of a weight of *kind*, 2, 4 or 8 bits, and the field that stands for 0.

    Raises:
        StageError: a weight of layer *name* needs more than 8 bits.
    """
    for bits in (2, 4, 8):
        if kind.bits <= bits:
            return bits, 1 << (bits - 1) if kind.signed else 0
    raise StageError(
        f"layer {name!r} has {kind} weights; the C back-end takes 1 to 8 bits: "
        "quantize them to fewer (in a configuration: model.weight_bits)"
    )


@dataclass(frozen=True, slots=True)
class DepthwiseLayout:
    """Where the weight of each tap and channel of a depthwise convolution is; see ``bitproof_depthwise.h``.

    Fields are two's complement: the kernel takes them on top of 16 bits, where they need no extension of their signs.

    Attributes:
        bits: width of a field.
        height: of the kernel.
        width: of the kernel.
        channels: of the image.
    """

    bits: int
    height: int
    width: int
    channels: int

    @classmethod
    def of(cls, weights: Codes, largest_byte: int) -> DepthwiseLayout | None:
        """Return the narrowest layout that holds *weights*, shape (channels, height, width); None: there is none.

        A sum with bytes of at most *largest_byte* has to fit int32 on top of the unused bits of 16.
        """
        channels, height, width = weights.shape
        flat = weights.reshape(channels, -1)
        largest = (
            int(np.maximum(np.maximum(flat, 0).sum(axis=1), np.maximum(-flat, 0).sum(axis=1)).max()) * largest_byte
        )
        for bits in (2, 4, 8):
            limit = 1 << (bits - 1)
            if -limit <= flat.min() and flat.max() < limit and largest << (LANE_BITS - bits) < 1 << 31:
                return cls(bits, height, width, channels)
        return None

    @property
    def kind(self) -> Literal["depthwise"]:
        """What it is called."""
        return "depthwise"

    @property
    def taps_per_word(self) -> int:
        """Taps of a row of the kernel that a word holds, of four channels each."""
        return LANE_BITS // (2 * self.bits)

    @property
    def words(self) -> int:
        """Number of words: whole blocks of four channels, whole words for each row of the kernel."""
        return -(-self.channels // CHANNELS_PER_BLOCK) * self._words_of_block

    @property
    def _words_of_row(self) -> int:
        return -(-self.width // self.taps_per_word)

    @property
    def _words_of_block(self) -> int:
        return self.height * self._words_of_row

    def locate(self, channel: int, tap: int) -> tuple[int, int]:
        """Return the word and the lowest bit of the field of the weight of *tap* in *channel*.

        Raises:
            StageError: there is no such weight.
        """
        taps = self.height * self.width
        if not (0 <= channel < self.channels and 0 <= tap < taps):
            raise StageError(f"no weight [{channel}, {tap}] among {taps} taps of {self.channels} channels")
        words, bits = self._positions(np.array([channel]), np.array([tap]))
        return int(words[0]), int(bits[0])

    def _positions(self, channels: Codes, taps: Codes) -> tuple[Codes, Codes]:
        block, lane = np.divmod(channels, CHANNELS_PER_BLOCK)
        row, column = np.divmod(taps, self.width)
        word_of_row, place = np.divmod(column, self.taps_per_word)
        word = block * self._words_of_block + row * self._words_of_row + word_of_row
        half, odd = np.divmod(lane, 2)
        return word, LANE_BITS * (half + 1) - self.bits * (2 * place + odd + 1)

    def pack(self, weights: Codes) -> Words:
        """Pack *weights*, shape (channels, taps), into :attr:`words` words; unused fields are 0."""
        channels, taps = (axis.reshape(-1) for axis in np.indices(weights.shape))
        word, bit = self._positions(channels, taps)
        packed = np.zeros(self.words, dtype=np.int64)
        np.add.at(packed, word, (weights.reshape(-1) & ((1 << self.bits) - 1)) << bit)
        return packed.astype(np.uint32)

    def unpack(self, packed: Words) -> Codes:
        """Undo :meth:`pack`: return the weights, shape (channels, taps)."""
        channels, taps = (axis.reshape(-1) for axis in np.indices((self.channels, self.height * self.width)))
        word, bit = self._positions(channels, taps)
        fields = packed.astype(np.int64)[word] >> bit & ((1 << self.bits) - 1)
        signed = fields - ((fields >> (self.bits - 1)) << self.bits)
        return signed.reshape(self.channels, self.height * self.width)


@dataclass(frozen=True, slots=True)
class WeightLayout:
    """Where the weight of each row and column is: ``weight = step * field - zero_point``.

    Attributes:
        kind: ``u2``, ``u4``, ``u8``: fields of that many bits, one row to a word. ``ternary``, ``u1``: 2-bit fields
            0..2, or fields of one bit, of two rows to a word, so that one multiplication serves both rows. ``binary``:
            fields of one bit, one row to a word, beside codes of one bit.
        rows: number of outputs of the matrix.
        columns: number of its inputs.
        zero_point: what is subtracted.
        step: 1, but of fields of one bit: the larger weight less the smaller.
    """

    kind: LayoutKind
    rows: int
    columns: int
    zero_point: int
    step: int = 1

    @classmethod
    def of(
        cls, name: str, weights: Codes, kind: IntegerType, largest_code: int, *, slides: bool = False
    ) -> WeightLayout:
        """Return the narrowest layout that holds *weights*, shape (rows, columns), of the layer *name*, all of *kind*.

        The bytes of its codes are *largest_code* at most; *slides*: it is a convolution.

        Raises:
            StageError: a weight needs more than 8 bits.
        """
        rows, columns = weights.shape
        low, high = int(weights.min()), int(weights.max())
        is_ternary = low >= -1 and high <= 1
        if (is_ternary or kind.bits <= 8) and bool(((weights == low) | (weights == high)).all()):
            counted = largest_code <= 1 and columns >= LEAST_BINARY[slides]
            return cls("binary" if counted else "u1", rows, columns, -low, max(1, high - low))
        if is_ternary:
            return cls("ternary", rows, columns, 1)
        bits, zero_point = field_of(name, kind)
        kinds: dict[int, LayoutKind] = {2: "u2", 4: "u4", 8: "u8"}
        return cls(kinds[bits], rows, columns, zero_point)

    @property
    def bits(self) -> int:
        """Width of a field."""
        return BITS[self.kind]

    @property
    def rows_per_word(self) -> int:
        """Rows that share a word."""
        return 2 if self.kind in SECOND_ROW else 1

    @property
    def columns_per_word(self) -> int:
        """Inputs that a word covers."""
        return 32 // self.bits // self.rows_per_word

    @property
    def words(self) -> int:
        """Number of words: whole blocks of four rows, whole words of columns."""
        blocks = -(-self.rows // ROWS_PER_BLOCK)
        return blocks * -(-self.columns // self.columns_per_word) * (ROWS_PER_BLOCK // self.rows_per_word)

    def locate(self, row: int, column: int) -> tuple[int, int]:
        """Return the word and the lowest bit of the field of weight [*row*, *column*].

        Raises:
            StageError: the matrix has no such weight.
        """
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            raise StageError(f"no weight [{row}, {column}] in a matrix of {self.rows} rows, {self.columns} columns")
        words, bits = self._positions(np.array([row]), np.array([column]))
        return int(words[0]), int(bits[0])

    def _positions(self, rows: Codes, columns: Codes) -> tuple[Codes, Codes]:
        words_per_block_row = ROWS_PER_BLOCK // self.rows_per_word
        block, row = np.divmod(rows, ROWS_PER_BLOCK)
        group, column = np.divmod(columns, self.columns_per_word)
        groups = -(-self.columns // self.columns_per_word)
        word = (block * groups + group) * words_per_block_row + row // self.rows_per_word
        quad, lane = np.divmod(column, 4)
        if self.kind in SECOND_ROW:
            rotation = np.array(ROTATIONS[self.kind])[2 * quad + lane % 2]
            bit = (rotation + 16 * (lane // 2) + SECOND_ROW[self.kind] * (row % 2)) % 32
        elif self.kind == "binary":
            bit = 8 * lane + 7 - quad
        else:
            bit = self.bits * (2 * quad + lane % 2) + 16 * (lane // 2)
        return word, bit

    def pack(self, weights: Codes) -> Words:
        """Pack *weights*, shape (rows, columns), into :attr:`words` words; unused fields are 0."""
        rows, columns = (axis.reshape(-1) for axis in np.indices(weights.shape))
        word, bit = self._positions(rows, columns)
        fields = (weights.reshape(-1) + self.zero_point) // self.step << bit
        packed = np.zeros(self.words, dtype=np.int64)
        np.add.at(packed, word, fields)
        return packed.astype(np.uint32)

    def unpack(self, packed: Words) -> Codes:
        """Undo :meth:`pack`: return the weights, shape (rows, columns)."""
        rows, columns = (axis.reshape(-1) for axis in np.indices((self.rows, self.columns)))
        word, bit = self._positions(rows, columns)
        fields = packed.astype(np.int64)[word] >> bit & ((1 << self.bits) - 1)
        return (self.step * fields - self.zero_point).reshape(self.rows, self.columns)

    def run_of(self, largest_code: int, matrices: Sequence[Codes] = ()) -> int:
        """Return how many words of a row may be accumulated before partial sums that share a word are told apart.

        That is, with codes up to *largest_code*: of two rows to a word, while the sum of the first stays below the
        second; of others, while the sum of a word stays below 2**16, as kernels without dual multiplies need it.
        ``binary`` has none. 0: not even one word.

        Of two rows to a word it is as many as the weights of *matrices*, each of shape (rows, columns), allow wherever
        such a run begins, with one bit flipped somewhere, so that a check sees that in one sum alone; without them,
        as many as any weights allow.
        """
        if self.kind == "binary":
            return 0
        most = (1 << SECOND_ROW.get(self.kind, LANE_BITS)) - 1
        largest_field = 2 if self.kind == "ternary" else (1 << self.bits) - 1
        largest_code = max(1, largest_code)
        always = most // (largest_field * largest_code * self.columns_per_word)
        if self.kind not in SECOND_ROW or not matrices:
            return always
        return max(always, min(self._run_of_rows(matrix, most, largest_code) for matrix in matrices))

    def _run_of_rows(self, matrix: Codes, most: int, largest_code: int) -> int:
        """Return how many words no first row of a word lets exceed *most*, and no second one 2**16 - 1."""
        words = -(-self.columns // self.columns_per_word)
        fields = (matrix + self.zero_point) // self.step
        filled = np.pad(fields, ((0, 0), (0, words * self.columns_per_word - self.columns)))
        of_words = filled.reshape(len(matrix), words, self.columns_per_word).sum(axis=2)
        up_to = np.pad(of_words.cumsum(axis=1), ((0, 0), (1, 0)))
        limits = np.full(len(matrix), (1 << LANE_BITS) - 1)
        limits[::2] = most
        limits = limits // largest_code - (1 << (self.bits - 1))
        fits = 0
        while fits < words and bool(((up_to[:, fits + 1 :] - up_to[:, : -fits - 1]).max(axis=1) <= limits).all()):
            fits += 1
        return fits
