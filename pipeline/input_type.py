"""The type of input codes that a user declares for a file whose input is not quantized, such as ``uint8*1/255``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_INPUT_BITS = 8
EXAMPLES = "uint8, int4, bipolar or, with the real value of one code, uint8*1/255"


@dataclass(frozen=True, slots=True)
class InputType:
    """Integer codes and what one of them stands for.

    Attributes:
        bits: of a code; 1 for bipolar ones.
        signed: codes may be negative.
        bipolar: the codes are -1 and 1.
        scale: real value of one code.
    """

    bits: int
    signed: bool
    bipolar: bool
    scale: Fraction


def parse_input_type(text: str) -> InputType:
    """Parse ``uintN``, ``intN`` or ``bipolar``, with ``*p/q`` behind it for another scale than 1.

    Raises:
        ValueError: the text is malformed, or a number is out of range.

    Example:
        >>> parse_input_type("uint8*1/255").scale
        Fraction(1, 255)
    """
    match = re.fullmatch(r"(?:(u?int)(\d{1,2})|bipolar)(?:\*(\d{1,9})(?:/(\d{1,9}))?)?", text.replace(" ", ""))
    if match is None:
        raise ValueError(f"{text!r} is not a type of input codes; write for example {EXAMPLES}")
    kind, bits, above, below = match.groups()
    if kind is not None and not 1 <= int(bits) <= MAX_INPUT_BITS:
        raise ValueError(f"{text!r} has {bits} bits; allowed are 1 to {MAX_INPUT_BITS}")
    if kind == "int" and int(bits) == 1:
        raise ValueError(
            f"{text!r}: signed codes of 1 bit are called 'bipolar' if they are -1 and 1; int2 has -1, 0, 1"
        )
    if above is not None and (not int(above) or (below is not None and not int(below))):
        raise ValueError(f"{text!r} has a scale of {above}/{below or 1}; it must be positive")
    scale = Fraction(int(above or 1), int(below or 1))
    return InputType(1 if kind is None else int(bits), kind != "uint", kind is None, scale)
