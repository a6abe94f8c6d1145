"""The QONNX file a second time, in binary64 and on codes: an evaluation that shares nothing with the lowering.

binary32 cannot decide networks of free scales, since their sums depend on the order of summation. Here a quantized
tensor stays what it is, codes and a scale, until an operation needs its real numbers: sums of codes are exact whatever
the order, and the few roundings behind them are those of binary64. Weights are quantized in binary32 as in the
training, and an integer bias is added to the codes, as the definition has it (docs/integer-model.md).

Nodes are evaluated one by one, by qonnx's functions for its own operations and by ONNX's reference for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.float64_pools import (
    Attributes,
    Reals,
    average_pool,
    max_pool,
    mean_of_all,
    quant_avg_pool,
    windows_of,
)
from export.integer import IntegerModel, load
from export.lowering import Origins, load_origins
from export.qonnx import FILE, load_qonnx
from export.qonnx_executor import QonnxExecutor
from pipeline import Artifact, Codes, Observation, StageError
from pipeline.float_error import DOUBLE_PRECISION
from pipeline.progress import Progress, silent


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """Real numbers ``codes * scale``.

    Attributes:
        codes: whole numbers, binary64; sums of them are exact up to 2^53.
        scale: one number, or one a channel, along the axis on which it broadcasts to *codes*.
    """

    codes: Reals
    scale: Reals

    @property
    def reals(self) -> Reals:
        """The real numbers, each rounded once."""
        product: Reals = self.codes * self.scale
        return product

    @property
    def uniform(self) -> bool:
        """All codes have one scale."""
        return self.scale.size == 1


Value = Quantized | NDArray[Any]


class QonnxFloat64Executor:
    """The QONNX file in binary64; see the module."""

    name = "qonnx-f64"
    precision_bits = DOUBLE_PRECISION

    def __init__(self, file: onnx.ModelProto, model: IntegerModel, origins: Origins) -> None:
        """Run *file*, from which *model* was lowered; *origins* tells where its nodes come from."""
        self.progress: Progress = silent
        self._reader = QonnxExecutor(file, model, origins, name=self.name, evaluate=evaluate)

    @classmethod
    def open(cls, artifact: Artifact, integer: Artifact) -> QonnxFloat64Executor:
        """Return the executor of the file in *artifact*, from which the integer model in *integer* was lowered."""
        return cls(load_qonnx(artifact.path / FILE), load(integer.path), load_origins(integer.path))

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes nearest to the real outputs."""
        return self._reader(codes)

    def observe(self, codes: Codes) -> Observation:
        """Run *codes*, shape (N, inputs), and return the codes of all activations and the real outputs."""
        return self._reader.observe(codes)


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
    return {target: np.asarray(_reals(values[target]), dtype=np.float64) for target in targets}


def _evaluate_node(
    node: onnx.NodeProto, arguments: list[Value | None], opsets: Mapping[str, int], *, constant: bool
) -> Sequence[Value]:
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type in QUANTIZERS:
        return (QUANTIZERS[node.op_type](given, arguments, np.float32 if constant else np.float64),)
    on_codes = ON_CODES.get(node.op_type)
    made = None if on_codes is None else on_codes(node, given, arguments, opsets)
    if made is not None:
        return (made,)
    reals = [None if argument is None else _reals(argument) for argument in arguments]
    own = ON_REALS.get(node.op_type)
    return (own(given, reals),) if own is not None else _reference(node, reals, opsets)


def _reals(value: Value) -> NDArray[Any]:
    array = value.reals if isinstance(value, Quantized) else value
    return array.astype(np.float64) if array.dtype == np.float32 else array


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


def _quant(given: Attributes, arguments: list[Value | None], kind: type[Any]) -> Quantized:
    from qonnx.custom_op.general.intquant import int_quant

    values, scale, zero, bits = (np.asarray(_reals(a), dtype=kind) for a in arguments if a is not None)
    mode = given.get("rounding_mode", b"ROUND").decode()
    made = int_quant(values, scale, zero, bits, bool(given.get("signed", 1)), bool(given.get("narrow", 0)), mode)
    step = scale.astype(np.float64)
    return Quantized(np.rint(np.asarray(made, dtype=np.float64) / step), step)


def _bipolar_quant(_given: Attributes, arguments: list[Value | None], _kind: type[Any]) -> Quantized:
    values, scale = (_reals(a) for a in arguments if a is not None)
    return Quantized(np.where(values >= 0, 1.0, -1.0), scale)


QUANTIZERS: Mapping[str, Callable[[Attributes, list[Value | None], type[Any]], Quantized]] = {
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": _bipolar_quant,
}


def _product(
    node: onnx.NodeProto, given: Attributes, arguments: list[Value | None], _opsets: Mapping[str, int]
) -> Value | None:
    """Multiply codes by codes; None where an input holds no codes of one scale, or weights of several an output."""
    source, weights = arguments[:2]
    if not isinstance(source, Quantized) or not isinstance(weights, Quantized) or not source.uniform:
        return None
    if node.op_type == "Conv":
        sums, axis, scales = _convolve(source.codes, weights.codes, given), 1, _scale_along(weights, 0)
    else:
        turned = node.op_type == "Gemm" and bool(given.get("transB", 0))
        sums = source.codes @ (weights.codes.T if turned else weights.codes)
        axis, scales = sums.ndim - 1, _scale_along(weights, 0 if turned else 1)
    plain = node.op_type != "Gemm" or (given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0)
    if scales is None or not plain or given.get("transA", 0):
        return None
    column = tuple(-1 if index == axis else 1 for index in range(sums.ndim))
    product = Quantized(sums, (source.scale.reshape(-1)[0] * scales).reshape(column if scales.size > 1 else ()))
    bias = arguments[2] if len(arguments) > 2 else None
    return product if bias is None else _biased(product, _shaped(bias, column))


