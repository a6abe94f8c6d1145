"""The int64 NumPy interpreter: what every operation of the integer model means."""

from __future__ import annotations

import numpy as np

from export.integer.ir import Bias, IntegerModel, MatMul, Node, Threshold
from pipeline import Codes, InputError

EXACT_FLOAT32, EXACT_FLOAT64 = 1 << 24, 1 << 53
"""Every integer of at most this magnitude, and every sum that stays within it, is exact in binary32, in binary64."""

FEW_LEVELS = 8
"""Up to so many thresholds a channel it is faster to compare with each than to search."""


def matmul(node: MatMul, codes: Codes) -> Codes:
    """Return ``codes @ weights.T``, shape (N, outputs), for *codes* of shape (N, inputs).

    The product runs in binary32 or binary64 (BLAS) where the largest possible partial sum is at most 2^24 or 2^53 and
    therefore exact whatever the order of summation, and in int64 otherwise.
    """
    largest_code = max(int(codes.max(initial=0)), -int(codes.min(initial=0)))
    largest_sum = largest_code * int(np.abs(node.weights).sum(axis=1).max())
    if largest_sum <= EXACT_FLOAT32:
        return (codes.astype(np.float32) @ node.weights.T.astype(np.float32)).astype(np.int64)
    if largest_sum <= EXACT_FLOAT64:
        return (codes.astype(np.float64) @ node.weights.T.astype(np.float64)).astype(np.int64)
    return codes @ node.weights.T


def threshold(node: Threshold, accumulators: Codes) -> Codes:
    """Return the output codes, shape (N, channels), for *accumulators* of that shape."""
    if node.levels <= FEW_LEVELS:
        met = np.zeros(accumulators.shape, dtype=np.int64)
        for level in node.thresholds.T:
            met += accumulators >= level
        return met + node.lowest
    codes = np.empty_like(accumulators)
    for channel, row in enumerate(node.thresholds):
        codes[:, channel] = np.searchsorted(row, accumulators[:, channel], side="right")
    return codes + node.lowest


def apply(node: Node, codes: Codes) -> Codes:
    """Return the output of *node*, shape (N, outputs), for *codes* of shape (N, inputs)."""
    if isinstance(node, MatMul):
        return matmul(node, codes)
    return codes + node.offsets if isinstance(node, Bias) else threshold(node, codes)


def require_codes(model: IntegerModel, codes: Codes) -> None:
    """Refuse input *codes* that *model* does not take.

    Raises:
        InputError: the codes have another shape than (N, inputs), or one lies outside the model's input type.
    """
    if codes.ndim != 2 or codes.shape[1] != model.inputs:
        raise InputError(f"{model.name!r} takes codes of shape (N, {model.inputs}), not {codes.shape}")
    if codes.size and not (model.input.minimum <= codes.min() <= codes.max() <= model.input.maximum):
        raise InputError(
            f"{model.name!r} takes {model.input} codes ({model.input.minimum}..{model.input.maximum}); "
            f"given {codes.min()}..{codes.max()}"
        )


def trace(model: IntegerModel, codes: Codes) -> dict[str, Codes]:
    """Run *codes*, shape (N, inputs), and return the output of every node by its name.

    Raises:
        InputError: the codes have another shape, or one lies outside the model's input type.
    """
    require_codes(model, codes)
    outputs: dict[str, Codes] = {}
    current = codes.astype(np.int64)
    for node in model.nodes:
        current = apply(node, current)
        outputs[node.name] = current
    return outputs


def run(model: IntegerModel, codes: Codes) -> Codes:
    """Run *codes*, shape (N, inputs), and return the output codes, shape (N, outputs).

    Raises:
        InputError: the codes have another shape, or one lies outside the model's input type.
    """
    return trace(model, codes)[model.nodes[-1].name]
