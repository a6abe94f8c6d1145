"""Perceptrons whose inputs and activations have codes of any kind: signed, about a zero point, bipolar."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from bitproof.export.integer import Affine, IntegerModel, IntegerType, MatMul, Node, Reshape, Shape, Threshold
from bitproof.pipeline import Codes

TERNARY, NARROW8 = (-1, 1), (-127, 127)


def coded_network(
    source: range,
    *activations: range,
    outputs: range | None = None,
    weights: tuple[int, int] = TERNARY,
    widths: Sequence[int] = (37, 7, 9, 5),
    shape: Shape | None = None,
    bias: bool = False,
    recoding: tuple[int, int] | None = None,
    seed: int = 0,
) -> IntegerModel:
    """Return a network on the codes *source*, whose activations have the codes *activations*, one for each.

    Args:
        outputs: codes of a quantizer behind the last product; None: it gives accumulators.
        weights: the least and the largest, which occur in every row.
        shape: of the input, flattened by a Reshape; None: it is a vector.
        bias: add one to the outputs.
        recoding: factor and offset by which every input code is replaced first.
    """
    generator = np.random.default_rng(seed)
    nodes: list[Node] = [] if shape is None else [Reshape("flatten", shape, (int(np.prod(shape)),))]
    lowest, highest = source[0], source[-1]
    if recoding is not None:
        factor, offset = recoding
        nodes.insert(0, Affine("recoding", *(np.full((shape or widths)[0], number) for number in recoding)))
        lowest, highest = factor * lowest + offset, factor * highest + offset
    for layer, codes in enumerate([*activations, outputs]):
        inputs, channels = widths[layer], widths[layer + 1]
        drawn = generator.integers(weights[0], weights[1], size=(channels, inputs), endpoint=True)
        drawn[:, 0], drawn[:, 1] = weights
        product = MatMul(f"fc{layer}", drawn, IntegerType.smallest_for(*weights))
        nodes.append(product)
        if codes is None:
            break
        ends = np.stack([drawn * lowest, drawn * highest])
        low, high = ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)
        middle, spread = (low + high) / 2, (high - low) / 5
        levels = len(codes) - 1
        rows = np.sort(generator.normal(middle, spread, size=(levels, channels)).astype(np.int64).T, axis=1)
        rows = np.clip(rows, low[:, None], high[:, None] + 1)
        kind = IntegerType.smallest_for(codes[0], codes[-1])
        flipped = np.zeros(channels, dtype=np.bool_)
        nodes.append(Threshold(f"act{layer}", rows, kind, codes[0], flipped, codes.step))
        lowest, highest = codes[0], codes[-1]
    if bias:
        nodes.append(Affine.bias("bias", generator.integers(-99, 99, size=widths[len(activations) + 1])))
    kind = IntegerType.smallest_for(source[0], source[-1])
    whole = shape or (widths[0],)
    return IntegerModel("coded", kind, Fraction(1, 128), whole, tuple(nodes), Fraction(1), input_codes=source)


def drawn_codes(model: IntegerModel, samples: int) -> Codes:
    """Return input codes that occur, shape (samples, inputs): all least, all largest, a mix of both, random ones."""
    codes = np.array(model.allowed_codes)
    drawn = np.random.default_rng(5).choice(codes, size=(samples, model.inputs)).astype(np.int64)
    drawn[0], drawn[1] = codes[0], codes[-1]
    drawn[2:10] = np.where(drawn[2:10] % 4 < 2, codes[0], codes[-1])
    return drawn
