"""The reason why the ONNX nodes of an activation are monotone: each of them is, and none of them wraps.

The nodes are read as they stand in the file, whatever wrote them, with their constants: a factor or a divisor that is
negative, a sum that may leave its type, or an operation that is not listed here, and nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitproof.pipeline import Codes

Bounds = NDArray[np.object_]
"""Python integers, one per channel, shape (channels,): they have no width."""
INTEGERS = (
    *(TensorProto.INT8, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.UINT8, TensorProto.UINT32, TensorProto.UINT64, TensorProto.BOOL),
)
ROUNDING = "Cast BitShift BitwiseAnd Cast Add Add Cast BitShift"
"""The nodes of ``(b + 2^(k-1) - 1 + odd) >> k`` in the order of the file; one more before the third: to odd."""

FLOATS = "Cast Mul Add Clip Cast"
"""The nodes of an activation in float64."""
LARGEST_FLOAT, LARGEST_BYTE = 2.0**500, 255
"""Far below what float64 overflows at, with integers of 64 bits as the other factor."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What a tensor can hold, *low* to *high* in each channel, its type, and the *terms* along its last axis."""

    low: Bounds
    high: Bounds
    kind: int
    terms: int = 1

    @property
    def fits(self) -> bool:
        """Tell whether the type holds them all, so that nothing wrapped on the way."""
        if self.kind == TensorProto.BOOL:
            return bool(min(self.low) >= 0 and max(self.high) <= 1)
        limits = np.iinfo(helper.tensor_dtype_to_np_dtype(self.kind))
        return bool(min(self.low) >= int(limits.min) and max(self.high) <= int(limits.max))


