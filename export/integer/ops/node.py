"""The base of all operations of the integer model: meaning on codes, on shapes and on intervals, in one place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from bitproof.export.integer.types import Bounds, Interval, Ranges, Shape, Sums
from bitproof.pipeline import Codes


@dataclass(frozen=True, eq=False)
class Node(ABC):
    """One operation: a frozen dataclass whose fields are its constants.

    A subclass is the whole reference semantics of its operation. Where its codes come from is the model's business
    (:class:`bitproof.export.integer.ir.IntegerModel`), so that a node can be run, bounded and proven alone.

    Attributes:
        name: unique within the model; an identifier.
    """

    op: ClassVar[str]
    """Name of the operation on disk and in messages."""
    arity: ClassVar[int | None] = 1
    """How many values it takes; None: two or more."""

    adds: ClassVar[bool] = False
    """Whether its output may be larger than its inputs: its width is proven then."""

    name: str

    @property
    def steps(self) -> int:
        """How many multiplications or comparisons give one element of the output."""
        return 1

    @abstractmethod
    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of one output sample, given those of the inputs.

        Raises:
            ValueError: the node does not take values of these shapes.
        """

    @abstractmethod
    def apply(self, *codes: Codes) -> Codes:
        """Return the output, int64, shape (N, *output_shape), for *codes* of shape (N, *shape); exact."""

    @abstractmethod
    def ranges(self, *inputs: Ranges) -> Ranges:
        """Return an interval for each output channel that holds every value *inputs* can cause."""

    @abstractmethod
    def sums(self, *inputs: Bounds) -> Sums:
        """Return the sums behind the output, given what is known of the inputs."""

    def of_magnitudes(self) -> Self:
        """Return this with the magnitudes of its constants, for the sum of the magnitudes behind each output.

        It is given such sums of its inputs in the place of their codes.
        """
        return self

    def require(self, holds: bool, what: str) -> None:
        """Raise ValueError with the node's name and *what* unless *holds*."""
        if not holds:
            raise ValueError(f"{self.name!r} ({self.op}) {what}")


def require_int64(array: Codes, what: str, *, ndim: int | None = None) -> None:
    """Refuse an empty *array*, one of another type, or of another number of axes than *ndim* (None: any).

    Raises:
        ValueError: with *what* the array is.
    """
    if array.dtype != np.int64 or not array.size or (ndim is not None and array.ndim != ndim):
        axes = "" if ndim is None else f" of {ndim} axes"
        raise ValueError(f"{what} must be non-empty int64{axes}, not {array.dtype} {array.shape}")


def flat_ranges(ranges: Ranges, shape: Shape) -> Ranges:
    """Return the interval of every element, C order, of a sample of *shape* whose channels have *ranges*."""
    repeats = int(np.prod(shape[1:], dtype=np.int64)) if len(shape) > 1 else 1
    return tuple(interval for interval in ranges for _ in range(repeats))


def linear_ranges(rows: Codes, lows: list[int], highs: list[int]) -> Ranges:
    """Return the interval of each ``rows @ x``, *rows* (outputs, inputs), for x between *lows* and *highs*.

    The interval of a sum of independent terms is the sum of theirs (Moore, Interval Analysis, 1966); computed in
    unbounded Python integers.
    """
    positive, negative = np.maximum(rows, 0).astype(object), np.minimum(rows, 0).astype(object)
    low, high = np.array(lows, dtype=object), np.array(highs, dtype=object)
    smallest, largest = positive @ low + negative @ high, positive @ high + negative @ low
    return tuple(Interval(int(a), int(b)) for a, b in zip(smallest, largest, strict=True))
