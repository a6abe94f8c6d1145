"""Biases of products: real numbers of the file, or integers in units of the accumulator if that is what they are.

Brevitas gives an integer bias the scale of the accumulator, ``float32(input scale * weight scale)``, since binary32
cannot hold the product of two binary32 numbers. The exported bias therefore looks a last bit away from a whole number
of accumulator units; it is meant as one, and integer hardware adds it as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from bitproof.export.lowering.known import Known, QuantizedConstant


def bias_offsets(bias: Known, reals: Sequence[Fraction], units: Sequence[Fraction]) -> list[Fraction]:
    """Return what *bias* adds to each channel.

    Args:
        bias: what is added.
        reals: its real numbers, one per channel or one for all.
        units: real value of one accumulator unit of each channel, the exact product of two binary32 scales.
    """
    channels = len(units)
    offsets = list(reals) * channels if len(reals) == 1 else list(reals)
    if not isinstance(bias, QuantizedConstant):
        return offsets
    scales = np.broadcast_to(bias.scales, bias.codes.shape).reshape(-1).tolist()
    codes = bias.codes.reshape(-1).tolist()
    repeats = channels // len(codes)
    pairs = zip(codes * repeats, scales * repeats, offsets, units, strict=True)
    return [code * abs(unit) if in_units(scale, unit) else real for code, scale, real, unit in pairs]


def in_units(scale: Fraction, unit: Fraction) -> bool:
    """Tell whether *scale* is the binary32 number next to the accumulator unit *unit*, whatever the sign of that."""
    # A product of two binary32 numbers is exact in binary64, so this rounds once, as binary32 multiplication does.
    return unit != 0 and scale == Fraction(float(np.float32(float(abs(unit)))))
