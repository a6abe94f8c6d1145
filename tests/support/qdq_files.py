"""Files with pairs of QuantizeLinear and DequantizeLinear, as onnxruntime and Brevitas write them, and their gold.

The gold is the file itself, run by onnxruntime without any optimization.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

FloatArray = NDArray[np.float32]
Sizes = tuple[int, ...]

IMAGE: Sizes = (2, 8, 8)


class FloatNetwork:
    """A network of float32 numbers under construction; every method returns the tensor that it made."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def weights(self, *shape: int) -> str:
        values = self.random.normal(size=shape) * self.random.uniform(
            0.2, 1, size=(shape[0],) + (1,) * (len(shape) - 1)
        )
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(self, source: str, inputs: int, outputs: int, **attributes: object) -> str:
        weights, bias = self.weights(outputs, inputs, 3, 3), self.weights(outputs)
        return self.add("Conv", source, weights, bias, pads=[1, 1, 1, 1], **attributes)

    def save(self, path: Path, output: str, inputs: Sizes, outputs: int) -> Path:
        source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *inputs])
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", outputs])
        graph = helper.make_graph(self.nodes, "net", [source], [result], self.constants)
        onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path


def float_mlp(path: Path) -> tuple[Path, Sizes]:
    net = FloatNetwork(1)
    hidden = net.add("Relu", net.add("Gemm", "input", net.weights(9, 12), net.weights(9), transB=1))
    hidden = net.add("Add", net.add("MatMul", hidden, net.weights(9, 7)), net.weights(7))
    output = net.add("Gemm", net.add("Relu", hidden), net.weights(7, 4), net.weights(4))
    return net.save(path, output, (12,), 4), (12,)


def float_cnn(path: Path) -> tuple[Path, Sizes]:
    """A residual sum, a Concat, and all kinds of pools."""
    net = FloatNetwork(2)
    first = net.add("Relu", net.conv("input", 2, 4))
    branch = net.conv(net.add("Relu", net.conv(first, 4, 4)), 4, 4)
    total = net.add("Relu", net.add("Add", first, branch))
    pooled = net.add("MaxPool", total, kernel_shape=[2, 2], strides=[2, 2])
    means = net.add("AveragePool", total, kernel_shape=[2, 2], strides=[2, 2])
    joined = net.add("Concat", pooled, means, axis=1)
    flat = net.add("Flatten", net.add("GlobalAveragePool", net.conv(joined, 8, 6)))
    return net.save(path, net.add("Gemm", flat, net.weights(5, 6), net.weights(5), transB=1), IMAGE, 5), IMAGE


class _Samples(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, samples: FloatArray) -> None:
        self._each: Iterator[FloatArray] = iter(samples)

    def get_next(self) -> dict[str, FloatArray] | None:
        sample = next(self._each, None)
        return None if sample is None else {"input": sample[None]}


def quantized(source: Path, path: Path, shape: Sizes, *, per_channel: bool, signed: bool) -> Path:
    """Write what onnxruntime's static quantization makes of the float file *source*, in QDQ format."""
    logging.disable(logging.WARNING)  # it asks for a preprocessing of its own, which changes nothing here
    try:
        quantize_static(
            source,
            path,
            _Samples(normal(3, 60, shape)),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    return path


def normal(seed: int, count: int, shape: Sizes) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def with_powers_of_two(path: Path) -> Path:
    """Round the scales in the file at *path* up to powers of two, so that float32 evaluates it exactly.

    The scale of a bias becomes the product of the scales of its layer's input and weights, which is then exact, too.
    """
    model = onnx.load(path)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}

    def scale_of(tensor: str) -> FloatArray:
        return np.asarray(numpy_helper.to_array(held[makers[tensor].input[1]]), dtype=np.float32)

    def put(name: str, values: FloatArray) -> None:
        held[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))

    scales = {node.input[1] for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for name in scales:
        put(name, np.exp2(np.ceil(np.log2(numpy_helper.to_array(held[name])))))
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            put(makers[node.input[2]].input[1], np.asarray(scale_of(node.input[0]) * scale_of(node.input[1])))
    onnx.save_model(model, path)
    return path


def run_unoptimized(path: Path, inputs: FloatArray) -> FloatArray:
    """Return what onnxruntime makes of *inputs* by the file at *path*, node by node as it stands."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    outputs: FloatArray = session.run(None, {source.name: inputs})[0]
    return outputs
