"""Small QONNX files as other tools write them: old opsets, other domains, computed shapes, channels last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

GENERAL = "qonnx.custom_op.general"
CHANNELS_LAST = "qonnx.custom_op.channels_last"

Attribute = int | float | str | list[int]


@dataclass
class ForeignFile:
    """Collects nodes and constants; every method returns the name of the tensor that it made.

    *domain* is what the file calls the domain of QONNX; *opset* that of the standard operations.
    """

    opset: int = 13
    domain: str = GENERAL
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    shapes: dict[str, list[int | str]] = field(default_factory=dict)

    def constant(self, value: ArrayLike, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype=dtype)
        return name

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{name}", domain=domain, **attributes))
        return name

    def shaped(self, tensor: str, shape: list[int | str]) -> str:
        """Write down the *shape* of *tensor*, which qonnx cannot infer through channels-last operations."""
        self.shapes[tensor] = shape
        return tensor

    def quant(
        self, source: str, scale: ArrayLike, bits: int, *, signed: int = 1, narrow: int = 0, op: str = "Quant"
    ) -> str:
        inputs = [source, self.constant(scale), self.constant(0.0), self.constant(float(bits))]
        return self.add(op, *inputs, domain=self.domain, signed=signed, narrow=narrow, rounding_mode="ROUND")

    def batch_norm(self, source: str, channels: int, seed: int, *, domain: str = "", **attributes: Attribute) -> str:
        generator = np.random.default_rng(seed)
        rows = [generator.normal(size=channels) for _ in range(3)]
        parameters = [self.constant(row) for row in (*rows, generator.uniform(0.5, 2, size=channels))]
        return self.add("BatchNormalization", source, *parameters, domain=domain, epsilon=1e-5, **attributes)

    def model(
        self, output: str, inputs: list[int | str], outputs: list[int | str] | None, *, listed: bool = False
    ) -> onnx.ModelProto:
        """Return the file; *listed*: the constants are among the graph's inputs, as before IR version 4."""
        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        sources = [helper.make_tensor_value_info("input", TensorProto.FLOAT, inputs)]
        if listed:
            sources.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors)
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, outputs)
        known = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in self.shapes.items()]
        graph = helper.make_graph(self.nodes, "net", sources, [result], tensors, value_info=known)
        domains = sorted({node.domain for node in self.nodes} - {""})
        versions = {"": self.opset, **dict.fromkeys(domains, 1)}
        if CHANNELS_LAST in versions:
            versions[CHANNELS_LAST] = self.opset  # qonnx takes the version of the standard operation from there
        opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=7 if self.opset > 8 else 3)


