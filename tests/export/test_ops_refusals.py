"""What an operation of the integer model cannot be is refused, with its name and what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from bitproof.export.integer import (
    Add,
    Affine,
    Concat,
    Conv,
    IntegerType,
    MatMul,
    MaxPool,
    Pad,
    Reshape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    Window,
)
from bitproof.pipeline import Codes

INT8 = IntegerType(8, signed=True)
WIDE = IntegerType(63, signed=True)
SEARCH = settings(max_examples=60, derandomize=True, database=None, deadline=None)


WINDOW = Window((2,), (1,), (0,), (0,), (1,))


def array(*values: int | list[int]) -> Codes:
    return np.array(values, dtype=np.int64)


ALL = slice(None)


def conv(weights: Codes, window: Window = WINDOW, kind: IntegerType = INT8, groups: int = 1) -> Conv:
    return Conv("c", weights, kind, window, groups)


def act(thresholds: Codes, *, kind: IntegerType = INT8, lowest: int = 0, flips: int = 1, step: int = 1) -> Threshold:
    return Threshold("a", thresholds, kind, lowest, np.zeros(flips, dtype=np.bool_), step)


ONES = np.ones((2, 1, 2), dtype=np.int64)
MISTAKES: dict[str, tuple[Any, str]] = {
    "weights of floats": (
        lambda: MatMul("m", np.ones((2, 2)), INT8),  # type: ignore[arg-type]
        "weights of 'm' must be non-empty int64 of 2 axes, not float64 (2, 2)",
    ),
    "no weights": (
        lambda: MatMul("m", np.ones((0, 2), dtype=np.int64), INT8),
        "weights of 'm' must be non-empty int64 of 2 axes, not int64 (0, 2)",
    ),
    "weights outside their type": (
        lambda: MatMul("m", array([128, -1]), INT8),
        "weights of 'm' span [-1, 128], outside int8",
    ),
    "matmul of an image": (
        lambda: MatMul("m", array([1, 2]), INT8).output_shape((2, 3)),
        "'m' (matmul) takes 2 channels and is given (2, 3)",
    ),
    "conv weights of another rank": (
        lambda: conv(ONES[0]),
        "weights of 'c' must be non-empty int64 of 3 axes, not int64 (1, 2)",
    ),
    "conv weights of another kernel": (
        lambda: conv(np.ones((1, 1, 3), dtype=np.int64)),
        f"'c' (conv) has weights (1, 1, 3), {WINDOW}",
    ),
    "conv groups": (lambda: conv(ONES, groups=3), "'c' (conv) cannot divide 2 outputs into 3 groups"),
    "conv without groups": (lambda: conv(ONES, groups=0), "'c' (conv) cannot divide 2 outputs into 0 groups"),
    "conv of other channels": (
        lambda: conv(ONES).output_shape((3, 5)),
        "'c' (conv) takes 1 channels and 1 spatial axes and is given (3, 5)",
    ),
    "conv of another rank": (
        lambda: conv(ONES).output_shape((1, 5, 5)),
        "'c' (conv) takes 1 channels and 1 spatial axes and is given (1, 5, 5)",
    ),
    "conv on too little": (lambda: conv(ONES).output_shape((1, 1)), "'c' (conv) has no window that fits into (1, 1)"),
    "pool on too little": (
        lambda: MaxPool("p", WINDOW).output_shape((1, 1)),
        "'p' (max-pool) has no window that fits into (1, 1)",
    ),
    "pool of another rank": (
        lambda: SumPool("p", WINDOW).output_shape((1, 4, 4)),
        "'p' (sum-pool) takes 1 spatial axes and is given (1, 4, 4)",
    ),
    "max pool that pads more than its kernel": (
        lambda: MaxPool("p", Window((2,), (1,), (2,), (0,), (1,))),
        f"'p' (max-pool) pads more than its kernel spans: {Window((2,), (1,), (2,), (0,), (1,))}",
    ),
    "max pool that meets no data": (
        lambda: MaxPool("p", Window((2,), (1,), (1,), (1,), (3,))).output_shape((1, 2)),
        "'p' (max-pool) has a window of padding alone on (1, 2)",
    ),
    "window of three axes": (
        lambda: Window(*[(1, 1, 1)] * 5),
        "a window has 1 or 2 spatial axes, not 3",
    ),
    "window without a stride": (
        lambda: Window((1, 1), (1, 0), (0, 0), (0, 0), (1, 1)),
        "strides = (1, 0): needs 2 sizes of at least 1",
    ),
    "window of other pads": (
        lambda: Window((1, 1), (1, 1), (0,), (0, 0), (1, 1)),
        "begin = (0,): needs 2 sizes of at least 0",
    ),
    "thresholds that fall": (lambda: act(array([1, 2, 1])), "thresholds of 'a', channel 0, do not ascend"),
    "codes outside their type": (
        lambda: act(array([1, 2, 3]), kind=IntegerType(2, signed=False), lowest=1),
        "'a' has codes 1..4, outside uint2",
    ),
    "a step of 0": (lambda: act(array([1]), step=0), "step of 'a' is 0; it must be positive"),
    "flips of other channels": (lambda: act(array([1]), flips=2), "flipped of 'a' must be 1 booleans"),
    "threshold of other channels": (
        lambda: act(array([1])).output_shape((2, 3)),
        "'a' (threshold) takes 1 channels and is given (2, 3)",
    ),
    "affine of unequal constants": (
        lambda: Affine("f", array(1, 2), array(1)),
        "'f' (affine) has another number of factors than of offsets",
    ),
    "affine of other channels": (
        lambda: Affine("f", array(1), array(1)).output_shape((2,)),
        "'f' (affine) takes 1 channels and is given (2,)",
    ),
    "add of other shapes": (
        lambda: Add("s").output_shape((2, 3), (2, 1)),
        "'s' (add) adds values of different shapes ((2, 3), (2, 1))",
    ),
    "concat of other sizes": (
        lambda: Concat("k").output_shape((2, 3), (1, 4)),
        "'k' (concat) joins values of different sizes ((2, 3), (1, 4))",
    ),
    "reshape to another size": (
        lambda: Reshape("r", (2, 3), (5,)),
        "'r' (reshape) cannot give (2, 3) the shape (5,)",
    ),
    "reshape to nothing": (lambda: Reshape("r", (2, 3), ()), "'r' (reshape) cannot give (2, 3) the shape ()"),
    "reshape of another shape": (
        lambda: Reshape("r", (2, 3), (6,)).output_shape((3, 2)),
        "'r' (reshape) takes values of shape (2, 3) and is given (3, 2)",
    ),
    "transpose of no permutation": (
        lambda: Transpose("t", (2, 3), (0, 0)),
        "'t' (transpose) has axes (0, 0), which do not permute those of (2, 3)",
    ),
    "transpose of another shape": (
        lambda: Transpose("t", (2, 3), (1, 0)).output_shape((3, 2)),
        "'t' (transpose) takes values of shape (2, 3) and is given (3, 2)",
    ),
    "pad of unequal sizes": (
        lambda: Pad("p", (1,), (1, 2)),
        "'p' (pad) pads (1,) before and (1, 2) after; needs equally many sizes of at least 0",
    ),
    "pad of nothing": (
        lambda: Pad("p", (), ()),
        "'p' (pad) pads () before and () after; needs equally many sizes of at least 0",
    ),
    "pad that cuts": (
        lambda: Pad("p", (-1,), (1,)),
        "'p' (pad) pads (-1,) before and (1,) after; needs equally many sizes of at least 0",
    ),
    "pad of another rank": (lambda: Pad("p", (1,), (1,)).output_shape((2,)), "'p' (pad) pads 1 axes and is given (2,)"),
    "top k of none": (lambda: TopK("x", 3, 0), "'x' (top-k) takes 0 of 3 codes"),
    "top k of too many": (lambda: TopK("x", 3, 4), "'x' (top-k) takes 4 of 3 codes"),
    "top k of an image": (
        lambda: TopK("x", 3, 1).output_shape((3, 2)),
        "'x' (top-k) takes 3 channels and is given (3, 2)",
    ),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_what_cannot_be_is_refused(name: str) -> None:
    make, message = MISTAKES[name]
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the whole message is compared
        make()
    assert str(caught.value) == message
