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
from bitproof.hw.finn.own_layers import DOMAIN
from bitproof.hw.rtl.providers import DEPTHWISE_UNIT, DUPLICATE, LOGIC_MATRIX_UNIT, WINDOW_REDUCER, WINDOWS

WEIGHT_WIDTH_BITS = 36
"""Widest weight word of one processing element: SIMD grows up to it, then PE. Wider words cost DSP slices."""
RESOURCES = ("LUT", "DSP", "BRAM_18K")


def fold(graph: ModelWrapper, target_cycles: int) -> ModelWrapper:
    """Choose PE and SIMD of every layer such that a sample takes at most *target_cycles*, if there are such."""
    for node in graph.graph.node:
        if node.domain == DOMAIN and node.op_type != DUPLICATE:
            _fold_ours(graph, node, target_cycles)
    # It leaves the window generators of our layers as they are. A target that is missed is refused: no second pass.
    folding = SetFolding(target_cycles, mvau_wwidth_max=WEIGHT_WIDTH_BITS, two_pass_relaxation=False)
    for transformation in (folding, GiveUniqueNodeNames(), AnnotateCycles()):
        graph = graph.transform(transformation)
    for node in graph.graph.node:
        if node.op_type == DUPLICATE:
            _fold_fork(graph, node, target_cycles)
    return graph


def _fold_ours(graph: ModelWrapper, node: NodeProto, target_cycles: int) -> None:
    """Give a layer of ours, and the generator of its windows by channel, the fewest lanes that suffice for both."""
    layer = getCustomOp(node)
    if node.op_type == LOGIC_MATRIX_UNIT:
        _fold_matrix(layer, target_cycles)
        return
    before = graph.find_producer(node.input[0])
    by_channel = before is not None and before.op_type == WINDOWS and node.op_type in (DEPTHWISE_UNIT, WINDOW_REDUCER)
    followers = [layer, getCustomOp(before)] if by_channel else [layer]
    in_turn = by_channel or layer.taps == 1
    for lanes in layer.lanes if in_turn else layer.lanes[-1:]:
        layer.set_nodeattr("PE", lanes)
        if by_channel:
            followers[1].set_nodeattr("SIMD", lanes)
        if max(follower.get_exp_cycles() for follower in followers) <= target_cycles:
            return


def _fold_matrix(layer: HWCustomOp, target_cycles: int) -> None:
    """Raise SIMD as far as the weights of a row are not too wide, as FINN does with its own unit, and then PE."""
    columns, bits = layer.integers("Weights").shape[1], max(1, layer.number("WeightBits"))
    layer.set_nodeattr("PE", 1)
    for simd in _divisors(columns):
        if simd > 1 and simd * bits > WEIGHT_WIDTH_BITS:
            break
        layer.set_nodeattr("SIMD", simd)
        if layer.get_exp_cycles() <= target_cycles:
            return
    for lanes in layer.lanes:
        layer.set_nodeattr("PE", lanes)
        if layer.get_exp_cycles() <= target_cycles:
            return


def _fold_fork(graph: ModelWrapper, node: NodeProto, target_cycles: int) -> None:
    """Give a fork the words of what comes before it, so that no width converter does."""
    before, fork = graph.find_producer(node.input[0]), getCustomOp(node)
    if before is not None:
        index = list(before.output).index(node.input[0])
        fork.set_nodeattr("PE", int(getCustomOp(before).get_folded_output_shape(index)[-1]))
        return
    _fold_ours(graph, node, target_cycles)


def _divisors(number: int) -> list[int]:
    return [lanes for lanes in range(1, number + 1) if number % lanes == 0]


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
    if len(node.input) > 1 and node.domain != DOMAIN:
        entry["parameters"] = inst.get_input_datatype(1).name
    if expected.columns is not None:
        lanes = int(inst.get_nodeattr("PE")) if node.op_type == DEPTHWISE_UNIT else 0
        entry["columns"] = expected.columns.model_copy(update={"lanes": lanes}).model_dump()
    entry["benches"] = {"groups": expected.groups, "bipolar": int(expected.bipolar)}
    for key, attribute in (("pe", "PE"), ("simd", "SIMD"), ("parallel_window", "parallel_window")):
        if attribute in attributes:
            entry[key] = int(inst.get_nodeattr(attribute))
    return entry