def weights(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def old_convolutional() -> onnx.ModelProto:
    """Return what Brevitas wrote with PyTorch 1.7: opset 9, its own domain, a flattening by computed shapes."""
    file = ForeignFile(opset=9, domain="onnx.brevitas")
    tensor = file.quant("input", 0.25, 4, signed=0)
    tensor = file.add("Conv", tensor, file.quant(file.constant(weights((3, 2, 3, 3), 1)), 0.25, 3), strides=[1, 1])
    tensor = file.add("Relu", file.batch_norm(tensor, 3, 2, momentum=0.9))
    tensor = file.quant(tensor, 0.5, 3, signed=0)
    tensor = file.add("Dropout", tensor, ratio=0.5)
    tensor = file.add("MaxPool", tensor, kernel_shape=[2, 2], strides=[2, 2])
    batch = file.add("Gather", file.add("Shape", tensor), file.constant(0, np.int64), axis=0)
    batch = file.add("Unsqueeze", batch, axes=[0])
    tensor = file.add("Reshape", tensor, file.add("Concat", batch, file.constant([-1], np.int64), axis=0))
    linear = file.quant(file.constant(weights((5, 12), 3)), 0.25, 3, narrow=1)
    tensor = file.add("MatMul", tensor, file.add("Transpose", linear, perm=[1, 0]))
    variance = file.add("Pow", file.constant([2.0]), file.constant(0.5))
    tensor = file.add("Div", file.add("Sub", tensor, file.constant([0.75])), variance)
    return file.model(tensor, [1, 2, 6, 6], [1, 5], listed=True)


def channels_last() -> onnx.ModelProto:
    """Return what qonnx's conversion to channels-last gives, with every operation that it has in that layout."""
    file = ForeignFile(opset=11)
    tensor = file.quant(file.add("Transpose", "input", perm=[0, 2, 3, 1]), 0.125, 4, signed=0)
    file.shaped(tensor, [1, 8, 8, 2])
    kernel = file.quant(file.constant(weights((3, 3, 3, 2), 4)), [[[[0.25]]], [[[0.5]]], [[[0.125]]]], 3)
    file.shaped(kernel, [3, 3, 3, 2])
    window: dict[str, Attribute] = {
        "kernel_shape": [3, 3],
        "strides": [1, 1],
        "pads": [1, 1, 1, 1],
        "dilations": [1, 1],
        "group": 1,
    }
    tensor = file.shaped(file.add("Conv", tensor, kernel, domain=CHANNELS_LAST, **window), [1, 8, 8, 3])
    tensor = file.shaped(file.batch_norm(tensor, 3, 5, domain=CHANNELS_LAST, momentum=0.9), [1, 8, 8, 3])
    tensor = file.shaped(file.quant(tensor, 0.5, 4), [1, 8, 8, 3])
    pool: dict[str, Attribute] = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0]}
    tensor = file.shaped(file.add("MaxPool", tensor, domain=CHANNELS_LAST, **pool), [1, 4, 4, 3])
    tensor = file.shaped(file.add("MaxPoolNHWC", tensor, domain=GENERAL, **pool), [1, 2, 2, 3])
    table = file.constant(np.sort(weights((3, 3), 6), axis=1))
    threshold: dict[str, Attribute] = {"out_dtype": "UINT2", "data_layout": "NHWC"}
    tensor = file.shaped(file.add("MultiThreshold", tensor, table, domain=GENERAL, **threshold), [1, 2, 2, 3])
    bits: dict[str, Attribute] = {"ibits": 2, "obits": 2, "signed": 0}
    tensor = file.add("QuantAvgPool2d", tensor, domain=GENERAL, stride=2, kernel=2, data_layout="NHWC", **bits)
    return file.model(tensor, [1, 2, 8, 8], [1, 1, 1, 3])


def wordy() -> onnx.ModelProto:
    """Return a small perceptron with everything that has no meaning: Constant nodes, identities, casts, dead nodes."""
    file = ForeignFile(opset=12, domain="finn.custom_op.general")
    one = numpy_helper.from_array(np.array(0.5, dtype=np.float32), "held")
    file.nodes.append(helper.make_node("Constant", [], ["half"], name="Constant_half", value=one))
    tensor = file.add("Cast", "input", to=TensorProto.FLOAT)
    tensor = file.add("Mul", file.add("Identity", tensor), "half")
    tensor = file.quant(tensor, 0.25, 4, op="IntQuant")
    file.add("Relu", tensor)  # dead
    size = file.add("ConstantOfShape", file.constant([2], np.int64))
    shifted = file.add("Add", file.constant(weights((2,), 8)), file.add("Expand", size, file.constant([2], np.int64)))
    table = file.add("Tile", file.add("Unsqueeze", shifted, axes=[0]), file.constant([3, 1], np.int64))
    linear = file.quant(file.add("Transpose", table, perm=[1, 0]), [[0.25], [0.5]], 3)
    tensor = file.add("Gemm", tensor, linear, file.constant([0.5, -1.0]), transB=1, alpha=1.0, beta=1.0)
    tensor = file.add("Clip", tensor, file.constant(-1.0), file.constant(1.0))
    tensor = file.quant(file.add("Identity", tensor), 0.25, 3)
    return file.model(file.add("Identity", tensor), [1, 3], None)


def binary() -> onnx.ModelProto:
    """Return a perceptron with weights and activations of -1 and 1 behind an unquantized, scaled input."""
    file = ForeignFile(opset=14, domain="onnx.brevitas")
    tensor = file.add("Div", file.add("Add", "input", file.constant([1.0])), file.constant(2.0))
    for layer, (inputs, outputs) in enumerate(((6, 5), (5, 2))):
        linear = file.constant(weights((outputs, inputs), layer))
        linear = file.add("BipolarQuant", linear, file.constant(0.5), domain=file.domain)
        tensor = file.add("Gemm", tensor, linear, file.constant(weights((outputs,), 9)), transB=1)
        tensor = file.batch_norm(tensor, outputs, layer)
        tensor = file.add("BipolarQuant", tensor, file.constant(1.0), domain=file.domain)
    return file.model(tensor, ["batch", 6], ["a", "b"])


FILES: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "old-convolutional": old_convolutional,
    "channels-last": channels_last,
    "wordy": wordy,
    "binary": binary,
}
