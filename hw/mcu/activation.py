"""The requantization of one activation in C: its thresholds with bytes for codes, and the form that equals them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bitproof.export.integer import (
    IntegerType,
    MultiplyShift,
    Ranges,
    Requantization,
    RoundingShift,
    Threshold,
    solve_requantization,
)
from bitproof.hw.mcu.byte_codes import ByteCodes
from bitproof.hw.mcu.manifest import Method
from bitproof.pipeline import Codes

INT32_MAX = (1 << 31) - 1
INT64_MAX = (1 << 63) - 1
UPPER_HALF = 32
BYTES_OF_FORM: Mapping[Method, int] = {"multiply-shift": 8, "multiply-shift-64": 12, "rounding-shift": 4}
"""Constants of one channel in the forms whose size does not depend on the number of levels."""
WORD_BYTES = 4


@dataclass(frozen=True)
class PlannedActivation:
    """One requantization; its constants are solved when they are first asked for.

    Attributes:
        node: its thresholds, with bytes for codes.
        codes: what these bytes stand for.
        reachable: the accumulators of each channel.
    """

    node: Threshold
    codes: ByteCodes
    reachable: Ranges

    @classmethod
    def of(cls, node: Threshold, codes: ByteCodes, reachable: Ranges) -> PlannedActivation:
        """Return the plan of *node*, which gives *codes*; a step of several bytes is as many equal thresholds."""
        if not codes.as_they_are or node.step != codes.step:
            lowest, rows = (node.lowest - codes.lowest) // codes.step, node.thresholds
            rows = np.repeat(rows, node.step // codes.step, axis=1)
            kind = IntegerType.smallest_for(0, lowest + rows.shape[1])
            node = replace(node, thresholds=rows, lowest=lowest, step=1, output=kind)
        return cls(node, codes, reachable)

    @cached_property
    def constants(self) -> Requantization | None:
        """The form; None: only the thresholds themselves are exact."""
        found = solve_requantization(self.node, self.reachable)
        if isinstance(found, MultiplyShift) and found.word_bits == 64:
            return _by_upper_half(found, self.reachable)
        return found

    @property
    def method(self) -> Method:
        """How the codes are computed."""
        match self.constants:
            case MultiplyShift(word_bits=64):
                return "multiply-shift-64"
            case MultiplyShift():
                return "multiply-shift"
            case RoundingShift():
                return "rounding-shift"
            case _:
                return "thresholds"

    @property
    def kernel(self) -> str:
        """What the type and the function of that method are called in C, behind their prefixes."""
        return self.method.replace("-", "_")

    @property
    def table_bytes(self) -> int:
        """Size of the constants of all channels."""
        if self.constants is None:
            return WORD_BYTES * self.padded_thresholds.size
        return BYTES_OF_FORM[self.method] * self.node.channels

    @property
    def table_bounds(self) -> tuple[int, int]:
        """The fewest and the most bytes that the constants take, in any form."""
        each = (*BYTES_OF_FORM.values(), WORD_BYTES * padded_levels(self.node.levels))
        return self.node.channels * min(each), self.node.channels * max(each)

    @property
    def padded_thresholds(self) -> Codes:
        """The thresholds, shape (channels, 2**n - 1), with levels added that no accumulator reaches."""
        missing = padded_levels(self.node.levels) - self.node.levels
        return np.pad(self.node.thresholds, ((0, 0), (0, missing)), constant_values=INT32_MAX)


def _by_upper_half(constants: MultiplyShift, reachable: Ranges) -> MultiplyShift:
    """Return *constants* with a shift of at least 32, so that the upper half of a sum of 64 bits gives the code.

    ``(a * M + B) >> S`` is ``(a * M * 2^k + B * 2^k) >> (S + k)``, exactly. *constants* themselves are returned if the
    larger multipliers, or a sum of a reachable accumulator, do not fit their words.
    """
    more = UPPER_HALF - constants.shift
    if more <= 0:
        return constants
    multiplier, offset = constants.multiplier, constants.offset
    ends = [(reached.low, reached.high) for reached in reachable]
    sums = [a * int(m) + int(b) for pair, m, b in zip(ends, multiplier, offset, strict=True) for a in pair]
    words = (*(abs(total) for total in sums), *(abs(int(b)) for b in offset))
    if int(multiplier.max()) << more > INT32_MAX or max(words) << more > INT64_MAX:
        return constants
    return replace(constants, multiplier=multiplier << more, offset=offset << more, shift=UPPER_HALF)


def padded_levels(levels: int) -> int:
    """Return how many thresholds a channel of *levels* has in memory: the next 2**n - 1.

    >>> [padded_levels(levels) for levels in (1, 2, 3, 4, 15)]
    [1, 3, 3, 7, 15]
    """
    return (1 << levels.bit_length()) - 1