def _scale_along(weights: Quantized, axis: int) -> Reals | None:
    """Return the scale of the weights of each output, along *axis* of the codes; None where an output has several."""
    shape = (1,) * (weights.codes.ndim - weights.scale.ndim) + weights.scale.shape
    follows = all(size == 1 or index == axis for index, size in enumerate(shape))
    return weights.scale.reshape(-1) if follows else None


def _shaped(bias: Value, column: tuple[int, ...]) -> Value:
    if isinstance(bias, Quantized):
        scale = bias.scale.reshape(column) if bias.scale.size > 1 else bias.scale.reshape(())
        return Quantized(bias.codes.reshape(column), scale)
    return bias.reshape(column)


def _biased(product: Quantized, bias: Value) -> Value:
    """Add *bias*: as an integer where its scale is the binary32 number next to the accumulator's unit."""
    if isinstance(bias, Quantized) and bool((product.scale.astype(np.float32) == bias.scale.astype(np.float32)).all()):
        return Quantized(product.codes + bias.codes, product.scale)
    return np.asarray(product.reals + _reals(bias))


def _add(
    _node: onnx.NodeProto, _given: Attributes, arguments: list[Value | None], _opsets: Mapping[str, int]
) -> Value | None:
    one, two = arguments
    if not isinstance(one, Quantized) or not isinstance(two, Quantized):
        return None
    first, second = (one, two) if one.codes.size >= two.codes.size else (two, one)
    return _biased(first, second)


def _moved(
    node: onnx.NodeProto, _given: Attributes, arguments: list[Value | None], opsets: Mapping[str, int]
) -> Value | None:
    """Move, choose or cut codes at zero, which leaves their one scale alone."""
    source, *others = arguments
    if not isinstance(source, Quantized) or not source.uniform:
        return None
    made = _reference(node, [source.codes, *(None if o is None else _reals(o) for o in others)], opsets)[0]
    return Quantized(made, source.scale)


def _resized(
    _node: onnx.NodeProto, given: Attributes, arguments: list[Value | None], _opsets: Mapping[str, int]
) -> Value | None:
    """Choose the nearest codes, which leaves their one scale alone."""
    source, *others = arguments
    if not isinstance(source, Quantized) or not source.uniform:
        return None
    chosen = _resize(given, [source.codes, *(None if o is None else _reals(o) for o in others)])
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
    **dict.fromkeys(("MatMul", "Gemm", "Conv"), _product),
    "Add": _add,
    "Resize": _resized,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Relu", "Identity", "Pad"), _moved),
}
"""Operations that some inputs leave on codes."""


def _convolve(source: Reals, weights: Reals, given: Attributes) -> Reals:
    """Return the cross-correlation of ONNX Conv, by one matrix product a group over all windows."""
    axes, groups = weights.ndim - 2, int(given.get("group", 1))
    kernel, strides = weights.shape[2:], given.get("strides", [1] * axes)
    dilations = given.get("dilations", [1] * axes)
    windows = windows_of(source, kernel, strides, dilations, given.get("pads", [0] * (2 * axes)), 0.0)
    rows, channels, *counts = windows.shape[: 2 + axes]
    members = channels // groups
    order = (0, 1, *range(2, 2 + axes), 2 + axes, *range(3 + axes, 3 + 2 * axes))
    split = windows.reshape(rows, groups, members, *counts, *kernel)
    columns = split.transpose(order).reshape(rows, groups, members, int(np.prod(counts)), -1)
    flat = columns.transpose(0, 1, 3, 2, 4).reshape(rows, groups, int(np.prod(counts)), -1)
    matrix = weights.reshape(groups, len(weights) // groups, -1)
    made = np.matmul(flat, matrix.transpose(0, 2, 1)[None])
    sums: Reals = made.transpose(0, 1, 3, 2).reshape(rows, len(weights), *counts)
    return sums


def _conv(given: Attributes, arguments: Sequence[NDArray[Any] | None]) -> Reals:
    source, weights, *bias = (a for a in arguments if a is not None)
    made = _convolve(source, weights, given)
    return made + bias[0].reshape(-1, *(1,) * (weights.ndim - 2)) if bias else made


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


def _trunc(given: Attributes, arguments: Sequence[NDArray[Any] | None]) -> Reals:
    """Truncate by qonnx's function of the version that has so many inputs."""
    from qonnx.custom_op.general.trunc import trunc_v1, trunc_v2

    values, scale, zero, bits, *rest = (a for a in arguments if a is not None)
    mode = given.get("rounding_mode", b"FLOOR").decode()
    narrow, signed = bool(given.get("narrow", 0)), bool(given.get("signed", 1))
    made: Reals = (
        trunc_v1(values, scale, zero, bits, rest[0], mode)
        if len(rest) == 1
        else trunc_v2(values, scale, zero, bits, narrow, signed, rest[0], rest[1], mode)
    )
    return made


ON_REALS: Mapping[str, Callable[[Attributes, Sequence[NDArray[Any] | None]], Reals]] = {
    "AveragePool": average_pool,
    "Conv": _conv,
    "GlobalAveragePool": mean_of_all,
    "MaxPool": max_pool,
    "MultiThreshold": _multi_threshold,
    "QuantAvgPool2d": quant_avg_pool,
    "Resize": _resize,
    "Trunc": _trunc,
}
"""Operations that ONNX's reference evaluates slowly, or not in binary64, and those of qonnx."""
