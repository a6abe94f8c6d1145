"""The QONNX graph that FINN builds a network from: integer operations with annotated types, channels last.

FINN's own front end (QONNX import, streamlining) is not used: the integer model is already what it would arrive at. Our
modules stand in it from the beginning. Runs in the child process only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from qonnx.core import data_layout
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from bitproof.export.integer import INPUT, IntegerType, Shape
from bitproof.hw.finn.layers import Activation, Hardware, Layer, Product, Windows, stream_shape
from bitproof.hw.finn.own_attributes import attributes_of
from bitproof.hw.finn.own_layers import DOMAIN, qonnx_name
from bitproof.hw.finn.stream_names import StreamNames
from bitproof.hw.finn.supported import code_type, weight_type

VIEW = "Reshape"
"""The operation that only gives a tensor another shape: no hardware is made of it."""
QONNX_DOMAIN = "qonnx.custom_op.general"


def to_qonnx(hardware: Hardware) -> ModelWrapper:
    """Return *hardware* as a QONNX graph for one sample; each tensor has the name of the stream that it is."""
    building = _Building(stream_shape(hardware.input_shape), hardware.input, StreamNames(hardware.streams))
    for layer in hardware.layers:
        building.add(layer)
    output = hardware.layers[-1].makes
    values = building.values
    graph = helper.make_graph(
        building.nodes,
        "bitproof",
        [values[INPUT]],
        [values[output]],
        building.constants,
        value_info=[value for name, value in values.items() if name not in (INPUT, output)],
    )
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid(QONNX_DOMAIN, 1)]
    wrapper = ModelWrapper(helper.make_model(graph, opset_imports=opsets))
    for tensor, name in building.types.items():
        wrapper.set_tensor_datatype(tensor, DataType[name])
    for name, value in values.items():
        axes = len(value.type.tensor_type.shape.dim)
        wrapper.set_tensor_layout(name, data_layout.NHWC if axes > 2 else data_layout.NC)
    return wrapper


@dataclass
class _Building:
    """The state of one building.

    Attributes:
        shape: of the input, the batch left out.
        kind: its type.
        names: those in use.
        shapes: of all tensors so far.
        types: QONNX's names of the types of the tensors, as far as they are known: not of accumulators.
    """

    shape: Shape
    kind: IntegerType
    names: StreamNames
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    values: dict[str, ValueInfoProto] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._make(INPUT, self.shape, qonnx_name(self.kind))

    def add(self, layer: Layer) -> None:
        """Append the nodes of *layer*."""
        if isinstance(layer, Windows):
            self._windows(layer)
        elif isinstance(layer, Activation):
            self._thresholds(layer)
        elif isinstance(layer, Product) and layer.logic is None:
            self._product(layer)
        else:
            self._own(layer)

    def _own(self, layer: Layer) -> None:
        own = attributes_of(layer)
        taken = [self._view(layer, index, shape) for index, shape in enumerate(own.takes)]
        node = helper.make_node(
            own.op, taken, list(own.makes), name=layer.makes, domain=DOMAIN, backend="fpgadataflow", **own.attributes
        )
        self.nodes.append(node)
        for index, tensor in enumerate(own.makes):
            self._make(tensor, layer.shape, getCustomOp(node).get_output_datatype(index).name)

    def _windows(self, layer: Windows) -> None:
        window = layer.window
        attributes = {
            "kernel_size": window.kernel,
            "stride": window.strides,
            "dilations": window.dilations,
            "pad_amount": (*window.begin, *window.end),
            "depthwise": int(layer.by_channel),
            "input_shape": str((1, *layer.source)),
        }
        taken = self._view(layer, 0, layer.source)
        self._append("Im2Col", layer, [taken], QONNX_DOMAIN, attributes)
        self._make(layer.makes, layer.shape, self.types.get(taken, ""))

    def _product(self, layer: Product) -> None:
        taken = self._view(layer, 0, (*layer.shape[:-1], layer.node.inputs))
        parameter = self._parameter(layer.makes, layer.node.weights.T, qonnx_name(weight_type(layer.node)))
        self._append("MatMul", layer, [taken, parameter], "", {})
        self._make(layer.makes, layer.shape, "")

    def _thresholds(self, layer: Activation) -> None:
        taken = self._view(layer, 0, layer.shape)
        node = layer.node
        parameter = self._parameter(layer.makes, node.thresholds, "INT32")
        attributes = {
            "out_dtype": qonnx_name(code_type(node)),
            "out_scale": 1.0,
            "out_bias": float(node.lowest),
            "data_layout": "NHWC" if len(layer.shape) > 1 else "NC",
        }
        self._append("MultiThreshold", layer, [taken, parameter], QONNX_DOMAIN, attributes)
        self._make(layer.makes, layer.shape, qonnx_name(code_type(node)))

    def _view(self, layer: Layer, index: int, shape: Shape) -> str:
        """Return what *layer* takes, in the *shape* that it takes; the codes stay where they are."""
        taken = layer.takes[index]
        if shape == self.shapes[taken]:
            return taken
        viewed = self.names.derived(layer.makes, f"viewed{index or ''}")
        sizes = numpy_helper.from_array(np.array([1, *shape], dtype=np.int64), self.names.derived(viewed, "shape"))
        self.constants.append(sizes)
        self.nodes.append(helper.make_node(VIEW, [taken, sizes.name], [viewed], name=viewed))
        self._make(viewed, shape, self.types.get(taken, ""))
        return viewed

    def _append(self, op: str, layer: Layer, taken: list[str], domain: str, attributes: Mapping[str, object]) -> None:
        self.nodes.append(helper.make_node(op, taken, [layer.makes], name=layer.makes, domain=domain, **attributes))

    def _make(self, tensor: str, shape: Shape, kind: str) -> None:
        self.shapes[tensor] = shape
        self.values[tensor] = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1, *shape])
        if kind:
            self.types[tensor] = kind

    def _parameter(self, name: str, integers: NDArray[np.int64], kind: str) -> str:
        parameter = self.names.derived(name, "parameter")
        self.constants.append(numpy_helper.from_array(_as_float32(integers), parameter))
        self.types[parameter] = kind
        return parameter


def _as_float32(integers: NDArray[np.int64]) -> NDArray[np.float32]:
    floats = np.ascontiguousarray(integers).astype(np.float32)
    assert (floats.astype(np.int64) == integers).all(), "the limits bound every integer by 2^24"
    return floats
