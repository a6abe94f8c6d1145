"""Channels-last operations in standard form: a Transpose, the channels-first operation, and a Transpose back."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper

from bitproof.export.importer.domains import is_channels_last, is_general
from bitproof.export.importer.graph import GENERAL, WorkingGraph, put, text, without
from bitproof.export.importer.shapes import Shape


def channels_first(
    node: onnx.NodeProto, graph: WorkingGraph, shapes: Mapping[str, Shape]
) -> list[onnx.NodeProto] | None:
    """Return what *node* is rewritten as; None if it is channels-first already or its rank is not known."""
    shape = shapes.get(node.input[0]) if node.input else None
    if shape is None or len(shape) < 2:
        return None
    if is_channels_last(node, "Conv", "MaxPool", "BatchNormalization"):
        if node.op_type == "Conv" and len(node.input) < 2:
            return None
        return _wrap(node, graph, node.op_type, "", len(shape), weights=node.op_type == "Conv")
    if is_general(node, "MaxPoolNHWC"):
        return _wrap(node, graph, "MaxPool", "", len(shape))
    if is_general(node, "QuantAvgPool2d") and text(node, "data_layout", "NCHW") == "NHWC":
        inner = _wrap(node, graph, node.op_type, GENERAL, len(shape))
        put(inner[1], "data_layout", "NCHW")
        return inner
    if is_general(node, "MultiThreshold"):
        return _threshold(node, graph, len(shape))
    return None


def _threshold(node: onnx.NodeProto, graph: WorkingGraph, rank: int) -> list[onnx.NodeProto] | None:
    # qonnx takes a tensor of rank 3 for channels-last if the node does not say what it is
    layout = text(node, "data_layout", "") or {3: "NWC"}.get(rank, "")
    if layout.find("C") in (-1, 1):
        return None
    if len(layout) != rank or layout[-1] != "C":
        return None
    inner = _wrap(node, graph, node.op_type, GENERAL, rank)
    put(inner[1], "data_layout", "NC" + layout[1:-1])
    return inner


def _wrap(
    node: onnx.NodeProto, graph: WorkingGraph, operation: str, domain: str, rank: int, *, weights: bool = False
) -> list[onnx.NodeProto]:
    """Return *node* as *operation* between two Transposes; the *weights* are transposed like the tensor."""
    to_first = [0, rank - 1, *range(1, rank - 1)]
    to_last = [0, *range(2, rank), 1]
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    inner.op_type, inner.domain = operation, domain
    if domain == "":
        without(inner, ["data_layout"])
    nodes = []
    for index in range(1 + weights):
        moved = graph.fresh(f"{node.output[0]}_input{index}_channels_first")
        nodes.append(helper.make_node("Transpose", [node.input[index]], [moved], name=moved, perm=to_first))
        inner.input[index] = moved
    inner.output[0] = graph.fresh(f"{node.output[0]}_channels_first")
    back = graph.fresh(f"{node.name or node.output[0]}_channels_last")
    return [
        *nodes,
        inner,
        helper.make_node("Transpose", [inner.output[0]], [node.output[0]], name=back, perm=to_last),
    ]
