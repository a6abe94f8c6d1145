"""Bounds on partial sums: what a node carries on, and that none is left out."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest

from bitproof.export.integer import Conv, IntegerModel, IntegerType, Interval, Node, Pad, Ranges, Shape, Window
from bitproof.pipeline import Codes

POINT = Window((1, 1), (1, 1), (0, 0), (0, 0), (1, 1))
CONV = Conv("conv", np.array([[[[3]], [[-3]]]], dtype=np.int64), IntegerType(3, signed=True), POINT, 1)


def model_of(*nodes: Node) -> IntegerModel:
    return IntegerModel("net", IntegerType(4, signed=False), Fraction(1), (2, 2, 2), nodes, Fraction(1))


def test_padded_sums_keep_the_magnitude_of_their_terms_not_of_their_result() -> None:
    values = model_of(CONV, Pad("pad", (1, 1), (1, 1))).values
    sums = {name: value.sums for name, value in values.items()}
    assert sums["conv"].magnitudes == (90,)  # 3 * 15 + 3 * 15, though no sum exceeds 45
    assert sums["pad"] == sums["conv"]


class Doubled(Node):
    """An operation that adds, and that nobody has bounded."""

    op: ClassVar[str] = "doubled"

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def apply(self, *codes: Codes) -> Codes:
        return 2 * codes[0]

    def ranges(self, *inputs: Ranges) -> Ranges:
        return tuple(Interval(2 * i.low, 2 * i.high) for i in inputs[0])


def test_an_operation_without_a_bound_is_refused_not_guessed() -> None:
    with pytest.raises(TypeError, match=r"abstract class Doubled .*sums"):
        Doubled("twice")  # type: ignore[abstract]
