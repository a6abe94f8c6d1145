"""Rearrangements of quantized weights, moved in front of their quantizer if they can be carried out once there.

A quantizer goes element by element, so Quant(transposed weights) and transposed Quant(weights) are the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from bitproof.export.importer.domains import is_general, is_standard
from bitproof.export.importer.fold import Folder
from bitproof.export.importer.graph import Array, WorkingGraph, integer, integers, put

REARRANGING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")


def rearranged_weights(
    node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], graph: WorkingGraph, folder: Folder
) -> onnx.NodeProto | None:
    """Return the quantizer that gives the output of *node* at once; None if *node* does not rearrange weights."""
    quant = makers.get(node.input[0]) if node.input else None
    if quant is None or not is_standard(node, *REARRANGING):
        return None
    if is_standard(quant, "DequantizeLinear"):
        return _rearranged_codes(node, quant, graph, folder)
    if not is_general(quant, "Quant", "BipolarQuant"):
        return None
    if any(name not in graph.constants for name in (*quant.input, *node.input[1:])):
        return None
    moved = onnx.NodeProto()
    moved.CopyFrom(quant)
    parameters = [graph.constants[name] for name in quant.input[1:]]
    weights = graph.constants[quant.input[0]]
    others = [graph.constants[name] for name in node.input[1:]]
    for index, value in enumerate([weights, *parameters]):
        if index and value.size == 1:
            continue
        if index and (node.op_type != "Transpose" or value.ndim > weights.ndim):
            return None
        aligned = value.reshape((1,) * (weights.ndim - value.ndim) + value.shape) if index else value
        result = _carried_out(node, [aligned, *others], folder)
        if result is None:
            return None
        moved.input[index] = graph.constant(f"{quant.input[index]}_{node.op_type.lower()}", result)
    moved.output[0] = node.output[0]
    moved.name = node.name or node.output[0]
    return moved


def _rearranged_codes(
    node: onnx.NodeProto, dequantize: onnx.NodeProto, graph: WorkingGraph, folder: Folder
) -> onnx.NodeProto | None:
    """Return the DequantizeLinear of the rearranged codes; the axis of its scales moves along with a Transpose."""
    if any(name not in graph.constants for name in (*dequantize.input, *node.input[1:])):
        return None
    codes = graph.constants[dequantize.input[0]]
    moved = onnx.NodeProto()
    moved.CopyFrom(dequantize)
    if graph.constants[dequantize.input[1]].size > 1:
        axis, order = integer(dequantize, "axis", 1), integers(node, "perm") or tuple(range(codes.ndim))[::-1]
        if node.op_type != "Transpose" or sorted(order) != list(range(codes.ndim)) or not -codes.ndim <= axis:
            return None
        put(moved, "axis", order.index(axis % codes.ndim))
    result = _carried_out(node, [codes, *(graph.constants[name] for name in node.input[1:])], folder)
    if result is None:
        return None
    moved.input[0] = graph.constant(f"{dequantize.input[0]}_{node.op_type.lower()}", result)
    moved.output[0] = node.output[0]
    moved.name = node.name or node.output[0]
    return moved


def _carried_out(node: onnx.NodeProto, operands: list[Array], folder: Folder) -> Array | None:
    order = integers(node, "perm")
    if node.op_type == "Transpose" and order is not None and sorted(order) != list(range(operands[0].ndim)):
        return None
    result = folder.fold(node, operands)
    return None if result is None else np.ascontiguousarray(result)
