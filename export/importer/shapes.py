"""Shapes of tensors, with the batch as a size that stays open: what a Reshape and a change of layout need to know.

If a shape is not known, nothing is guessed: whatever depends on it stays as it is in the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final, Literal

import onnx

from bitproof.export.importer.domains import is_general
from bitproof.export.importer.graph import Array, input_of, integer, integers, operations, text

BATCH: Final = "N"
Size = int | Literal["N"] | None
"""The size of one axis: a number, the batch, or not known."""
Shape = tuple[Size, ...]

SAME_SHAPE = operations(
    "BatchNormalization BipolarQuant Cast Clip DequantizeLinear Dropout Elu Erf Exp Floor Ceil FloatQuant "
    "HardSigmoid HardSwish Identity LeakyRelu Log LogSoftmax MultiThreshold Neg Abs PRelu Quant QuantizeLinear "
    "Reciprocal Relu Round Selu Sigmoid Sign Softmax Softplus Softsign Sqrt Tanh Trunc"
)
BROADCAST = operations("Add Div Max Min Mul Pow Sub Equal Greater Less Where Mod")
REDUCTIONS = operations("ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd")


def output_shape(node: onnx.NodeProto, shapes: Mapping[str, Shape], constants: Mapping[str, Array]) -> Shape | None:
    """Return the shape of the first output of *node*; None if it is not known.

    A node whose attributes contradict each other has no known shape; the pass that reads it refuses it.
    """
    inputs = [constants[name].shape if name in constants else shapes.get(name) for name in node.input if name]
    if not inputs or any(shape is None for shape in inputs):
        return None
    known = [shape for shape in inputs if shape is not None]
    rule = _rule(node)
    if rule is None:
        return None
    try:
        return rule(node, known, constants)
    except (ValueError, IndexError, ZeroDivisionError, TypeError, KeyError):
        return None


_Rule = Callable[[onnx.NodeProto, list[Shape], Mapping[str, Array]], Shape | None]


def _rule(node: onnx.NodeProto) -> _Rule | None:
    if node.op_type in SAME_SHAPE:
        return lambda _node, shapes, _constants: shapes[0]
    if node.op_type in BROADCAST:
        return lambda _node, shapes, _constants: broadcast(*shapes)
    if node.op_type in REDUCTIONS:
        return _reduced
    return _RULES.get(node.op_type)


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape that *shapes* are broadcast to.

    Raises:
        ValueError: they do not fit.
    """
    rank = max(len(shape) for shape in shapes)
    result: list[Size] = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        wide = {size for size in sizes if size != 1}
        if None in wide:
            result.append(None)
        elif len(wide) > 1:
            raise ValueError(f"sizes {sizes} cannot be broadcast")
        else:
            result.append(next(iter(wide), 1))
    return tuple(result)


def number_of(sizes: Shape) -> int | None:
    """Return the product of *sizes*; None if one is the batch or not known."""
    numbers = [size for size in sizes if isinstance(size, int)]
    return math.prod(numbers) if len(numbers) == len(sizes) else None


def whole_numbers(array: Array) -> list[int]:
    """Return the numbers of *array*, a few axes, sizes or pads.

    Raises:
        ValueError: they are not integers.
    """
    if array.dtype.kind not in "iu":
        raise ValueError(f"{array.dtype} where integers are expected")
    return [int(entry) for entry in array.reshape(-1).tolist()]


