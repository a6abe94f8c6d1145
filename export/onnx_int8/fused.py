"""Steps of the program as one or few operators of onnxruntime that multiply, requantize and saturate in one go.

A product that ends with thresholds becomes, in an order that depends on its shape,

* ``quantized``: QLinearConv, or QGemm for a matrix, on stored weights times k
  (:mod:`bitproof.export.onnx_int8.fitting`);
* ``carried``: a float32 Conv whose sums are exact, and QuantizeLinear, which is faster if a channel meets few inputs.

A sum of codes becomes QLinearAdd, if every pair of codes gives what it should. A max pool goes onto what was
requantized, which is the same, since codes never fall. Where nothing of this is proven, the nodes are written one by
one, as :mod:`bitproof.export.onnx_int8.operations` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from onnx import TensorProto

from bitproof.export.integer import (
    EXACT_FLOAT32,
    Add,
    Affine,
    Conv,
    IntegerType,
    Interval,
    MatMul,
    MaxPool,
    Ranges,
    Threshold,
    hull,
)
from bitproof.export.onnx_int8.context import Context
from bitproof.export.onnx_int8.fitting import Fitted, divisor_of, fit, run_ends
from bitproof.export.onnx_int8.graph import INT8, MAX_STORED, Stored, Value, zero_point_of
from bitproof.export.onnx_int8.products import code_zero, spatial, unpacked
from bitproof.export.program.step import Step
from bitproof.pipeline import Codes

PAIR_LIMIT = (1 << 15) - 1
"""Two products of uint8 and int8 are added in 16 bits, saturating, by processors with AVX2 and without VNNI."""
MIDDLE = 128
"""Zero point of weights in uint8, which no processor saturates."""
FEW_INPUTS = 3
"""A convolution that takes so few channels is faster in float32 than in QLinearConv (``make bench-onnx``)."""
FINE, LARGEST_TERM, ROUNDINGS = 1 << 12, 4 * 255, 8
"""Of QLinearAdd: a denominator, the largest sum of bytes, and more roundings than any way of adding three terms has."""
MOST_PARTS = 1 << 10
"""The finest bias of a float32 convolution, in parts of an accumulator: finer than any activation needs it."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A product and what its sums become.

    Attributes:
        product: the node.
        source: what it takes.
        ranges: of the channels of *source*.
        largest: the largest byte that *source* holds.
        activation: the node of the thresholds.
        thresholds: the same, counting from code 0, on the accumulators of *product* itself.
        bias: that lies between the two.
        zero_point: of the stored codes.
        pool: a max pool behind it.
    """

    product: Conv | MatMul
    source: Stored
    ranges: Ranges
    largest: int
    activation: Threshold
    thresholds: Threshold
    bias: Codes
    zero_point: int
    pool: MaxPool | None


def fused(context: Context, step: Step, inputs: Sequence[tuple[str, Value]]) -> Value | None:
    """Write *step*, which takes *inputs*, its ``before`` carried out already; None: nothing is proven for it."""
    threshold = step.thresholds
    if context.construction == "single-steps" or threshold is None or threshold.step != 1:
        return None
    if threshold is step.main:
        return _unchanged(context, threshold, inputs[0])
    zero_point = zero_point_of(threshold.lowest, threshold.highest)
    if threshold.lowest + zero_point:
        return None
    if isinstance(step.main, Add):
        is_plain = len(inputs) == 2 and step.after == (threshold,)
        return _joined(context, step.main, threshold, inputs, zero_point) if is_plain else None
    task = _task(context, step, inputs[0], threshold, zero_point)
    if task is None:
        return None
    product = task.product
    few = isinstance(product, Conv) and product.groups == 1 and product.weights.shape[1] <= FEW_INPUTS
    for write in (_carried, _quantized) if few else (_quantized, _carried):
        if write(context, task):
            return Stored(_name(task), zero_point)
    return None


def _unchanged(context: Context, threshold: Threshold, given: tuple[str, Value]) -> Stored | None:
    """Return what *threshold* takes, if it leaves every code as it is."""
    name, value = given
    reachable = context.ranges[name]
    if not isinstance(value, Stored) or hull(reachable).high - hull(reachable).low > MAX_STORED:
        return None
    every = np.stack([np.arange(hull(reachable).low, hull(reachable).high + 1)] * threshold.channels, axis=1)
    lows, highs = (np.array([getattr(i, end) for i in reachable]) for end in ("low", "high"))
    seen = (every >= lows) & (every <= highs)
    if (threshold.apply(every) != every)[seen].any():
        return None
    shape = [threshold.channels, *(1,) * (len(context.shapes[name]) - 1)]
    common = {"layer": threshold.name, "target": value.tensor, "zero_point": value.zero_point, "shape": shape}
    context.activations.append({**common, "construction": "unchanged", "method": "codes stay as they are"})
    return value


def _task(
    context: Context, step: Step, given: tuple[str, Value], threshold: Threshold, zero_point: int
) -> _Task | None:
    name, source = given
    product = step.main
    biases = [node for node in step.after if isinstance(node, Affine)]
    if not isinstance(product, Conv | MatMul) or not isinstance(source, Stored) or not source.is_operand:
        return None
    if isinstance(product, MatMul) and len(context.shapes[name]) != 1:
        return None
    if not all(node.is_bias for node in biases):
        return None
    bias = sum((node.offsets for node in biases), np.zeros(product.outputs, dtype=np.int64))
    thresholds = replace(counted(threshold), thresholds=threshold.thresholds - bias[:, None])
    ranges = context.ranges[name]
    largest = hull(ranges).high + source.zero_point
    return _Task(product, source, ranges, largest, threshold, thresholds, bias, zero_point, step.max_pool)


def counted(node: Threshold) -> Threshold:
    """Return *node* with its codes counted from 0."""
    return replace(node, lowest=0, step=1, output=IntegerType.smallest_for(0, node.levels))


def _name(task: _Task) -> str:
    """Return the name of the tensor of codes."""
    return f"{task.activation.name}.codes"


Operation = tuple[str, list[str], dict[str, Any]]
"""Its type, what it takes beside a tensor, and its attributes."""


def _finished(context: Context, task: _Task, tensor: str, tail: Sequence[Operation]) -> None:
    """Pool *tensor*, and carry out *tail* on it: the last of it gives the codes."""
    graph = context.graph
    steps = list(tail)
    if task.pool is not None:
        steps.insert(0, ("MaxPool", [], spatial(task.pool.window)))
    for place, (op, operands, attributes) in enumerate(steps):
        last = place == len(steps) - 1
        output = _name(task) if last else f"{task.activation.name}.step{place}"
        tensor = graph.operation(op, [tensor, *operands], output, **attributes)


def _described(context: Context, task: _Task, entry: dict[str, Any]) -> None:
    """Note how the activation of *task* is made, and how its accumulators would be shown."""
    node, graph = task.product, context.graph
    shape = [node.outputs, *(1,) * (len(context.shapes[node.name]) - 1)]
    common = {"layer": task.activation.name, "target": _name(task), "zero_point": task.zero_point, "shape": shape}
    highest = {"bias": task.bias.tolist(), "highest": task.activation.levels}
    context.activations.append({**common, **highest, **entry})
    weights, zero = unpacked(graph, node)
    op, attributes = "MatMulInteger", {}
    if isinstance(node, Conv):
        op, attributes = "ConvInteger", {"group": node.groups, **spatial(node.window)}
    tensor = f"{node.name}.accumulators"
    operands = [task.source.tensor, weights, code_zero(graph, task.source), zero]
    node_of = {"op": op, "inputs": operands, "output": tensor, "attributes": attributes}
    context.hidden[node.name] = {"tensor": tensor, "zero_point": 0, "type": "int32", "nodes": [node_of]}


def _factors(task: _Task) -> Iterator[tuple[int, bool]]:
    """Yield by which factors the weights may be stored multiplied, the largest first, and whether in uint8.

    int8 is faster, but two products may have to fit 16 bits.
    """
    weights = task.product.weights
    low, high = min(int(weights.min()), -1), max(int(weights.max()), 1)
    fits = min(INT8.high // high, INT8.low // low)
    safe = PAIR_LIMIT // (2 * max(high, -low) * max(task.largest, 1))
    if min(fits, safe):
        yield min(fits, safe), False
    if fits > safe:
        yield fits, True


def _quantized(context: Context, task: _Task) -> bool:
    """Write QLinearConv or QGemm, if some factor is proven."""
    reachable = context.ranges[task.product.name]
    for factor, unsigned in _factors(task):
        fitted = fit(task.thresholds, reachable, factor)
        if fitted is not None:
            _write_quantized(context, task, fitted, unsigned=unsigned)
            return True
    return False


def _write_quantized(context: Context, task: _Task, fitted: Fitted, *, unsigned: bool) -> None:
    graph, node = context.graph, task.product
    name, act = node.name, task.activation.name
    weights, zero = unpacked(graph, node)
    wide = graph.cast(weights, TensorProto.INT32, f"{name}.fields32")
    centre = graph.cast(zero, TensorProto.INT32, f"{name}.zero32")
    factor = graph.constant(f"{name}.factor", np.array(fitted.factor, dtype=np.int32))
    scaled = graph.operation(
        "Mul", [graph.operation("Sub", [wide, centre], f"{name}.signed"), factor], f"{name}.scaled"
    )
    kind: type[np.int8] | type[np.uint8] = np.int8
    if unsigned:
        kind = np.uint8
        scaled = graph.operation("Add", [scaled, graph.integer(MIDDLE)], f"{name}.moved")
    stored = graph.cast(scaled, int(TensorProto.UINT8 if unsigned else TensorProto.INT8), f"{name}.stored")
    one = graph.constant("one", np.array(1, dtype=np.float32))
    none = graph.constant("zero", np.array(0, dtype=np.uint8))
    middle = np.array(MIDDLE if unsigned else 0, dtype=kind)
    if isinstance(node, MatMul):  # QGemm wants one for each scale
        middle = np.full(node.outputs, middle)
    weight_zero = graph.constant(f"stored_zero{middle.flat[0]}_{middle.size}", middle)
    scale = graph.constant(f"{act}.scale", fitted.scale)
    bias = graph.constant(f"{act}.bias", fitted.bias.astype(np.int32))
    source = [task.source.tensor, one, code_zero(graph, task.source)]
    tail: list[Operation] = [("Clip", _limits(context, task), {})] if fitted.clipped else []
    output = _name(task) if not tail and task.pool is None else f"{act}.requantized"
    if isinstance(node, Conv):
        operands = [*source, stored, scale, weight_zero, one, none, bias]
        made = graph.operation("QLinearConv", operands, output, group=node.groups, **spatial(node.window))
    else:
        operands = [*source, stored, scale, weight_zero, bias, one, none]
        made = graph.operation("QGemm", operands, output, transA=0, transB=0, alpha=1.0)
    if made != _name(task):
        _finished(context, task, made, tail)
    operator = "QLinearConv" if isinstance(node, Conv) else "QGemm"
    method = f"{operator}, {'uint8' if unsigned else 'int8'} weights times {fitted.factor}"
    constants = {"scale": scale, "offset": bias, "factor": fitted.factor, "clipped": fitted.clipped}
    _described(context, task, {"construction": "quantized", "method": method, **constants})


def partial_sums(product: Conv | MatMul, ranges: Ranges) -> int:
    """Return a bound on the magnitude of every partial sum of *product*, in whatever order, for codes in *ranges*."""
    weights = product.weights.reshape(product.outputs, -1)
    largest = hull(ranges).magnitude
    ups, downs = (np.clip(sign * weights, 0, None).sum(axis=1).max() for sign in (1, -1))
    return int(max(ups, downs)) * largest


def _carried(context: Context, task: _Task) -> bool:
    """Write a float32 convolution and QuantizeLinear, if every partial sum is exact in float32.

    The integer accumulators and the bias B / k, with k a power of 2, are multiples of 1 / k below 2^24 / k.
    """
    node, act = task.product, task.activation.name
    if context.construction == "integer-only" or not isinstance(node, Conv) or task.source.zero_point:
        return False
    bound = partial_sums(node, task.ranges)
    factor = 1 << max(0, min(MOST_PARTS, EXACT_FLOAT32 // (2 * bound + 1)).bit_length() - 1)
    fitted = fit(task.thresholds, context.ranges[node.name], factor, divides=True)
    if fitted is None or bound * factor + int(np.abs(fitted.bias).max()) > EXACT_FLOAT32:
        return False
    graph, name = context.graph, node.name
    weights, zero = unpacked(graph, node)
    floats = graph.cast(weights, TensorProto.FLOAT, f"{name}.floats")
    centre = graph.cast(zero, TensorProto.FLOAT, f"{name}.zero_float")
    signed = graph.operation("Sub", [floats, centre], f"{name}.signed")
    bias = graph.constant(f"{act}.bias", (fitted.bias / factor).astype(np.float32))
    source = graph.cast(task.source.tensor, TensorProto.FLOAT, f"{task.source.tensor}.float")
    window = spatial(node.window)
    tensor = graph.operation("Conv", [source, signed, bias], f"{act}.sums", group=node.groups, **window)
    divisor = graph.constant(f"{act}.scale", divisor_of(fitted.scale, factor))
    zeros = graph.constant(f"zeros{node.outputs}", np.zeros(node.outputs, dtype=np.uint8))
    tail: list[Operation] = [("QuantizeLinear", [divisor, zeros], {"axis": 1})]
    if fitted.clipped:
        tail.append(("Clip", _limits(context, task), {}))
    _finished(context, task, tensor, tail)
    method = f"float32 convolution of exact sums with a bias in parts of 1/{factor}, QuantizeLinear"
    constants = {"scale": divisor, "offset": bias, "factor": factor, "clipped": fitted.clipped}
    _described(context, task, {"construction": "carried", "method": method, **constants})
    return True


def _limits(context: Context, task: _Task) -> list[str]:
    """Return the constants of a Clip of the codes."""
    none = context.graph.constant("zero", np.array(0, dtype=np.uint8))
    highest = np.array(task.activation.levels, dtype=np.uint8)
    return [none, context.graph.constant(f"{task.activation.name}.highest", highest)]


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


def _joined(
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
