"""The integer model as FINN's hardware layers, from the abstract ones to the folded RTL ones.

Runs in the child process only. Every tensor keeps the name of the node of the integer model that makes it, so a layer
is known by its output, in whatever order FINN lists its layers.

The order of the transformations matters: thresholds first (else FINN fuses them into the matrix unit, which is then
HLS), minimization by data types only (by values, a layer without negative weights becomes BINARY, which is HLS too; and
by types the RTL does not depend on the weights, so that a compiled simulation serves every retrained network of the
same shape).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from finn.transformation.fpgadataflow.convert_to_hw.conv_inp_gen import InferConvInpGen
from finn.transformation.fpgadataflow.convert_to_hw.quantized_matrix_vector_activation import (
    InferQuantizedMatrixVectorActivation,
)
from finn.transformation.fpgadataflow.convert_to_hw.thresholding import InferThresholdingLayer
from finn.transformation.fpgadataflow.minimize_accumulator_width import MinimizeAccumulatorWidth
from finn.transformation.fpgadataflow.minimize_weight_bit_width import MinimizeWeightBitWidth
from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import GiveUniqueNodeNames
from qonnx.transformation.infer_datatypes import InferDataTypes

from bitproof.export.integer import IntegerModel, load, run
from bitproof.hw.finn.execute import run_graph
from bitproof.hw.finn.expected import Expected, expected_layers
from bitproof.hw.finn.folding import fold, summarize
from bitproof.hw.finn.layers import Hardware, Windows
from bitproof.hw.finn.qonnx_graph import VIEW, to_qonnx
from bitproof.hw.finn.walk import hardware_of
from bitproof.hw.rtl.host_order import from_stream, to_stream
from bitproof.pipeline import StageError

HARDWARE = "hw.onnx"
FOLDED = "folded.onnx"
SUMMARY = "graph.json"
COMPARED_SAMPLES = 8
"""Of random and extreme codes, through every graph that is written."""


def build_graphs(folder: Path, out: Path, *, part: str, clock_ns: int, target_cycles: int) -> None:
    """Write the hardware layers, the folded RTL layers and their summary; both graphs are executed and compared.

    Raises:
        StageError: FINN has no RTL for a layer, does not reach *target_cycles* per sample, or made another network.
    """
    model = load(folder)
    wanted = hardware_of(model)
    expected = expected_layers(wanted)
    hardware = minimize(to_hardware(wanted, expected))
    save(hardware, out / HARDWARE)
    rtl = specialize(hardware, part, expected)
    folded = minimize(fold(rtl, target_cycles))
    require_rtl(folded, expected)
    save(folded, out / FOLDED)
    summary = {
        **summarize(folded, expected, part),
        "input_shape": list(wanted.input_shape),
        "output_shape": list(wanted.output_shape),
        "output_bias": list(wanted.output_bias),
    }
    if summary["estimated_initiation_interval"] > target_cycles:
        slowest = max(summary["layers"], key=lambda layer: int(layer["cycles"]))
        raise StageError(
            f"layer {slowest['layer']!r} needs {slowest['cycles']} cycles per sample at its widest folding; the target "
            f"allows {target_cycles}. Ask for at most {1_000_000_000 // (clock_ns * slowest['cycles'])} frames/s"
        )
    for name in (HARDWARE, FOLDED):
        require_equal(model, wanted, name, ModelWrapper(str(out / name)))
    (out / SUMMARY).write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")


def to_hardware(wanted: Hardware, expected: Mapping[str, Expected]) -> ModelWrapper:
    """Return *wanted* as FINN's abstract layers, and ours where FINN has HLS alone."""
    graph = to_qonnx(wanted)
    for transformation in (
        InferDataTypes(),
        InferThresholdingLayer(),
        InferQuantizedMatrixVectorActivation(),
        InferConvInpGen(),
    ):
        graph = graph.transform(transformation)
    _remove_views(graph)
    padded = {layer.makes: layer.padded for layer in wanted.layers if isinstance(layer, Windows)}
    for node in list(graph.graph.node):
        if node.op_type == "FMPadding":
            (behind,) = graph.find_consumers(node.output[0])
            graph.rename_tensor(node.output[0], padded[behind.output[0]])
    for transformation in (GiveUniqueNodeNames(), InferDataTypes()):
        graph = graph.transform(transformation)
    _require_ops(graph, {tensor: (entry.layer, entry.op) for tensor, entry in expected.items()})
    return graph


