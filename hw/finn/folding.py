"""The folding of hardware layers for a target frame rate, and what it costs.

Runs in the child process only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finn.analysis.fpgadataflow.res_estimation import res_estimation
from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp
from finn.transformation.fpgadataflow.annotate_cycles import AnnotateCycles
from finn.transformation.fpgadataflow.set_folding import SetFolding
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import GiveUniqueNodeNames

from bitproof.hw.finn.expected import Expected
from bitproof.hw.rtl.providers import WINDOW_REDUCER

WEIGHT_WIDTH_BITS = 36
"""Widest weight word of one processing element: SIMD grows up to it, then PE. Wider words cost DSP slices."""
RESOURCES = ("LUT", "DSP", "BRAM_18K")


def fold(graph: ModelWrapper, target_cycles: int) -> ModelWrapper:
    """Choose PE and SIMD of every layer such that a sample takes at most *target_cycles*, if there are such."""
    for node in graph.graph.node:
        if node.op_type == WINDOW_REDUCER:
            _fold_pool(graph, node, target_cycles)
    # It leaves the window generators of pools as they are. A target that is missed is refused: no second pass.
    folding = SetFolding(target_cycles, mvau_wwidth_max=WEIGHT_WIDTH_BITS, two_pass_relaxation=False)
    for transformation in (folding, GiveUniqueNodeNames(), AnnotateCycles()):
        graph = graph.transform(transformation)
    return graph


def _fold_pool(graph: ModelWrapper, node: NodeProto, target_cycles: int) -> None:
    """Give a pool and the generator of its windows the fewest lanes that suffice for both."""
    pool, windows = getCustomOp(node), getCustomOp(graph.find_producer(node.input[0]))
    channels = int(pool.get_nodeattr("Channels"))
    for lanes in (lanes for lanes in range(1, channels + 1) if channels % lanes == 0):
        pool.set_nodeattr("PE", lanes)
        windows.set_nodeattr("SIMD", lanes)
        if max(pool.get_exp_cycles(), windows.get_exp_cycles()) <= target_cycles:
            return


def summarize(graph: ModelWrapper, expected: Mapping[str, Expected], part: str) -> dict[str, Any]:
    """Return the folding and FINN's estimates; they do not include the FIFOs and width converters added later.

    Args:
        graph: the folded RTL layers.
        expected: what carries out which node of the integer model, by its tensor.
        part: the FPGA.
    """
    resources = graph.analysis(lambda wrapper: res_estimation(wrapper, part))
    entries, totals = [], dict.fromkeys(RESOURCES, 0.0)
    for node in graph.graph.node:
        inst = getCustomOp(node)
        entries.append(_entry(node, inst, expected[node.output[0]]))
        estimated = resources.get(node.name) or inst.node_res_estimation(part)  # FINN's list leaves out what is ours
        for key in RESOURCES:
            totals[key] += estimated[key]
    return {
        "layers": entries,
        "estimated_initiation_interval": max(entry["cycles"] for entry in entries),
        "finn_estimates": {key: round(total) for key, total in totals.items()},
    }


def _entry(node: NodeProto, inst: HWCustomOp, expected: Expected) -> dict[str, Any]:
    attributes = inst.get_nodeattr_types()
    entry: dict[str, Any] = {
        "layer": expected.layer,
        "name": node.name,
        "op": node.op_type,
        "cycles": int(inst.get_exp_cycles()),
        "input": inst.get_input_datatype(0).name,
        "output": inst.get_output_datatype().name,
    }
    if len(node.input) > 1:
        entry["parameters"] = inst.get_input_datatype(1).name
    if expected.columns is not None:
        entry["columns"] = expected.columns.model_dump()
    for key, attribute in (("pe", "PE"), ("simd", "SIMD"), ("parallel_window", "parallel_window")):
        if attribute in attributes:
            entry[key] = int(inst.get_nodeattr(attribute))
    return entry
