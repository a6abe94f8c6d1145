"""The sum of two codes and its activation as one QLinearAdd, if every pair of codes gives what it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from onnx import TensorProto

from bitproof.export.integer import EXACT_FLOAT32, Add, Interval, Ranges, Threshold, hull
from bitproof.export.onnx_int8.context import Context
from bitproof.export.onnx_int8.fitting import Fitted, counted, fit, run_ends
from bitproof.export.onnx_int8.graph import MAX_STORED, Stored, Value
from bitproof.export.onnx_int8.products import code_zero

FINE, LARGEST_TERM, ROUNDINGS = 1 << 12, 4 * 255, 8
"""Of QLinearAdd: a denominator, the largest sum of bytes, and more roundings than any way of adding three terms has."""


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


def joined(
    context: Context, node: Add, threshold: Threshold, inputs: Sequence[tuple[str, Value]], zero_point: int
) -> Stored | None:
    """Write QLinearAdd, if all channels have the same thresholds and every pair of codes gives what it should."""
    (first, one), (second, two) = inputs
    if not isinstance(one, Stored) or not isinstance(two, Stored) or not (one.is_operand and two.is_operand):
        return None
    reach = hull(context.ranges[node.name])
    common = _common(threshold, context.ranges[node.name])
    fitted = None if common is None else fit(common, (reach,), 1)
    if common is None or fitted is None or not is_exact_sum(common, reach, fitted):
        return None
    points = [one.zero_point - int(fitted.bias[0]), two.zero_point]
    excess = points[0] - min(max(points[0], 0), MAX_STORED)
    points = [points[0] - excess, points[1] + excess]
    if not 0 <= points[1] <= MAX_STORED:
        return None
    graph, act = context.graph, threshold.name
    scale = graph.constant(f"{act}.scale", fitted.scale[0])
    unit = graph.constant("one", np.array(1, dtype=np.float32))
    none = graph.constant("zero", np.array(0, dtype=np.uint8))
    operands = []
    for value, point in zip((one, two), points, strict=True):
        operands += [value.tensor, scale, code_zero(graph, Stored("", point))]
    made = graph.operation("QLinearAdd", [*operands, unit, none], f"{act}.{'added' if fitted.clipped else 'codes'}")
    if fitted.clipped:
        highest = graph.constant(f"{act}.highest", np.array(threshold.levels, dtype=np.uint8))
        made = graph.operation("Clip", [made, none, highest], f"{act}.codes")
    spans = [hull(context.ranges[name]) for name in (first, second)]
    shape = [threshold.channels, *(1,) * (len(context.shapes[node.name]) - 1)]
    context.activations.append(
        {
            "layer": act,
            "target": made,
            "zero_point": zero_point,
            "shape": shape,
            "construction": "joined",
            "method": "QLinearAdd",
            "scale": scale,
            "clipped": fitted.clipped,
            "highest": threshold.levels,
            "stored_points": [one.zero_point, two.zero_point],
            "spans": [[span.low, span.high] for span in spans],
        }
    )
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
