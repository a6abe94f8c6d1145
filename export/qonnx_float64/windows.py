"""Convolution and pooling in binary64 by windows, which ONNX's reference evaluates slowly or onnxruntime not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bitproof.export.qonnx_float64.quantized import Attributes, Reals

Arguments = Sequence[NDArray[Any] | None]


def convolve(source: Reals, weights: Reals, given: Attributes) -> Reals:
    """Return the cross-correlation of ONNX Conv, by one matrix product per group over all windows."""
    axes, groups, kernel = weights.ndim - 2, int(given.get("group", 1)), weights.shape[2:]
    windows = _windows(source, kernel, given, 0.0)
    rows, channels, *counts = windows.shape[: 2 + axes]
    positions = int(np.prod(counts))
    columns = windows.reshape(rows, groups, channels // groups, positions, -1)
    flat = columns.transpose(0, 1, 3, 2, 4).reshape(rows, groups, positions, -1)
    matrix = weights.reshape(groups, len(weights) // groups, -1)
    made = np.matmul(flat, matrix.transpose(0, 2, 1)[None])
    sums: Reals = made.transpose(0, 1, 3, 2).reshape(rows, len(weights), *counts)
    return sums


def _windows(source: Reals, kernel: Sequence[int], given: Attributes, filler: float) -> Reals:
    """Return all windows of *source* that a node of the attributes *given* has, shape (N, C, *counts, *kernel)."""
    axes = len(kernel)
    strides, dilations = (given.get(name, [1] * axes) for name in ("strides", "dilations"))
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    around = [(0, 0), (0, 0), *_padding(given, source.shape[2:], spans, strides)]
    padded = np.pad(source, around, constant_values=filler)
    views = sliding_window_view(padded, spans, axis=tuple(range(2, 2 + axes)))
    steps = tuple(slice(None, None, stride) for stride in strides)
    taps = tuple(slice(None, None, dilation) for dilation in dilations)
    chosen: Reals = views[(slice(None), slice(None), *steps, *taps)]
    return chosen


def _padding(
    given: Attributes, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return what is added before and behind each axis, as the ONNX operators define it."""
    axes, automatic = len(sizes), given.get("auto_pad", b"NOTSET").decode()
    pads = given.get("pads", [0] * 2 * axes) if automatic == "NOTSET" else [0] * 2 * axes
    found = []
    for size, span, stride, begin, end in zip(sizes, spans, strides, pads[:axes], pads[axes:], strict=True):
        if automatic.startswith("SAME"):
            total = max((-(-size // stride) - 1) * stride + span - size, 0)
            less = total // 2
            found.append((less, total - less) if automatic == "SAME_UPPER" else (total - less, less))
        elif given.get("ceil_mode", 0):
            count = -(-(size + begin + end - span) // stride) + 1
            count -= (count - 1) * stride >= size + begin  # no window begins in the padding behind
            found.append((begin, max((count - 1) * stride + span - size - begin, 0)))
        else:
            found.append((begin, end))
    return found


def conv(given: Attributes, arguments: Arguments) -> Reals:
    """Return Conv of real numbers."""
    source, weights, *bias = (a for a in arguments if a is not None)
    made = convolve(source, weights, given)
    return made + bias[0].reshape(-1, *(1,) * (weights.ndim - 2)) if bias else made


def average_pool(given: Attributes, arguments: Arguments) -> Reals | None:
    """Return the mean of each window, padding included, summed first and divided then; None if it is not counted."""
    (source,) = (a for a in arguments if a is not None)
    kernel = given["kernel_shape"]
    windows = _windows(source, kernel, given, np.nan)
    total: Reals = np.nan_to_num(windows, nan=0.0).sum(axis=tuple(range(2 + len(kernel), 2 + 2 * len(kernel))))
    is_padded = bool(np.isnan(windows).any())
    return None if is_padded and not given.get("count_include_pad", 0) else total / int(np.prod(kernel))


def mean_of_all(_given: Attributes, arguments: Arguments) -> Reals:
    """Return GlobalAveragePool: summed first and divided then."""
    (source,) = (a for a in arguments if a is not None)
    axes = tuple(range(2, source.ndim))
    total: Reals = source.sum(axis=axes, keepdims=True)
    return total / int(np.prod(source.shape[2:]))


def largest_of_all(_given: Attributes, arguments: Arguments) -> Reals:
    """Return GlobalMaxPool."""
    (source,) = (a for a in arguments if a is not None)
    largest: Reals = source.max(axis=tuple(range(2, source.ndim)), keepdims=True)
    return largest


def max_pool(given: Attributes, arguments: Arguments) -> Reals:
    """Return MaxPool, in which padding never wins."""
    (source,) = (a for a in arguments if a is not None)
    kernel = given["kernel_shape"]
    windows = _windows(source, kernel, given, -np.inf)
    largest: Reals = windows.max(axis=tuple(range(2 + len(kernel), 2 + 2 * len(kernel))))
    return largest


def quant_avg_pool(given: Attributes, arguments: Arguments) -> Reals:
    """Return QuantAvgPool2d of qonnx: the sum of each window of integers, shifted right, which rounds down."""
    (source,) = (a for a in arguments if a is not None)
    if given.get("data_layout", b"NCHW") != b"NCHW":
        raise NotImplementedError("channels last")
    k, s = int(given["kernel"]), int(given["stride"])
    total = _windows(source, (k, k), {"strides": (s, s)}, 0.0).sum(axis=(4, 5))
    accumulator_bits = ((2 ** int(given["ibits"]) - 1) * k * k).bit_length()
    shifted: Reals = np.floor(total / 2.0 ** max(accumulator_bits - int(given["obits"]), 0))
    return shifted
