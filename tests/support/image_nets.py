"""Small random integer networks on images for tests of hardware: a chain of layers, given as short words."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from bitproof.export.integer import (
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Ranges,
    Reshape,
    Shape,
    SumPool,
    Threshold,
    Window,
)
from bitproof.export.integer.analysis import analyse

UINT8 = IntegerType(8, signed=False)


def window(kernel: Shape, stride: int = 1, pad: int = 0, dilation: int = 1) -> Window:
    axes = len(kernel)
    return Window(kernel, (stride,) * axes, (pad,) * axes, (pad,) * axes, (dilation,) * axes)


@dataclass
class ImageNet:
    """A network that grows layer by layer, with weights of a narrow range and thresholds within what is reached."""

    shape: Shape
    seed: int = 0
    source: IntegerType = UINT8
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    @property
    def model(self) -> IntegerModel:
        """Return the network so far."""
        return IntegerModel("images", self.source, Fraction(1, 256), self.shape, tuple(self.nodes), Fraction(1))

    def conv(self, outputs: int, lie: Window, *, bits: int = 2, groups: int = 1) -> ImageNet:
        """Append a convolution."""
        channels = self._now()[0]
        largest = (1 << (bits - 1)) - 1
        weights = self.generator.integers(-largest, largest, (outputs, channels // groups, *lie.kernel), endpoint=True)
        self.nodes.append(Conv(self._name("conv"), weights, IntegerType(bits, signed=True), lie, groups))
        return self

    def dense(self, outputs: int, *, bits: int = 2) -> ImageNet:
        """Append a matrix product, behind a reshape if an image comes before it."""
        shape = self._now()
        if len(shape) > 1:
            self.nodes.append(Reshape(self._name("flatten"), shape, (int(np.prod(shape)),)))
        largest = (1 << (bits - 1)) - 1
        weights = self.generator.integers(-largest, largest, (outputs, int(np.prod(shape))), endpoint=True)
        self.nodes.append(MatMul(self._name("fc"), weights, IntegerType(bits, signed=True)))
        return self

    def act(self, levels: int = 15, lowest: int = 0) -> ImageNet:
        """Append thresholds spread over the middle of what each channel reaches; one is always met, one never."""
        ranges = self._ranges()
        low = np.array([interval.low for interval in ranges])[:, None]
        high = np.array([interval.high for interval in ranges])[:, None]
        drawn = self.generator.normal((low + high) / 2, (high - low) / 6 + 1, (len(ranges), levels)).astype(np.int64)
        thresholds = np.sort(np.clip(drawn, low, high + 1), axis=1)
        thresholds[0, 0] = ranges[0].low
        thresholds[-1, -1] = ranges[-1].high + 1
        kind = IntegerType.smallest_for(min(lowest, 0), lowest + levels)
        flipped = np.zeros(len(ranges), dtype=np.bool_)
        self.nodes.append(Threshold(self._name("act"), thresholds, kind, lowest, flipped))
        return self

    def max_pool(self, lie: Window) -> ImageNet:
        """Append the maximum of windows."""
        self.nodes.append(MaxPool(self._name("pool"), lie))
        return self

    def sum_pool(self, lie: Window) -> ImageNet:
        """Append the sum of windows."""
        self.nodes.append(SumPool(self._name("mean"), lie))
        return self

    def _name(self, kind: str) -> str:
        return f"{kind}{sum(node.name.startswith(kind) for node in self.nodes)}"

    def _now(self) -> Shape:
        return self.model.shapes()[self.nodes[-1].name] if self.nodes else self.shape

    def _ranges(self) -> Ranges:
        return analyse(self.model)[self.nodes[-1].name].ranges
