"""The QONNX file as an executor: run by qonnx itself, decoded into the codes of the integer model made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bitproof.export.integer import INPUT, IntegerModel, Threshold, load, require_codes
from bitproof.export.integer.types import Sums
from bitproof.export.lowering import Origins, load_origins
from bitproof.export.lowering.builder import Origin
from bitproof.export.lowering.graph import Span
from bitproof.export.lowering.origins import ORIGINS
from bitproof.export.qonnx import FILE, load_qonnx
from bitproof.export.subgraph import cut, with_outputs
from bitproof.pipeline import Artifact, Codes, InputError, Observation, StageError, WeightSign
from bitproof.pipeline.float_error import PRECISION, sum_error
from bitproof.pipeline.progress import Progress, silent

ROWS_AT_ONCE = 1 << 15
ELEMENTS_AT_ONCE = 1 << 24
FloatArray = NDArray[Any]
CODE_ERROR = 2.0**-22
"""Relative; of a code times its scale, rounded to binary32, with room for the reading of it."""
Evaluate = Callable[[onnx.ModelProto, str, FloatArray, float, Sequence[str]], Mapping[str, FloatArray]]
"""Evaluates a part of a file on ``codes * scale`` at one of its tensors, and returns the real numbers of others."""

MONOTONE = frozenset(
    {
        "Add",
        "Sub",
        "Mul",
        "Div",
        "BatchNormalization",
        "Relu",
        "Sign",
        "Clip",
        "QuantizeLinear",
        "DequantizeLinear",
        "Max",
        "Min",
        "Quant",
        "IntQuant",
        "BipolarQuant",
    }
    | {"MultiThreshold", "Trunc", "Identity", "Cast", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze"}
)
"""Operations that never turn back if all but one of their inputs are constants: each is an affine map, a clamp, a
rounding, a comparison or a new shape, computed step by step in binary32, each step rounded to the nearest number."""
EITHER_SIDE = frozenset({"Add", "Sub", "Mul", "Max", "Min"})
"""Those of them that may take the constant first: a constant divided by a number turns back at 0."""


class QonnxExecutor:
    """The QONNX file, run by qonnx's own executor: onnxruntime for standard nodes, NumPy for Quant, all in binary32.

    What comes behind the last integers (a final softmax, a scalar map of the logits) is not run: it makes no codes.
    """

    weight_sign: WeightSign = "lowered"
    precision_bits = PRECISION

    def __init__(
        self,
        file: onnx.ModelProto,
        model: IntegerModel,
        origins: Origins,
        *,
        name: str = "qonnx",
        evaluate: Evaluate | None = None,
    ) -> None:
        """Run *file*, from which *model* was lowered; *origins* tells where its nodes come from.

        What evaluates the file is *evaluate*, qonnx unless it is given, and is called *name*.
        """
        self.progress: Progress = silent
        self.name = name
        self._evaluate = evaluate or by_qonnx
        self._onnx = file
        self._model = model
        self._origins = origins
        self._shapes = model.shapes()

    @classmethod
    def open(cls, artifact: Artifact, integer: Artifact) -> QonnxExecutor:
        """Return the executor of the file in *artifact*, from which the integer model in *integer* was lowered."""
        file, model, origins = load_qonnx(artifact.path / FILE), load(integer.path), load_origins(integer.path)
        problem = _problem_of(origins, file, model)
        if problem is not None:
            raise InputError(f"{integer.path / ORIGINS} is not that of the model: {problem}; run 'bitproof run' again")
        return cls(file, model, origins)

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes nearest to the real numbers of the outputs.

        Raises:
            StageError: a real number of the output stands for no code, by the error bound of its sum.
        """
        last = self._model.nodes[-1].name
        values = self._values(codes, [last])[last]
        return self._decode(values, last, strict=False).reshape(len(codes), -1)

    def observe(self, codes: Codes) -> Observation:
        """Run *codes*, shape (N, inputs), and return the codes of all activations and the real outputs."""
        last = self._model.nodes[-1].name
        shown = [node.name for node in self._model.nodes_of(Threshold) if node.name in self._origins.nodes]
        values = self._values(codes, [*shown, last])
        outputs = self._in_codes(values[last], last).reshape(len(codes), -1)
        nearest = self._decode(values[last], last, strict=False).reshape(outputs.shape)
        return Observation({name: self._activation_codes(values[name], name) for name in shown}, outputs, nearest)

    def trace(self, codes: Codes) -> dict[str, Codes]:
        """Run *codes* and return the codes of every node that equals a tensor of the file, shape (N, *sample).

        Raises:
            StageError: float32 cannot tell the accumulators of a node apart, or a number stands for no code.
        """
        names = [node.name for node in self._model.nodes if node.name in self._origins.nodes]
        return {name: self._decode(values, name) for name, values in self._values(codes, names).items()}

    def requantizes(self, node: str) -> bool:
        """Tell whether the activation *node* is a part of the file that can be run alone."""
        return node in self._origins.spans

    def requantize(self, node: str, first: int, last: int) -> Codes:
        """Run the graph's nodes from accumulators to Quant on every accumulator from *first* to *last*."""
        (source,) = self._model.sources(node)
        channels = self._model.values[source].shape[0]
        accumulators = np.arange(first, last + 1, dtype=np.int64)[:, None]
        return self.requantize_at(node, np.broadcast_to(accumulators, (len(accumulators), channels)))

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        """Run the graph's nodes from accumulators to Quant on *accumulators*, shape (N, channels)."""
        span, origin, part = self._part(node)
        channels = len(origin.scales)
        shape = tuple(channels if axis == 0 else 1 for axis in origin.axes)
        scales = np.array([float(scale) for scale in origin.scales])
        offsets = np.array([float(offset) for offset in origin.offsets])
        target = self._origins.nodes[node]
        pieces = [np.zeros((0, channels), dtype=np.int64)]
        for start in range(0, len(accumulators), ROWS_AT_ONCE):
            chosen = accumulators[start : start + ROWS_AT_ONCE].astype(np.float64)
            values = (chosen * scales + offsets).astype(np.float32).reshape(len(chosen), *shape)
            outputs = execute(part, {span.source: values}, [span.target])[span.target]
            ordered = _in_order(outputs, target.axes)
            pieces.append(self._activation_codes(ordered, node).reshape(len(chosen), channels))
        return np.concatenate(pieces)

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str | None:
        """Say why the nodes from accumulators to Quant are monotone; None if one of them is not known to be."""
        del lows, highs  # float32 does not wrap
        _, _, part = self._part(node)
        numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in part.graph.initializer}
        constants = {"", *numbers}
        kinds: dict[str, None] = {}
        for step in part.graph.node:
            varying = [index for index, name in enumerate(step.input) if name not in constants]
            if not varying:
                constants.update(step.output)
            elif not _is_monotone(step, varying, numbers):
                return None
            else:
                kinds[step.op_type] = None
        return f"each float32 step is monotone ({', '.join(kinds)}, with constants, rounded to nearest)"

    def _part(self, node: str) -> tuple[Span, Origin, onnx.ModelProto]:
        """Return where the activation *node* begins and ends, what comes in, and the part of the file between."""
        span = self._origins.spans[node]
        (source,) = self._model.sources(node)
        origin = self._origin(source, span.source)
        part = cut(
            self._onnx,
            span.source,
            span.target,
            source_type=TensorProto.FLOAT,
            target_type=TensorProto.FLOAT,
            shape=tuple(len(origin.scales) if axis == 0 else 1 for axis in origin.axes),
            bypass=("MaxPool",),
        )
        return span, origin, part

    def _origin(self, node: str, tensor: str) -> Origin:
        """Return the origin of *node*, or of the node before it if it only passes codes on."""
        while node not in self._origins.nodes or self._origins.nodes[node].tensor != tensor:
            if node == INPUT or len(self._model.sources(node)) != 1:
                raise InputError(f"no node before an activation gives the tensor {tensor!r}; run 'bitproof run' again")
            (node,) = self._model.sources(node)
        return self._origins.nodes[node]

    def _values(self, codes: Codes, nodes: list[str]) -> dict[str, FloatArray]:
        """Run *codes* and return the real numbers of *nodes*, binary64, shape (N, *sample) in the model's order."""
        require_codes(self._model, codes)
        tensors = list(dict.fromkeys(self._origins.nodes[name].tensor for name in nodes))
        model = with_outputs(self._onnx, self._origins.input, ("N", *self._model.shape), tensors)
        rows = max(1, ELEMENTS_AT_ONCE // max(prod(shape) for shape in self._shapes.values()))
        scale = float(self._model.input_scale)
        pieces: dict[str, list[FloatArray]] = {name: [] for name in nodes}
        for start in range(0, max(len(codes), 1), rows):
            if len(codes) > rows:  # else the caller knows more
                self.progress("samples", start, len(codes))
            chosen = codes[start : start + rows]
            sample_codes = chosen.reshape(len(chosen), *self._model.shape)
            given = sample_codes.astype(np.float64)
            outputs = self._evaluate(model, self._origins.input, given, scale, tensors) if len(chosen) else {}
            for name, parts in pieces.items():  # an activation at the end is asked for twice
                origin = self._origins.nodes[name]
                shape = self._shapes[name]
                empty = np.zeros((0, *shape))
                numbers = outputs.get(origin.tensor, empty).reshape(len(chosen), *(shape[axis] for axis in origin.axes))
                parts.append(_in_order(numbers, origin.axes))
        return {name: np.concatenate(parts) for name, parts in pieces.items()}

    def _activation_codes(self, values: FloatArray, node: str) -> Codes:
        """Return the codes of the activation *node*, which its real numbers hold but for the rounding of each."""
        scales = np.array([float(scale) for scale in self._origins.nodes[node].scales])
        column = scales.reshape((1, -1) + (1,) * (values.ndim - 2))
        codes: Codes = np.rint(values / column).astype(np.int64)
        off_grid = np.argwhere(np.abs(codes * column - values) > np.abs(values) * CODE_ERROR)
        if len(off_grid):
            at = tuple(int(i) for i in off_grid[0])
            raise StageError(
                f"{self.name}: {node} gives {float(values[at])!r} at {at}, which is not a whole multiple of the scale "
                f"{float(scales[at[1]])!r}"
            )
        return codes

    def _in_codes(self, values: FloatArray, node: str) -> FloatArray:
        scales, offsets = _columns(self._origins.nodes[node], values.ndim)
        numbers: FloatArray = (values - offsets) / scales
        return numbers

    def _decode(self, values: FloatArray, node: str, *, strict: bool = True) -> Codes:
        return self._codes(values, self._origins.nodes[node], self._model.values[node].sums, node, strict=strict)

    def _codes(self, ordered: FloatArray, origin: Origin, sums: Sums, node: str, *, strict: bool = True) -> Codes:
        """Return the codes nearest to the real numbers *ordered*, shape (N, *sample).

        A number must lie within the float32 error of its sum (:mod:`bitproof.pipeline.float_error`) from the nearest
        one that a code stands for. If that error reaches half a step every number is near some code: refused if
        *strict*.
        """
        scales, offsets = _columns(origin, ordered.ndim)
        column = scales.shape
        slack = np.array([sum_error(*channel, sums.terms) for channel in self._channels(origin, sums)]).reshape(column)
        if strict and (2 * slack >= np.abs(scales)).any():
            raise StageError(f"{self.name}: float32 cannot tell the accumulators of {node} apart")
        if not np.isfinite(ordered).all():
            raise StageError(f"{self.name}: {node} gives numbers that are not finite")
        codes: Codes = np.rint((ordered - offsets) / scales).astype(np.int64)
        off_grid = np.argwhere(np.abs(codes * scales + offsets - ordered) > slack)
        if len(off_grid):
            at = tuple(int(i) for i in off_grid[0])
            raise StageError(
                f"{self.name}: {node} gives {float(ordered[at])!r} at {at}, which is not a whole multiple of the scale "
                f"{float(origin.scales[at[1]])!r}"
            )
        return codes

    def _channels(self, origin: Origin, sums: Sums) -> list[tuple[Fraction, Fraction, int]]:
        units = map(abs, origin.scales)
        return list(zip(units, origin.offsets, sums.magnitudes, strict=True))


def _columns(origin: Origin, axes: int) -> tuple[FloatArray, FloatArray]:
    """Return the scales and offsets of *origin* as arrays of *axes* axes, the channels second."""
    column = (1, -1) + (1,) * (axes - 2)
    scales, offsets = (np.array([float(number) for number in part]) for part in (origin.scales, origin.offsets))
    return scales.reshape(column), offsets.reshape(column)


def by_qonnx(
    model: onnx.ModelProto, source: str, codes: FloatArray, scale: float, targets: Sequence[str]
) -> dict[str, FloatArray]:
    """Run *model* by qonnx, in binary32, on ``codes * scale`` at its tensor *source*; return *targets*."""
    return execute(model, {source: (codes * scale).astype(np.float32)}, list(targets))


def _is_monotone(node: onnx.NodeProto, varying: Sequence[int], numbers: Mapping[str, FloatArray]) -> bool:
    """Tell whether *node*, whose inputs at *varying* are not constant, never turns back; *numbers* are constants."""
    if len(varying) > 1 or (varying[0] and node.op_type not in EITHER_SIDE):
        return False
    if node.op_type == "LeakyRelu":
        return all(attribute.f >= 0 for attribute in node.attribute if attribute.name == "alpha")
    if node.op_type == "PRelu":
        return node.input[1] in numbers and bool((numbers[node.input[1]] >= 0).all())
    return node.op_type in MONOTONE


def _in_order(values: FloatArray, axes: tuple[int, ...]) -> FloatArray:
    """Return *values*, whose axis ``i`` of a sample is axis ``axes[i]`` of the node's output, in the node's order."""
    inverse = np.argsort(axes)
    ordered: FloatArray = values.transpose(0, *(int(axis) + 1 for axis in inverse)).astype(np.float64)
    return ordered


def _problem_of(origins: Origins, file: onnx.ModelProto, model: IntegerModel) -> str | None:
    """Return why *origins* cannot say where the nodes of *model* come from in *file*; None: they can."""
    shapes = model.shapes()
    made = {file.graph.input[0].name, *(name for node in file.graph.node for name in node.output)}
    if model.nodes[-1].name not in origins.nodes:
        return f"it does not hold the output {model.nodes[-1].name!r}"
    for name, origin in origins.nodes.items():
        shape = shapes.get(name)
        if shape is None:
            return f"there is no node {name!r}"
        if sorted(origin.axes) != list(range(len(shape))):
            return f"the axes {origin.axes} of {name!r} do not permute those of {shape}"
        if not len(origin.scales) == len(origin.offsets) == shape[0] or not all(origin.scales):
            return f"{name!r} needs {shape[0]} scales other than 0 and as many offsets"
        if origin.tensor not in made:
            return f"the file does not make {origin.tensor!r}"
    for name, span in origins.spans.items():
        if name in shapes and (name not in origins.nodes or not {span.source, span.target} <= made):
            return f"{name!r} cannot stand for the part from {span.source!r} to {span.target!r}"
    return None if origins.input in made else f"the file does not make {origins.input!r}"


def execute(model: onnx.ModelProto, inputs: dict[str, FloatArray], outputs: list[str]) -> dict[str, FloatArray]:
    """Run *model* by qonnx on *inputs*, shape (N, ...), with the batch size set to N.

    Raises:
        StageError: qonnx, or the onnxruntime below it, refuses the file.
    """
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    rows = len(next(iter(inputs.values())))
    batch = onnx.ModelProto()
    batch.CopyFrom(model)
    for tensor in (*batch.graph.input, *batch.graph.output):
        if tensor.type.tensor_type.shape.dim:
            tensor.type.tensor_type.shape.dim[0].dim_value = rows
    try:
        wrapper: Any = ModelWrapper(batch).transform(InferShapes())
        made: dict[str, FloatArray] = execute_onnx(wrapper, {k: np.ascontiguousarray(v) for k, v in inputs.items()})
        return {name: made[name] for name in outputs}
    except Exception as error:  # qonnx raises bare exceptions, and those of NumPy and onnxruntime pass through it
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StageError(f"qonnx cannot run the file: {reason}") from error