def _remove_views(graph: ModelWrapper) -> None:
    """Connect what lies before and behind each node that gives a tensor another shape: streams have none."""
    for node in list(graph.graph.node):
        if node.op_type == VIEW:
            for behind in graph.find_consumers(node.output[0]):
                for index, tensor in enumerate(behind.input):
                    if tensor == node.output[0]:
                        behind.input[index] = node.input[0]
            graph.graph.node.remove(node)
            graph.del_initializer(node.input[1])


def minimize(graph: ModelWrapper) -> ModelWrapper:
    """Narrow accumulators and thresholds to what the data types of their inputs can cause."""
    for transformation in (
        MinimizeWeightBitWidth(datatype_only=True),
        MinimizeAccumulatorWidth(datatype_only=True),
        InferDataTypes(),
        RoundAndClipThresholds(),
        InferDataTypes(),
        MinimizeWeightBitWidth(datatype_only=True),
        InferDataTypes(),
    ):
        graph = graph.transform(transformation)
    return graph


def specialize(graph: ModelWrapper, part: str, expected: Mapping[str, Expected]) -> ModelWrapper:
    """Choose FINN's RTL implementation of every layer of FINN.

    Raises:
        StageError: FINN chose another one.
    """
    for node in graph.graph.node:
        getCustomOp(node).set_nodeattr("preferred_impl_style", "rtl")
    for transformation in (SpecializeLayers(part), GiveUniqueNodeNames(), InferDataTypes()):
        graph = graph.transform(transformation)
    require_rtl(graph, expected)
    return graph


def require_rtl(graph: ModelWrapper, expected: Mapping[str, Expected]) -> None:
    """Check that *graph* consists of RTL layers, one for each tensor of *expected*.

    Raises:
        StageError: it does not.
    """
    _require_ops(graph, {tensor: (entry.layer, entry.rtl) for tensor, entry in expected.items()})


def _require_ops(graph: ModelWrapper, wanted: Mapping[str, tuple[str, str]]) -> None:
    made = {node.output[0]: node for node in graph.graph.node}
    for tensor, (layer, op) in wanted.items():
        node = made.get(tensor)
        if node is not None and node.op_type != op:
            inst = getCustomOp(node)
            parameters = f", parameters {inst.get_input_datatype(1).name}" if len(node.input) > 1 else ""
            raise StageError(
                f"FINN turned layer {layer!r} into {node.op_type} instead of {op} (input "
                f"{inst.get_input_datatype(0).name}{parameters}). Its RTL takes signed weights of 2..8 bits without "
                "the most negative code, and codes of 2..8 bits"
            )
    if made.keys() != wanted.keys():
        raise StageError(
            f"FINN made {len(made)} layers of the {len(wanted)} of the network: "
            f"{', '.join(node.op_type for node in made.values())}"
        )


def require_equal(model: IntegerModel, wanted: Hardware, name: str, graph: ModelWrapper) -> None:
    """Check that *graph*, written as *name*, gives what *model* gives, on random and extreme codes.

    Raises:
        StageError: it does not.
    """
    codes = model.allowed_codes
    drawn = np.random.default_rng(0).integers(0, len(codes) - 1, (COMPARED_SAMPLES, model.inputs), endpoint=True)
    drawn[0], drawn[1] = 0, len(codes) - 1
    samples = codes[0] + codes.step * drawn
    actual = from_stream(run_graph(graph, to_stream(samples, wanted.input_shape)), wanted.output_shape)
    expected = run(model, samples)
    if wanted.output_bias:
        actual = actual + np.array(wanted.output_bias, dtype=np.int64)
    differs = np.argwhere(actual != expected)
    if len(differs):
        sample, output = (int(i) for i in differs[0])
        raise StageError(
            f"{name} gives {int(actual[sample, output])} for output {output} of random sample {sample}; the integer "
            f"model gives {int(expected[sample, output])}"
        )


def save(graph: ModelWrapper, path: Path) -> None:
    """Write *graph* with names that do not depend on the run."""
    graph.transform(GiveUniqueNodeNames()).save(str(path))
