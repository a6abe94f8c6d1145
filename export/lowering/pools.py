"""Pooling nodes: MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, ReduceMean, QuantAvgPool2d."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import prod

import onnx

from bitproof.export.integer import Chain, IntegerType, MaxPool, Quantizer, Reshape, Rounding, SumPool, Window
from bitproof.export.lowering.activation import quantize
from bitproof.export.lowering.codes import clamped_codes, codes_of, in_order
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes, axis_of, has_input, require_only
from bitproof.export.lowering.known import Known, Tensor
from bitproof.export.lowering.windows import window_of

MEAN_ROUNDINGS = 2
"""Two divisions: by the height and by the width of a window."""


def max_pool(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower MaxPool: the largest accumulator, since every channel rises with it."""
    require_only(node, storage_order=0)
    if len([name for name in node.output if name]) > 1:
        raise UnsupportedError("also gives the indices; supported: the largest numbers alone")
    tensor = in_order(lowering, lowering.tensor(node, 0))
    kernel = tuple(attributes(node).get("kernel_shape", ()))
    return _max_pool(lowering, tensor, lambda sizes: window_of(node, kernel, sizes))


def global_max_pool(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower GlobalMaxPool."""
    tensor = in_order(lowering, lowering.tensor(node, 0))
    return _max_pool(lowering, tensor, _whole)


def _max_pool(lowering: Lowering, tensor: Tensor, window: Callable[[tuple[int, ...]], Window]) -> Tensor:
    sizes = _spatial(lowering, tensor)
    made = MaxPool(lowering.builder.name(MaxPool), window(sizes))
    rising, _ = lowering.builder.rising(tensor)
    lowering.builder.emit(made, rising.node)
    return replace(rising, node=made.name, private=False)


def average_pool(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower AveragePool whose windows all hold as many numbers: their sum, with the divisor in the scale."""
    tensor = in_order(lowering, lowering.tensor(node, 0))
    given = attributes(node)
    kernel = tuple(given.get("kernel_shape", ()))
    window = window_of(node, kernel, _spatial(lowering, tensor))
    if window.padded and not (given.get("count_include_pad", 0) and not given.get("ceil_mode", 0)):
        raise UnsupportedError(
            f"pads = {[*window.begin, *window.end]} that the mean does not count; supported: no padding, or "
            "count_include_pad = 1"
        )
    return _mean(lowering, tensor, window)


def global_average_pool(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower GlobalAveragePool."""
    tensor = in_order(lowering, lowering.tensor(node, 0))
    return _mean(lowering, tensor, _whole(_spatial(lowering, tensor)))


def reduce_mean(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower ReduceMean over all spatial axes."""
    tensor = in_order(lowering, lowering.tensor(node, 0))
    given = attributes(node)
    rank = len(tensor.axes) + 1
    listed = given.get("axes") or (lowering.integers(node, 1) if has_input(node, 1) else ())
    axes = sorted(axis_of(axis, rank) for axis in listed)
    if axes != list(range(2, rank)):
        raise UnsupportedError(f"axes = {list(listed)}; supported: all spatial axes, {list(range(2, rank))}")
    mean = _mean(lowering, tensor, _whole(_spatial(lowering, tensor)))
    if given.get("keepdims", 1):
        return mean
    builder = lowering.builder
    made = Reshape(builder.name(Reshape), builder.shapes[mean.node], (len(mean.chains),))
    builder.emit(made, mean.node)
    return Tensor(made.name, (0,), mean.chains, private=False)


def quant_avg_pool(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower QuantAvgPool2d: the sum of a window of integers, shifted right, which rounds down."""
    given = attributes(node)
    require_only(node, data_layout="NCHW")
    tensor, scales = codes_of(lowering, in_order(lowering, lowering.tensor(node, 0)))
    if any(scale.denominator != 1 for scale in scales):
        raise UnsupportedError("takes numbers that are no integers; QONNX defines it on integers alone")
    k, s = int(given["kernel"]), int(given["stride"])
    window = Window((k, k), (s, s), (0, 0), (0, 0), (1, 1))
    total = _sum(lowering, tensor, window)
    largest = (2 ** int(given["ibits"]) - 1) * k * k
    shift = max(largest.bit_length() - int(given["obits"]), 0)
    ranges = lowering.builder.ranges[total.node]
    ends = [int(scale) * end >> shift for scale, i in zip(scales, ranges, strict=True) for end in (i.low, i.high)]
    lowest, highest = min(ends), max(*ends, min(ends) + 1)  # two codes at least, even if but one is reached
    quantizer = Quantizer(Fraction(1 << shift), 0, lowest, highest, Rounding.FLOOR)
    kind = IntegerType.smallest_for(lowest, highest)
    return quantize(lowering, node.output[0], total, kind, [quantizer], [Fraction(1)])


def _whole(sizes: tuple[int, ...]) -> Window:
    ones, zeros = (1,) * len(sizes), (0,) * len(sizes)
    return Window(sizes, ones, zeros, zeros, ones)


def _spatial(lowering: Lowering, tensor: Tensor) -> tuple[int, ...]:
    sizes = lowering.shape(tensor)[1:]
    if len(sizes) not in (1, 2):
        raise UnsupportedError(f"{len(sizes)} spatial axes; supported: 1 and 2")
    return sizes


def _sum(lowering: Lowering, tensor: Tensor, window: Window) -> Tensor:
    made = SumPool(lowering.builder.name(SumPool), window)
    lowering.builder.emit(made, tensor.node)
    return replace(tensor, node=made.name, private=False)


def _mean(lowering: Lowering, tensor: Tensor, window: Window) -> Tensor:
    """Append the sum over *window*; the mean is linear, so it passes through scales and offsets."""
    if any(chain.low is not None or chain.high is not None or chain.curve is not None for chain in tensor.chains):
        tensor = clamped_codes(lowering, tensor)
    if window.padded and any(chain.intercept.sign() for chain in tensor.chains):
        tensor, _ = codes_of(lowering, tensor)
    total = _sum(lowering, tensor, window)
    count = prod(window.kernel)
    return total.mapped(lambda chain: _averaged(chain, count))


def _averaged(chain: Chain, count: int) -> Chain:
    """Return the mean of *chain* over *count* codes as a chain of their sum: the offset stays, the slope is divided.

    Floats add first and divide then, so that sums of powers of two are exact whatever the count.
    """
    if chain.slope.is_rational and chain.intercept.is_rational:
        return Chain.of(chain.slope.fraction(), chain.intercept.fraction() * count).times(Fraction(1, count))
    floats = None
    if chain.floats is not None:
        # Each number was rounded before the sum, so no sum is exact: a bias off the grid of the unit says so.
        off_grid = chain.floats.unit / 3
        floats = replace(chain.floats, bias=off_grid, roundings=chain.floats.roundings + MEAN_ROUNDINGS)
    return Chain(chain.slope * Fraction(1, count), chain.intercept, floats=floats)
