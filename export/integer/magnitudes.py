"""How large the partial sums of a value may become, whatever their order: what float32 evaluation of it depends on."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from export.integer.ir import INPUT, IntegerModel
from export.integer.ops import (
    Add,
    Affine,
    Concat,
    Conv,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
)
from export.integer.ranges import propagate
from export.integer.types import Ranges


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums behind one value, by channel.

    Attributes:
        magnitudes: a bound on each channel's sum of the magnitudes of its terms, in its codes' unit.
        terms: how many terms are added at most.
    """

    magnitudes: tuple[int, ...]
    terms: int


def sums_of(model: IntegerModel) -> dict[str, Sums]:
    """Return the sums behind the output of every node, by its name, ``input`` included."""
    ranges = propagate(model)
    sums = {INPUT: _single(ranges[INPUT])}
    for node, sources in model.wired():
        sums[node.name] = _behind(node, [sums[source] for source in sources], [ranges[s] for s in sources], ranges)
    return sums


def _single(ranges: Ranges) -> Sums:
    return Sums(tuple(interval.magnitude for interval in ranges), 1)


def _behind(node: Node, sources: list[Sums], inputs: list[Ranges], ranges: dict[str, Ranges]) -> Sums:
    """A product or a threshold starts anew from codes; everything else carries its sums on."""
    first = sources[0]
    if isinstance(node, MatMul):
        codes = np.array([interval.magnitude for interval in inputs[0]], dtype=object)
        return Sums(tuple(int(m) for m in np.abs(node.weights).astype(object) @ codes), node.inputs)
    if isinstance(node, Conv):
        return _convolved(node, inputs[0])
    if isinstance(node, SumPool):
        taps = prod(node.window.kernel)
        return Sums(tuple(taps * magnitude for magnitude in first.magnitudes), taps * first.terms)
    if isinstance(node, Add):
        pairs = zip(*(source.magnitudes for source in sources), strict=True)
        return Sums(tuple(a + b for a, b in pairs), sum(source.terms for source in sources))
    if isinstance(node, Affine):
        constants = zip(node.factors.tolist(), node.offsets.tolist(), first.magnitudes, strict=True)
        return Sums(tuple(abs(f) * m + abs(o) for f, o, m in constants), first.terms + 1)
    if isinstance(node, Concat):
        return Sums(tuple(m for source in sources for m in source.magnitudes), max(source.terms for source in sources))
    if isinstance(node, MaxPool | Pad):
        return first
    if isinstance(node, Reshape | Transpose):
        return Sums((max(first.magnitudes),) * len(ranges[node.name]), first.terms)
    if isinstance(node, Threshold | TopK):
        return _single(ranges[node.name])
    raise TypeError(f"{node.name!r}: how large the partial sums of {node.op} may become is not known here")


def _convolved(node: Conv, codes: Ranges) -> Sums:
    members, taps = int(node.weights.shape[1]), prod(node.window.kernel)
    each = np.abs(node.weights).reshape(node.groups, -1, members, taps).sum(axis=3).astype(object)
    seen = np.array([interval.magnitude for interval in codes], dtype=object).reshape(node.groups, members)
    magnitudes = [int(m) for group, source in zip(each, seen, strict=True) for m in group @ source]
    return Sums(tuple(magnitudes), members * taps)
