"""The input of a normalized network: which codes it takes, and what turns real inputs into them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bitproof.export.importer.domains import is_general, is_standard
from bitproof.export.importer.graph import Array, input_of, integer, label, number, operations, refusal
from bitproof.pipeline import Codes, InputError
from bitproof.pipeline.input_type import EXAMPLES

HEAD = operations("Add BatchNormalization Clip Div Flatten Mul Neg Pad Relu Reshape Squeeze Sub Transpose Unsqueeze")
"""What may stand between the input and its quantizer: it is run as it is, to turn real inputs into codes."""
PREPROCESSING = operations("Add BatchNormalization Div Mul Neg Sub")
"""What calculates with the input before its quantizer: on declared codes it is a table, code to code."""
ANY_QUANTIZER = operations(
    "BipolarQuant DequantizeLinear FloatQuant IntQuant MultiThreshold Quant QuantizeLinear Trunc"
)
"""Operations, supported or not, of which a quantized network has one at least."""
QUANTIZERS = ("Quant", "BipolarQuant", "MultiThreshold")
MAX_QUANTIZER_BITS = 32
MAX_CODE = 1 << 31
"""Magnitude of what is subtracted from the codes of so many bits."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InputQuantizer:
    """The quantizer that every path from the input goes through.

    Attributes:
        node: the quantizer.
        scale: real value of one code, exactly as the file holds it.
        lowest: least code.
        highest: greatest code.
        step: distance of neighbouring codes: 2 for -1 and 1.
        zero_point: what was subtracted from the integers of the quantizer.
    """

    node: onnx.NodeProto
    scale: Fraction
    lowest: int
    highest: int
    step: int = 1
    zero_point: int = 0

    def codes_of(self, values: FloatArray) -> Codes:
        """Return the codes of *values*, outputs of the quantizer, in their shape.

        Raises:
            InputError: a value is not that of a code: it is not a number.
        """
        scale = float(self.scale)
        with np.errstate(invalid="ignore"):
            codes = np.rint(values.astype(np.float64) / scale)
        if not np.isfinite(codes).all() or (np.abs(codes) > 1 << 40).any():
            raise refusal(self.node, "gives values that are not finite")
        result = codes.astype(np.int64)
        if ((result * scale).astype(np.float32) != values).any():
            raise refusal(self.node, f"gives values that are not whole multiples of its scale {scale!r}")
        return result


