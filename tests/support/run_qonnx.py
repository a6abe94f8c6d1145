"""Run a QONNX file by qonnx's own executor, as it is."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray


def run_qonnx(model: onnx.ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the output of *model* on *values*, whose batch takes the place of the file's."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    own = onnx.ModelProto()
    own.CopyFrom(model)
    shape = own.graph.input[0].type.tensor_type.shape
    shape.dim[0].dim_value = len(values)
    own.graph.output[0].type.tensor_type.ClearField("shape")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # qonnx warns that the stored shapes of an old file are those of one sample
        wrapper: Any = ModelWrapper(own).transform(InferShapes())
        outputs: dict[str, NDArray[np.float32]] = execute_onnx(wrapper, {own.graph.input[0].name: values})
    return outputs[own.graph.output[0].name]
