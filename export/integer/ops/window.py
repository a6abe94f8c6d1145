"""Sliding windows over one or two spatial axes: what convolution and pooling share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer.types import Shape
from bitproof.pipeline import Codes

Number = TypeVar("Number", bound=np.generic)

MAX_TAPS = 1 << 20
"""Of a kernel: so many elements of the data are visited for each output."""


@dataclass(frozen=True, slots=True)
class Window:
    """Where a kernel lies; every field has one entry per spatial axis.

    Attributes:
        kernel: taps.
        strides: distance between two outputs.
        begin: elements padded before the first.
        end: elements padded after the last.
        dilations: distance between two taps.
    """

    kernel: Shape
    strides: Shape
    begin: Shape
    end: Shape
    dilations: Shape

    def __post_init__(self) -> None:
        axes = len(self.kernel)
        if axes not in (1, 2):
            raise ValueError(f"a window has 1 or 2 spatial axes, not {axes}")
        for field, least in (("kernel", 1), ("strides", 1), ("begin", 0), ("end", 0), ("dilations", 1)):
            sizes = getattr(self, field)
            if len(sizes) != axes or min(sizes) < least:
                raise ValueError(f"{field} = {sizes}: needs {axes} sizes of at least {least}")
        if prod(self.kernel) > MAX_TAPS:
            raise ValueError(f"kernel = {self.kernel}: needs at most {MAX_TAPS} taps")

    @property
    def padded(self) -> bool:
        """Some window reaches beyond the data."""
        return any(self.begin) or any(self.end)

    def output_sizes(self, sizes: Shape) -> Shape:
        """Return how many windows fit along each axis of data of *sizes*; 0 or less if none does."""
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        whole = zip(sizes, self.begin, self.end, spans, self.strides, strict=True)
        return tuple((size + b + e - span) // stride + 1 for size, b, e, span, stride in whole)

    def meets_data(self, sizes: Shape) -> bool:
        """Tell whether every window holds at least one element of data of *sizes*: with dilations it may miss all."""
        axes = zip(sizes, self.output_sizes(sizes), self.kernel, self.strides, self.begin, self.dilations, strict=True)
        return all(
            (first := max(0, -(start // dilation))) < taps and start + first * dilation < size
            for size, count, taps, stride, begin, dilation in axes
            for start in range(-begin, count * stride - begin, stride)
        )

    def pad(self, codes: Codes, value: int) -> Codes:
        """Return *codes*, shape (N, C, *sizes), with *value* around."""
        if not self.padded:
            return codes
        around = [(0, 0), (0, 0), *zip(self.begin, self.end, strict=True)]
        padded: Codes = np.pad(codes, around, constant_values=value)
        return padded

    def taps(self, padded: NDArray[Number], counts: Shape) -> Iterator[tuple[Shape, NDArray[Number]]]:
        """Yield each tap with the elements of *padded* that it meets in all windows, a view, shape (N, C, *counts)."""
        for tap in product(*(range(k) for k in self.kernel)):
            cuts = tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, self.dilations, counts, self.strides, strict=True)
            )
            yield tap, padded[(slice(None), slice(None), *cuts)]
