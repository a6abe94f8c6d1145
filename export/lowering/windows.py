"""The window of a kernel: strides, dilations and padding, the automatic kinds included."""

from __future__ import annotations

from dataclasses import replace

import onnx

from bitproof.export.integer import Window
from bitproof.export.lowering.graph import UnsupportedError, attributes


def window_of(node: onnx.NodeProto, kernel: tuple[int, ...], sizes: tuple[int, ...]) -> Window:
    """Return where the kernel of *node* lies on data of *sizes*; ``auto_pad`` and ``ceil_mode`` become padding.

    Raises:
        UnsupportedError: an attribute does not fit.
    """
    given = attributes(node)
    axes = len(kernel)
    strides = tuple(given.get("strides", (1,) * axes))
    dilations = tuple(given.get("dilations", (1,) * axes))
    pads = tuple(given.get("pads", (0,) * (2 * axes)))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=False)]
    if not len(strides) == len(dilations) == len(sizes) == axes or len(pads) != 2 * axes:
        raise UnsupportedError(f"kernel {kernel}, strides {strides}, dilations {dilations}, pads {pads} do not match")
    begin, end = pads[:axes], pads[axes:]
    auto = given.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        lacking = [(-(-n // s) - 1) * s + span - n for n, s, span in zip(sizes, strides, spans, strict=True)]
        if max(dilations) > 1 or min(lacking) < 0:
            raise UnsupportedError(
                f"auto_pad = {auto!r} of kernel {kernel} with strides {strides} and dilations {dilations} on {sizes}, "
                "where runtimes differ (dilations, or strides that step over data); give the pads as numbers"
            )
        less, more = tuple(n // 2 for n in lacking), tuple(n - n // 2 for n in lacking)
        begin, end = (less, more) if auto == "SAME_UPPER" else (more, less)
    elif auto == "VALID":
        begin, end = (0,) * axes, (0,) * axes
    elif auto not in ("NOTSET", ""):
        raise UnsupportedError(f"auto_pad = {auto!r}; supported: NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    try:
        window = Window(kernel, strides, tuple(begin), tuple(end), dilations)
    except ValueError as error:
        raise UnsupportedError(str(error)) from error
    return _rounded_up(window, sizes) if given.get("ceil_mode", 0) else window


def _rounded_up(window: Window, sizes: tuple[int, ...]) -> Window:
    """Return *window* with the padding at the end that one more, partly empty, output needs (ONNX ceil_mode)."""
    end = list(window.end)
    for axis, size in enumerate(sizes):
        span = window.dilations[axis] * (window.kernel[axis] - 1) + 1
        stride, begin = window.strides[axis], window.begin[axis]
        outputs = -(-(size + begin + window.end[axis] - span) // stride) + 1
        if (outputs - 1) * stride >= size + begin:  # the last window would begin in the padding: it is left out
            outputs -= 1
        end[axis] = max(window.end[axis], (outputs - 1) * stride + span - size - begin)
    return replace(window, end=tuple(end))
