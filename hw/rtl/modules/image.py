"""The frame around an image, and the largest codes of a vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitproof.export.integer import IntegerType
from bitproof.hw.rtl.modules.module import Module, as_int64, layout
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True)
class Padding(Module):
    """An image with a frame of one code.

    Attributes:
        codes: type of the codes; a bipolar code is an unsigned bit.
        code: the code of the frame, in all channels.
        pe: channels in a word.
        folds: words of a pixel.
        size: height and width of the image.
        begin: rows above it, and columns to the left.
        end: rows below it, and columns to the right.
    """

    module: ClassVar[str] = "image_padding"

    codes: IntegerType
    code: int
    pe: int
    folds: int
    size: tuple[int, int]
    begin: tuple[int, int]
    end: tuple[int, int]

    def __post_init__(self) -> None:
        sizes = (self.pe, self.folds, *self.size)
        self.require(min(sizes) >= 1, f"takes (pe, folds, height, width) of at least 1, not {sizes}")
        self.require(min(*self.begin, *self.end) >= 0, f"pads by 0 pixels or more, not {self.begin} and {self.end}")
        self.require(-(1 << 31) <= self.code < 1 << 31, f"pads with a code of at most 32 bits, not {self.code}")
        holds = self.codes.holds(self.code, self.code)
        self.require(holds, f"pads with {self.code}, which {self.codes} does not hold")

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the output."""
        rows, columns = (sum(axis) for axis in zip(self.begin, self.size, self.end, strict=True))
        return (rows, columns)

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """The image."""
        return (layout(self.codes, self.pe, self.size[0] * self.size[1] * self.folds),)

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """The image with its frame."""
        return (layout(self.codes, self.pe, self.padded[0] * self.padded[1] * self.folds),)

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``image_padding.sv``."""
        return {
            "PE": self.pe,
            "FOLDS": self.folds,
            "BITS": self.codes.bits,
            "HEIGHT": self.size[0],
            "WIDTH": self.size[1],
            "TOP": self.begin[0],
            "BOTTOM": self.end[0],
            "LEFT": self.begin[1],
            "RIGHT": self.end[1],
            "CODE": self.code,
        }

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the padded images."""
        images = streams[0].reshape(-1, *self.size, self.folds * self.pe)
        frame = ((0, 0), (self.begin[0], self.end[0]), (self.begin[1], self.end[1]), (0, 0))
        return (as_int64(np.pad(images, frame, constant_values=self.code)).reshape(-1, self.pe),)


@dataclass(frozen=True, slots=True)
class SelectLargest(Module):
    """The indices of the largest codes of a vector, the largest first; of equal codes the lower index comes first.

    Attributes:
        codes: type of the codes.
        pe: codes in a word.
        folds: words of a vector.
        count: how many indices.
    """

    module: ClassVar[str] = "select_largest"

    codes: IntegerType
    pe: int
    folds: int
    count: int = 1

    def __post_init__(self) -> None:
        sizes = (self.pe, self.folds)
        self.require(min(sizes) >= 1, f"takes (pe, folds) of at least 1, not {sizes}")
        self.require(1 <= self.count <= self.pe * self.folds, f"selects 1..{self.pe * self.folds}, not {self.count}")
        self.require(
            self.pe == 1 or self.count == 1,
            f"selects {self.count} codes of words of 1 code only, not of {self.pe}; put a width converter before it",
        )

    @property
    def indices(self) -> IntegerType:
        """Type of an index."""
        return IntegerType.smallest_for(0, self.pe * self.folds - 1)

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """The vector."""
        return (layout(self.codes, self.pe, self.folds),)

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """One index in a word."""
        return (layout(self.indices, 1, self.count),)

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``select_largest.sv``."""
        return {
            "PE": self.pe,
            "FOLDS": self.folds,
            "COUNT": self.count,
            "BITS": self.codes.bits,
            "SIGNED": self.codes.signed,
            "INDEX_BITS": self.indices.bits,
        }

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the indices, shape (words, 1)."""
        vectors = streams[0].reshape(-1, self.pe * self.folds)
        order = np.argsort(-vectors, axis=1, kind="stable")[:, : self.count]
        return (as_int64(order).reshape(-1, 1),)
