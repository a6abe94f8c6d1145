"""Operations of streamlined FINN graphs that stand for standard ones: lowered convolutions and XNOR popcounts.

FINN and qonnx lower a convolution to Im2Col and a matrix product on channels-last images, and a product of codes -1
and 1 to the number of equal bits of codes 0 and 1. Both are rewritten exactly; what comes after FINN's conversion to
hardware layers is not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from bitproof.export.importer.domains import is_general, is_standard
from bitproof.export.importer.graph import WorkingGraph, int64, integer, integers, refusal
from bitproof.export.importer.shapes import Shape, number_of


def standard_form(
    node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], graph: WorkingGraph, shapes: Mapping[str, Shape]
) -> list[onnx.NodeProto] | None:
    """Return the standard nodes that *node* of a streamlined graph stands for; None if it stands for no others.

    Raises:
        InputError: XnorPopcountMatMul has weights other than 0 and 1.
    """
    if is_general(node, "XnorPopcountMatMul"):
        return _popcount(node, graph)
    taken = makers.get(node.input[0]) if node.input else None
    if taken is not None and is_standard(node, "MatMul") and is_general(taken, "Im2Col"):
        return _convolution(node, taken, graph, shapes)
    return None


def _popcount(node: onnx.NodeProto, graph: WorkingGraph) -> list[onnx.NodeProto] | None:
    """Bits a and w are equal where ``a w + (1 - a)(1 - w) = a (2 w - 1) + (1 - w)`` is 1."""
    weights = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
    if weights is None or weights.ndim != 2:
        return None
    if not np.isin(weights, (0, 1)).all():
        raise refusal(node, "has weights other than 0 and 1; it counts equal bits")
    signs = graph.constant(f"{node.input[1]}_signs", (2 * weights - 1).astype(np.float32))
    unset = graph.constant(f"{node.input[1]}_unset", (1 - weights).sum(axis=0).astype(np.float32))
    product = graph.fresh(f"{node.output[0]}_signs")
    return [
        helper.make_node("MatMul", [node.input[0], signs], [product], name=product),
        helper.make_node("Add", [product, unset], [node.output[0]], name=node.name or node.output[0]),
    ]


def _convolution(
    node: onnx.NodeProto, columns: onnx.NodeProto, graph: WorkingGraph, shapes: Mapping[str, Shape]
) -> list[onnx.NodeProto] | None:
    """Return the convolution that Im2Col, *columns*, and *node* are; a row of weights is a (height, width, channel)."""
    shape = shapes.get(columns.input[0])
    kernel, strides = integers(columns, "kernel_size"), integers(columns, "stride")
    pads, dilations = integers(columns, "pad_amount") or (0, 0, 0, 0), integers(columns, "dilations") or (1, 1)
    if shape is None or kernel is None or strides is None:
        return None
    if (len(shape), len(kernel), len(strides), len(dilations), len(pads)) != (4, 2, 2, 2, 4):
        return None
    channels = shape[3]
    if not isinstance(channels, int) or integer(columns, "pad_value", 0) or number_of((*kernel, channels)) is None:
        return None
    first, weights, kernels, inner = (
        graph.fresh(f"{node.output[0]}_{what}") for what in ("nchw", "hwio", "oihw", "sums")
    )
    rows = graph.constant(f"{node.output[0]}_rows", int64(*kernel, channels, -1))
    return [
        helper.make_node("Transpose", [columns.input[0]], [first], name=first, perm=[0, 3, 1, 2]),
        helper.make_node("Reshape", [node.input[1], rows], [weights], name=weights),
        helper.make_node("Transpose", [weights], [kernels], name=kernels, perm=[3, 2, 0, 1]),
        helper.make_node(
            "Conv",
            [first, kernels],
            [inner],
            name=node.name or node.output[0],
            kernel_shape=list(kernel),
            strides=list(strides),
            pads=list(pads),
            dilations=list(dilations),
        ),
        helper.make_node("Transpose", [inner], [node.output[0]], name=f"{inner}_nhwc", perm=[0, 2, 3, 1]),
    ]
