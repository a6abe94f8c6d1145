"""The constants of quantizer nodes: scales, zero points, bit widths, roundings, and what is refused of them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx

from bitproof.export.integer import (
    Bipolar,
    IntegerType,
    Quantization,
    Quantizer,
    Rounding,
)
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes
from bitproof.export.lowering.known import Rationals
from bitproof.pipeline import Codes

MAX_WEIGHT_BITS = 32
MAX_ACTIVATION_BITS = 8
MAX_LEVELS = (1 << MAX_ACTIVATION_BITS) - 1


@dataclass(frozen=True, slots=True, eq=False)
class QuantConstants:
    """The constants of a Quant node; *scales* and *zero_points* are arrays that broadcast to its input."""

    scales: Rationals
    zero_points: Codes
    kind: IntegerType
    lowest: int  # of q, the zero point not subtracted
    highest: int
    rounding: Rounding
    bipolar: bool

    def at(self, scale: Fraction, zero_point: int) -> Quantization:
        """Return the quantization of a channel with this *scale* and *zero_point*."""
        if self.bipolar:
            return Bipolar(scale, zero_point)
        return Quantizer(scale, zero_point, self.lowest - zero_point, self.highest - zero_point, self.rounding)


def read_quant(lowering: Lowering, node: onnx.NodeProto) -> QuantConstants:
    """Return the constants of the Quant node *node*.

    Raises:
        UnsupportedError: with the value and what is supported.
    """
    given = attributes(node)
    scales = positive_scales(lowering, node, 1)
    zeros = lowering.reals(node, 2)
    if any(zero.denominator != 1 for zero in zeros.reshape(-1)):
        raise UnsupportedError("zero point is not a whole number; 0 would have no code")
    bits, signed = bit_width(lowering, node, 3, "bit width"), bool(given.get("signed", 1))
    kind = IntegerType(bits, signed=signed)
    lowest, highest = limits_of(kind, narrow=bool(given.get("narrow", 0)))
    bipolar = bits == 1 and signed
    if not bipolar and lowest >= highest:
        raise UnsupportedError(f"{kind} with narrow = 1 has the single code {lowest}; use more bits or narrow = 0")
    rounding = rounding_of(given.get("rounding_mode", "ROUND"))
    if bipolar:
        lowest, highest, kind = -1, 1, IntegerType(2, signed=True)
    return QuantConstants(scales, zeros.astype(np.int64), kind, lowest, highest, rounding, bipolar)


def limits_of(kind: IntegerType, *, narrow: bool) -> tuple[int, int]:
    """Return the smallest and the largest q: narrow leaves out the most negative one, or the largest unsigned one."""
    if kind.signed:
        return kind.minimum + narrow, kind.maximum
    return 0, kind.maximum - narrow


def rounding_of(mode: str) -> Rounding:
    """Return the rounding that QONNX calls *mode*.

    Raises:
        UnsupportedError: with the value and what is supported.
    """
    try:
        return Rounding.parse(mode)
    except ValueError as error:
        raise UnsupportedError(str(error)) from error


def positive_scales(lowering: Lowering, node: onnx.NodeProto, index: int) -> Rationals:
    """Return the scales at input *index* of *node*.

    Raises:
        UnsupportedError: with the value and what is supported.
    """
    scales = lowering.reals(node, index)
    if not scales.size or min(scales.reshape(-1)) <= 0:
        raise UnsupportedError("a scale is 0 or negative; it must be positive")
    return scales


def one_number(lowering: Lowering, node: onnx.NodeProto, index: int, what: str) -> Fraction:
    """Return the only number at input *index* of *node*; *what* it is, for the message.

    Raises:
        UnsupportedError: with the value and what is supported.
    """
    numbers = lowering.reals(node, index).reshape(-1)
    if len(numbers) != 1:
        raise UnsupportedError(f"{what} has {len(numbers)} values; supported: one")
    number: Fraction = numbers[0]
    return number


def whole_number(lowering: Lowering, node: onnx.NodeProto, index: int, what: str) -> int:
    """Return the only number at input *index* of *node*, which must be whole.

    Raises:
        UnsupportedError: with the value and what is supported.
    """
    number = one_number(lowering, node, index, what)
    if number.denominator != 1:
        raise UnsupportedError(f"{what} {float(number)}; supported: whole numbers")
    return int(number)


def bit_width(lowering: Lowering, node: onnx.NodeProto, index: int, what: str) -> int:
    """Return the bit width at input *index* of *node*.

    Raises:
        UnsupportedError: with the value and what is supported.
    """
    bits = whole_number(lowering, node, index, what)
    if not 1 <= bits <= MAX_WEIGHT_BITS:
        raise UnsupportedError(f"{what} {bits}; supported: 1 to {MAX_WEIGHT_BITS}")
    return bits
