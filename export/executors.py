"""Executors of the two forms that this package owns beside packed ONNX: the integer model and the QONNX file."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from export.integer import IntegerModel, load, run
from export.qonnx import FILE, load_qonnx
from export.subgraph import cut, producers
from pipeline import Artifact, Codes, StageError, WeightSign

ROWS_AT_ONCE = 1 << 15
FloatArray = NDArray[np.float32]


class IntegerExecutor:
    """The integer model itself: the reference of every comparison."""

    name = "integer"

    def __init__(self, artifact: Artifact) -> None:
        self.model = load(artifact.path)

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs)."""
        return run(self.model, codes)


class QonnxExecutor:
    """The QONNX file, run by qonnx's own executor: onnxruntime for standard nodes, NumPy for Quant, all in binary32."""

    name = "qonnx"
    weight_sign: WeightSign = "trained"

    def __init__(self, artifact: Artifact, model: IntegerModel) -> None:
        """Load the file of *artifact*; *model* gives the scales of the input and output codes."""
        self._onnx = load_qonnx(artifact.path / FILE)
        self._model = model
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._onnx.graph.initializer}
        self._makers = producers(self._onnx.graph)
        activations = [
            node for node in self._onnx.graph.node if node.op_type == "Quant" and self._chain_source(node) is not None
        ]
        self._activations = activations

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs); the output reals are divided by the output scale, which must be exact."""
        values = codes.astype(np.float32) * np.float32(self._model.input_scale)
        outputs = _execute(self._onnx, values)
        return _to_codes(outputs, self._model.output_scale, self.name)

    def requantize(self, layer: int, first: int, last: int) -> Codes:
        """Run the graph's nodes from matrix product to Quant on every accumulator from *first* to *last*."""
        quant = self._activations[layer]
        product = self._chain_source(quant)
        assert product is not None, "only activations are listed"
        scale = self._accumulator_scale(product)
        channels = self._model.activations[layer].channels
        part = cut(
            self._onnx,
            product.output[0],
            quant.output[0],
            source_type=TensorProto.FLOAT,
            target_type=TensorProto.FLOAT,
            channels=channels,
        )
        output_scale = Fraction(float(self._constants[quant.input[1]].reshape(-1)[0]))
        pieces = []
        for start in range(first, last + 1, ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, last + 1)
            accumulators = np.arange(start, stop, dtype=np.int64)[:, None]
            values = np.broadcast_to(accumulators.astype(np.float32), (stop - start, channels)) * scale
            pieces.append(_to_codes(_execute(part, values), output_scale, self.name))
        return np.concatenate(pieces)

    def _chain_source(self, quant: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the matrix product that feeds *quant* through real-valued nodes, if there is one."""
        node = self._makers.get(quant.input[0])
        while node is not None and node.op_type in ("BatchNormalization", "Relu"):
            node = self._makers.get(node.input[0])
        return node if node is not None and node.op_type in ("Gemm", "MatMul") else None

    def _accumulator_scale(self, product: onnx.NodeProto) -> FloatArray:
        codes, weights = (
            np.asarray(self._constants[self._makers[name].input[1]], dtype=np.float32).reshape(-1)
            for name in product.input[:2]
        )
        return codes * weights


def _execute(model: onnx.ModelProto, values: FloatArray) -> FloatArray:
    """Run *model* by qonnx on *values*, shape (N, channels), with the batch size set to N."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    batch = onnx.ModelProto()
    batch.CopyFrom(model)
    for tensor in (*batch.graph.input, *batch.graph.output):
        if tensor.type.tensor_type.shape.dim:
            tensor.type.tensor_type.shape.dim[0].dim_value = len(values)
    wrapper: Any = ModelWrapper(batch).transform(InferShapes())
    outputs: dict[str, FloatArray] = execute_onnx(wrapper, {batch.graph.input[0].name: np.ascontiguousarray(values)})
    return outputs[batch.graph.output[0].name]


def _to_codes(values: FloatArray, scale: Fraction, name: str) -> Codes:
    """Divide *values* by *scale* exactly.

    Raises:
        StageError: a value is not a whole multiple of the scale.
    """
    quotient = values.astype(np.float64) / float(scale)
    codes = np.rint(quotient).astype(np.int64)
    off_grid = np.argwhere(codes * float(scale) != values)
    if len(off_grid):
        at = tuple(int(i) for i in off_grid[0])
        raise StageError(f"{name}: output {values[at]!r} at {at} is not a whole multiple of the scale {float(scale)!r}")
    return codes
