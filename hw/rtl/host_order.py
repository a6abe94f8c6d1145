"""The orders of codes outside and inside of hardware: streams are channels last, the integer model channels first."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bitproof.export.integer import Shape
from bitproof.export.program.order import from_stored, order_of, to_stored
from bitproof.pipeline import Codes
from bitproof.pipeline.record import Record


def to_stream(codes: Codes, shape: Shape) -> Codes:
    """Return the model's *codes*, shape (N, codes of a sample), of a value of *shape*, in the order of a stream."""
    return to_stored(codes.reshape(len(codes), *shape), order_of(shape, "channels-last"))


def from_stream(streamed: Codes, shape: Shape) -> Codes:
    """Return codes in the order of the model, shape (N, codes of a sample): what :func:`to_stream` undoes."""
    return from_stored(streamed, shape, order_of(shape, "channels-last")).reshape(len(streamed), -1)


class Columns(Record):
    """The order in which a unit takes the columns of the model's weights.

    The model counts them by channel, then by position; the stream by position, then by channel, or, with fewer *lanes*
    than channels, so within each group of lanes, one group after the other::

        model              c0p0 c0p1 c0p2 c1p0 c1p1 c1p2
        stream             c0p0 c1p0 c0p1 c1p1 c0p2 c1p2
        stream of 1 lane   c0p0 c0p1 c0p2 c1p0 c1p1 c1p2

    Attributes:
        channels: of the value that the product takes.
        positions: of one channel in what one product takes: taps of a kernel, or pixels of a flattened image.
        lanes: channels of a group; 0: all.
    """

    channels: int = Field(ge=1)
    positions: int = Field(ge=1)
    lanes: int = Field(0, ge=0)

    @property
    def streamed(self) -> Codes:
        """For each column of the stream the column of the model."""
        columns = np.arange(self.channels * self.positions, dtype=np.int64)
        by_group = columns.reshape(-1, self.lanes or self.channels, self.positions)
        return np.ascontiguousarray(by_group.transpose(0, 2, 1)).ravel()

    def place(self, column: int) -> int:
        """Return the column of the stream that is *column* of the model."""
        channel, position = divmod(column, self.positions)
        lanes = self.lanes or self.channels
        group, lane = divmod(channel, lanes)
        return (group * self.positions + position) * lanes + lane
