"""Running a QONNX file whole, by qonnx's own executor."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from bitproof.export.qonnx_executor import execute


def run_file(model: onnx.ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run *model* on *values*, shape (N, inputs)."""
    source, target = model.graph.input[0].name, model.graph.output[0].name
    return execute(model, {source: values}, [target])[target]
