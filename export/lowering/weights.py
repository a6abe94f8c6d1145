"""Weights and their quantizer: exact codes, and whether float32 division gives the same."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.integer import Rounding
from export.lowering.meaning import Rationals
from pipeline import Codes

UNDECIDED = 2.0**-30
"""A float64 quotient this close (relative) to where the rounding jumps is decided by exact division instead."""


def round_weights(
    values: NDArray[Any], scales: Rationals, zeros: Codes, rounding: Rounding, lowest: int, highest: int
) -> tuple[Codes, int]:
    """Return ``q = clip(round(values / scales + zeros), lowest, highest)``, and how many float32 gets otherwise.

    Args:
        values: float32, finite.
        scales: broadcasts to *values*, > 0.
        zeros: of that shape.
        rounding: applied to the exact quotient.
        lowest: smallest result; smaller ones saturate.
        highest: largest result.
    """
    every = np.broadcast_to(scales, values.shape)
    quotients = values.astype(np.float64) / every.astype(np.float64) + zeros
    jumps = _nearest_jump(quotients, rounding)
    undecided = np.abs(quotients - jumps) <= UNDECIDED * np.maximum(1.0, np.abs(quotients))
    codes = _round(quotients, rounding).astype(np.int64)
    for at in map(tuple, np.argwhere(undecided)):
        codes[at] = rounding.apply(Fraction(float(values[at])) / every[at] + int(zeros[at]))
    single = values.astype(np.float32) / every.astype(np.float64).astype(np.float32) + zeros.astype(np.float32)
    floats = np.clip(_round(single, rounding), lowest, highest).astype(np.int64)
    codes = np.clip(codes, lowest, highest)
    return codes, int((codes != floats).sum())


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
