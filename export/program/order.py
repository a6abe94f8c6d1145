"""The orders in which the codes of a value lie in memory: channels first, as the integer model counts them, or last."""

from __future__ import annotations

from math import prod
from typing import Literal

import numpy as np

from bitproof.export.integer import Shape
from bitproof.pipeline import Codes

Order = Literal["channels-first", "channels-last"]
"""``channels-first``: C order of the shape (C, ...); ``channels-last``: that of (..., C). Of a vector both
are the same, called channels-first."""

ORDERS: tuple[Order, Order] = ("channels-first", "channels-last")


def order_of(shape: Shape, preferred: Order) -> Order:
    """Return the order in which a value of *shape* is stored: *preferred* if it has more axes than the channels'."""
    return preferred if len(shape) > 1 else "channels-first"


def to_stored(codes: Codes, order: Order) -> Codes:
    """Return *codes*, shape (N, C, ...), as they are stored, shape (N, codes of a sample)."""
    placed = codes if order == "channels-first" else np.moveaxis(codes, 1, -1)
    return np.ascontiguousarray(placed).reshape(len(codes), -1)


def from_stored(stored: Codes, shape: Shape, order: Order) -> Codes:
    """Return the codes, shape (N, *shape), of *stored*, shape (N, codes of a sample)."""
    if order == "channels-first":
        return stored.reshape(len(stored), *shape)
    return np.ascontiguousarray(np.moveaxis(stored.reshape(len(stored), *shape[1:], shape[0]), -1, 1))


def places(shape: Shape, order: Order) -> Codes:
    """Return for each code of a value its place in memory, shape (1, *shape)."""
    return from_stored(np.arange(prod(shape), dtype=np.int64)[None], shape, order)
