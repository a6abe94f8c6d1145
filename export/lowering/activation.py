"""Thresholds from exact activations: where a quantizer meets the chain of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from bitproof.export.integer import Activation, Chain, IntegerType, Quantization, Threshold, thresholds_of
from bitproof.export.lowering.effort import CURVED_LEVEL, LEVEL, QUANTIZED_CHANNEL
from bitproof.export.lowering.graph import Lowering, Span, UnsupportedError
from bitproof.export.lowering.known import Tensor


def quantize(
    lowering: Lowering,
    target: str,
    tensor: Tensor,
    kind: IntegerType,
    quantizations: Sequence[Quantization],
    scales: Sequence[Fraction],
) -> Tensor:
    """Append the thresholds of *quantizations*, one per channel or one for all, on *tensor*.

    Args:
        lowering: the walk.
        target: the tensor of the graph that holds the codes' real numbers.
        tensor: what is quantized.
        kind: type of the codes.
        quantizations: one per channel, or one for all.
        scales: real value of one code, one per channel, or one for all.
    """
    builder = lowering.builder
    channels = len(tensor.chains)
    levels = max(q.levels for q in quantizations)
    curved = any(chain.curve is not None for chain in tensor.chains)
    builder.effort.spend(
        channels * (QUANTIZED_CHANNEL + levels * (CURVED_LEVEL if curved else LEVEL)),
        f"{levels} thresholds for {channels} channels",
    )
    each = list(quantizations) * channels if len(quantizations) == 1 else list(quantizations)
    tensor, flipped = builder.rising(tensor)
    activations = [Activation(chain, q) for chain, q in zip(tensor.chains, each, strict=True)]
    reachable = builder.ranges[tensor.node]
    rows = [thresholds_of(a, interval) for a, interval in zip(activations, reachable, strict=True)]
    lowest, below = each[0].lowest, 0
    if any(q.lowest != lowest or q.levels != each[0].levels for q in each):
        raise UnsupportedError("channels with different zero points; supported: one for all")
    # Codes below what every channel's clamp (a ReLU) lets through cannot occur: they are left out.
    if all(chain.low is not None for chain in tensor.chains):
        below = min(*(a.clamp_levels[0] for a in activations), each[0].levels - 1)
    step = each[0].step
    thresholds = np.array([row[below:] for row in rows], dtype=np.int64)
    made = Threshold(builder.name(Threshold), thresholds, kind, lowest + step * below, flipped, step)
    builder.emit(made, tensor.node)
    lowering.activations[made.name] = [_without(a, below) for a in activations]
    origin = builder.accumulators(tensor.node)
    if origin is not None and target:
        lowering.spans[made.name] = Span(origin.tensor, target)
    by_scale: dict[Fraction, Chain] = {scale: Chain.of(scale) for scale in set(scales)}
    chains = tuple(by_scale[scale] for scale in (list(scales) * channels if len(scales) == 1 else scales))
    return replace(tensor, node=made.name, chains=chains, private=lowering.private(target))


@dataclass(frozen=True, slots=True)
class _Upper:
    """A quantization without its lowest *below* levels, which every number reaches."""

    whole: Quantization
    below: int

    @property
    def lowest(self) -> int:
        return self.whole.lowest + self.whole.step * self.below

    @property
    def step(self) -> int:
        return self.whole.step

    @property
    def levels(self) -> int:
        return self.whole.levels - self.below

    @property
    def offset(self) -> Fraction:
        return self.whole.offset

    def boundary(self, level: int) -> tuple[Fraction, bool]:
        return self.whole.boundary(level + self.below)


def _without(activation: Activation, below: int) -> Activation:
    """Return *activation* with codes that start *below* levels higher; its clamp must reach all of them."""
    return activation if not below else replace(activation, quantization=_Upper(activation.quantization, below))
