"""Weights and their quantizer: the codes of binary32 division, and how many exact division would give otherwise."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import Rounding
from bitproof.export.lowering.known import Rationals
from bitproof.pipeline import Codes

UNDECIDED = 2.0**-30
"""A float64 quotient this close (relative) to where the rounding jumps is divided exactly instead."""


def round_weights(
    values: NDArray[Any], scales: Rationals, zeros: Codes, rounding: Rounding, lowest: int, highest: int
) -> tuple[Codes, int]:
    """Return ``q = clip(round(values / scales + zeros), lowest, highest)`` in binary32, and how many are not exact.

    Constants are quantized once, before any input, so their codes are those of the trained network: what binary32
    division, addition and rounding give, in this order, as torch and qonnx compute them. IEEE 754 gives them the same
    bits everywhere. Exact division may round a quotient next to a tie the other way; how often is the second result.

    Args:
        values: float32, finite.
        scales: of binary32, broadcasts to *values*, > 0.
        zeros: of that shape.
        rounding: applied to the binary32 quotient.
        lowest: smallest result; smaller ones saturate.
        highest: largest result.
    """
    codes = np.clip(_round(_divided(values, scales, zeros), rounding), lowest, highest).astype(np.int64)
    exact = _exact(values, scales, zeros, rounding)
    return codes, int((codes != np.clip(exact, lowest, highest)).sum())


def weight_signs(values: NDArray[Any], scales: Rationals, zeros: Codes) -> tuple[Codes, int]:
    """Return 1 if ``values / scales + zeros >= 0`` in binary32, else -1, and how many are not the exact ones.

    The arguments are those of :func:`round_weights`.
    """
    codes = np.where(_divided(values, scales, zeros) >= 0, 1, -1).astype(np.int64)
    exact = np.where(values >= 0, 1, -1)
    every = np.broadcast_to(scales, values.shape)
    for at in map(tuple, np.argwhere(zeros != 0)):  # elsewhere the sign of a weight is that of its quotient
        exact[at] = 1 if Fraction(float(values[at])) / every[at] + int(zeros[at]) >= 0 else -1
    return codes, int((codes != exact).sum())


def _divided(values: NDArray[Any], scales: Rationals, zeros: Codes) -> NDArray[np.float32]:
    every = np.broadcast_to(scales, values.shape).astype(np.float64).astype(np.float32)
    quotients: NDArray[np.float32] = values.astype(np.float32) / every + zeros.astype(np.float32)
    return quotients


def _exact(values: NDArray[Any], scales: Rationals, zeros: Codes, rounding: Rounding) -> Codes:
    """Return the rounded quotients of exact reals, before saturation."""
    every = np.broadcast_to(scales, values.shape)
    quotients = values.astype(np.float64) / every.astype(np.float64) + zeros
    jumps = _nearest_jump(quotients, rounding)
    undecided = np.abs(quotients - jumps) <= UNDECIDED * np.maximum(1.0, np.abs(quotients))
    codes = _round(quotients, rounding).astype(np.int64)
    for at in map(tuple, np.argwhere(undecided)):
        codes[at] = rounding.apply(Fraction(float(values[at])) / every[at] + int(zeros[at]))
    return codes


def _nearest_jump(numbers: NDArray[Any], rounding: Rounding) -> NDArray[Any]:
    """Return for each number the nearest one at which *rounding* goes to the next integer."""
    halves = rounding in (Rounding.ROUND, Rounding.HALF_UP, Rounding.HALF_DOWN)
    jumps: NDArray[Any] = np.floor(numbers) + 0.5 if halves else np.rint(numbers)
    return jumps


def _round(numbers: NDArray[Any], rounding: Rounding) -> NDArray[Any]:
    """Round floats as QONNX does; exact on each float."""
    rounded: NDArray[Any]
    match rounding:
        case Rounding.ROUND:
            rounded = np.rint(numbers)
        case Rounding.CEIL:
            rounded = np.ceil(numbers)
        case Rounding.FLOOR:
            rounded = np.floor(numbers)
        case Rounding.UP:
            rounded = np.sign(numbers) * np.ceil(np.abs(numbers))
        case Rounding.DOWN:
            rounded = np.trunc(numbers)
        case Rounding.HALF_UP:
            rounded = np.sign(numbers) * np.floor(np.abs(numbers) + 0.5)
        case Rounding.HALF_DOWN:
            rounded = np.sign(numbers) * np.ceil(np.abs(numbers) - 0.5)
    return rounded
