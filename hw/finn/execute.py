"""The execution of integer codes by FINN's hardware layers, each with FINN's own Python, many samples at once.

Runs in the child process only.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp
from numpy.typing import NDArray
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from bitproof.hw.finn.own_layers import DOMAIN
from bitproof.pipeline import Codes, StageError

ELEMENTS_AT_ONCE = 1 << 21
"""Of the largest tensor: bounds the memory that windows and the comparisons with all thresholds take."""
SAMPLES_AT_ONCE = 2500

Tensor = NDArray[np.float32]


def execute_graph(graph: Path, inputs: Path, outputs: Path) -> None:
    """Run the codes in the file *inputs* through *graph* and write the output codes to *outputs*.

    Both have the shape (N, codes) and the order of the streams.

    Raises:
        StageError: an output is not an integer.
    """
    np.save(outputs, run_graph(ModelWrapper(str(graph)), np.load(inputs, allow_pickle=False)), allow_pickle=False)


def run_graph(wrapper: ModelWrapper, codes: Codes) -> Codes:
    """Return what *wrapper* makes of *codes*, shape (N, inputs) and order of the input stream, shape (N, outputs).

    Raises:
        StageError: an output is not an integer.
    """
    largest = max(prod(wrapper.get_tensor_shape(node.output[0])) for node in wrapper.graph.node)
    at_once = max(1, min(SAMPLES_AT_ONCE, ELEMENTS_AT_ONCE // largest))
    pieces = []
    for start in range(0, len(codes), at_once):
        values = _run(wrapper, codes[start : start + at_once].astype(np.float32))
        integers = values.astype(np.int64)
        if (integers != values).any():
            raise StageError("FINN's execution of its graph returned values that are not integers")
        pieces.append(integers.reshape(len(integers), -1))
    return np.concatenate(pieces)


def _run(wrapper: ModelWrapper, values: Tensor) -> Tensor:
    context: dict[str, Tensor] = {item.name: wrapper.get_initializer(item.name) for item in wrapper.graph.initializer}
    streams = {value.name for value in (*wrapper.graph.input, *wrapper.graph.value_info)} - context.keys()
    context[wrapper.graph.input[0].name] = values
    for node in wrapper.graph.node:
        inst = getCustomOp(node)
        for index, tensor in enumerate(node.input):
            if tensor in streams:
                context[tensor] = context[tensor].reshape(-1, *inst.get_normal_input_shape(index)[1:])
        samples = len(context[node.input[0]])
        for index, tensor in enumerate(node.output):
            shape = (samples, *inst.get_normal_output_shape(index)[1:])
            context[tensor] = np.zeros(shape, dtype=np.float32)
        _execute(inst, node, context)
    return context[wrapper.graph.output[0].name]


def _execute(inst: HWCustomOp, node: NodeProto, context: dict[str, Tensor]) -> None:
    """Let FINN execute one node on all samples."""
    if node.domain == DOMAIN:
        inst.execute_node(context, None)
        return
    attributes = inst.get_nodeattr_types()
    before = {
        name: inst.get_nodeattr(name) for name in ("exec_mode", "numInputVectors", "IFMChannels") if name in attributes
    }
    if node.op_type.endswith("_rtl"):
        inst.set_nodeattr("exec_mode", "cppsim")  # of an RTL layer: the Python of its abstract layer
    if node.op_type.startswith("ConvolutionInputGenerator"):
        _execute_windows(inst, node, context)
    else:
        samples = len(context[node.input[0]])
        if node.op_type.startswith(("MVAU", "Thresholding")):
            inst.set_nodeattr("numInputVectors", [samples, *before["numInputVectors"][1:]])
        inst.execute_node(context, None)
    for name, value in before.items():
        inst.set_nodeattr(name, value)


def _execute_windows(inst: HWCustomOp, node: NodeProto, context: dict[str, Tensor]) -> None:
    """Let FINN's window generator take the samples as channels: with more than one sample its execution mixes them."""
    source, target = node.input[0], node.output[0]
    given, made = context[source], context[target]
    samples, height, width, channels = given.shape
    _, rows, columns, taken = made.shape
    context[source] = np.moveaxis(given, 0, -2).reshape(1, height, width, samples * channels)
    context[target] = np.zeros((1, rows, columns, samples * taken), dtype=np.float32)
    inst.set_nodeattr("IFMChannels", samples * channels)
    inst.execute_node(context, None)
    windows = context[target]
    if node.op_type.endswith("_rtl") and inst.get_nodeattr("depthwise"):
        by_sample = np.moveaxis(windows.reshape(rows, columns, samples, taken), 2, 0)
    else:
        by_sample = np.moveaxis(windows.reshape(rows, columns, -1, samples, channels), 3, 0)
    context[source], context[target] = given, np.ascontiguousarray(by_sample.reshape(made.shape))
