"""Small QONNX files for tests, written node by node, so that no exporter stands between a test and its graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitproof.export.lower import lower_file
from bitproof.export.lowering import origins_of
from bitproof.export.qonnx import load_qonnx
from bitproof.export.qonnx_executor import QonnxExecutor

Numbers = NDArray[np.float32] | NDArray[np.float64] | list[float] | float
CUSTOM = "qonnx.custom_op.general"


@dataclass
class QonnxFile:
    """Collects nodes and constants; every method returns the name of the tensor that it made.

    Attributes:
        trunc_version: version of the operator set of the nodes of QONNX; the two differ in Trunc.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    trunc_version: int = 2

    def constant(self, value: Numbers) -> str:
        return self._constant(np.asarray(value, dtype=np.float32))

    def integers(self, *values: int) -> str:
        return self._constant(np.array(values, dtype=np.int64))

    def codes(self, value: Sequence[int] | NDArray[np.int64] | int, kind: type[np.integer[Any]] = np.uint8) -> str:
        """Return the constant *value* in an integer type, as QuantizeLinear and DequantizeLinear take it."""
        return self._constant(np.asarray(value, dtype=kind))

    def half(self, value: float) -> str:
        """Return the constant *value* in binary16."""
        return self._constant(np.array(value, dtype=np.float16))

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, op: str, inputs: list[str], domain: str = "", *, outputs: int = 1, **attributes: object) -> str:
        """Append a node; of several *outputs* the last one's name is returned, ``t5.1`` for the second of node 5."""
        return self.node(op, inputs, attributes, domain, outputs)

    def node(
        self, op: str, inputs: list[str], attributes: Mapping[str, object], domain: str = "", outputs: int = 1
    ) -> str:
        """Append a node whose attributes are given as a mapping."""
        first = f"t{len(self.nodes)}"
        names = [first, *(f"{first}.{index}" for index in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, names, name=first, domain=domain, **attributes))
        return names[-1]

    def quant(
        self,
        source: str,
        scale: Numbers,
        bits: int,
        *,
        signed: int,
        narrow: int = 0,
        mode: str = "ROUND",
        zero: Numbers = 0.0,
        op: str = "Quant",
    ) -> str:
        inputs = [source, self.constant(scale), self.constant(zero), self.constant(float(bits))]
        return self.add(op, inputs, CUSTOM, signed=signed, narrow=narrow, rounding_mode=mode)

    def linear(
        self,
        source: str,
        scale: Numbers,
        zero: Sequence[int] | int,
        kind: type[np.integer[Any]] = np.uint8,
        *,
        ends: tuple[int, int] | None = None,
        axis: int = 1,
    ) -> str:
        """Return *source* behind QuantizeLinear, a Clip to *ends* if they are given, and DequantizeLinear."""
        constants = [self.constant(scale), self.codes(zero, kind)]
        integers = self.add("QuantizeLinear", [source, *constants], axis=axis)
        if ends is not None:
            integers = self.add("Clip", [integers, *(self.codes(end, kind) for end in ends)])
        return self.add("DequantizeLinear", [integers, *constants], axis=axis)

    def bipolar(self, source: str, scale: Numbers) -> str:
        return self.add("BipolarQuant", [source, self.constant(scale)], CUSTOM)

    def weights(self, values: Numbers, scale: Numbers = 1.0, bits: int = 8) -> str:
        """Return weights behind a signed quantizer."""
        return self.quant(self.constant(values), scale, bits, signed=1)

    def batch_norm(
        self, source: str, parameters: NDArray[np.float32] | NDArray[np.float64], epsilon: float = 1e-5
    ) -> str:
        """*parameters*: gamma, beta, mean, variance, shape (4, channels)."""
        inputs = [source, *(self.constant(row) for row in parameters)]
        return self.add("BatchNormalization", inputs, epsilon=epsilon)

    def proto(
        self,
        inputs: int | tuple[int, ...],
        output: str,
        outputs: int | tuple[int, ...],
        kind: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        """Return the model; *inputs* and *outputs* are shapes of one sample, *kind* the type of the output."""
        sizes = [[shape] if isinstance(shape, int) else list(shape) for shape in (inputs, outputs)]
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *sizes[0]])],
            [helper.make_tensor_value_info(output, kind, ["N", *sizes[1]] if -1 not in sizes[1] else None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CUSTOM, self.trunc_version)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def save(
        self,
        path: Path,
        inputs: int | tuple[int, ...],
        output: str,
        outputs: int | tuple[int, ...],
        kind: int = TensorProto.FLOAT,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save_model(self.proto(inputs, output, outputs, kind), path)
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


FREE_SCALE = float(np.float32(0.1))


def ties(path: Path) -> Path:
    """Sums whose exact values lie on boundaries: a quantizer of twice the unit; float32 sums come out beside them."""
    file = QonnxFile()
    source = file.quant("input", FREE_SCALE, 4, signed=1)
    weights = file.quant(file.constant(np.array([[1, 1, 1], [3, -1, 2]]) * FREE_SCALE), FREE_SCALE, 4, signed=1)
    product = file.add("Gemm", [source, weights], transB=1)
    unit = float(np.float32(FREE_SCALE) * np.float32(FREE_SCALE))
    return file.save(path, 3, file.quant(product, 2 * unit, 4, signed=1), 2)


def qonnx_executor(path: Path) -> QonnxExecutor:
    """The file at *path* as an executor, compared with what is lowered from it."""
    lowered = lower_file(path)
    return QonnxExecutor(load_qonnx(path), lowered.model, origins_of(lowered))
