"""Random integer networks for tests, built without a training or lowering step in between."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np

from bitproof.export.integer import IntegerModel, IntegerType, MatMul, Node, Threshold
from bitproof.pipeline import Codes

UINT8 = IntegerType(8, signed=False)


def random_network(
    widths: tuple[int, ...],
    seed: int,
    *,
    weight_bits: int = 2,
    levels: int = 15,
    source: IntegerType = UINT8,
) -> IntegerModel:
    """Return a perceptron with weights of a narrow range and ascending thresholds within what can be reached.

    Channel 0 of every activation has a threshold that is always met and one that never is.
    """
    generator = np.random.default_rng(seed)
    largest = (1 << (weight_bits - 1)) - 1
    nodes: list[Node] = []
    lowest, highest = source.minimum, source.maximum
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        weights = generator.integers(-largest, largest, size=(outputs, inputs), endpoint=True)
        weights[0, :2] = -largest, largest
        nodes.append(MatMul(f"fc{layer}", weights, IntegerType(weight_bits, signed=True)))
        if layer == len(widths) - 2:
            break
        low = np.where(weights > 0, weights * lowest, weights * highest).sum(axis=1, keepdims=True)
        high = np.where(weights > 0, weights * highest, weights * lowest).sum(axis=1, keepdims=True)
        spread = generator.normal((low + high) / 2, (high - low) / 6, size=(outputs, levels)).astype(np.int64)
        thresholds = np.sort(np.clip(spread, low, high + 1), axis=1)
        thresholds[0, 0], thresholds[0, -1] = low[0, 0], high[0, 0] + 1
        kind = IntegerType.smallest_for(0, levels)
        nodes.append(Threshold(f"act{layer}", thresholds, kind, 0, np.zeros(outputs, dtype=np.bool_)))
        lowest, highest = 0, levels
    return IntegerModel("random", source, Fraction(1, 256), (widths[0],), tuple(nodes), Fraction(1))


def random_and_extreme_codes(model: IntegerModel, samples: int) -> Codes:
    """Return input codes, shape (samples, inputs): all lowest, all highest, a mix of both, then random ones."""
    generator = np.random.default_rng(5)
    low, high = model.input.minimum, model.input.maximum
    codes = generator.integers(low, high, size=(samples, model.inputs), endpoint=True)
    codes[0], codes[1] = low, high
    codes[2:10] = np.where(codes[2:10] % 2 == 0, low, high)
    return codes
