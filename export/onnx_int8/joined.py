"""Sums of codes, and codes that take another scale, as one QLinearAdd: a pass over bytes.

It scales both codes in float32 before it adds them. All channels must have the same thresholds, and every pair of codes
must give what it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from onnx import TensorProto

from bitproof.export.integer import EXACT_FLOAT32, Add, Interval, Ranges, Threshold, hull
from bitproof.export.onnx_int8.context import Context
from bitproof.export.onnx_int8.fitting import Fitted, counted, fit, run_ends
from bitproof.export.onnx_int8.graph import MAX_STORED, Stored, Value
from bitproof.export.onnx_int8.products import code_zero

FINE, LARGEST_TERM, ROUNDINGS = 1 << 12, 4 * 255, 8
"""Of QLinearAdd: a denominator, the largest sum of bytes, and more roundings than any way of adding three terms has."""


def joined(
    context: Context, node: Add, threshold: Threshold, inputs: Sequence[tuple[str, Value]], zero_point: int
) -> Stored | None:
    """Write QLinearAdd for the *threshold* of the sum *node*, if it is proven."""
    (first, one), (second, two) = inputs
    if not isinstance(one, Stored) or not isinstance(two, Stored) or not (one.is_operand and two.is_operand):
        return None
    fitted = _fitted(threshold, context.ranges[node.name])
    if fitted is None:
        return None
    points = [one.zero_point - int(fitted.bias[0]), two.zero_point]
    excess = points[0] - min(max(points[0], 0), MAX_STORED)
    points = [points[0] - excess, points[1] + excess]
    if not 0 <= points[1] <= MAX_STORED:
        return None
    scale = context.graph.constant(f"{threshold.name}.scale", fitted.scale[0])
    operands = []
    for value, point in zip((one, two), points, strict=True):
        operands += [value.tensor, scale, code_zero(context.graph, Stored("", point))]
    entry = {
        "method": "QLinearAdd",
        "stored_points": [one.zero_point, two.zero_point],
        "spans": [[span.low, span.high] for span in (hull(context.ranges[name]) for name in (first, second))],
    }
    made = _written(context, node.name, threshold, fitted, operands, {**entry, "zero_point": zero_point})
    casts = [
        {
            "op": "Cast",
            "inputs": [v.tensor],
            "output": f"{node.name}.term{i}",
            "attributes": {"to": int(TensorProto.INT32)},
        }
        for i, v in enumerate((one, two))
    ]
    tensor = f"{node.name}.sum"
    added = {"op": "Add", "inputs": [cast["output"] for cast in casts], "output": tensor, "attributes": {}}
    shown = {"tensor": tensor, "zero_point": one.zero_point + two.zero_point, "type": "int32", "nodes": [*casts, added]}
    context.hidden[node.name] = shown
    return Stored(made, zero_point)


def rescaled(context: Context, threshold: Threshold, given: tuple[str, Value], zero_point: int) -> Stored | None:
    """Write QLinearAdd of the codes that *threshold* takes and a constant of the scale 2 m, if it is proven.

    With ``h`` for the constant's distance from its zero point and p, 0 or 1, for the codes' own,
    ``m (x - p) + 2 m h = m (x + B)`` if ``B = 2 h - p``.
    """
    name, value = given
    if not isinstance(value, Stored) or not value.is_operand:
        return None
    fitted = _fitted(threshold, context.ranges[name])
    if fitted is None:
        return None
    offset = int(fitted.bias[0]) - value.zero_point
    half = -(-offset // 2)
    if abs(half) > MAX_STORED:
        return None
    graph, act = context.graph, threshold.name
    scale = graph.constant(f"{act}.scale", fitted.scale[0])
    twice = graph.constant(f"{act}.scale_of_constant", 2 * fitted.scale[0])
    constant = graph.constant(f"{act}.constant", np.array(max(half, 0), dtype=np.uint8))
    points = [code_zero(graph, Stored("", point)) for point in (2 * half - offset, max(-half, 0))]
    span = hull(context.ranges[name])
    entry = {
        "method": "QLinearAdd of a constant",
        "stored_points": [value.zero_point, max(half, 0)],
        "spans": [[span.low, span.high], [0, 0]],
    }
    operands = [value.tensor, scale, points[0], constant, twice, points[1]]
    return Stored(_written(context, name, threshold, fitted, operands, {**entry, "zero_point": zero_point}), zero_point)


def _written(
    context: Context, name: str, threshold: Threshold, fitted: Fitted, operands: list[str], entry: dict[str, Any]
) -> str:
    """Write QLinearAdd of *operands* for the *threshold* of the value *name*, and return the tensor of its codes."""
    graph, act = context.graph, threshold.name
    unit = graph.constant("one", np.array(1, dtype=np.float32))
    none = graph.constant("zero", np.array(0, dtype=np.uint8))
    made = graph.operation("QLinearAdd", [*operands, unit, none], f"{act}.{'added' if fitted.clipped else 'codes'}")
    if fitted.clipped:
        highest = graph.constant(f"{act}.highest", np.array(threshold.levels, dtype=np.uint8))
        made = graph.operation("Clip", [made, none, highest], f"{act}.codes")
    shape = [threshold.channels, *(1,) * (len(context.shapes[name]) - 1)]
    common = {"layer": act, "target": made, "shape": shape, "construction": "joined", "scale": f"{act}.scale"}
    context.activations.append({**common, "clipped": fitted.clipped, "highest": threshold.levels, **entry})
    return made


def _fitted(threshold: Threshold, reachable: Ranges) -> Fitted | None:
    """Return the constants of the sum of two codes in *reachable* that is exact in float32, or None."""
    reach, common = hull(reachable), _common(threshold, reachable)
    fitted = None if common is None else fit(common, (reach,), 1)
    if common is None or fitted is None or not is_exact_sum(common, reach, fitted):
        return None
    return fitted


def _common(threshold: Threshold, reachable: Ranges) -> Threshold | None:
    """Return thresholds of one channel that count what those of every channel do, where it reaches; None: none do."""
    lows = np.array([interval.low for interval in reachable])[:, None]
    ends = np.array([interval.high for interval in reachable])[:, None] + 1
    reached = np.clip(threshold.thresholds, lows, ends)
    row = reached.max(axis=0, keepdims=True)
    if not np.array_equal(np.clip(row, lows, ends), reached):
        return None
    return replace(counted(threshold), thresholds=row, flipped=threshold.flipped[:1])


def is_exact_sum(common: Threshold, reach: Interval, fitted: Fitted) -> bool:
    """Tell whether ``m x + m y + c`` in float32 rounds to the code of x + y, however its three terms are rounded.

    That is so if m has so few bits that float32 holds every term and sum, or if the nearest boundary is further than
    all roundings together. Stored codes and zero points are bytes: every term is at most 510 m.
    """
    m, bias = Fraction(float(fitted.scale[0])), int(fitted.bias[0])
    if m.denominator <= FINE and m.numerator * LARGEST_TERM * 2 <= EXACT_FLOAT32:
        return True
    error = ROUNDINGS * LARGEST_TERM * m / (1 << 24)
    ends, codes = run_ends(common.thresholds[0], reach)
    for end, code in zip(ends.tolist(), codes.tolist(), strict=True):
        value = m * (end + bias) + Fraction(1, 2)
        if (code > 0 and value - code <= error) or (code < common.levels and code + 1 - value <= error):
            return False
    return True
