"""The limits of FINN's RTL layers and ours, checked before FINN is started.

FINN itself falls back to HLS without an error, or ends with one that names no layer, so the limits are stated here.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from bitproof.export.integer import (
    EXACT_FLOAT32,
    IntegerType,
    MatMul,
    Node,
    Pad,
    Ranges,
    Shape,
    Threshold,
    Window,
    hull,
)
from bitproof.pipeline import Codes, StageError

TARGET = "FINN's RTL"
"""What messages call it."""
UNIT_BITS = range(2, 9)
"""Widths of codes and of weights that FINN's matrix unit takes; ours takes the others."""
MAX_CODE_BITS = 9
"""Of an activation: 8 bits about a zero point take 9."""


def weight_type(node: MatMul) -> IntegerType:
    """Return the type of the weights in hardware: the narrowest of -(2^(b-1) - 1)..2^(b-1) - 1 with b >= 2.

    The DSP48E1 core packs several products into one multiplier, which needs the most negative code to be unused; a
    weight of -2 therefore takes 3 bits.
    """
    return IntegerType(max(2, int(np.abs(node.weights).max()).bit_length() + 1), signed=True)


def code_type(node: Threshold) -> IntegerType:
    """Return the type of the output codes in hardware: the narrowest, unsigned if it can be."""
    return wide_enough(IntegerType.smallest_for(min(node.lowest, 0), node.highest))


def as_bits(node: Threshold) -> Threshold:
    """Return *node*, whose codes are -1 and 1, with the codes 0 and 1: the bits that stand for them."""
    return replace(node, output=IntegerType(1, signed=False), lowest=0, step=1)


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


def wide_enough(kind: IntegerType) -> IntegerType:
    """Return *kind*, or the signed type of two bits: none is narrower."""
    return IntegerType(max(kind.bits, 2), signed=True) if kind.signed else kind


def sum_type(codes: IntegerType, taps: int) -> IntegerType:
    """Return the type of a sum of *taps* codes of the type *codes*."""
    return IntegerType.smallest_for(taps * codes.minimum, taps * codes.maximum)


def on_two_axes(window: Window, padding: Pad | None) -> Window:
    """Return *window* with *padding* before it, on the rows and columns of an image; a sequence is one row."""
    begin, end = window.begin, window.end
    if padding is not None:
        begin = tuple(a + b for a, b in zip(begin, padding.begin, strict=True))
        end = tuple(a + b for a, b in zip(end, padding.end, strict=True))
    if len(window.kernel) == 2:
        return Window(window.kernel, window.strides, begin, end, window.dilations)
    return Window((1, *window.kernel), (1, *window.strides), (0, *begin), (0, *end), (1, *window.dilations))


def require_plain(places: Codes, moving: str) -> None:
    """Check that codes whose *places* are these stay where they are.

    Raises:
        StageError: they do not; the nodes *moving* move them.
    """
    if (places != np.arange(places.size)).any():
        raise StageError(f"{TARGET} has no form for {moving}, which moves codes on the way; move them at the input")


def require_window(node: Node, source: Shape, window: Window) -> None:
    """Check that FINN's window generator takes *window* on an image of the stream shape *source*.

    Raises:
        StageError: it does not.
    """
    height, width = (b + size + e for b, size, e in zip(window.begin, source[:2], window.end, strict=True))
    if window.strides[0] > height or window.strides[1] > width:
        raise StageError(
            f"layer {node.name!r} has strides {window.strides} on an image of {height} x {width}; {TARGET} "
            "takes strides up to its size. With one window on an axis, any stride gives the same: use 1"
        )
    if prod(window.kernel) > 1 and _leaps(width, window):
        raise StageError(
            f"layer {node.name!r} has strides {window.strides} over a kernel of {window.kernel[0]} x "
            f"{window.kernel[1]}; from row to row FINN's window generator leaps over more codes than it holds. Use "
            "strides of at most the kernel's sizes"
        )


def _leaps(width: int, window: Window) -> bool:
    """Tell whether the generator would leap from the last window of a row to the next row beyond what its memory holds.

    It keeps the codes from the first tap of a window to its last, and, with strides, those that it may take early.
    """
    (tall, wide), (down, across), (below, beside) = window.kernel, window.strides, window.dilations
    span = (wide - 1) * beside + 1
    held = (tall - 1) * below * width + span
    early = max(0, across - 1 - tall * wide) + max(0, (down - 1) * width - tall * wide)
    columns = (width - span) // across + 1
    unseen = width % (span + (columns - 1) * across)
    leap = unseen + span + (down - 1) * width + 1 - held
    return abs(leap) > held + early


def require_activation(node: Threshold) -> None:
    """Check that FINN's thresholding unit takes *node*.

    Raises:
        StageError: it does not.
    """
    kind = code_type(node)
    if kind.bits > MAX_CODE_BITS:
        raise StageError(
            f"layer {node.name!r} has codes {node.lowest}..{node.highest}, which take {kind.bits} bits; FINN's RTL "
            f"takes {MAX_CODE_BITS} at most. Quantize them to as many (in a configuration: model.act_bits)"
        )
    if int(np.abs(node.thresholds).max()) >= EXACT_FLOAT32:
        raise StageError(
            f"layer {node.name!r} has a threshold of magnitude {int(np.abs(node.thresholds).max())}; FINN holds "
            f"integers below 2^24 (in float32 tensors). Use fewer inputs, or fewer bits in weights or activations"
        )


def require_exact(node: Node, reached: Ranges) -> None:
    """Check that FINN's Python, which holds integers in float32 tensors, is exact for what *node* makes.

    Raises:
        StageError: it is not.
    """
    largest = max(interval.magnitude for interval in reached)
    if largest >= EXACT_FLOAT32:
        raise StageError(
            f"layer {node.name!r} has sums of magnitude up to {largest}; FINN's Python execution is exact below 2^24. "
            "Use fewer inputs, or fewer bits in weights or activations"
        )


def fits_finn(matrix: MatMul, codes: IntegerType) -> bool:
    """Tell whether FINN's matrix unit takes *matrix* and *codes*."""
    return weight_type(matrix).bits in UNIT_BITS and codes.bits in UNIT_BITS


def require_product(node: Node, weights: Codes, codes: IntegerType) -> None:
    """Check that sums of *weights*, shape (outputs, inputs), and *codes* are exact in FINN's Python.

    Raises:
        StageError: they are not.
    """
    largest_code = max(-codes.minimum, codes.maximum)
    largest_sum = largest_code * int(np.abs(weights).sum(axis=1).max())
    if largest_sum >= EXACT_FLOAT32:
        raise StageError(
            f"layer {node.name!r} has accumulators of magnitude up to {largest_sum}; FINN's Python execution is exact "
            "below 2^24. Use fewer inputs, or fewer bits in weights or activations"
        )