def find_input_quantizer(model: onnx.ModelProto) -> InputQuantizer | None:
    """Return the quantizer of the input of the normalized *model*; None if the input is not quantized.

    Raises:
        InputError: several nodes quantize the input, or the one that does has parameters that are not supported there.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    head = {model.graph.input[0].name}
    found: list[onnx.NodeProto] = []
    linear: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if not head.intersection(node.input):
            if is_standard(node, "Clip", "DequantizeLinear") and node.input[0] in linear:
                linear[node.output[0]] = [*linear[node.input[0]], node]
                found += [node] if node.op_type == "DequantizeLinear" else []
            continue
        if is_standard(node, "QuantizeLinear"):
            linear[node.output[0]] = [node]
        elif is_general(node, *QUANTIZERS):
            found.append(node)
        elif is_standard(node, *HEAD) and all(name in head or name in constants for name in node.input if name):
            head.update(node.output)
        else:
            return None
    if not found or model.graph.output[0].name in head:
        return None
    if len(found) > 1:
        names = ", ".join(node.name or node.output[0] for node in found)
        raise InputError(f"the input is quantized by several nodes ({names}); one is supported")
    nodes = linear.get(found[0].output[0], found)
    arrays = {n: numpy_helper.to_array(constants[n]) for node in nodes for n in node.input if n in constants}
    return _linear(nodes, arrays) if len(nodes) > 1 else _quantizer(found[0], arrays)


def require_input_quantizer(model: onnx.ModelProto, annotated: str | None = None) -> InputQuantizer:
    """Return the quantizer of the input of *model*; *annotated* is the type that the file notes for it.

    Raises:
        InputError: there is none; the message tells how to declare one.
    """
    quantizer = find_input_quantizer(model)
    if quantizer is None:
        raise InputError(_unquantized(model, annotated))
    return quantizer


def _unquantized(model: onnx.ModelProto, annotated: str | None) -> str:
    """Return what to do about *model*, whose input is not quantized; *annotated* is the type that it notes for it."""
    name = model.graph.input[0].name
    if not any(node.op_type in ANY_QUANTIZER for node in model.graph.node):
        return (
            "the file holds no quantizer: it is a float network. Train or calibrate a quantized one, and export that "
            f"(in Brevitas by export_qonnx). If its weights are integers and only its input {name!r} is open, say "
            f"which codes that takes by --input TYPE, for example {EXAMPLES}"
        )
    note = "" if annotated is None else f" (the file notes {annotated} for it)"
    declare = f"say which codes it takes by --input TYPE, for example {EXAMPLES}"
    normalizing, first = _normalization(model)
    if normalizing and first is not None:
        return (
            f"the input {name!r} is not quantized but normalized by constants ({', '.join(map(label, normalizing))}) "
            f"before {label(first)} ({first.op_type}) calculates with it{note}: put a quantizer behind the "
            "normalization, a QuantIdentity in Brevitas or a Quant node in QONNX. If the normalization only scales "
            f"integers, such as pixels, {declare}"
        )
    return f"the input {name!r} is not quantized before it is calculated with{note}; {declare}"


def _normalization(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], onnx.NodeProto | None]:
    """Return the nodes that normalize the input of *model* by constants, and the first other one that takes it."""
    constants = {tensor.name for tensor in model.graph.initializer}
    head = {model.graph.input[0].name}
    normalizing: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if not head.intersection(node.input):
            continue
        if not is_standard(node, *HEAD) or not all(name in head | constants for name in node.input if name):
            return normalizing, node
        head.update(node.output)
        if is_standard(node, *PREPROCESSING):
            normalizing.append(node)
    return normalizing, None


def _quantizer(node: onnx.NodeProto, arrays: dict[str, Array]) -> InputQuantizer:
    if node.op_type == "MultiThreshold":
        return _thresholds(node, arrays)
    scale = _scalar(node, arrays, 1)
    if scale <= 0:
        raise refusal(node, f"quantizes the input with scale {float(scale)}; it must be positive")
    if node.op_type == "BipolarQuant":
        return InputQuantizer(node, scale, -1, 1, step=2)
    zero, bits = _scalar(node, arrays, 2), _scalar(node, arrays, 3)
    if bits.denominator != 1 or not 1 <= bits <= MAX_QUANTIZER_BITS or zero.denominator != 1 or abs(zero) > MAX_CODE:
        raise refusal(
            node,
            f"quantizes the input with {float(bits)} bits and zero point {float(zero)}; supported are "
            f"1 to {MAX_QUANTIZER_BITS} bits and a zero point from {-MAX_CODE} to {MAX_CODE}, both whole numbers",
        )
    signed, narrow = integer(node, "signed", 1) != 0, integer(node, "narrow", 1) != 0
    count = 1 << int(bits)
    if signed and count == 2:
        return InputQuantizer(node, scale, -1 - int(zero), 1 - int(zero), step=2, zero_point=int(zero))
    lowest = -(count >> 1) + narrow if signed else 0
    highest = (count >> 1) - 1 if signed else count - 1 - narrow
    return InputQuantizer(node, scale, lowest - int(zero), highest - int(zero), zero_point=int(zero))


def _thresholds(node: onnx.NodeProto, arrays: dict[str, Array]) -> InputQuantizer:
    scale = Fraction(1 if (given := number(node, "out_scale")) is None else given)
    bias = Fraction(number(node, "out_bias") or 0)
    table = arrays.get(node.input[1]) if len(node.input) > 1 else None
    if table is None or table.ndim != 2 or scale <= 0:
        raise refusal(node, "cuts the input into steps of an out_scale that is not positive, or by no table")
    ratio = bias / scale  # codes are multiples of the scale, or of that part of it of which the bias is one, too
    lowest, step = ratio.numerator, ratio.denominator
    if max(abs(lowest), step) > MAX_CODE:
        raise refusal(node, f"gives the input codes from {float(lowest)} on; at most {MAX_CODE} is supported")
    return InputQuantizer(node, scale / step, lowest, lowest + step * table.shape[1], step)


def _linear(nodes: list[onnx.NodeProto], arrays: dict[str, Array]) -> InputQuantizer:
    """Return what QuantizeLinear, perhaps Clips, and DequantizeLinear, *nodes* in this order, make together."""
    first, last = nodes[0], nodes[-1]
    zeros = [arrays.get(name, np.zeros((), np.uint8)) for name in (input_of(node, 2) for node in (first, last))]
    pairs = [
        (_scalar(node, arrays, 1), int(zero.reshape(-1)[0])) for node, zero in zip((first, last), zeros, strict=True)
    ]
    if pairs[0] != pairs[1] or zeros[0].size != 1 or zeros[0].dtype not in (np.uint8, np.int8):
        raise refusal(
            last,
            "quantizes the input by other scales or zero points than its QuantizeLinear, or not to int8 or uint8; "
            "supported: one scale and one zero point for both",
        )
    scale, zero = pairs[0]
    limits = np.iinfo(zeros[0].dtype)
    lowest, highest = limits.min, limits.max
    for node in nodes[1:-1]:
        ends = [arrays[name] for name in node.input[1:3] if name]
        if len(ends) != 2 or any(end.size != 1 for end in ends):
            raise refusal(node, "clips the input's codes by what is not constant; supported: two constant ends")
        lowest, highest = max(lowest, int(ends[0].reshape(-1)[0])), min(highest, int(ends[1].reshape(-1)[0]))
    return InputQuantizer(last, scale, lowest - zero, highest - zero)


def _scalar(node: onnx.NodeProto, arrays: dict[str, Array], index: int) -> Fraction:
    array = arrays.get(node.input[index]) if index < len(node.input) else None
    if array is None or array.size != 1 or not np.isfinite(array).all():
        raise refusal(node, f"quantizes the input; its input {index} must be one finite constant for all channels")
    return Fraction(float(array.reshape(())))


def run_head(model: onnx.ModelProto, quantizer: InputQuantizer, values: FloatArray) -> FloatArray:
    """Run *model* by qonnx from its input, *values* of shape (N, ...), to the output of *quantizer*."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    target = quantizer.node.output[0]
    needed = {target}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.insert(0, node)
            needed.update(node.input)
    source = helper.make_tensor_value_info(model.graph.input[0].name, onnx.TensorProto.FLOAT, values.shape)
    result = helper.make_tensor_value_info(target, onnx.TensorProto.FLOAT, None)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    graph = helper.make_graph(kept, "head", [source], [result], constants)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    wrapper = ModelWrapper(part).transform(InferShapes())
    outputs: dict[str, FloatArray] = execute_onnx(wrapper, {source.name: np.ascontiguousarray(values)})
    return np.asarray(outputs[target], dtype=np.float32)


def sample_shape(model: onnx.ModelProto) -> tuple[int, ...]:
    """Return the shape of one input sample of the normalized *model*."""
    return tuple(int(size.dim_value) for size in model.graph.input[0].type.tensor_type.shape.dim[1:])


def code_shape(model: onnx.ModelProto, quantizer: InputQuantizer) -> tuple[int, ...]:
    """Return the shape of the codes of one sample behind *quantizer*.

    Raises:
        InputError: the part before it does not run.
    """
    zeros = np.zeros((1, *sample_shape(model)), dtype=np.float32)
    try:
        shape = run_head(model, quantizer, zeros).shape
    except Exception as error:  # qonnx raises bare exceptions, and those of NumPy and onnxruntime pass through it
        raise refusal(quantizer.node, f"the part from the input to it does not run: {error}") from error
    if len(shape) < 2 or shape[0] != 1 or not math.prod(shape):
        raise refusal(quantizer.node, f"gives the shape {shape} for one sample; the batch must stay first")
    return tuple(int(size) for size in shape[1:])
