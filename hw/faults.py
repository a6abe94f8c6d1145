"""Fault models of a chip: what manufacturing, ageing and narrow arithmetic do to a deployed integer model.

A chip is drawn once and keeps its faults: a weight that is stuck stays stuck when the chip is programmed again, and a
comparator keeps its offset whatever threshold it is given. Nothing here is known to the training or to a calibrator;
they see what the executor gives back.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import (
    IntegerModel,
    IntegerType,
    Node,
    Product,
    Ranges,
    Threshold,
    accumulator_type,
    run,
)
from bitproof.pipeline import Codes, ConfigError, InputError

WRAP_BITS = (7, 12)
EXAMPLE = "stuck=0.05,offset=0.5,flip=0.001,wrap=9"
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """How faulty a chip is.

    Attributes:
        stuck: fraction of all weights stuck at plus or minus the largest of their type, a fair coin each; 0 to 1.
        offset: standard deviation of the comparator offset of a channel, in activation levels: times the mean distance
            of the channel's thresholds, rounded to integers; 0 to 16. All positions of an image share the comparators.
        flip: probability that a bit of a stored threshold is inverted; 0 to 1.
        wrap: bits of an accumulator that wraps in two's complement, 7 to 12; None: wide enough for every sum. It is
            that of everything that adds: products, convolutions, sums of branches and of windows, scaled and biased
            codes.
    """

    stuck: float = 0.0
    offset: float = 0.0
    flip: float = 0.0
    wrap: int | None = None

    def __post_init__(self) -> None:
        for name, largest in (("stuck", 1.0), ("offset", 16.0), ("flip", 1.0)):
            value = getattr(self, name)
            if not 0.0 <= value <= largest:
                raise ConfigError(f"fault {name} = {value} is not possible; allowed: 0 to {largest:g}")
        if self.wrap is not None and not WRAP_BITS[0] <= self.wrap <= WRAP_BITS[1]:
            raise ConfigError(f"fault wrap = {self.wrap} is not possible; allowed: {WRAP_BITS[0]} to {WRAP_BITS[1]}")

    @classmethod
    def parse(cls, text: str) -> FaultSpec:
        """Read ``key=value`` pairs, separated by commas; a key that is left out means no such fault.

        >>> FaultSpec.parse("stuck=0.05,wrap=9")
        FaultSpec(stuck=0.05, offset=0.0, flip=0.0, wrap=9)

        Raises:
            ConfigError: a pair is malformed, its key unknown or repeated, or its value out of range.
        """
        values: dict[str, float | int] = {}
        known = [field.name for field in fields(cls)]
        for pair in filter(None, (part.strip() for part in text.split(","))):
            key, _, value = (part.strip() for part in pair.partition("="))
            if key not in known or key in values:
                why = "given twice" if key in values else "unknown"
                raise ConfigError(f"faults {text!r}: {key!r} is {why}; write for example {EXAMPLE}")
            try:
                values[key] = int(value) if key == "wrap" else float(value)
            except ValueError as error:
                kind = "a whole number" if key == "wrap" else "a number"
                raise ConfigError(f"faults {text!r}: {key} = {value!r} is not {kind}; for example {EXAMPLE}") from error
        return cls(**values)  # type: ignore[arg-type]  # the keys are the fields, each with its own type

    def __str__(self) -> str:
        """The spec that :meth:`parse` reads; empty if there is no fault."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ",".join(f"{name}={value!r}" for name, value in pairs if value)

    def draw(self, model: IntegerModel, seed: int) -> Chip:
        """Return the chip number *seed* for networks of the shape of *model*; the same numbers give the same chip."""
        stored = [(node, model.values[model.sources(node.name)[0]].ranges) for node in model.nodes_of(Threshold)]
        streams = np.random.SeedSequence(seed).spawn(3)
        weights, offsets, flips = (np.random.default_rng(stream) for stream in streams)
        return Chip(
            stuck=tuple(_draw_stuck(node, self.stuck, weights) for node in model.products),
            offsets=tuple(_draw_offsets(node, self.offset, offsets) for node in model.nodes_of(Threshold)),
            flips=tuple(_draw_flips(node, reachable, self.flip, flips) for node, reachable in stored),
            wrap=self.wrap,
        )


@dataclass(frozen=True, slots=True, eq=False)
class StuckWeights:
    """*mask*, of the shape of the weights, is True if the weight is stuck at *values*, of that shape."""

    mask: Mask
    values: Codes


