"""Modules of branches: fork, sum and concatenation, and the scaling of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitproof.export.integer import IntegerType
from bitproof.hw.rtl.modules.module import Memory, Module, as_int64, layout, signed_bits, words_of
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True)
class Duplicate(Module):
    """The words of one stream in two."""

    module: ClassVar[str] = "stream_duplicate"

    stream: StreamLayout

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """The stream."""
        return (self.stream,)

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """The stream, twice."""
        return (self.stream, self.stream)

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``stream_duplicate.sv``."""
        return {"WIDTH": self.stream.width_bits}

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the elements, twice."""
        return (streams[0], streams[0])


class _Join(Module):
    """What modules with two inputs of the same PE share."""

    first: IntegerType
    second: IntegerType
    pe: int

    def _types(self) -> dict[str, int]:
        return {
            "IN0_BITS": self.first.bits,
            "IN0_SIGNED": self.first.signed,
            "IN1_BITS": self.second.bits,
            "IN1_SIGNED": self.second.signed,
        }


@dataclass(frozen=True, slots=True)
class Add(_Join):
    """The sum of two streams.

    Attributes:
        first: type of the codes of ``in0_V``.
        second: type of the codes of ``in1_V``.
        pe: elements in a word.
        words: words of one sample.
    """

    module: ClassVar[str] = "stream_add"

    first: IntegerType
    second: IntegerType
    pe: int
    words: int

    @property
    def output(self) -> IntegerType:
        """The narrowest type that holds every sum."""
        low, high = self.first.minimum + self.second.minimum, self.first.maximum + self.second.maximum
        return IntegerType.smallest_for(low, high)

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """Both branches."""
        return (layout(self.first, self.pe, self.words), layout(self.second, self.pe, self.words))

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """The sums."""
        return (layout(self.output, self.pe, self.words),)

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``stream_add.sv``."""
        return {"PE": self.pe, **self._types(), "OUT_BITS": self.output.bits}

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the sums."""
        return (streams[0] + streams[1],)


@dataclass(frozen=True, slots=True, eq=False)
class ScaledAdd(_Join):
    """The sum ``first * factors[0, c] + second * factors[1, c] + offsets[c]`` of channel c.

    Attributes:
        first: type of the codes of ``in0_V``.
        second: type of the codes of ``in1_V``.
        pe: channels in a word; divides their number.
        pixels: pixels of one sample.
        factors: shape (2, channels).
        offsets: shape (channels,).
    """

    module: ClassVar[str] = "stream_scaled_add"
    needs: ClassVar[tuple[str, ...]] = ("constant_rom.sv", "code_product.sv")

    first: IntegerType
    second: IntegerType
    pe: int
    pixels: int
    factors: Codes
    offsets: Codes

    def __post_init__(self) -> None:
        channels = len(self.offsets)
        divides = self.pe >= 1 and channels % self.pe == 0
        self.require(divides, f"takes {channels} channels by a pe that divides them, not {self.pe}; choose a divisor")
        self.require(
            self.factors.shape == (2, channels),
            f"takes factors of shape (2, {channels}) with as many offsets, not {self.factors.shape}",
        )

    @property
    def output(self) -> IntegerType:
        """The narrowest signed type that holds every sum of every channel."""
        types = (self.first, self.second)
        ends = [
            [factors * kind.minimum, factors * kind.maximum] for factors, kind in zip(self.factors, types, strict=True)
        ]
        low = sum((np.minimum(*pair) for pair in ends), start=self.offsets)
        high = sum((np.maximum(*pair) for pair in ends), start=self.offsets)
        return IntegerType.smallest_for(min(int(low.min()), -1), int(high.max()))

    @property
    def folds(self) -> int:
        """Words of a pixel."""
        return len(self.offsets) // self.pe

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """Both branches."""
        words = self.pixels * self.folds
        return (layout(self.first, self.pe, words), layout(self.second, self.pe, words))

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """The sums."""
        return (layout(self.output, self.pe, self.pixels * self.folds),)

    @property
    def memories(self) -> Mapping[str, Memory]:
        """The factors of each branch, and the offsets."""
        bits = signed_bits(self.factors)
        return {
            "factors0": Memory(words_of(self.factors[0], self.pe), bits),
            "factors1": Memory(words_of(self.factors[1], self.pe), bits),
            "offsets": Memory(words_of(self.offsets, self.pe), signed_bits(self.offsets)),
        }

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``stream_scaled_add.sv``."""
        bits = {"FACTOR_BITS": signed_bits(self.factors), "OFFSET_BITS": signed_bits(self.offsets)}
        return {"PE": self.pe, "FOLDS": self.folds, **self._types(), **bits, "OUT_BITS": self.output.bits}

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the sums."""
        first, second = (stream.reshape(-1, len(self.offsets)) for stream in streams)
        sums = first * self.factors[0] + second * self.factors[1] + self.offsets
        return (as_int64(sums).reshape(-1, self.pe),)


@dataclass(frozen=True, slots=True, eq=False)
class Affine(Module):
    """``codes * factors[c] + offsets[c]`` of channel c.

    Attributes:
        codes: type of the input.
        pe: channels in a word; divides their number.
        pixels: pixels of one sample.
        factors: shape (channels,).
        offsets: shape (channels,).
    """

    module: ClassVar[str] = "stream_affine"
    needs: ClassVar[tuple[str, ...]] = ("constant_rom.sv", "code_product.sv")

    codes: IntegerType
    pe: int
    pixels: int
    factors: Codes
    offsets: Codes

    def __post_init__(self) -> None:
        channels = len(self.offsets)
        divides = self.pe >= 1 and channels % self.pe == 0
        self.require(divides, f"takes {channels} channels by a pe that divides them, not {self.pe}; choose a divisor")
        self.require(
            self.factors.shape == (channels,), f"takes as many factors as offsets, {channels}, not {self.factors.shape}"
        )

    @property
    def output(self) -> IntegerType:
        """The narrowest signed type that holds every output of every channel."""
        ends = np.stack([self.factors * end + self.offsets for end in (self.codes.minimum, self.codes.maximum)])
        return IntegerType.smallest_for(min(int(ends.min()), -1), int(ends.max()))

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """The codes."""
        return (layout(self.codes, self.pe, self.pixels * len(self.offsets) // self.pe),)

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """What is made of them."""
        return (layout(self.output, self.pe, self.pixels * len(self.offsets) // self.pe),)

    @property
    def memories(self) -> Mapping[str, Memory]:
        """The factors and the offsets."""
        return {
            "factors": Memory(words_of(self.factors, self.pe), signed_bits(self.factors)),
            "offsets": Memory(words_of(self.offsets, self.pe), signed_bits(self.offsets)),
        }

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``stream_affine.sv``."""
        return {
            "PE": self.pe,
            "FOLDS": len(self.offsets) // self.pe,
            "IN_BITS": self.codes.bits,
            "SIGNED": self.codes.signed,
            "FACTOR_BITS": signed_bits(self.factors),
            "OFFSET_BITS": signed_bits(self.offsets),
            "OUT_BITS": self.output.bits,
        }

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return what is made of the codes, shape (words, pe)."""
        codes = streams[0].reshape(-1, len(self.offsets))
        return (as_int64(codes * self.factors + self.offsets).reshape(-1, self.pe),)


def type_of_both(one: IntegerType, two: IntegerType) -> IntegerType:
    """Return the narrowest type that holds all that either holds."""
    return IntegerType.smallest_for(min(one.minimum, two.minimum), max(one.maximum, two.maximum))


@dataclass(frozen=True, slots=True)
class Concat(_Join):
    """The channels of two streams, pixel by pixel.

    Attributes:
        first: type of the codes of ``in0_V``.
        second: type of the codes of ``in1_V``.
        output: type of the codes of the output, which holds both.
        pe: channels in a word.
        words: words of a pixel of each input.
        pixels: pixels of one sample.
    """

    module: ClassVar[str] = "stream_concat"

    first: IntegerType
    second: IntegerType
    output: IntegerType
    pe: int
    words: tuple[int, int]
    pixels: int

    def __post_init__(self) -> None:
        sizes = (self.pe, *self.words, self.pixels)
        self.require(min(sizes) >= 1, f"takes (pe, words, words, pixels) of at least 1, not {sizes}")
        for kind in (self.first, self.second):
            holds = self.output.holds(kind.minimum, kind.maximum)
            self.require(holds, f"joins {kind} into {self.output}, which does not hold it; take a wider output")

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """Both branches."""
        types = zip((self.first, self.second), self.words, strict=True)
        return tuple(layout(kind, self.pe, self.pixels * words) for kind, words in types)

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """All channels."""
        return (layout(self.output, self.pe, self.pixels * sum(self.words)),)

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``stream_concat.sv``."""
        words = {"IN0_WORDS": self.words[0], "IN1_WORDS": self.words[1]}
        return {"PE": self.pe, **words, **self._types(), "OUT_BITS": self.output.bits}

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the joined channels."""
        blocks = [stream.reshape(-1, words, self.pe) for stream, words in zip(streams, self.words, strict=True)]
        return (as_int64(np.concatenate(blocks, axis=1)).reshape(-1, self.pe),)
