"""AXI-Stream words: how integer codes are laid out in them, and the conversion both ways.

FINN puts element 0 of a word into its lowest bits, each element in two's complement or unsigned, and pads the word to
whole bytes.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bitproof.pipeline import Codes
from bitproof.pipeline.record import Record

Bytes: TypeAlias = NDArray[np.uint8]

MAX_ELEMENT_BITS = 48
"""Width of the accumulator of a DSP slice: no stream has wider elements."""


class StreamLayout(Record):
    """The words of one stream.

    Attributes:
        bits: width of one element.
        signed: elements are in two's complement.
        elements: number of elements in a word.
        words: number of words that one sample takes.
    """

    bits: int = Field(ge=1, le=MAX_ELEMENT_BITS)
    signed: bool
    elements: int = Field(ge=1)
    words: int = Field(ge=1)

    @property
    def word_bytes(self) -> int:
        """Size of one word, padding included."""
        return -(-self.bits * self.elements // 8)

    @property
    def width_bits(self) -> int:
        """Width of the stream's data port, padding included."""
        return 8 * self.word_bytes

    @property
    def channels(self) -> int:
        """Number of elements of one sample."""
        return self.elements * self.words

    def of(self, channels: int) -> StreamLayout:
        """Return the same words, as many as *channels* elements take."""
        return self.model_copy(update={"words": channels // self.elements})

    @property
    def minimum(self) -> int:
        """Smallest integer that an element can hold."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest integer that an element can hold."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def pack(self, codes: Codes) -> Bytes:
        """Return *codes*, shape (words, elements), as words, shape (words, word_bytes).

        Raises:
            ValueError: a code does not fit an element, or the shape is another one.
        """
        if codes.ndim != 2 or codes.shape[1] != self.elements:
            raise ValueError(f"a stream of {self.elements} elements a word takes no codes of shape {codes.shape}")
        if codes.size and not self.minimum <= codes.min() <= codes.max() <= self.maximum:
            raise ValueError(
                f"codes {codes.min()}..{codes.max()} do not fit {self.bits}-bit "
                f"{'signed' if self.signed else 'unsigned'} elements ({self.minimum}..{self.maximum})"
            )
        raw = np.ascontiguousarray(codes & ((1 << self.bits) - 1)).astype("<i8")
        element_bytes = raw.view(np.uint8).reshape(*codes.shape, 8)
        if self._elements_are_bytes:
            return element_bytes[:, :, : -(-self.bits // 8)].reshape(len(codes), self.word_bytes)
        bits = np.unpackbits(element_bytes, axis=2, bitorder="little")[:, :, : self.bits]
        return np.packbits(bits.reshape(len(codes), -1), axis=1, bitorder="little")

    def unpack(self, words: Bytes) -> Codes:
        """Return the codes in *words*, shape (words, word_bytes), as shape (words, elements); padding is ignored."""
        element_bytes = np.zeros((len(words), self.elements, 8), dtype=np.uint8)
        if self._elements_are_bytes:
            element_bytes[:, :, : -(-self.bits // 8)] = words.reshape(len(words), self.elements, -1)
        else:
            bits = np.unpackbits(words, axis=1, count=self.bits * self.elements, bitorder="little")
            packed = np.packbits(bits.reshape(len(words), self.elements, self.bits), axis=2, bitorder="little")
            element_bytes[:, :, : packed.shape[2]] = packed
        codes: Codes = element_bytes.view("<i8")[:, :, 0].astype(np.int64) & ((1 << self.bits) - 1)
        return np.where(codes > self.maximum, codes - (1 << self.bits), codes)

    @property
    def _elements_are_bytes(self) -> bool:
        return self.elements == 1 or self.bits % 8 == 0