def _reduced(node: onnx.NodeProto, shapes: list[Shape], constants: Mapping[str, Array]) -> Shape | None:
    shape = shapes[0]
    name = input_of(node, 1)
    if name and name not in constants:
        return None
    listed = whole_numbers(constants[name]) if name else integers(node, "axes")
    axes = {axis % len(shape) for axis in listed} if listed else set(range(len(shape)))
    if integer(node, "keepdims", 1):
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _windows(size: Size, kernel: int, stride: int, dilation: int, padding: int, ceil: int) -> Size:
    if not isinstance(size, int):
        return None
    room = size + padding - dilation * (kernel - 1) - 1
    if min(kernel, stride, dilation) < 1 or padding < 0 or room < 0:
        raise ValueError("the window does not fit")
    return (-(-room // stride) if ceil else room // stride) + 1


def _spatial(node: onnx.NodeProto, shape: Shape, kernel: tuple[int, ...]) -> Shape:
    axes = len(shape) - 2
    strides = integers(node, "strides") or (1,) * axes
    dilations = integers(node, "dilations") or (1,) * axes
    pads = integers(node, "pads") or (0,) * 2 * axes
    automatic = text(node, "auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(None if not isinstance(s, int) else -(-s // t) for s, t in zip(shape[2:], strides, strict=True))
    if not len(kernel) == len(strides) == len(dilations) == axes or len(pads) != 2 * axes:
        raise ValueError("attributes of different ranks")
    ceil = integer(node, "ceil_mode", 0)
    return tuple(
        _windows(shape[2 + i], kernel[i], strides[i], dilations[i], pads[i] + pads[i + axes], ceil) for i in range(axes)
    )


def _conv(node: onnx.NodeProto, shapes: list[Shape], _constants: Mapping[str, Array]) -> Shape | None:
    kernel = tuple(size for size in shapes[1][2:] if isinstance(size, int))
    return (shapes[0][0], shapes[1][0], *_spatial(node, shapes[0], kernel))


def _pool(node: onnx.NodeProto, shapes: list[Shape], _constants: Mapping[str, Array]) -> Shape | None:
    if is_general(node, "QuantAvgPool2d"):
        kernel, stride = integer(node, "kernel", 1), integer(node, "stride", 1)
        return (*shapes[0][:2], *(_windows(size, kernel, stride, 1, 0, 0) for size in shapes[0][2:]))
    return (*shapes[0][:2], *_spatial(node, shapes[0], integers(node, "kernel_shape") or ()))


def _global_pool(_node: onnx.NodeProto, shapes: list[Shape], _constants: Mapping[str, Array]) -> Shape | None:
    return (*shapes[0][:2], *(1 for _ in shapes[0][2:]))


def _gemm(node: onnx.NodeProto, shapes: list[Shape], _constants: Mapping[str, Array]) -> Shape | None:
    return (shapes[0][integer(node, "transA", 0)], shapes[1][1 - integer(node, "transB", 0)])


def _matmul(_node: onnx.NodeProto, shapes: list[Shape], _constants: Mapping[str, Array]) -> Shape | None:
    left, right = shapes[:2]
    if min(len(left), len(right)) < 2:
        return None
    return (*broadcast(left[:-2], right[:-2]), left[-2], right[-1])


def _flatten(node: onnx.NodeProto, shapes: list[Shape], _constants: Mapping[str, Array]) -> Shape | None:
    axis = integer(node, "axis", 1) % (len(shapes[0]) + 1)
    rows = shapes[0][0] if axis == 1 else number_of(shapes[0][:axis])
    return (rows, number_of(shapes[0][axis:]))


def _transpose(node: onnx.NodeProto, shapes: list[Shape], _constants: Mapping[str, Array]) -> Shape | None:
    order = integers(node, "perm") or tuple(range(len(shapes[0])))[::-1]
    if sorted(order) != list(range(len(shapes[0]))):
        raise ValueError("perm is no permutation")
    return tuple(shapes[0][axis] for axis in order)


def _concat(node: onnx.NodeProto, shapes: list[Shape], _constants: Mapping[str, Array]) -> Shape | None:
    axis = integer(node, "axis", 0) % len(shapes[0])
    joined = number_of(tuple(shape[axis] for shape in shapes))
    total = None if joined is None else sum(size for shape in shapes if isinstance(size := shape[axis], int))
    return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


def _pad(node: onnx.NodeProto, shapes: list[Shape], constants: Mapping[str, Array]) -> Shape | None:
    pads = whole_numbers(constants[node.input[1]])
    rank = len(shapes[0])
    named = whole_numbers(constants[node.input[3]]) if input_of(node, 3) else range(rank)
    axes = [axis % rank for axis in named]
    added = dict.fromkeys(range(rank), 0)
    for position, axis in enumerate(axes):
        added[axis] = int(pads[position]) + int(pads[position + len(axes)])
    return tuple(
        size if not added[axis] else size + added[axis] if isinstance(size, int) else None
        for axis, size in enumerate(shapes[0])
    )


def _squeeze(node: onnx.NodeProto, shapes: list[Shape], constants: Mapping[str, Array]) -> Shape | None:
    axes = {axis % len(shapes[0]) for axis in whole_numbers(constants[node.input[1]])}
    return tuple(size for axis, size in enumerate(shapes[0]) if axis not in axes)


def _unsqueeze(node: onnx.NodeProto, shapes: list[Shape], constants: Mapping[str, Array]) -> Shape | None:
    given = whole_numbers(constants[node.input[1]])
    rank = len(shapes[0]) + len(given)
    axes = {axis % rank for axis in given}
    if len(axes) != len(given):
        raise ValueError("an axis is named twice")
    kept = iter(shapes[0])
    return tuple(1 if axis in axes else next(kept) for axis in range(rank))


def _reshape(node: onnx.NodeProto, shapes: list[Shape], constants: Mapping[str, Array]) -> Shape | None:
    given: list[Size] = list(whole_numbers(constants[node.input[1]]))
    source = shapes[0]
    if not integer(node, "allowzero", 0):
        given = [source[axis] if size == 0 else size for axis, size in enumerate(given)]
    if -1 not in given:
        return tuple(given)
    open_axis = given.index(-1)
    rest = [*given[:open_axis], *given[open_axis + 1 :]]
    elements, named = list(source), list(rest)
    if BATCH in elements and BATCH in named:
        elements.remove(BATCH)
        named.remove(BATCH)
    if BATCH in elements and number_of(tuple(size for size in elements if size != BATCH)) == number_of(tuple(named)):
        given[open_axis] = BATCH
    else:
        total, others = number_of(tuple(elements)), number_of(tuple(named))
        given[open_axis] = None if total is None or not others or total % others else total // others
    return tuple(given)


def _resize(node: onnx.NodeProto, shapes: list[Shape], constants: Mapping[str, Array]) -> Shape | None:
    if input_of(node, 3):
        return (shapes[0][0], *whole_numbers(constants[node.input[3]])[1:])
    factors = [Fraction(float(factor)) for factor in constants[input_of(node, 2)].reshape(-1)]
    if len(factors) != len(shapes[0]) or factors[0] != 1:
        raise ValueError("not a factor for each axis, 1 for the batch")
    sizes = zip(shapes[0][1:], factors[1:], strict=True)
    return (shapes[0][0], *(math.floor(size * factor) if isinstance(size, int) else None for size, factor in sizes))


def _arg(node: onnx.NodeProto, shapes: list[Shape], _constants: Mapping[str, Array]) -> Shape | None:
    axis = integer(node, "axis", 0) % len(shapes[0])
    kept = (1,) if integer(node, "keepdims", 1) else ()
    return (*shapes[0][:axis], *kept, *shapes[0][axis + 1 :])


def _topk(node: onnx.NodeProto, shapes: list[Shape], constants: Mapping[str, Array]) -> Shape | None:
    axis = integer(node, "axis", -1) % len(shapes[0])
    return (*shapes[0][:axis], whole_numbers(constants[node.input[1]])[0], *shapes[0][axis + 1 :])


def _slice(node: onnx.NodeProto, shapes: list[Shape], constants: Mapping[str, Array]) -> Shape | None:
    first, last = (whole_numbers(constants[node.input[index]]) for index in (1, 2))
    axes = whole_numbers(constants[node.input[3]]) if input_of(node, 3) else range(len(first))
    steps = whole_numbers(constants[node.input[4]]) if input_of(node, 4) else [1] * len(first)
    sizes = list(shapes[0])
    for axis, start, stop, step in zip(axes, first, last, steps, strict=True):
        size = sizes[axis]
        sizes[axis] = len(range(size)[start:stop:step]) if isinstance(size, int) else None
    return tuple(sizes)


_RULES: Mapping[str, _Rule] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "QuantAvgPool2d": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Concat": _concat,
    "Pad": _pad,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "ArgMax": _arg,
    "ArgMin": _arg,
    "TopK": _topk,
}

CHANGES_SHAPE = frozenset(_RULES)
"""Operations with a rule of their own."""
