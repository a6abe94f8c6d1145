"""Windows and pools of the QONNX file in binary64, for :mod:`export.qonnx_float64`: sums first, then one division."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Attributes = dict[str, Any]


def windows_of(
    source: Reals,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    filler: float,
) -> Reals:
    """Return all windows of *source*, shape (N, C, *counts, *kernel)."""
    axes = len(kernel)
    around = [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)]
    padded = np.pad(source, around, constant_values=filler)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    views = sliding_window_view(padded, spans, axis=tuple(range(2, 2 + axes)))
    steps = tuple(slice(None, None, stride) for stride in strides)
    taps = tuple(slice(None, None, dilation) for dilation in dilations)
    chosen: Reals = views[(slice(None), slice(None), *steps, *taps)]
    return chosen


def average_pool(given: Attributes, arguments: Sequence[NDArray[Any] | None]) -> Reals:
    """Return the mean of each window, padding included, summed first and divided then."""
    (source,) = (a for a in arguments if a is not None)
    kernel = given["kernel_shape"]
    axes = len(kernel)
    ones = [1] * axes
    windows = windows_of(
        source, kernel, given.get("strides", ones), given.get("dilations", ones), given.get("pads", [0] * 2 * axes), 0.0
    )
    total: Reals = windows.sum(axis=tuple(range(2 + axes, 2 + 2 * axes)))
    return total / int(np.prod(kernel))


def mean_of_all(_given: Attributes, arguments: Sequence[NDArray[Any] | None]) -> Reals:
    """Return the mean over all spatial axes, summed first and divided then."""
    (source,) = (a for a in arguments if a is not None)
    axes = tuple(range(2, source.ndim))
    total: Reals = source.sum(axis=axes, keepdims=True)
    return total / int(np.prod(source.shape[2:]))


def max_pool(given: Attributes, arguments: Sequence[NDArray[Any] | None]) -> Reals:
    """Return the largest of each window; padding never wins. ``ceil_mode`` adds a last window that reaches over."""
    (source,) = (a for a in arguments if a is not None)
    kernel = given["kernel_shape"]
    ones, axes = [1] * len(kernel), len(kernel)
    pads, strides = list(given.get("pads", [0] * 2 * axes)), given.get("strides", ones)
    dilations = given.get("dilations", ones)
    if given.get("ceil_mode", 0):
        for axis, (size, stride) in enumerate(zip(source.shape[2:], strides, strict=True)):
            span = dilations[axis] * (kernel[axis] - 1) + 1
            pads[axes + axis] += _missing(size + pads[axis], pads[axes + axis], span, stride)
    windows = windows_of(source, kernel, strides, dilations, pads, -np.inf)
    largest: Reals = windows.max(axis=tuple(range(2 + axes, 2 + 2 * axes)))
    return largest


def _missing(begun: int, end: int, span: int, stride: int) -> int:
    """Return how many elements a last window lacks that begins before *begun*, where the data ends, and reaches over.

    *end* elements of padding are there already.
    """
    start = (begun + end - span) // stride * stride
    reaches_over = start + span < begun + end and start + stride < begun
    return start + stride + span - (begun + end) if reaches_over else 0


def quant_avg_pool(given: Attributes, arguments: Sequence[NDArray[Any] | None]) -> Reals:
    """Sum the integers of each window of images, channels first, and shift them right, which rounds down."""
    (source,) = (a for a in arguments if a is not None)
    kernel, strides = (given["kernel"],) * 2, (given["stride"],) * 2
    total = np.rint(windows_of(source, kernel, strides, (1, 1), (0, 0, 0, 0), 0.0).sum(axis=(4, 5)))
    largest = ((1 << given["ibits"]) - 1) * given["kernel"] ** 2
    shifted: Reals = np.floor(total / 2.0 ** max(0, largest.bit_length() - given["obits"]))
    return shifted
