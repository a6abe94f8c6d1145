"""Random integer models with the corners that a back-end may get wrong, made directly in the intermediate form."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from bitproof.export.integer import (
    KIND,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    Node,
    Threshold,
    save,
)
from bitproof.pipeline import Artifact, Codes, digest_of

Spacing = Literal["even", "irregular"]
TERNARY = IntegerType(2, signed=True)


def random_weights(
    generator: np.random.Generator, shape: tuple[int, int], low: int, high: int, *, only_ends: bool = False
) -> Codes:
    """Weights in [*low*, *high*]; the first row at the lowest, the second at the highest, the third dead (if any).

    With *only_ends*, each is *low* or *high*.
    """
    weights = generator.integers(low, high, size=shape, endpoint=True)
    if only_ends:
        weights = np.where(2 * weights > low + high, high, low)
    for row, value in zip(range(shape[0]), (low, high, 0), strict=False):
        weights[row] = value if low <= value <= high and not (only_ends and low < value < high) else low
    return weights


def random_thresholds(
    generator: np.random.Generator, reachable: Sequence[Interval], levels: int, spacing: Spacing
) -> Codes:
    """Ascending thresholds in the reachable accumulators: some are always met, some never, some equal."""
    rows = []
    for interval in reachable:
        low, high = interval.low, interval.high + 1
        if spacing == "even":
            step = max(1, (high - low) // (levels + 2))
            rows.append(np.clip(low + step * np.arange(1, levels + 1), low, high))
        else:
            rows.append(np.sort(generator.integers(low, high, size=levels, endpoint=True)))
    thresholds = np.array(rows, dtype=np.int64)
    if spacing == "irregular":
        thresholds[0, 0] = reachable[0].low
        thresholds[-1, -1] = reachable[-1].high + 1
    return thresholds


def random_network(
    widths: Sequence[int],
    *,
    weight_type: IntegerType = TERNARY,
    weight_range: tuple[int, int] | None = None,
    only_ends: bool = False,
    act_bits: Sequence[int] = (4,),
    input_bits: int = 8,
    spacing: Spacing = "irregular",
    seed: int = 0,
    name: str = "mlp",
) -> IntegerModel:
    """A network of ``len(widths) - 1`` matrix products; activation ``i`` has ``act_bits[i % len(act_bits)]`` bits."""
    generator = np.random.default_rng(seed)
    low, high = weight_range or (weight_type.minimum, weight_type.maximum)
    nodes: list[Node] = []
    codes: tuple[Interval, ...] = (Interval(0, (1 << input_bits) - 1),) * widths[0]
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        product = MatMul(
            f"fc{layer}", random_weights(generator, (outputs, inputs), low, high, only_ends=only_ends), weight_type
        )
        nodes.append(product)
        if layer == len(widths) - 2:
            break
        kind = IntegerType(act_bits[layer % len(act_bits)], signed=False)
        reachable = product.ranges(codes)
        activation = Threshold(
            f"act{layer}",
            random_thresholds(generator, reachable, kind.maximum, spacing),
            kind,
            0,
            np.zeros(outputs, dtype=np.bool_),
        )
        nodes.append(activation)
        codes = activation.ranges(reachable)
    input_type = IntegerType(input_bits, signed=False)
    return IntegerModel(name, input_type, Fraction(1), (widths[0],), tuple(nodes), Fraction(1))


def random_codes(model: IntegerModel, count: int, seed: int = 0) -> Codes:
    """Input codes, shape (*count*, inputs); the first sample is all 0, the second all at the maximum."""
    codes = np.random.default_rng(seed).integers(0, model.input.maximum, size=(count, model.inputs), endpoint=True)
    codes[0] = 0
    codes[1] = model.input.maximum
    return codes


def saved(model: IntegerModel, folder: Path) -> Artifact:
    """Write *model* into the new *folder* as an artifact."""
    folder.mkdir(parents=True)
    save(model, folder)
    return Artifact("integer", KIND, folder, digest_of(folder))


def network_for(method: str, seed: int = 0) -> IntegerModel:
    """A product of 8-bit weights, an activation of 255 levels that needs *method* to be exact, and a product."""
    generator = np.random.default_rng(seed)
    kind = IntegerType(8, signed=True)
    small = method == "rounding-shift"
    inputs, channels, largest = (4, 6, 1) if small else (60, 6, 127)
    weights = generator.integers(-largest, largest, size=(channels, inputs), endpoint=True)
    if small:
        weights[:, 0], weights[:, 1] = 1, 1
    first = MatMul("fc0", weights, kind)
    reachable = first.ranges((Interval(0, 255),) * inputs)
    codes = [Fraction(2 * code - 1, 2) for code in range(1, 256)]
    rows = []
    for interval in reachable:
        if small:  # a / 4, a tie to the even code: one more where the tie goes down
            row = [int(4 * boundary) + (boundary.numerator % 4 == 1) for boundary in codes]
        else:
            slope = Fraction(int(generator.integers(300, 500)), 1_000_003)
            row = [-(-(boundary * slope.denominator) // slope.numerator) for boundary in codes]
        rows.append([min(max(int(t), interval.low), interval.high + 1) for t in row])
    act = Threshold("act0", np.array(rows), IntegerType(8, signed=False), 0, np.zeros(channels, dtype=np.bool_))
    last = MatMul("fc1", generator.integers(-9, 9, size=(3, channels)), kind)
    return IntegerModel("mlp", IntegerType(8, signed=False), Fraction(1), (inputs,), (first, act, last), Fraction(1))
