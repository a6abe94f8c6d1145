"""Steps of the program as one or few operators of onnxruntime that multiply, requantize and saturate in one go.

A product that ends with thresholds becomes the fastest of these that is proven for it, by a table of measured times
(:mod:`bitproof.export.onnx_int8.costs`):

* ``quantized``: QLinearConv, or QGemm for a matrix, on weights times k, stored in int8 or uint8
  (:mod:`bitproof.export.onnx_int8.fitting`);
* ``carried``: a float32 Conv whose sums are exact, and QuantizeLinear;
* single integer steps, which are always proven.

A sum of codes, or codes that take another scale, become QLinearAdd (:mod:`bitproof.export.onnx_int8.joined`). A max
pool goes onto what was requantized, which is the same, since codes never fall. Single steps are nodes written one by
one, as :mod:`bitproof.export.onnx_int8.operations` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto

from bitproof.export.integer import (
    EXACT_FLOAT32,
    Add,
    Affine,
    Conv,
    MatMul,
    MaxPool,
    Ranges,
    Threshold,
    hull,
    solve_requantization,
)
from bitproof.export.onnx_int8.context import Context
from bitproof.export.onnx_int8.costs import Way, ranked
from bitproof.export.onnx_int8.fitting import Fitted, counted, divisor_of, fit
from bitproof.export.onnx_int8.graph import INT8, MAX_STORED, Stored, Value, zero_point_of
from bitproof.export.onnx_int8.joined import joined, rescaled
from bitproof.export.onnx_int8.products import code_zero, partial_sums, spatial, unpacked
from bitproof.export.onnx_int8.requantization import is_measured
from bitproof.export.program.step import Step
from bitproof.pipeline import Codes

PAIR_LIMIT = (1 << 15) - 1
"""Two products of uint8 and int8 are added in 16 bits, saturating, by processors with AVX2 and without VNNI."""
MIDDLE = 128
"""Zero point of weights in uint8, which no processor saturates."""
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
    """Write *step*, which takes *inputs*, its ``before`` carried out already; None: single steps are to be used."""
    threshold = step.thresholds
    if threshold is not None and isinstance(step.main, Conv | MatMul):
        context.times_ps[threshold.name] = _estimates(context, step.main)["single-steps"]
    if context.construction == "single-steps" or threshold is None or threshold.step != 1:
        return None
    if threshold is step.main:
        unchanged = _unchanged(context, threshold, inputs[0])
        if unchanged is not None:
            return unchanged
    zero_point = zero_point_of(threshold.lowest, threshold.highest)
    if threshold.lowest + zero_point:
        return None
    if threshold is step.main:
        return rescaled(context, threshold, inputs[0], zero_point)
    if isinstance(step.main, Add):
        is_plain = len(inputs) == 2 and step.after == (threshold,)
        return joined(context, step.main, threshold, inputs, zero_point) if is_plain else None
    task = _task(context, step, inputs[0], threshold, zero_point)
    return None if task is None else _fastest(context, task)


def _fastest(context: Context, task: _Task) -> Stored | None:
    """Write the activation of *task* in the fastest way that is proven; None: single steps are."""
    estimates = _estimates(context, task.product)
    for way in ranked(estimates):
        if way == "single-steps":
            if is_measured(solve_requantization(task.thresholds, context.ranges[task.product.name])):
                return None
        elif _write(context, task, way):
            context.times_ps[task.activation.name] = estimates[way]
            return Stored(_name(task), task.zero_point)
    return None


def _estimates(context: Context, product: Conv | MatMul) -> dict[Way, int]:
    """Return picoseconds a sample for each construction that *product* has, whether it is proven or not."""
    positions = prod(context.shapes[product.name][1:]) if isinstance(product, Conv) else 1
    return dict(context.costs.estimate_ps(product, positions))


def _write(context: Context, task: _Task, way: Way) -> bool:
    """Write the activation of *task* by *way*, if that is allowed and proven."""
    if way == "carried":
        return _carried(context, task)
    return _quantized(context, task, unsigned=way == "quantized-uint8")


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


def _factor(task: _Task, *, unsigned: bool) -> int:
    """Return the largest number by which the weights may be stored multiplied, in uint8 or int8; 0: by none.

    They lie about the middle of uint8. Of int8 two products may have to fit 16 bits.
    """
    weights = task.product.weights
    low, high = min(int(weights.min()), -1), max(int(weights.max()), 1)
    fits = min(INT8.high // high, INT8.low // low)
    return fits if unsigned else min(fits, PAIR_LIMIT // (2 * max(high, -low) * max(task.largest, 1)))


def _quantized(context: Context, task: _Task, *, unsigned: bool) -> bool:
    """Write QLinearConv or QGemm, if the largest factor is proven."""
    factor = _factor(task, unsigned=unsigned)
    fitted = fit(task.thresholds, context.ranges[task.product.name], factor) if factor else None
    if fitted is None:
        return False
    _write_quantized(context, task, fitted, unsigned=unsigned)
    return True


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
