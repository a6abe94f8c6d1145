"""The QONNX graph that FINN builds a network from: MatMul and MultiThreshold with annotated integer types.

FINN's own front end (QONNX import, streamlining) is not used: the integer model is already what it would arrive at.
Runs in the child process only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper

from bitproof.export.integer import IntegerType, MatMul
from bitproof.hw.finn.supported import Hardware, code_type, weight_type

INPUT = "input"
QONNX_DOMAIN = "qonnx.custom_op.general"


def qonnx_name(kind: IntegerType) -> str:
    """Return the name that QONNX gives to *kind*."""
    return f"{'INT' if kind.signed else 'UINT'}{kind.bits}"


def to_qonnx(hardware: Hardware) -> ModelWrapper:
    """Return *hardware* as a QONNX graph for one sample, input shape (1, inputs)."""
    nodes, constants = [], []
    values = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, hardware.inputs])]
    types = {INPUT: qonnx_name(hardware.input)}
    current = INPUT
    for node in hardware.nodes:
        parameter = f"{node.name}.parameter"
        if isinstance(node, MatMul):
            nodes.append(helper.make_node("MatMul", [current, parameter], [node.name], name=node.name))
            constants.append(numpy_helper.from_array(_as_float32(node.weights.T), parameter))
            types[parameter] = qonnx_name(weight_type(node))
            width = node.outputs
        else:
            codes = qonnx_name(code_type(node))
            nodes.append(
                helper.make_node(
                    "MultiThreshold",
                    [current, parameter],
                    [node.name],
                    name=node.name,
                    domain=QONNX_DOMAIN,
                    out_dtype=codes,
                    out_scale=1.0,
                    out_bias=float(node.lowest),
                    data_layout="NC",
                )
            )
            constants.append(numpy_helper.from_array(_as_float32(node.thresholds), parameter))
            types[parameter], types[node.name] = "INT32", codes
            width = node.channels
        values.append(helper.make_tensor_value_info(node.name, TensorProto.FLOAT, [1, width]))
        current = node.name
    graph = helper.make_graph(nodes, "bitproof", values[:1], values[-1:], constants, value_info=values[1:-1])
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid(QONNX_DOMAIN, 1)]
    wrapper = ModelWrapper(helper.make_model(graph, opset_imports=opsets))
    for tensor, name in types.items():
        wrapper.set_tensor_datatype(tensor, DataType[name])
    return wrapper


def _as_float32(integers: NDArray[np.int64]) -> NDArray[np.float32]:
    floats = np.ascontiguousarray(integers).astype(np.float32)
    assert (floats.astype(np.int64) == integers).all(), "require_supported bounds every integer by 2^24"
    return floats
