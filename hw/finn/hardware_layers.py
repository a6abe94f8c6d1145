"""The integer model as FINN's hardware layers, and their folding for a target frame rate.

Runs in the child process only. The order of the transformations matters: thresholds first (else FINN fuses them into
the matrix unit, which is then HLS), minimization by data types only (by values, a layer without negative weights
becomes BINARY, which is HLS too; and by types the RTL does not depend on the weights, so that a compiled simulation
serves every retrained network of the same shape).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finn.analysis.fpgadataflow.dataflow_performance import dataflow_performance
from finn.analysis.fpgadataflow.res_estimation import res_estimation
from finn.transformation.fpgadataflow.annotate_cycles import AnnotateCycles
from finn.transformation.fpgadataflow.convert_to_hw.quantized_matrix_vector_activation import (
    InferQuantizedMatrixVectorActivation,
)
from finn.transformation.fpgadataflow.convert_to_hw.thresholding import InferThresholdingLayer
from finn.transformation.fpgadataflow.minimize_accumulator_width import MinimizeAccumulatorWidth
from finn.transformation.fpgadataflow.minimize_weight_bit_width import MinimizeWeightBitWidth
from finn.transformation.fpgadataflow.set_folding import SetFolding
from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import GiveReadableTensorNames, GiveUniqueNodeNames
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes

from bitproof.export.integer import MatMul, load
from bitproof.hw.finn.qonnx_graph import to_qonnx
from bitproof.hw.finn.supported import Hardware, hardware_of
from bitproof.pipeline import StageError

HARDWARE = "hw.onnx"
FOLDED = "folded.onnx"
SUMMARY = "graph.json"
WEIGHT_WIDTH_BITS = 36
"""Widest weight word of one processing element: SIMD grows up to it, then PE. Wider words cost DSP slices."""


def build_graphs(folder: Path, out: Path, *, part: str, clock_ns: int, target_cycles: int) -> None:
    """Write the hardware layers, the folded RTL layers and their summary.

    Raises:
        StageError: FINN has no RTL for a layer, or does not reach *target_cycles* per sample.
    """
    wanted = hardware_of(load(folder))
    hardware = minimize(to_hardware(wanted))
    save(hardware, out / HARDWARE)
    rtl = specialize(hardware, part, wanted)
    folded = minimize(fold(rtl, target_cycles))
    require_rtl(folded, wanted)
    save(folded, out / FOLDED)
    summary = {**summarize(folded, wanted, part), "output_bias": list(wanted.output_bias)}
    if summary["estimated_initiation_interval"] > target_cycles:
        slowest = max(summary["layers"], key=lambda layer: int(layer["cycles"]))
        raise StageError(
            f"layer {slowest['layer']!r} needs {slowest['cycles']} cycles per sample at its widest folding; the target "
            f"allows {target_cycles}. Ask for at most {1_000_000_000 // (clock_ns * slowest['cycles'])} frames/s"
        )
    (out / SUMMARY).write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")


def to_hardware(wanted: Hardware) -> ModelWrapper:
    """Return *wanted* as FINN's abstract layers MVAU and Thresholding, one for each of its nodes."""
    graph = to_qonnx(wanted)
    for transformation in (
        InferShapes(),
        InferDataTypes(),
        InferThresholdingLayer(),
        InferQuantizedMatrixVectorActivation(),
        GiveUniqueNodeNames(),
        InferShapes(),
        InferDataTypes(),
    ):
        graph = graph.transform(transformation)
    _require_ops(graph, wanted, {"MatMul": "MVAU", "Threshold": "Thresholding"})
    return graph


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


def specialize(graph: ModelWrapper, part: str, wanted: Hardware) -> ModelWrapper:
    """Choose FINN's RTL implementation of every layer.

    Raises:
        StageError: FINN chose another one.
    """
    for node in graph.graph.node:
        getCustomOp(node).set_nodeattr("preferred_impl_style", "rtl")
    for transformation in (SpecializeLayers(part), GiveUniqueNodeNames(), InferShapes(), InferDataTypes()):
        graph = graph.transform(transformation)
    require_rtl(graph, wanted)
    return graph


def fold(graph: ModelWrapper, target_cycles: int) -> ModelWrapper:
    """Choose PE and SIMD of every layer such that a sample takes at most *target_cycles*, if FINN finds them."""
    folding = SetFolding(target_cycles, mvau_wwidth_max=WEIGHT_WIDTH_BITS, two_pass_relaxation=True)
    for transformation in (folding, GiveUniqueNodeNames(), AnnotateCycles()):
        graph = graph.transform(transformation)
    return graph


def require_rtl(graph: ModelWrapper, wanted: Hardware) -> None:
    """Check that *graph* consists of RTL layers, one for each node of *wanted*.

    Raises:
        StageError: it does not.
    """
    _require_ops(graph, wanted, {"MatMul": "MVAU_rtl", "Threshold": "Thresholding_rtl"})


def _require_ops(graph: ModelWrapper, wanted: Hardware, ops: dict[str, str]) -> None:
    made = list(graph.graph.node)
    for layer, node in zip(wanted.nodes, made, strict=False):
        expected = ops[type(layer).__name__]
        if node.op_type != expected:
            inst = getCustomOp(node)
            raise StageError(
                f"FINN turned layer {layer.name!r} into {node.op_type} instead of {expected} (input "
                f"{inst.get_input_datatype(0).name}, parameters {inst.get_input_datatype(1).name}). Its RTL takes "
                "signed weights of 2..8 bits without the most negative code, and codes of 2..8 bits"
            )
    if len(made) != len(wanted.nodes):
        raise StageError(
            f"FINN made {len(made)} layers of the {len(wanted.nodes)} of the network: "
            f"{', '.join(node.op_type for node in made)}"
        )


def summarize(graph: ModelWrapper, wanted: Hardware, part: str) -> dict[str, Any]:
    """Return the folding and FINN's estimates; they do not include the FIFOs and width converters added later."""
    resources = graph.analysis(lambda wrapper: res_estimation(wrapper, part))
    layers = []
    for layer, node in zip(wanted.nodes, graph.graph.node, strict=True):
        inst = getCustomOp(node)
        entry = {
            "layer": layer.name,
            "name": node.name,
            "op": node.op_type,
            "cycles": int(inst.get_exp_cycles()),
            "pe": int(inst.get_nodeattr("PE")),
            "input": inst.get_input_datatype(0).name,
            "parameters": inst.get_input_datatype(1).name,
            "output": inst.get_output_datatype().name,
        }
        if isinstance(layer, MatMul):
            entry["simd"] = int(inst.get_nodeattr("SIMD"))
        layers.append(entry)
    performance = graph.analysis(dataflow_performance)
    totals = {key: sum(entry[key] for entry in resources.values()) for key in ("LUT", "DSP", "BRAM_18K")}
    return {
        "layers": layers,
        "estimated_initiation_interval": int(performance["max_cycles"]),
        "finn_estimates": {key: round(total) for key, total in totals.items()},
    }


def save(graph: ModelWrapper, path: Path) -> None:
    """Write *graph* with names that do not depend on the run."""
    for transformation in (GiveUniqueNodeNames(), GiveReadableTensorNames()):
        graph = graph.transform(transformation)
    graph.save(str(path))
