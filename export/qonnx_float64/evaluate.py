"""The evaluation of a QONNX graph, node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bitproof.export.qonnx_float64.products import add, product
from bitproof.export.qonnx_float64.quantized import (
    QUANTIZERS,
    Attributes,
    Quantized,
    Reals,
    Value,
    quantize_linear,
    reals_of,
)
from bitproof.export.qonnx_float64.windows import (
    average_pool,
    conv,
    largest_of_all,
    max_pool,
    mean_of_all,
    quant_avg_pool,
)
from bitproof.pipeline import StageError

GENERAL = "qonnx.custom_op.general"


def evaluate(
    model: onnx.ModelProto, source: str, codes: Reals, scale: float, targets: Sequence[str]
) -> dict[str, Reals]:
    """Evaluate *model* on ``codes * scale`` at its tensor *source* and return the real numbers of *targets*.

    Raises:
        StageError: an operation cannot be evaluated.
    """
    values: dict[str, Value] = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants = set(values)
    values[source] = Quantized(codes.astype(np.float64), np.full((), scale, dtype=np.float64))
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    for node in model.graph.node:
        arguments = [values[name] if name else None for name in node.input]
        constant = bool(node.input) and set(filter(None, node.input)) <= constants
        try:
            made = _evaluate_node(node, arguments, opsets, constant=constant)
        except (ValueError, KeyError, IndexError, TypeError, RuntimeError, NotImplementedError) as error:
            raise StageError(f"qonnx-f64 cannot evaluate node {node.name!r} ({node.op_type}): {error}") from error
        values.update(zip(node.output, made, strict=False))
        if constant:
            constants.update(node.output)
    return {target: np.asarray(reals_of(values[target]), dtype=np.float64) for target in targets}


def _evaluate_node(
    node: onnx.NodeProto, arguments: list[Value | None], opsets: Mapping[str, int], *, constant: bool
) -> Sequence[Value]:
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type in QUANTIZERS:
        return (QUANTIZERS[node.op_type](given, arguments, np.float32 if constant else np.float64),)
    if node.op_type == "QuantizeLinear":
        return (quantize_linear(given, arguments, np.float32 if constant else np.float64),)
    if node.op_type == "Trunc":
        return (_trunc(given, arguments, opsets),)
    on_codes = ON_CODES.get(node.op_type)
    made = None if on_codes is None else on_codes(node, given, arguments, opsets)
    if made is not None:
        return (made,)
    reals = [None if argument is None else reals_of(argument) for argument in arguments]
    own = ON_REALS.get(node.op_type)
    found = None if own is None else own(given, reals)
    return _reference(node, reals, opsets) if found is None else (found,)


def _reference(
    node: onnx.NodeProto, arguments: Sequence[NDArray[Any] | None], opsets: Mapping[str, int]
) -> Sequence[NDArray[Any]]:
    """Evaluate *node* by ONNX's reference implementation, in the types of its arguments."""
    from onnx.reference import ReferenceEvaluator

    opset = helper.make_opsetid("", opsets.get("", 20))
    names = [name for name in node.input if name]
    inputs = [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names)]
    graph = helper.make_graph([node], "node", inputs, [onnx.ValueInfoProto(name=n) for n in node.output if n])
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=[opset]))
    feeds = {name: a for name, a in zip(node.input, arguments, strict=True) if name and a is not None}
    made: Sequence[NDArray[Any]] = evaluator.run(None, feeds)
    return made


def _moved(
    node: onnx.NodeProto, _given: Attributes, arguments: list[Value | None], opsets: Mapping[str, int]
) -> Value | None:
    """Move, choose or cut codes at zero, which leaves their one scale alone."""
    source, *others = arguments
    if not isinstance(source, Quantized) or not source.uniform:
        return None
    made = _reference(node, [source.codes, *(None if o is None else reals_of(o) for o in others)], opsets)[0]
    return Quantized(made, source.scale)


def _resized(
    _node: onnx.NodeProto, given: Attributes, arguments: list[Value | None], _opsets: Mapping[str, int]
) -> Value | None:
    """Choose the nearest codes, which leaves their one scale alone."""
    source, *others = arguments
    if not isinstance(source, Quantized) or not source.uniform:
        return None
    chosen = _resize(given, [source.codes, *(None if o is None else reals_of(o) for o in others)])
    return Quantized(chosen, source.scale)


def _resize(given: Attributes, arguments: Sequence[NDArray[Any] | None]) -> Reals:
    """Take the nearest element at each place, where ONNX Resize says that it lies; whole factors alone."""
    source, _, factors, sizes = [*arguments, None, None][:4]
    assert source is not None, "Resize has an input"
    wanted = source.shape if sizes is None else sizes.astype(np.int64)
    way = given.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = given.get("nearest_mode", b"round_prefer_floor").decode()
    for axis, size in enumerate(source.shape[1:], start=1):
        factor = wanted[axis] / size if factors is None else float(factors[axis])
        places = np.arange(int(size * factor))
        at = places / factor if way == "asymmetric" else (places + 0.5) / factor - 0.5
        rounded = {
            "floor": np.floor(at),
            "round_prefer_floor": np.ceil(at - 0.5),
            "round_prefer_ceil": np.floor(at + 0.5),
        }
        source = np.take(source, np.clip(rounded[rounding], 0, size - 1).astype(np.int64), axis=axis)
    return source


ON_CODES: Mapping[str, Callable[[onnx.NodeProto, Attributes, list[Value | None], Mapping[str, int]], Value | None]] = {
    **dict.fromkeys(("MatMul", "Gemm", "Conv"), product),
    "Add": add,
    "Resize": _resized,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Relu", "Identity", "Pad"), _moved),
}
"""Operations that some inputs leave on codes."""


def _multi_threshold(given: Attributes, arguments: Sequence[NDArray[Any] | None]) -> Reals:
    from qonnx.custom_op.general.multithreshold import multithreshold

    values, thresholds = (a for a in arguments if a is not None)
    last = given.get("data_layout", b"").decode() in ("NHWC", "NWC") or (
        values.ndim == 3 and "data_layout" not in given
    )
    made: Reals = multithreshold(
        values, thresholds, given.get("out_scale", 1.0), given.get("out_bias", 0.0), channels_last=last
    )
    return made


def _trunc(given: Attributes, arguments: list[Value | None], opsets: Mapping[str, int]) -> Reals:
    """Evaluate Trunc of the version that the file imports, by qonnx."""
    from qonnx.custom_op.general.trunc import trunc_v1, trunc_v2

    mode = given.get("rounding_mode", b"FLOOR").decode()
    values, scale, zero, bits, *others = (np.asarray(reals_of(a), dtype=np.float64) for a in arguments if a is not None)
    narrow, signed = bool(given.get("narrow", 0)), bool(given.get("signed", 1))
    made: Reals = (
        trunc_v1(values, scale, zero, bits, others[0], mode)
        if opsets.get(GENERAL, 1) == 1
        else trunc_v2(values, scale, zero, bits, narrow, signed, others[0], others[1], mode)
    )
    return made


ON_REALS: Mapping[str, Callable[[Attributes, Sequence[NDArray[Any] | None]], Reals | None]] = {
    "AveragePool": average_pool,
    "Conv": conv,
    "GlobalAveragePool": mean_of_all,
    "GlobalMaxPool": largest_of_all,
    "MaxPool": max_pool,
    "QuantAvgPool2d": quant_avg_pool,
    "MultiThreshold": _multi_threshold,
    "Resize": _resize,
}
"""Operations that ONNX's reference evaluates slowly, or not in binary64, and those of qonnx."""
