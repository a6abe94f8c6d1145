"""The hardware that FINN makes of a network: matrix and thresholding units in turn, checked before FINN is started.

FINN itself falls back to HLS without an error, or ends with one that names no layer, so the limits are stated here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bitproof.export.integer import (
    EXACT_FLOAT32,
    IntegerModel,
    IntegerType,
    MatMul,
    Ranges,
    Threshold,
    hull,
)
from bitproof.export.program.perceptron import perceptron_of
from bitproof.export.program.schedule import schedule
from bitproof.pipeline import StageError

MIN_UNIT_BITS, MAX_UNIT_BITS = 2, 8


@dataclass(frozen=True, slots=True)
class Hardware:
    """What FINN builds of a network.

    Attributes:
        input: type of the input codes in hardware.
        inputs: number of input codes.
        nodes: one for each unit, in the order of the data; each has the name of the node that it carries out.
        output_bias: what is added to what the hardware gives, by the program that reads it; empty for nothing.
    """

    input: IntegerType
    inputs: int
    nodes: tuple[MatMul | Threshold, ...]
    output_bias: tuple[int, ...]


def weight_type(node: MatMul) -> IntegerType:
    """Return the type of the weights in hardware: the narrowest of -(2^(b-1) - 1)..2^(b-1) - 1 with b >= 2.

    The DSP48E1 core packs several products into one multiplier, which needs the most negative code to be unused; a
    weight of -2 therefore takes 3 bits.
    """
    return IntegerType(max(2, int(np.abs(node.weights).max()).bit_length() + 1), signed=True)


def code_type(node: Threshold) -> IntegerType:
    """Return the type of the output codes in hardware: the narrowest of at least 2 bits, unsigned if it can be."""
    return _wide_enough(IntegerType.smallest_for(min(node.lowest, 0), node.highest))


def hardware_of(model: IntegerModel) -> Hardware:
    """Return what FINN builds of *model*.

    Raises:
        StageError: FINN's RTL layers cannot carry it out; the message names the layer and what would work.
    """
    layers = perceptron_of(schedule(model), "FINN's RTL").layers
    source = _wide_enough(model.input)
    nodes: list[MatMul | Threshold] = []
    current = source
    for layer in layers:
        _require_matmul(layer.product, current)
        nodes.append(layer.product)
        if layer.thresholds is not None:
            _require_activation(layer.thresholds)
            current = code_type(layer.thresholds)
            nodes.append(in_steps_of_one(layer.thresholds, layer.accumulators))
    bias = layers[-1].bias
    return Hardware(source, model.inputs, tuple(nodes), () if bias is None else tuple(bias.offsets.tolist()))


def require_supported(model: IntegerModel) -> None:
    """Check that FINN's RTL layers can carry out *model*.

    Raises:
        StageError: they cannot; the message names the layer and what would work.
    """
    hardware_of(model)


def in_steps_of_one(node: Threshold, reachable: Ranges) -> Threshold:
    """Return *node* as a thresholding unit carries it out, whose codes are neighbours from the first threshold on.

    A bipolar code rises by 2 at its threshold, which is there twice then. If the codes use fewer bits than their type
    has, thresholds that every accumulator reaches lie below, and some that none reaches above: FINN writes a memory for
    every bit of the type, and the RTL reads one for every bit of the number of thresholds.
    """
    kind = code_type(node)
    natural = node.lowest == 0 or kind.signed
    if natural and node.step == 1 and node.levels.bit_length() == kind.bits:
        return node
    ends = hull(reachable)
    below, above = node.lowest - kind.minimum, kind.maximum - node.highest
    rows = np.clip(np.repeat(node.thresholds, node.step, axis=1), ends.low, ends.high + 1)
    rows = np.pad(rows, ((0, 0), (below, 0)), constant_values=ends.low)
    rows = np.pad(rows, ((0, 0), (0, above)), constant_values=ends.high + 1)
    return replace(node, thresholds=rows, output=kind, lowest=kind.minimum, step=1)


def _wide_enough(kind: IntegerType) -> IntegerType:
    return IntegerType(max(kind.bits, MIN_UNIT_BITS), kind.signed)


def _require_activation(node: Threshold) -> None:
    kind = code_type(node)
    if kind.bits > MAX_UNIT_BITS:
        raise StageError(
            f"layer {node.name!r} has codes {node.lowest}..{node.highest}, which take {kind.bits} bits; FINN's RTL "
            f"takes {MAX_UNIT_BITS} at most. Quantize them to as many (in a configuration: model.act_bits)"
        )
    if int(np.abs(node.thresholds).max()) >= EXACT_FLOAT32:
        raise StageError(
            f"layer {node.name!r} has a threshold of magnitude {int(np.abs(node.thresholds).max())}; FINN holds "
            f"integers below 2^24 (in float32 tensors). Use fewer inputs, or fewer bits in weights or activations"
        )


def _require_matmul(node: MatMul, codes: IntegerType) -> None:
    weights = weight_type(node)
    if weights.bits > MAX_UNIT_BITS:
        raise StageError(
            f"layer {node.name!r} has weights {int(node.weights.min())}..{int(node.weights.max())}, which take "
            f"{weights.bits} bits without the most negative code; FINN's RTL takes 2..{MAX_UNIT_BITS}. Quantize them "
            "to a narrow range, or to fewer bits (in a configuration: model.weight_bits)"
        )
    if codes.bits > MAX_UNIT_BITS:
        raise StageError(
            f"layer {node.name!r} takes {codes} input codes; FINN's RTL takes {MAX_UNIT_BITS} bits at most. "
            "Quantize the input to as many (in a configuration: model.input_bits)"
        )
    largest_code = max(-codes.minimum, codes.maximum)
    largest_sum = largest_code * int(np.abs(node.weights).sum(axis=1).max())
    if largest_sum >= EXACT_FLOAT32:
        raise StageError(
            f"layer {node.name!r} has accumulators of magnitude up to {largest_sum}; FINN's Python execution is exact "
            "below 2^24. Use fewer inputs, or fewer bits in weights or activations"
        )