@dataclass(frozen=True, slots=True, eq=False)
class FlippedBits:
    """*inverted*, shape (channels, levels): the bits of each stored threshold that read inverted, *width_bits* wide."""

    inverted: Codes
    width_bits: int


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """The faults of one chip, in the order of execution; hidden from whatever calibrates it.

    Attributes:
        stuck: of every convolution and matrix product.
        offsets: of every activation: what its comparators add to a threshold, int64, shape (channels,).
        flips: of every activation.
        wrap: bits at which every accumulator wraps; None: none does.
    """

    stuck: tuple[StuckWeights, ...]
    offsets: tuple[Codes, ...]
    flips: tuple[FlippedBits, ...]
    wrap: int | None

    def program(self, model: IntegerModel) -> FaultyExecutor:
        """Load *model* into the chip.

        Raises:
            InputError: the chip was made for another shape.
        """
        return FaultyExecutor(self.damaged(model), self.wrap)

    def damaged(self, model: IntegerModel) -> IntegerModel:
        """Return what the chip holds after *model* was loaded, but for the wrapping of its accumulators.

        Raises:
            InputError: the chip was made for another shape.
        """
        taken = [weights.mask.shape for weights in self.stuck], [bits.inverted.shape for bits in self.flips]
        given = (
            [node.weights.shape for node in model.products],
            [node.thresholds.shape for node in model.nodes_of(Threshold)],
        )
        if taken != given:
            raise InputError(f"the chip has weights and thresholds of shapes {taken}; {model.name!r} has {given}")
        stuck, comparators = iter(self.stuck), iter(zip(self.offsets, self.flips, strict=True))
        nodes: list[Node] = []
        for node in model.nodes:
            if isinstance(node, Product):
                nodes.append(_with_stuck(node, next(stuck)))
            elif isinstance(node, Threshold):
                nodes.append(_with_comparators(node, *next(comparators)))
            else:
                nodes.append(node)
        return replace(model, nodes=tuple(nodes))


@dataclass(frozen=True, slots=True, eq=False)
class FaultyExecutor:
    """Runs what a chip holds: *model* is damaged already, *wrap* the bits of its accumulators."""

    model: IntegerModel
    wrap: int | None
    name: str = "integer"

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes, shape (N, outputs)."""
        return run(self.model, codes, after=None if self.wrap is None else self._wrapped)

    def _wrapped(self, node: Node, made: Codes) -> Codes:
        return wrap_twos_complement(made, bits=self.wrap) if self.wrap is not None and node.adds else made


def wrap_twos_complement(accumulators: Codes, *, bits: int) -> Codes:
    """Return *accumulators* modulo 2^bits, in [-2^(bits-1), 2^(bits-1)): the same wherever in the sum they wrap.

    >>> wrap_twos_complement(np.array([127, 128, -129]), bits=8).tolist()
    [127, -128, 127]
    """
    half = 1 << (bits - 1)
    return ((accumulators + half) & ((1 << bits) - 1)) - half


def spacing_of(node: Threshold) -> NDArray[np.float64]:
    """Return the mean distance of the thresholds of each channel of *node*, shape (channels,), at least 1.

    A channel whose thresholds coincide, or that has but one, is given the median of the others; in a layer of 1-bit
    activations, which have one each, that is 1.
    """
    spans = (node.thresholds[:, -1] - node.thresholds[:, 0]) / max(1, node.levels - 1)
    positive = spans[spans > 0]
    spans = np.where(spans > 0, spans, np.median(positive) if positive.size else 1.0)
    return np.maximum(spans, 1.0)


def _draw_stuck(node: Product, fraction: float, generator: np.random.Generator) -> StuckWeights:
    mask = generator.random(node.weights.shape) < fraction
    largest = node.weight_type.maximum
    values = np.where(generator.random(node.weights.shape) < 0.5, largest, -largest)
    return StuckWeights(mask, np.clip(values, node.weight_type.minimum, node.weight_type.maximum))


def _draw_offsets(node: Threshold, deviation: float, generator: np.random.Generator) -> Codes:
    levels = deviation * generator.standard_normal(node.channels)
    offsets: Codes = np.rint(levels * spacing_of(node)).astype(np.int64)
    return offsets


def _draw_flips(node: Threshold, reachable: Ranges, rate: float, generator: np.random.Generator) -> FlippedBits:
    # The threshold that is never met is the largest accumulator plus one, which may need a bit more.
    width = accumulator_type(reachable).bits + 1
    bits = generator.random((*node.thresholds.shape, width)) < rate
    return FlippedBits((bits * (1 << np.arange(width, dtype=np.int64))).sum(axis=2), width)


def _with_stuck(node: Product, stuck: StuckWeights) -> Product:
    weights = np.where(stuck.mask, stuck.values, node.weights)
    low, high = int(stuck.values.min()), int(stuck.values.max())
    held = node.weight_type.minimum <= low and high <= node.weight_type.maximum
    kind = node.weight_type if held else IntegerType.smallest_for(int(weights.min()), int(weights.max()))
    return replace(node, weights=weights, weight_type=kind)


def _with_comparators(node: Threshold, offsets: Codes, flips: FlippedBits) -> Threshold:
    """Comparators stand side by side, so the code counts those that are met: their order does not matter."""
    read = wrap_twos_complement(node.thresholds ^ flips.inverted, bits=flips.width_bits)
    thresholds = np.sort(np.where(flips.inverted != 0, read, node.thresholds) + offsets[:, None], axis=1)
    return replace(node, thresholds=thresholds)
