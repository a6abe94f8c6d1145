"""Resize by whole factors to the nearest element: each element of the spatial axes is repeated."""

from __future__ import annotations

from math import prod

import onnx

from bitproof.export.integer import Concat, Reshape, Shape, Transpose
from bitproof.export.lowering.codes import in_order
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes, has_input
from bitproof.export.lowering.known import Known, Tensor

REPEATING = {("asymmetric", "floor")} | {
    (mode, rounding)
    for mode in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
    for rounding in ("round_prefer_floor", "round_prefer_ceil")
}
"""Ways to find the nearest element that repeat each as often as the others, where the factor is whole.

Output ``j`` of ``f * n`` lies at ``j / f``, rounded down, in the first; in the others at ``(j + 1/2) / f - 1/2``, which
is less than 1/2 from ``floor(j / f)``, so that no rounding of ties matters.
"""
MAX_FACTOR = 64


def resize(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Resize: a reshape, as many copies as the factor, a transpose and a reshape back for each axis."""
    tensor = in_order(lowering, lowering.tensor(node, 0))
    shape = lowering.shape(tensor)
    given = attributes(node)
    ways = given.get("coordinate_transformation_mode", "half_pixel"), given.get("nearest_mode", "round_prefer_floor")
    if given.get("mode", "nearest") != "nearest" or ways not in REPEATING or given.get("antialias", 0):
        raise UnsupportedError(
            f"mode = {given.get('mode', 'nearest')!r}, {ways[0]!r}, {ways[1]!r}; supported: the nearest element by "
            "whole factors ('nearest', 'asymmetric', 'floor', as torch exports nn.Upsample)"
        )
    name = tensor.node
    factors = _factors(lowering, node, shape)
    for axis, factor in enumerate(factors):
        if factor > 1:
            name = _repeated(lowering, name, axis, factor)
    return tensor if name == tensor.node else Tensor(name, tensor.axes, tensor.chains, private=False)


def _factors(lowering: Lowering, node: onnx.NodeProto, shape: Shape) -> list[int]:
    """Return how often each element is repeated along each axis of a sample, 1 for the channels."""
    if "axes" in attributes(node):
        raise UnsupportedError("axes are given; supported: a factor or a size for every axis")
    if has_input(node, 2):
        numbers = lowering.reals(node, 2).reshape(-1).tolist()
    elif has_input(node, 3):
        sizes = lowering.integers(node, 3)
        numbers = [1, *(size / n if size % n else size // n for size, n in zip(sizes[1:], shape, strict=False))]
    else:
        raise UnsupportedError("has neither factors nor sizes")
    whole = all(number == int(number) and 1 <= number <= MAX_FACTOR for number in numbers)
    if len(numbers) != len(shape) + 1 or not whole or [int(number) for number in numbers[:2]] != [1, 1]:
        shown = [float(number) for number in numbers[1:]]
        raise UnsupportedError(
            f"factors {shown} for (N, {', '.join(map(str, shape))}); supported: whole ones from 1 to {MAX_FACTOR} "
            "along the spatial axes, 1 for batch and channels"
        )
    return [int(number) for number in numbers[1:]]


def _repeated(lowering: Lowering, name: str, axis: int, factor: int) -> str:
    """Append the nodes that repeat each element along *axis* of the value *name*; return the last one's name."""
    builder = lowering.builder
    shape = builder.shapes[name]
    outer, inner = prod(shape[: axis + 1]), prod(shape[axis + 1 :])
    flat = builder.emit(Reshape(builder.name(Reshape), shape, (1, outer, inner)), name)
    copies = builder.emit(Concat(builder.name(Concat)), *(flat,) * factor)
    turned = builder.emit(Transpose(builder.name(Transpose), (factor, outer, inner), (1, 0, 2)), copies)
    wide = (*shape[:axis], shape[axis] * factor, *shape[axis + 1 :])
    return builder.emit(Reshape(builder.name(Reshape), (outer, factor, inner), wide), turned)
