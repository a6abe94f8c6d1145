"""Requantizers by arithmetic: two or three constants of a channel, where a thresholding unit keeps every threshold.

The constants are proven equal to the thresholds on every reachable accumulator, and the widths are those that these
accumulators need: the arithmetic in the module wraps, so a sum that fits is exact whatever its parts are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from bitproof.export.integer import (
    IntegerType,
    MultiplyShift,
    Ranges,
    Requantization,
    RoundingShift,
    Threshold,
    hull,
    require_equal,
    solve_requantization,
    solve_rounding_shift,
)
from bitproof.hw.rtl.modules.module import Memory, Module, layout, signed_bits, words_of
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Codes, StageError

MAX_CODE_BITS = 31
"""Limits of the codes are 32-bit parameters."""
Ties = Literal["up", "even", "odd"]
TIES: Mapping[Ties, int] = {"up": 0, "even": 1, "odd": 2}


@dataclass(frozen=True, slots=True)
class Place:
    """What a requantizer stands for and where it stands.

    Attributes:
        node: the activation, whose codes are neighbours.
        reachable: the accumulators of each channel.
        accumulators: type of the input stream.
        codes: type of the output stream.
        pe: channels in a word; divides their number.
        pixels: pixels of one sample.
    """

    node: Threshold
    reachable: Ranges
    accumulators: IntegerType
    codes: IntegerType
    pe: int
    pixels: int = 1


class _Requantizer(Module):
    place: Place

    def _require_place(self, form: Requantization) -> None:
        """Check the types, and *form* against the thresholds.

        Raises:
            StageError: a stream does not hold what it carries, or the constants are wrong.
        """
        place, node, total = self.place, self.place.node, hull(self.place.reachable)
        self.require(
            place.pe >= 1 and node.channels % place.pe == 0,
            f"takes {node.channels} channels by a pe that divides them, not {place.pe}; choose a divisor",
        )
        self.require(
            place.accumulators.holds(total.low, total.high),
            f"has accumulators {total.low}..{total.high} of {node.name!r}, which {place.accumulators} does not hold; "
            f"take {IntegerType.smallest_for(total.low, total.high)} or wider",
        )
        self.require(
            place.codes.holds(node.lowest, node.highest) and place.codes.bits <= MAX_CODE_BITS,
            f"has codes {node.lowest}..{node.highest} of {node.name!r}, which {place.codes} does not hold or is wider "
            f"than {MAX_CODE_BITS} bits; take {IntegerType.smallest_for(node.lowest, node.highest)}",
        )
        require_equal(node, form, place.reachable)

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """The accumulators."""
        place = self.place
        return (layout(place.accumulators, place.pe, place.pixels * place.node.channels // place.pe),)

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """The codes."""
        place = self.place
        return (layout(place.codes, place.pe, place.pixels * place.node.channels // place.pe),)

    def _parameters(self) -> dict[str, int]:
        place = self.place
        return {
            "PE": place.pe,
            "FOLDS": place.node.channels // place.pe,
            "IN_BITS": place.accumulators.bits,
            "SIGNED": place.accumulators.signed,
            "OUT_BITS": place.codes.bits,
            "LOW": place.node.lowest,
            "HIGH": place.node.highest,
        }

    def _apply(self, form: Requantization, streams: tuple[Codes, ...]) -> tuple[Codes, ...]:
        node = self.place.node
        codes = form.apply(node, streams[0].reshape(-1, node.channels))
        return (codes.reshape(-1, self.place.pe),)


@dataclass(frozen=True, slots=True, eq=False)
class MultiplyShiftUnit(_Requantizer):
    """``(acc * M + B) >> S`` within the codes, with M and B of each channel; the shift rounds down.

    Attributes:
        place: what it stands for.
        constants: M, B and S.
    """

    module: ClassVar[str] = "multiply_shift"
    needs: ClassVar[tuple[str, ...]] = ("constant_rom.sv", "saturator.sv")

    place: Place
    constants: MultiplyShift

    def __post_init__(self) -> None:
        self._require_place(self.constants)

    @property
    def sum_bits(self) -> int:
        """Width of the sums: holds that of every reachable accumulator, and the offsets, and has a bit to be left."""
        constants = zip(
            self.place.reachable, self.constants.multiplier.tolist(), self.constants.offset.tolist(), strict=True
        )
        ends = [end * m + b for interval, m, b in constants for end in (interval.low, interval.high)]
        exact = IntegerType.smallest_for(min(*ends, -1), max(ends)).bits
        return max(exact, signed_bits(self.constants.offset), self.constants.shift + 1)

    @property
    def multiplier_bits(self) -> int:
        """Width of the multipliers."""
        return IntegerType.smallest_for(0, int(self.constants.multiplier.max())).bits

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``multiply_shift.sv``."""
        return {
            **self._parameters(),
            "MULTIPLIER_BITS": self.multiplier_bits,
            "OFFSET_BITS": signed_bits(self.constants.offset),
            "SUM_BITS": self.sum_bits,
            "SHIFT": self.constants.shift,
        }

    @property
    def memories(self) -> Mapping[str, Memory]:
        """M and B."""
        return {
            "multipliers": Memory(words_of(self.constants.multiplier, self.place.pe), self.multiplier_bits),
            "offsets": Memory(words_of(self.constants.offset, self.place.pe), signed_bits(self.constants.offset)),
        }

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the codes, shape (words, pe)."""
        return self._apply(self.constants, streams)


@dataclass(frozen=True, slots=True, eq=False)
class RoundingShiftUnit(_Requantizer):
    """``(acc + B) / 2^k`` rounded to the nearest integer, within the codes, with B of each channel.

    Attributes:
        place: what it stands for.
        offset: B, shape (channels,).
        shift: k, at least 1.
        ties: which code a tie goes to.
    """

    module: ClassVar[str] = "rounding_shift"
    needs: ClassVar[tuple[str, ...]] = ("constant_rom.sv", "saturator.sv")

    place: Place
    offset: Codes
    shift: int
    ties: Ties

    def __post_init__(self) -> None:
        self.require(self.shift >= 1, f"shifts by at least 1, not {self.shift}")
        self._require_place(self.form)

    @property
    def form(self) -> Requantization:
        """The constants as the integer model has them: a tie that goes up is half of the divisor in the offset."""
        if self.ties == "up":
            half = 1 << (self.shift - 1)
            return MultiplyShift(np.ones_like(self.offset), self.offset + half, self.shift, word_bits=64)
        return RoundingShift(self.offset, self.shift, to_odd=self.ties == "odd")

    @property
    def sum_bits(self) -> int:
        """Width of the sums: holds that of every reachable accumulator, with half of the divisor and without."""
        half = 1 << (self.shift - 1)
        pairs = zip(self.place.reachable, self.offset.tolist(), strict=True)
        ends = [end + b for interval, b in pairs for end in (interval.low, interval.high)]
        exact = IntegerType.smallest_for(min(*ends, -1), max(ends) + half).bits
        return max(exact, signed_bits(self.offset), self.place.accumulators.bits, self.shift + 1)

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``rounding_shift.sv``."""
        return {
            **self._parameters(),
            "OFFSET_BITS": signed_bits(self.offset),
            "SUM_BITS": self.sum_bits,
            "SHIFT": self.shift,
            "TIES": TIES[self.ties],
        }

    @property
    def memories(self) -> Mapping[str, Memory]:
        """B."""
        return {"offsets": Memory(words_of(self.offset, self.place.pe), signed_bits(self.offset))}

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the codes, shape (words, pe)."""
        return self._apply(self.form, streams)


def requantizer_of(place: Place) -> MultiplyShiftUnit | RoundingShiftUnit:
    """Return the cheapest requantizer that equals the thresholds of *place* on every reachable accumulator.

    A shift that needs no multiplier comes first.

    Raises:
        StageError: no form of two constants equals them, or a stream is too narrow.
    """
    node = place.node
    rounding = solve_rounding_shift(node, place.reachable)
    if rounding is not None:
        return RoundingShiftUnit(place, rounding.offset, rounding.shift, "odd" if rounding.to_odd else "even")
    constants = solve_requantization(node, place.reachable)
    if not isinstance(constants, MultiplyShift):
        raise StageError(
            f"layer {node.name!r} has codes {node.lowest}..{node.highest} in steps of {node.step} that neither a "
            "multiplication and a shift nor a rounding shift gives; take a thresholding unit for it"
        )
    return _without_multiplier(place, constants) or MultiplyShiftUnit(place, constants)


def _without_multiplier(place: Place, constants: MultiplyShift) -> RoundingShiftUnit | None:
    """Return the shift that *constants* are if every multiplier is the same power of two 2^m, or None.

    ``(acc * 2^m + B) >> S`` is ``(acc + (B >> m)) >> (S - m)``, as both shifts round down.
    """
    first = int(constants.multiplier[0])
    power = first.bit_length() - 1
    shift = constants.shift - power
    if (constants.multiplier != 1 << max(power, 0)).any() or shift < 1:
        return None
    return RoundingShiftUnit(place, (constants.offset >> power) - (1 << (shift - 1)), shift, "up")
