"""Small QONNX files for tests, written node by node, so that no exporter stands between a test and its graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.lower import lower_file
from export.lowering import origins_of
from export.qonnx import load_qonnx
from export.qonnx_executor import QonnxExecutor


@dataclass
class QonnxFile:
    """Collects nodes and constants; every method returns the name of the tensor that it made."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: NDArray[np.float32] | float) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        return name

    def add(self, op: str, inputs: list[str], domain: str = "", **attributes: object) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def quant(self, source: str, scale: float, bits: int, *, signed: int, narrow: int = 0, mode: str = "ROUND") -> str:
        inputs = [source, self.constant(scale), self.constant(0.0), self.constant(float(bits))]
        return self.add("Quant", inputs, "qonnx.custom_op.general", signed=signed, narrow=narrow, rounding_mode=mode)

    def batch_norm(self, source: str, parameters: NDArray[np.float32]) -> str:
        """*parameters*: gamma, beta, mean, variance, shape (4, channels)."""
        return self.add("BatchNormalization", [source, *(self.constant(row) for row in parameters)], epsilon=1e-5)

    def save(self, path: Path, inputs: int, output: str, outputs: int) -> Path:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", inputs])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", outputs])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("qonnx.custom_op.general", 2)]
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return path


def random_mlp(
    path: Path, seed: int, *, widths: tuple[int, ...] = (12, 9, 7, 4), weight_bits: int = 2, act_bits: int = 4
) -> Path:
    """Write a multilayer perceptron with power-of-two scales, batch norm of both signs, and one dead channel."""
    generator = np.random.default_rng(seed)
    file = QonnxFile()
    tensor = file.quant("input", 2.0**-8, 8, signed=0)
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        weights = generator.normal(size=(outputs, inputs)).astype(np.float32)
        quantized = file.quant(file.constant(weights), 2.0 ** -(weight_bits - 2), weight_bits, signed=1, narrow=1)
        tensor = file.add("Gemm", [tensor, quantized], transB=1)
        if layer == len(widths) - 2:
            break
        parameters = np.stack(
            [
                generator.normal(size=outputs),
                generator.normal(size=outputs),
                generator.normal(size=outputs),
                generator.uniform(0.1, 2, size=outputs),
            ]
        ).astype(np.float32)
        parameters[0, 0] = 0
        tensor = file.add("Relu", [file.batch_norm(tensor, parameters)])
        tensor = file.quant(tensor, 2.0 ** -(act_bits - 2), act_bits, signed=0)
    return file.save(path, widths[0], tensor, widths[-1])


def qonnx_executor(path: Path) -> QonnxExecutor:
    """The file at *path* as an executor, compared with what is lowered from it."""
    lowered = lower_file(path)
    return QonnxExecutor(load_qonnx(path), lowered.model, origins_of(lowered))
