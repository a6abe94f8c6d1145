"""Exact products of integers through the floating-point unit, if that is provably exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from bitproof.export.integer.types import EXACT_FLOAT32, EXACT_FLOAT64
from bitproof.pipeline import Codes


def largest_magnitude(codes: Codes) -> int:
    """Return the largest absolute value in *codes*, 0 if there is none."""
    return max(int(codes.max(initial=0)), -int(codes.min(initial=0)))


def exact_type(weights: Codes, codes: Codes) -> DTypeLike:
    """Return the fastest type in which ``weights @ codes`` is exact: binary32, binary64 (both BLAS), or int64.

    *weights* has its outputs first. No partial sum, in whatever order, exceeds the largest code times the sum of an
    output's magnitudes. An int64 sum is exact up to 2^63, which the ranges of a model prove.
    """
    rows = np.abs(weights).reshape(len(weights), -1).sum(axis=1)
    largest = largest_magnitude(codes) * int(rows.max(initial=0))
    if largest <= EXACT_FLOAT32:
        return np.float32
    return np.float64 if largest <= EXACT_FLOAT64 else np.int64
