"""Activations in ONNX: one of the proven forms in 32 or 64 bits, or comparison with the thresholds.

In 32 bits everything is saturated first, to integers that are not negative, and then shifted as unsigned integers,
which rounds toward minus infinity. In 64 bits the sum is divided, which truncates: that is another integer for negative
sums alone, and they saturate to the lowest stored code, 0 or more, either way. Clip, Min and Max of int64 are avoided:
onnxruntime 1.25 compares their low halves alone, as seen on a processor with AVX-512. Where floats are allowed,
float64 holds the same numbers exactly and is faster.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import TensorProto

from bitproof.export.integer import (
    EXACT_FLOAT64,
    IntegerType,
    Interval,
    MultiplyShift,
    Ranges,
    RoundingShift,
    Shape,
    Threshold,
    hull,
    solve_requantization,
)
from bitproof.export.onnx_int8.context import Context, Inputs
from bitproof.export.onnx_int8.graph import (
    INT32,
    MAX_STORED,
    GraphWriter,
    PlainIntegers,
    Stored,
    Value,
    column,
    is_wide,
    zero_point_of,
)


def threshold(context: Context, node: Threshold, inputs: Inputs) -> Value:
    """Requantize by a proven form if one is exact, else by a table of codes or comparison.

    Codes that no byte holds as they are, such as negative ones, are stored from 0.
    """
    graph = context.graph
    source, value = inputs[0]
    zero_point = zero_point_of(node.lowest, node.highest)
    lowest = node.lowest + zero_point
    kind = IntegerType.smallest_for(lowest, lowest + node.levels)
    counting = replace(node, lowest=lowest, step=1, output=kind)
    form = solve_requantization(counting, context.ranges[source]) if node.step == 1 else None
    # A threshold that is never met is the largest accumulator plus one.
    reach = hull(context.ranges[source])
    sums = graph.sums(value, wide=is_wide(Interval(reach.low, reach.high + 1)))
    tensor, shape = sums.tensor, context.shapes[source]
    if not _has_form(form, sums, context.ranges[source]):
        form = None
    construction = "single steps"
    if (
        isinstance(form, MultiplyShift)
        and context.construction == "fastest"
        and _in_53_bits(form, context.ranges[source])
    ):
        made = _in_float64(graph, counting, form, tensor, shape)
        method = "product, sum, Clip and truncation in float64, exact"
        construction = "carried in float64"
    elif isinstance(form, MultiplyShift):
        write = _multiply_shift if form.word_bits == 32 else _multiply_divide
        made = write(graph, counting, form, tensor, shape)
        method = f"multiply and shift right by {form.shift}, in {form.word_bits} bits"
    elif isinstance(form, RoundingShift):
        made = _rounding_shift(graph, counting, form, tensor, shape)
        method = f"rounding shift by {form.shift}, a tie to the {'odd' if form.to_odd else 'even'} stored code"
    elif isinstance(value, Stored) and reach.high - reach.low <= MAX_STORED:
        made = _look_up(graph, counting, node.step, sums, shape, reach)
        method = f"table of {reach.high - reach.low + 1} codes a channel"
    else:
        made = _compare(graph, counting, node.step, sums, shape)
        method = "comparison with every threshold"
    if not is_measured(form):
        context.times_ps.pop(node.name, None)
    entry = {"layer": node.name, "source": tensor, "target": made, "zero_point": zero_point, "method": method}
    entry["construction"] = construction
    width = {"type": "int64" if sums.wide else "int32", "shape": [node.channels, *(1,) * (len(shape) - 1)]}
    context.activations.append({**entry, **width})
    return Stored(made, zero_point)


def is_measured(form: MultiplyShift | RoundingShift | None) -> bool:
    """Tell whether measured times of single steps hold for *form*: in 32 bits; comparisons take many times as long."""
    return isinstance(form, RoundingShift) or (isinstance(form, MultiplyShift) and form.word_bits == 32)


def _has_form(form: MultiplyShift | RoundingShift | None, sums: PlainIntegers, reachable: Ranges) -> bool:
    """Tell whether the nodes of *form* take these *sums*: 32 bits, or 64 if each quotient fits 32."""
    if isinstance(form, MultiplyShift) and form.word_bits == 64:
        return _divides(form, reachable)
    return form is not None and not sums.wide


def _in_53_bits(form: MultiplyShift, reachable: Ranges) -> bool:
    """Tell whether 64 bits are needed, but 53 are enough for every product and sum."""
    pairs = zip(form.multiplier.tolist(), form.offset.tolist(), reachable, strict=True)
    numbers = [(end, end * m, end * m + b, b) for m, b, interval in pairs for end in (interval.low, interval.high)]
    return form.word_bits == 64 and max(abs(number) for found in numbers for number in found) <= EXACT_FLOAT64


def _divides(form: MultiplyShift, reachable: Ranges) -> bool:
    """Tell whether every quotient of a reachable accumulator fits 32 bits, where it is saturated."""
    pairs = zip(form.multiplier.tolist(), form.offset.tolist(), reachable, strict=True)
    sums = [end * multiplier + offset for multiplier, offset, i in pairs for end in (i.low, i.high)]
    return bool(max(map(abs, sums)) >> form.shift <= INT32.high)


def _saturate(graph: GraphWriter, name: str, tensor: str, lowest: int, highest: int) -> str:
    """Clip int32 to *lowest*..*highest*, or to what int32 holds of it."""
    low = graph.constant(f"{name}.low", np.array(lowest, dtype=np.int32))
    high = graph.constant(f"{name}.high", np.array(min(highest, INT32.high), dtype=np.int32))
    return graph.operation("Clip", [tensor, low, high], f"{name}.clipped")


def _shift_right(graph: GraphWriter, name: str, tensor: str, shift: int, output: str) -> str:
    """Shift int32 that are not negative: toward minus infinity; the result is uint32."""
    unsigned = graph.cast(tensor, TensorProto.UINT32, f"{tensor}.unsigned")
    distance = graph.constant(f"{name}.shift", np.array(shift, dtype=np.uint32))
    return graph.operation("BitShift", [unsigned, distance], output, direction="RIGHT")


def _multiply_shift(graph: GraphWriter, node: Threshold, form: MultiplyShift, source: str, shape: Shape) -> str:
    """``clip((a * M + B) >> S)`` in 32 bits."""
    name, shift = node.name, form.shift
    multiplier = graph.constant(f"{name}.multiplier", column(form.multiplier, shape))
    offset = graph.constant(f"{name}.offset", column(form.offset, shape))
    product = graph.operation("Mul", [source, multiplier], f"{name}.product")
    total = graph.operation("Add", [product, offset], f"{name}.sum")
    clipped = _saturate(graph, name, total, node.lowest << shift, ((node.lowest + node.levels + 1) << shift) - 1)
    shifted = _shift_right(graph, name, clipped, shift, f"{name}.shifted")
    return graph.cast(shifted, TensorProto.UINT8, f"{name}.codes")


def _in_float64(graph: GraphWriter, node: Threshold, form: MultiplyShift, source: str, shape: Shape) -> str:
    """``floor(clip(a * (M / 2^S) + B / 2^S))``: both constants, products and sums are multiples of 1/2^S in 53 bits."""
    name, sizes = node.name, (-1, *(1,) * (len(shape) - 1))
    factor, addend = (
        graph.constant(f"{name}.{key}", np.ldexp(numbers.astype(np.float64), -form.shift).reshape(sizes))
        for key, numbers in (("multiplier", form.multiplier), ("addend", form.offset))
    )
    floats = graph.cast(source, TensorProto.DOUBLE, f"{name}.float64")
    product = graph.operation("Mul", [floats, factor], f"{name}.product")
    total = graph.operation("Add", [product, addend], f"{name}.sum")
    ends = [("low", node.lowest), ("high", node.lowest + node.levels)]
    limits = [graph.constant(f"{name}.{key}", np.array(end, dtype=np.float64)) for key, end in ends]
    clipped = graph.operation("Clip", [total, *limits], f"{name}.clipped")
    return graph.cast(clipped, TensorProto.UINT8, f"{name}.codes")


def _multiply_divide(graph: GraphWriter, node: Threshold, form: MultiplyShift, source: str, shape: Shape) -> str:
    """``clip((a * M + B) / 2^S)`` in 64 bits, division toward zero."""
    name = node.name
    multiplier = graph.constant(f"{name}.multiplier", column(form.multiplier, shape).astype(np.int64))
    offset = graph.constant(f"{name}.offset", form.offset.reshape(-1, *(1,) * (len(shape) - 1)))
    wide = graph.cast(source, TensorProto.INT64, f"{name}.int64")
    product = graph.operation("Mul", [wide, multiplier], f"{name}.product")
    total = graph.operation("Add", [product, offset], f"{name}.sum")
    divisor = graph.constant(f"{name}.divisor", np.array(1 << form.shift, dtype=np.int64))
    quotient = graph.operation("Div", [total, divisor], f"{name}.quotient")
    narrow = graph.cast(quotient, TensorProto.INT32, f"{name}.int32")
    clipped = _saturate(graph, name, narrow, node.lowest, node.lowest + node.levels)
    return graph.cast(clipped, TensorProto.UINT8, f"{name}.codes")


def _rounding_shift(graph: GraphWriter, node: Threshold, form: RoundingShift, source: str, shape: Shape) -> str:
    """``(b + 2^(k-1) - 1 + odd) >> k`` of the saturated ``b = a + B``; ``odd`` is the lowest bit of ``b >> k``."""
    name, shift = node.name, form.shift
    offset = graph.constant(f"{name}.offset", column(form.offset, shape))
    moved = graph.operation("Add", [source, offset], f"{name}.sum")
    clipped = _saturate(graph, name, moved, node.lowest << shift, (node.lowest + node.levels) << shift)
    quotient = _shift_right(graph, name, clipped, shift, f"{name}.quotient")
    one = graph.constant(f"{name}.one", np.array(1, dtype=np.uint32))
    if form.to_odd:
        quotient = graph.operation("BitwiseXor", [quotient, one], f"{name}.turned")
    bit = graph.operation("BitwiseAnd", [quotient, one], f"{name}.bit")
    odd = graph.cast(bit, TensorProto.INT32, f"{name}.odd")
    half = graph.constant(f"{name}.half", np.array((1 << (shift - 1)) - 1, dtype=np.int32))
    halved = graph.operation("Add", [clipped, half], f"{name}.halved")
    rounded = graph.operation("Add", [halved, odd], f"{name}.rounded")
    shifted = _shift_right(graph, name, rounded, shift, f"{name}.shifted")
    return graph.cast(shifted, TensorProto.UINT8, f"{name}.codes")


def _look_up(
    graph: GraphWriter, node: Threshold, step: int, source: PlainIntegers, shape: Shape, reach: Interval
) -> str:
    """Look each code up in a table of its channel: what the thresholds make of every code from end to end.

    No other code occurs, unless a weight of the file is damaged: it is saturated, so that there is an entry for it.
    """
    name, entries = node.name, reach.high - reach.low + 1
    every = np.repeat(np.arange(reach.low, reach.high + 1)[:, None], node.channels, axis=1)
    codes = node.lowest + step * (node.apply(every) - node.lowest)
    table = graph.constant(f"{name}.table", codes.T.reshape(-1).astype(np.uint8))
    rows = column(entries * np.arange(node.channels, dtype=np.int64) - reach.low, shape)
    inside = _saturate(graph, name, source.tensor, reach.low, reach.high)
    place = graph.operation("Add", [inside, graph.constant(f"{name}.rows", rows)], f"{name}.place")
    return graph.operation("Gather", [table, place], f"{name}.codes", axis=0)


def _compare(graph: GraphWriter, node: Threshold, step: int, source: PlainIntegers, shape: Shape) -> str:
    """Count the thresholds that the accumulator meets: exact by definition, used if no other form is exact."""
    name = node.name
    axis = graph.constant(f"{name}.axis", np.array([-1]))
    last = graph.operation("Unsqueeze", [source.tensor, axis], f"{name}.column")
    kind = np.int64 if source.wide else np.int32
    rows = node.thresholds.astype(kind).reshape(node.channels, *(1,) * (len(shape) - 1), node.levels)
    met = graph.operation("GreaterOrEqual", [last, graph.constant(f"{name}.thresholds", rows)], f"{name}.met")
    ones = graph.cast(met, TensorProto.INT32, f"{name}.ones")
    count = graph.operation("ReduceSum", [ones, axis], f"{name}.count", keepdims=0)
    if step != 1:
        factor = graph.constant(f"{name}.step", np.array(step, dtype=np.int32))
        count = graph.operation("Mul", [count, factor], f"{name}.steps")
    lowest = graph.constant(f"{name}.lowest", np.array(node.lowest, dtype=np.int32))
    code = graph.operation("Add", [count, lowest], f"{name}.code")
    return graph.cast(code, TensorProto.UINT8, f"{name}.codes")
