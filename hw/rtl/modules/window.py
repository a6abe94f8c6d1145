"""Modules over windows, as FINN's depthwise sliding window sends them: pooling and depthwise convolution.

Per output pixel the groups of PE channels are outside and the taps of the window inside, one tap of PE channels in a
word: with 4 channels, PE = 2 and taps a to d: ``a01 b01 c01 d01 a23 b23 c23 d23``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from bitproof.export.integer import IntegerType
from bitproof.hw.rtl.modules.encoding import Encoding, reachable_sums
from bitproof.hw.rtl.modules.module import Memory, Module, as_int64, layout
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True)
class WindowReducer(Module):
    """The largest code of each window, or the sum of its codes.

    Attributes:
        pe: channels in a word.
        taps: taps of a window.
        codes: type of the codes.
        windows: words of the output in one sample: pixels times groups of channels.
        reduction: what is made of a window.
    """

    module: ClassVar[str] = "window_reducer"

    pe: int
    taps: int
    codes: IntegerType
    windows: int
    reduction: Literal["largest", "sum"] = "largest"

    def __post_init__(self) -> None:
        sizes = (self.pe, self.taps, self.windows)
        self.require(min(sizes) >= 1, f"takes (pe, taps, windows) of at least 1, not {sizes}")

    @property
    def output(self) -> IntegerType:
        """Type of an output: that of the codes, or the narrowest that holds every sum."""
        if self.reduction == "largest":
            return self.codes
        return IntegerType.smallest_for(self.taps * self.codes.minimum, self.taps * self.codes.maximum)

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """One tap of *pe* channels in a word."""
        return (layout(self.codes, self.pe, self.windows * self.taps),)

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """One result of each of *pe* channels in a word."""
        return (layout(self.output, self.pe, self.windows),)

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``window_reducer.sv``."""
        return {
            "PE": self.pe,
            "TAPS": self.taps,
            "IN_BITS": self.codes.bits,
            "SIGNED": self.codes.signed,
            "SUM": self.reduction == "sum",
            "OUT_BITS": self.output.bits,
        }

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the results of the windows, shape (windows, pe)."""
        windows = streams[0].reshape(-1, self.taps, self.pe)
        return (as_int64(windows.sum(axis=1) if self.reduction == "sum" else windows.max(axis=1)),)


@dataclass(frozen=True, slots=True, eq=False)
class DepthwiseUnit(Module):
    """A convolution of each channel with taps of its own.

    Attributes:
        weights: the integers, shape (channels, taps).
        pe: channels in a word; divides their number.
        pixels: pixels of the output in one sample.
        codes: how the input codes are encoded.
        encoding: how the weights are.
        accumulator: type of the outputs, signed; holds every sum that the weights can cause.
    """

    module: ClassVar[str] = "depthwise_unit"
    needs: ClassVar[tuple[str, ...]] = ("constant_rom.sv", "code_product.sv")

    weights: Codes
    pe: int
    pixels: int
    codes: Encoding
    encoding: Encoding
    accumulator: IntegerType

    def __post_init__(self) -> None:
        channels = self.weights.shape[0]
        divides = self.pe >= 1 and channels % self.pe == 0
        self.require(divides, f"takes {channels} channels by a pe that divides them, not {self.pe}; choose a divisor")
        self.require(self.pixels >= 1, f"takes pixels of at least 1, not {self.pixels}")
        self.require_weights(self.weights, self.encoding)
        self.require_accumulator(self.accumulator, *reachable_sums(self.codes, self.weights))

    @property
    def folds(self) -> int:
        """Groups of *pe* channels."""
        return int(self.weights.shape[0]) // self.pe

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """One tap of *pe* channels in a word."""
        return (layout(self.codes.stream, self.pe, self.pixels * self.folds * self.weights.shape[1]),)

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """One sum of each of *pe* channels in a word."""
        return (layout(self.accumulator, self.pe, self.pixels * self.folds),)

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``depthwise_unit.sv``."""
        return {
            "PE": self.pe,
            "TAPS": self.weights.shape[1],
            "FOLDS": self.folds,
            "CODE_BITS": self.codes.bits,
            "CODE_KIND": self.codes.number,
            "WEIGHT_BITS": self.encoding.bits,
            "WEIGHT_KIND": self.encoding.number,
            "ACC_BITS": self.accumulator.bits,
        }

    @property
    def memories(self) -> Mapping[str, Memory]:
        """Groups of channels outside, taps inside."""
        blocks = self.encoding.elements(self.weights).reshape(self.folds, self.pe, -1)
        return {"weights": Memory(as_int64(blocks.transpose(0, 2, 1).reshape(-1, self.pe)), self.encoding.bits)}

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the sums, shape (words, pe)."""
        windows = self.codes.integers(streams[0]).reshape(-1, self.folds, self.weights.shape[1], self.pe)
        weights = self.weights.reshape(self.folds, self.pe, -1).transpose(0, 2, 1)
        return (as_int64((windows * weights).sum(axis=2)).reshape(-1, self.pe),)
