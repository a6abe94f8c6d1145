"""Integer models with branches, windows and moved codes, built node by node with thresholds that their codes meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from bitproof.export.integer import (
    INPUT,
    Add,
    Affine,
    Concat,
    Conv,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Ranges,
    Reshape,
    SumPool,
    Threshold,
    Transpose,
    Window,
)
from bitproof.pipeline import Codes

TERNARY = IntegerType(2, signed=True)
UINT3 = IntegerType(3, signed=False)


def window(kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, axes: int = 2) -> Window:
    """Return the same sizes along all *axes*."""
    sizes = ((size,) * axes for size in (kernel, stride, padding, padding, dilation))
    return Window(*sizes)


@dataclass
class Builder:
    """Adds nodes to a graph and runs random codes through them, so that thresholds lie where the sums are.

    Weights are -1, 0 and 1; with *signs*, -1 and 1.
    """

    shape: tuple[int, ...]
    seed: int = 0
    input: IntegerType = UINT3
    signs: bool = False
    nodes: list[Node] = field(default_factory=list)
    wiring: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)
        low, high = self.input.minimum, self.input.maximum
        self.ranges: dict[str, Ranges] = {INPUT: (Interval(low, high),) * self.shape[0]}
        self.values = {INPUT: self.generator.integers(low, high, (64, *self.shape), endpoint=True)}

    def add(self, node: Node, *sources: str) -> str:
        """Add *node*, which takes *sources*, and return its name."""
        self.nodes.append(node)
        self.wiring.append(sources)
        self.values[node.name] = node.apply(*(self.values[source] for source in sources))
        self.ranges[node.name] = node.ranges(*(self.ranges[source] for source in sources))
        return node.name

    def conv(self, source: str, outputs: int, place: Window, groups: int = 1) -> str:
        """Add a convolution."""
        members = self.values[source].shape[1] // groups
        weights = self._weights((outputs, members, *place.kernel))
        weights.reshape(outputs, -1)[:, 0] = 1
        return self.add(Conv(f"conv{len(self.nodes)}", weights, TERNARY, place, groups), source)

    def matmul(self, source: str, outputs: int) -> str:
        """Add a matrix product."""
        weights = self._weights((outputs, self.values[source].shape[1]))
        weights[:, 0] = 1
        return self.add(MatMul(f"fc{len(self.nodes)}", weights, TERNARY), source)

    def _weights(self, shape: tuple[int, ...]) -> Codes:
        if self.signs:
            return 2 * self.generator.integers(0, 1, shape, endpoint=True) - 1
        return self.generator.integers(-1, 1, shape, endpoint=True)

    def threshold(self, source: str, levels: int = 3, *, lowest: int = 0, step: int = 1) -> str:
        """Add an activation whose thresholds are evenly spaced over the accumulators of each channel."""
        accumulators = np.moveaxis(self.values[source], 1, 0).reshape(self.values[source].shape[1], -1)
        middle, deviation = accumulators.mean(axis=1), np.maximum(1.0, accumulators.std(axis=1))
        place = 1.5 * (np.arange(levels) - (levels - 1) / 2) / max(1, levels - 1) * 2
        low, high = (np.array([[getattr(r, end)] for r in self.ranges[source]]) for end in ("low", "high"))
        thresholds = np.clip(np.rint(middle[:, None] + deviation[:, None] * place).astype(np.int64), low, high + 1)
        kind = IntegerType.smallest_for(min(0, lowest), lowest + step * levels)
        flipped = np.zeros(len(middle), dtype=np.bool_)
        name = f"act{len(self.nodes)}"
        return self.add(Threshold(name, thresholds, kind, lowest, flipped, step), source)

    def model(self, output_scale: Fraction = Fraction(1, 4)) -> IntegerModel:
        """Return what was built; the last node makes the output."""
        scale = Fraction(1, 1 << self.input.bits)
        nodes, wiring = tuple(self.nodes), tuple(self.wiring)
        return IntegerModel("graph", self.input, scale, self.shape, nodes, output_scale, wiring)


def residual_network(seed: int = 0) -> IntegerModel:
    """A stem, a block beside a shortcut, a strided depthwise layer, a mean, a classifier of 4 classes with a bias."""
    build = Builder((2, 6, 6), seed)
    stem = build.threshold(build.conv(INPUT, 6, window(3, padding=1)))
    branch = build.threshold(build.conv(stem, 6, window(3, padding=1)))
    branch = build.threshold(build.conv(branch, 6, window(3, padding=1)), 7, lowest=-4)
    shortcut = build.threshold(stem, 7, lowest=-4)
    total = build.threshold(build.add(Add("sum"), branch, shortcut))
    depth = build.threshold(build.conv(total, 6, window(3, stride=2, padding=1), groups=6))
    mean = build.threshold(build.add(SumPool("mean", window(3)), depth), 7)
    outputs = build.matmul(build.add(Reshape("flat", (6, 1, 1), (6,)), mean), 4)
    centre = np.rint(-build.values[outputs].mean(axis=0)).astype(np.int64)  # all classes are to occur
    build.add(Affine.bias("centre", centre), outputs)
    return build.model()


def every_operation(seed: int = 0) -> IntegerModel:
    """A graph of 4 classes that holds every operation with a gradient, bipolar codes among them."""
    build = Builder((2, 5, 5), seed)
    padded = build.add(Pad("pad", (1, 0), (0, 1)), INPUT)
    first = build.threshold(build.conv(padded, 4, window(2, stride=1, dilation=2), groups=2))
    turned = build.add(Transpose("turn", (4, 4, 4), (0, 2, 1)), first)
    pooled = build.add(MaxPool("max", window(2, stride=2, padding=1)), turned)
    signs = build.threshold(build.conv(turned, 3, window(2, stride=2, padding=1)), 1, lowest=-1, step=2)
    factors, offsets = np.array([2, 1, 3]), np.array([1, 0, -2])
    moved = build.add(Affine("rescale", factors, offsets), signs)
    joined = build.add(Concat("join"), pooled, moved)
    summed = build.add(Add("sum"), joined, joined)
    hidden = build.threshold(build.add(SumPool("mean", window(2, stride=1)), summed), 7)
    build.matmul(build.add(Reshape("flat", (7, 2, 2), (28,)), hidden), 4)
    return build.model()


def graph_codes(model: IntegerModel, count: int, seed: int = 0) -> Codes:
    """Input codes, shape (*count*, inputs), of which the first are all at the minimum, the second at the maximum."""
    low, high = model.input.minimum, model.input.maximum
    codes = np.random.default_rng(seed).integers(low, high, (count, model.inputs), endpoint=True)
    codes[0], codes[1] = low, high
    return codes


def pooled_groups(seed: int = 0) -> IntegerModel:
    """Groups, a depthwise layer with two outputs a channel, overlapping and padded pools of sums, bipolar codes."""
    build = Builder((4, 7, 6), seed)
    first = build.add(MaxPool("max0", window(3, stride=2, padding=1)), build.conv(INPUT, 6, window(3, padding=1), 2))
    first = build.threshold(first)
    second = build.threshold(build.conv(first, 12, window(2, padding=1), 6), 1, lowest=-1, step=2)
    third = build.threshold(build.conv(second, 3, window(3, padding=2, dilation=2)), 7, lowest=-4)
    mean = build.threshold(build.add(SumPool("mean", window(2, padding=1, stride=2)), third), 15)
    joined = build.threshold(build.add(Concat("join"), mean, build.threshold(mean, 3, lowest=-3)))
    build.threshold(build.add(MaxPool("max1", window(2)), joined), 1)
    return build.model()


def on_a_line(seed: int = 0) -> IntegerModel:
    """A sequence: convolutions with a stride and a dilation, a pool, a sum of numbers that nothing quantized."""
    build = Builder((3, 19), seed)
    padded = build.add(Pad("pad", (2,), (1,)), INPUT)
    first = build.threshold(build.conv(padded, 5, window(4, stride=2, axes=1)))
    branch = build.conv(first, 5, window(3, padding=2, dilation=2, axes=1))
    other = build.conv(first, 5, window(1, axes=1))
    total = build.threshold(build.add(Add("sum"), branch, other))
    build.conv(build.add(MaxPool("max", window(2, stride=2, axes=1)), total), 2, window(2, axes=1))
    return build.model()


def one_bit(seed: int = 0) -> IntegerModel:
    """Weights of -1 and 1 in every layer, of 8-bit codes, bipolar ones, these padded, and 4-bit ones."""
    build = Builder((3, 8, 8), seed, IntegerType(8, signed=False), signs=True)
    first = build.threshold(build.conv(INPUT, 64, window(3, padding=1)), 1, lowest=-1, step=2)
    second = build.threshold(build.conv(first, 18, window(3)), 1, lowest=-1, step=2)
    third = build.threshold(build.conv(second, 12, window(3, padding=1), groups=2), 15)
    depth = build.threshold(build.conv(third, 12, window(3), groups=12), 100)
    pooled = build.add(MaxPool("max", window(2, stride=2)), depth)
    build.matmul(build.add(Reshape("flat", (12, 2, 2), (48,)), pooled), 5)
    return build.model()
