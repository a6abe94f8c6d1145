"""Small networks that hold every layer of hardware between them, for simulations that are compiled once each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from integer_graphs import Builder, residual_network, window

from bitproof.export.integer import (
    INPUT,
    Add,
    Affine,
    Concat,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Reshape,
    Threshold,
    TopK,
    Window,
)
from bitproof.hw.finn.walk import hardware_of

SIGNED8 = IntegerType(8, signed=True)


def signs(build: Builder, source: str, outputs: int, place: Window) -> str:
    """Append a convolution with weights of -1 and 1."""
    shape = (outputs, build.values[source].shape[1], *place.kernel)
    weights = build.generator.choice([-1, 1], size=shape).astype(np.int64)
    return build.add(Conv(f"conv{len(build.nodes)}", weights, IntegerType(2, signed=True), place, 1), source)


def even_codes(build: Builder, source: str, lowest: int) -> str:
    """Append an activation of 255 thresholds that are evenly spaced: constants of two numbers equal them."""
    ranges = build.ranges[source]
    widest = max(interval.high - interval.low for interval in ranges)
    at = np.arange(1, 256) * widest // 256
    rows = np.stack([np.clip(interval.low + at, interval.low, interval.high + 1) for interval in ranges])
    kind = IntegerType.smallest_for(min(lowest, 0), lowest + 255)
    name = f"act{len(build.nodes)}"
    return build.add(Threshold(name, rows, kind, lowest, np.zeros(len(rows), dtype=np.bool_)), source)


def joined_network(seed: int = 0) -> IntegerModel:
    """Bipolar products, groups, codes of one bit, a frame, joins of three kinds, arithmetic, the largest four of six.

    The middle codes lie about a zero point and take 9 bits.
    """
    build = Builder((2, 5, 5), seed, SIGNED8)
    first = build.threshold(build.conv(INPUT, 4, window(2)), 1, lowest=-1, step=2)
    left = build.threshold(signs(build, first, 4, window(2)), 15, lowest=-8)
    right = build.threshold(build.conv(first, 4, window(2), 2), 1)
    pooled = build.add(MaxPool("max", window(3, stride=2, padding=1)), left)
    bits = build.threshold(build.conv(right, 2, window(2, stride=2, padding=1)), 3)
    joined = build.add(Concat("both"), pooled, bits)
    wide = even_codes(build, build.conv(joined, 4, window(1)), -37)
    other = build.threshold(build.conv(joined, 4, window(1)), 7)
    factors, offsets = np.array([3, -2, 1, 5]), np.array([60, 0, -90, 45])
    moved = build.add(Affine("rescale", factors, offsets), other)
    total = build.add(Add("sum"), wide, moved)
    hidden = build.threshold(total, 7, lowest=-4)
    shape = build.values[hidden].shape[1:]
    last = build.matmul(build.add(Reshape("flat", shape, (int(np.prod(shape)),)), hidden), 6)
    factors = np.array([2, 1, 3, -2, 1, 2])
    centre = np.rint(-(build.values[last] * factors).mean(axis=0)).astype(np.int64)  # every class is to win at times
    build.add(TopK("top", 6, 4), build.add(Affine("scores", factors, centre + 50), last))
    return build.model()


GRAPHS = {"residual": residual_network(), "joined": joined_network()}


def reconvergent_network() -> IntegerModel:
    """A convolution of padded windows beside a shortcut around it: the sum waits for rows of the image."""
    build = Builder((2, 6, 6), 1)
    build.add(Add("sum"), build.conv(INPUT, 2, window(3, padding=1)), INPUT)
    return build.model()


def renamed(model: IntegerModel, names: Mapping[str, str]) -> IntegerModel:
    """Return *model* with other names for some of its nodes."""
    nodes = tuple(replace(node, name=names.get(node.name, node.name)) for node, _ in model.wired())
    wiring = tuple(tuple(names.get(source, source) for source in sources) for _, sources in model.wired())
    return replace(model, nodes=nodes, wiring=wiring)


def clashing_network(model: IntegerModel) -> IntegerModel:
    """Return *model* with nodes that are called as FINN's layers and tensors of its other nodes would be."""
    kept = {node.name for node in model.nodes if isinstance(node, Conv | MatMul | Concat)}
    names = {node.name for node in model.nodes}
    derived = sorted(hardware_of(model).streams - names - {INPUT})
    wanted = [name for name in derived if name.startswith((f"{INPUT}.", *(f"{one}." for one in kept)))]
    wanted += [f"{name}.{suffix}" for name in sorted(kept) for suffix in ("parameter", "viewed")]
    others = [node.name for node in model.nodes if node.name not in kept]
    return renamed(model, dict(zip(others, wanted, strict=False)))


def binary_network(seed: int = 0) -> IntegerModel:
    """Bipolar codes and weights throughout, behind an input of 8 bits, in the manner of a small CNV."""
    build = Builder((3, 8, 8), seed, SIGNED8)
    value = build.threshold(signs(build, INPUT, 4, window(3)), 1, lowest=-1, step=2)
    value = build.threshold(signs(build, value, 4, window(3)), 1, lowest=-1, step=2)
    value = build.add(MaxPool("max", window(2, stride=2)), value)
    value = build.add(Reshape("flat", (4, 2, 2), (16,)), value)
    weights = build.generator.choice([-1, 1], size=(4, 16)).astype(np.int64)
    value = build.threshold(build.add(MatMul("fc0", weights, IntegerType(2, signed=True)), value), 1, lowest=-1, step=2)
    build.add(MatMul("fc1", weights[:3, :4], IntegerType(2, signed=True)), value)
    return build.model()