def why_monotone(part: onnx.GraphProto, lows: Codes, highs: Codes) -> str | None:
    """Say why *part*, from accumulators in *lows*..*highs*, shape (channels,), to codes, does not fall, or return None.

    A product and the sum behind it are one step: both are taken modulo the width, and the sum, which fits, is what it
    would be in unbounded integers.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in part.initializer}
    if [node.op_type for node in part.node] == FLOATS.split():
        return _in_float64(part, constants)
    known = _Known(lows.astype(object), highs.astype(object), part.input[0].type.tensor_type.elem_type)
    tensor, position, steps = part.input[0].name, 0, dict[str, None]()
    while position < len(part.node):
        length = _rounding_length(part, position, tensor, constants)
        step = (
            _rounded(known, part, position, constants)
            if length
            else _stepped(known, part.node[position], tensor, constants)
        )
        if step is None:
            return None
        steps["a rounding shift" if length else part.node[position].op_type] = None
        known, tensor = step, part.node[position + max(length, 1) - 1].output[0]
        position += max(length, 1)
    if not known.fits or tensor != part.output[0].name:
        return None
    return f"each integer step is monotone ({', '.join(steps)}; factors and divisors are not negative) and none wraps"


def _in_float64(part: onnx.GraphProto, constants: Mapping[str, NDArray[Any]]) -> str | None:
    """Say why the five nodes of an activation in float64 do not fall: none does, and rounding keeps the order."""
    widened, product, total, clipped, narrowed = part.node
    wired = widened.input[0] == part.input[0].name and narrowed.output[0] == part.output[0].name
    pairs = zip(part.node[:-1], part.node[1:], strict=True)
    wired = wired and all(before.output[0] == after.input[0] for before, after in pairs)
    operands = [constants.get(name) for node in (product, total, clipped) for name in node.input[1:]]
    if not wired or len(operands) != 4 or any(value is None or not np.isfinite(value).all() for value in operands):
        return None
    factor, addend, low, high = (np.asarray(value) for value in operands)
    small = max(np.abs(factor).max(), np.abs(addend).max()) < LARGEST_FLOAT
    kinds = (widened.attribute[0].i, narrowed.attribute[0].i)
    if (
        factor.min() < 0
        or not small
        or low < 0
        or high > LARGEST_BYTE
        or kinds != (TensorProto.DOUBLE, TensorProto.UINT8)
    ):
        return None
    return (
        "conversion to float64, product by a factor that is not negative, sum, Clip and truncation are monotone, and "
        "what is left fits a byte"
    )


def _stepped(known: _Known, node: onnx.NodeProto, tensor: str, constants: Mapping[str, NDArray[Any]]) -> _Known | None:
    """Return what *node* makes of *known*; None if it is not known to be monotone."""
    if node.input[0] != tensor or not all(name in constants for name in node.input[1:]):
        return None
    operands = [constants[name] for name in node.input[1:]]
    if node.op_type not in ("Mul", "Add") and not known.fits:
        return None
    low, high, kind = known.low, known.high, known.kind
    match node.op_type:
        case "Mul" if known.fits and operands[0].min() >= 0:
            factor = _by_channel(operands[0])
            return _Known(low * factor, high * factor, kind)
        case "Add":
            term = _by_channel(operands[0])
            return _Known(low + term, high + term, kind)
        case "Div" if operands[0].min() > 0:
            divisor = _by_channel(operands[0])
            return _Known(_truncated(low, divisor), _truncated(high, divisor), kind)
        case "Clip":
            ends = (int(operands[0]), int(operands[1]))
            return _Known(np.clip(low, *ends), np.clip(high, *ends), kind)
        case "BitShift" if min(low) >= 0:
            shift = int(operands[0])
            return _Known(low >> shift, high >> shift, kind)
        case "Cast" if node.attribute[0].i in INTEGERS:
            made = _Known(low, high, int(node.attribute[0].i), known.terms)
            return made if made.fits else None
        case "Unsqueeze":
            return known
        case "GreaterOrEqual":
            return _Known(low * 0, low * 0 + 1, TensorProto.BOOL, operands[0].shape[-1])
        case "ReduceSum":
            return _Known(low * known.terms, high * known.terms, kind)
    return None


def _by_channel(constant: NDArray[Any]) -> Bounds:
    return constant.reshape(-1).astype(object)


def _truncated(numbers: Bounds, divisor: Bounds) -> Bounds:
    """Divide toward zero."""
    quotient: Bounds = np.sign(numbers) * (np.abs(numbers) // divisor)
    return quotient


def _rounding_length(part: onnx.GraphProto, start: int, tensor: str, constants: Mapping[str, NDArray[Any]]) -> int:
    """Return how many nodes from *start* on are the rounding shift of *tensor*: 8, or 9 to odd; 0 if none is."""
    for turned in (0, 1):
        nodes = part.node[start : start + 8 + turned]
        kinds = [node.op_type for node in nodes]
        if turned and kinds[2:3] != ["BitwiseXor"]:
            continue
        plain = nodes[:2] + nodes[2 + turned :] if turned else nodes
        if [node.op_type for node in plain] != ROUNDING.split():
            continue
        unsigned, quotient, bit, odd, halved, rounded, again, shifted = plain
        before = nodes[2] if turned else quotient
        wired = (
            [unsigned.input[0], halved.input[0]] == [tensor, tensor]
            and quotient.input[0] == unsigned.output[0]
            and bit.input[0] == before.output[0]
            and (not turned or nodes[2].input[0] == quotient.output[0])
            and odd.input[0] == bit.output[0]
            and list(rounded.input) == [halved.output[0], odd.output[0]]
            and again.input[0] == rounded.output[0]
            and shifted.input[0] == again.output[0]
        )
        ones = [bit.input[1], *([nodes[2].input[1]] if turned else [])]
        shift = int(constants.get(quotient.input[1], np.array(0)))
        right = (
            shift >= 1
            and quotient.input[1] == shifted.input[1]
            and all(int(constants.get(name, np.array(0))) == 1 for name in ones)
            and int(constants.get(halved.input[1], np.array(-1))) == (1 << (shift - 1)) - 1
        )
        if wired and right:
            return 8 + turned
    return 0


def _rounded(known: _Known, part: onnx.GraphProto, start: int, constants: Mapping[str, NDArray[Any]]) -> _Known | None:
    """Return the range behind a rounding shift, which rises as a whole: to the nearest integer, ties to one side."""
    shift = int(constants[part.node[start + 1].input[1]])
    if min(known.low) < 0 or not _Known(known.low, known.high + (1 << shift), known.kind).fits:
        return None
    return _Known(known.low >> shift, (known.high + (1 << (shift - 1))) >> shift, TensorProto.UINT32)
