"""Which integer models FINN's RTL layers can carry out, checked before FINN is started.

FINN itself falls back to HLS without an error, or ends with one that names no layer, so the limits are stated here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitproof.export.integer import (
    EXACT_FLOAT32,
    Affine,
    IntegerModel,
    IntegerType,
    MatMul,
    Threshold,
    require_operations,
    without_moves,
)
from bitproof.pipeline import StageError

MAX_BITS = 8


def weight_type(node: MatMul) -> IntegerType:
    """Return the type of the weights in hardware: the narrowest of -(2^(b-1) - 1)..2^(b-1) - 1 with b >= 2.

    The DSP48E1 core packs several products into one multiplier, which needs the most negative code to be unused; a
    weight of -2 therefore takes 3 bits.
    """
    return IntegerType(max(2, int(np.abs(node.weights).max()).bit_length() + 1), signed=True)


def code_type(node: Threshold) -> IntegerType:
    """Return the type of the output codes in hardware: the narrowest unsigned one."""
    return IntegerType.smallest_for(0, node.levels)


def input_types(model: IntegerModel) -> dict[str, IntegerType]:
    """Return the type of the codes that each matrix product of *model* takes, by its name."""
    current = model.input
    types = {}
    for node in model.nodes:
        if isinstance(node, MatMul):
            types[node.name] = current
        elif isinstance(node, Threshold):
            current = code_type(node)
    return types


def hardware_part(model: IntegerModel) -> tuple[IntegerModel, tuple[int, ...]]:
    """Return what FINN builds of *model*, and the bias of the outputs, which is added to what the hardware gives.

    The bias is empty where there is none. Nodes that move nothing are left out.
    """
    flat = without_moves(model)
    last = flat.nodes[-1]
    if len(flat.nodes) == 1 or not flat.is_chain or not isinstance(last, Affine) or not last.is_bias:
        return flat, ()
    return replace(flat, nodes=flat.nodes[:-1], wiring=None), tuple(last.offsets.tolist())


def require_supported(model: IntegerModel) -> None:
    """Check that FINN's RTL layers can carry out *model*.

    Raises:
        StageError: they cannot; the message names the layer and what would work.
    """
    model, _ = hardware_part(model)
    require_operations(model, "FINN's RTL", (MatMul, Threshold, Affine))
    _require_alternation(model)
    for node in model.nodes:
        if isinstance(node, Threshold):
            _require_activation(node)
    codes = input_types(model)
    for node in model.nodes_of(MatMul):
        _require_matmul(node, codes[node.name])


def _require_alternation(model: IntegerModel) -> None:
    for position, node in enumerate(model.nodes):
        if isinstance(node, Affine):
            raise StageError(
                f"layer {node.name!r} adds a bias inside of the network, which FINN's RTL has no layer for; a bias "
                "before an activation belongs into its thresholds, and one of the outputs comes last"
            )
        if isinstance(node, MatMul) != (position % 2 == 0):
            raise StageError(
                f"layer {node.name!r} at position {position} is a {type(node).__name__}; FINN's RTL is built from "
                "matrix products that alternate with activations, a matrix product first"
            )


def _require_activation(node: Threshold) -> None:
    bits = code_type(node).bits
    if node.lowest != 0:
        raise StageError(
            f"layer {node.name!r} has codes {node.lowest}..{node.lowest + node.levels}; FINN's RTL takes unsigned "
            "activations from 0. Quantize them without a sign"
        )
    if not 2 <= bits <= MAX_BITS:
        raise StageError(
            f"layer {node.name!r} has {bits}-bit activations; FINN's RTL takes 2..{MAX_BITS} bits. "
            "Quantize them to as many (in a configuration: model.act_bits)"
        )
    if int(np.abs(node.thresholds).max()) >= EXACT_FLOAT32:
        raise StageError(
            f"layer {node.name!r} has a threshold of magnitude {int(np.abs(node.thresholds).max())}; FINN holds "
            f"integers below 2^24 (in float32 tensors). Use fewer inputs, or fewer bits in weights or activations"
        )


def _require_matmul(node: MatMul, codes: IntegerType) -> None:
    weights = weight_type(node)
    if weights.bits > MAX_BITS:
        raise StageError(
            f"layer {node.name!r} has weights {int(node.weights.min())}..{int(node.weights.max())}, which take "
            f"{weights.bits} bits without the most negative code; FINN's RTL takes 2..{MAX_BITS}. Quantize them "
            "to a narrow range, or to fewer bits (in a configuration: model.weight_bits)"
        )
    if not 2 <= codes.bits <= MAX_BITS:
        raise StageError(
            f"layer {node.name!r} takes {codes} input codes; FINN's RTL takes 2..{MAX_BITS} bits. "
            "Quantize the input to as many (in a configuration: model.input_bits)"
        )
    largest_code = max(-codes.minimum, codes.maximum)
    largest_sum = largest_code * int(np.abs(node.weights).sum(axis=1).max())
    if largest_sum >= EXACT_FLOAT32:
        raise StageError(
            f"layer {node.name!r} has accumulators of magnitude up to {largest_sum}; FINN's Python execution is exact "
            "below 2^24. Use fewer inputs, or fewer bits in weights or activations"
        )
