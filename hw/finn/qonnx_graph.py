"""The QONNX graph that FINN builds a network from: integer operations with annotated types, channels last.

FINN's own front end (QONNX import, streamlining) is not used: the integer model is already what it would arrive at.
Runs in the child process only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatchmethod

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from qonnx.core import data_layout
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper

from bitproof.export.integer import IntegerType, Shape
from bitproof.hw.finn.expected import windows_tensor
from bitproof.hw.finn.layers import Activation, Hardware, Product, Reduction, Windows, stream_shape
from bitproof.hw.finn.supported import code_type, weight_type
from bitproof.hw.finn.window_reducer import DOMAIN

INPUT = "input"
VIEW = "Reshape"
"""The operation that only gives a tensor another shape: no hardware is made of it."""
QONNX_DOMAIN = "qonnx.custom_op.general"


def qonnx_name(kind: IntegerType) -> str:
    """Return the name that QONNX gives to *kind*."""
    return f"{'INT' if kind.signed else 'UINT'}{kind.bits}"


def viewed_tensor(name: str) -> str:
    """Return the name of the tensor that holds what the layer *name* takes, in the shape in which it takes it."""
    return f"{name}.viewed"


def to_qonnx(hardware: Hardware) -> ModelWrapper:
    """Return *hardware* as a QONNX graph for one sample; each tensor has the name of the node that makes it."""
    building = _Building(stream_shape(hardware.input_shape), qonnx_name(hardware.input))
    for layer in hardware.layers:
        building.add(layer)
    graph = helper.make_graph(
        building.nodes,
        "bitproof",
        building.values[:1],
        building.values[-1:],
        building.constants,
        value_info=building.values[1:-1],
    )
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid(QONNX_DOMAIN, 1)]
    wrapper = ModelWrapper(helper.make_model(graph, opset_imports=opsets))
    for tensor, name in building.types.items():
        wrapper.set_tensor_datatype(tensor, DataType[name])
    for value in building.values:
        axes = len(value.type.tensor_type.shape.dim)
        wrapper.set_tensor_layout(value.name, data_layout.NHWC if axes > 2 else data_layout.NC)
    return wrapper


@dataclass
class _Building:
    """The state of one building.

    Attributes:
        shape: of the current tensor, the batch left out.
        kind: QONNX's name of its type; empty for accumulators.
    """

    shape: Shape
    kind: str
    current: str = INPUT
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    values: list[ValueInfoProto] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._make(INPUT, self.shape, self.kind)

    @singledispatchmethod
    def add(self, layer: object) -> None:
        """Append the nodes of *layer*."""
        raise NotImplementedError(type(layer))  # every class of layer is registered below

    @add.register
    def _(self, layer: Windows) -> None:
        self._view(layer.name, layer.source)
        window = layer.window
        attributes = {
            "kernel_size": window.kernel,
            "stride": window.strides,
            "dilations": window.dilations,
            "pad_amount": (*window.begin, *window.end),
            "depthwise": int(layer.by_channel),
            "input_shape": str((1, *layer.source)),
        }
        self._append("Im2Col", layer.name, windows_tensor(layer.name), (), QONNX_DOMAIN, attributes)
        self._make(windows_tensor(layer.name), layer.shape, self.kind)

    @add.register
    def _(self, layer: Product) -> None:
        self._view(layer.name, (*layer.shape[:-1], layer.node.inputs))
        parameter = self._parameter(layer.name, layer.node.weights.T, qonnx_name(weight_type(layer.node)))
        self._append("MatMul", layer.name, layer.name, (parameter,), "", {})
        self._make(layer.name, layer.shape, "")

    @add.register
    def _(self, layer: Activation) -> None:
        self._view(layer.name, layer.shape)
        node = layer.node
        parameter = self._parameter(layer.name, node.thresholds, "INT32")
        attributes = {
            "out_dtype": qonnx_name(code_type(node)),
            "out_scale": 1.0,
            "out_bias": float(node.lowest),
            "data_layout": "NHWC" if len(layer.shape) > 1 else "NC",
        }
        self._append("MultiThreshold", layer.name, layer.name, (parameter,), QONNX_DOMAIN, attributes)
        self._make(layer.name, layer.shape, qonnx_name(code_type(node)))

    @add.register
    def _(self, layer: Reduction) -> None:
        channels = layer.shape[-1]
        attributes = {
            "backend": "fpgadataflow",
            "Function": {"max": "MaxPool", "sum": "AccPool"}[layer.function],
            "KernelSize": (1, layer.taps),
            "Channels": channels,
            "PE": channels,
            "OutImgDims": layer.shape[:2],
            "InputDataType": qonnx_name(layer.source),
            "OutputDataType": qonnx_name(layer.output),
        }
        self._append("WindowReducer", layer.name, layer.name, (), DOMAIN, attributes)
        self._make(layer.name, layer.shape, qonnx_name(layer.output))

    def _view(self, name: str, shape: Shape) -> None:
        """Give the current tensor the *shape* that the layer *name* takes; the codes stay where they are."""
        if shape == self.shape:
            return
        viewed = viewed_tensor(name)
        sizes = numpy_helper.from_array(np.array([1, *shape], dtype=np.int64), f"{viewed}.shape")
        self.constants.append(sizes)
        self.nodes.append(helper.make_node(VIEW, [self.current, sizes.name], [viewed], name=viewed))
        self._make(viewed, shape, self.kind)

    def _append(
        self,
        op: str,
        name: str,
        output: str,
        parameters: tuple[str, ...],
        domain: str,
        attributes: Mapping[str, object],
    ) -> None:
        node = helper.make_node(op, [self.current, *parameters], [output], name=name, domain=domain, **attributes)
        self.nodes.append(node)

    def _make(self, tensor: str, shape: Shape, kind: str) -> None:
        """Let *tensor* be the current one."""
        self.current, self.shape, self.kind = tensor, shape, kind
        self.values.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1, *shape]))
        if kind:
            self.types[tensor] = kind

    def _parameter(self, name: str, integers: NDArray[np.int64], kind: str) -> str:
        parameter = f"{name}.parameter"
        self.constants.append(numpy_helper.from_array(_as_float32(integers), parameter))
        self.types[parameter] = kind
        return parameter


def _as_float32(integers: NDArray[np.int64]) -> NDArray[np.float32]:
    floats = np.ascontiguousarray(integers).astype(np.float32)
    assert (floats.astype(np.int64) == integers).all(), "the limits bound every integer by 2^24"
    return floats
