"""The declaration of the codes that a normalized network takes, such as pixels: a quantizer right behind its input."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bitproof.export.importer.domains import is_standard
from bitproof.export.importer.graph import GENERAL
from bitproof.export.importer.input_quantizer import HEAD, PREPROCESSING, find_input_quantizer
from bitproof.pipeline import InputError
from bitproof.pipeline.input_type import InputType


def declare_input(model: onnx.ModelProto, kind: InputType) -> onnx.ModelProto:
    """Return the normalized *model* with a quantizer of *kind* right behind its input.

    What the file calculates before a quantizer of its own then becomes a part of the network: of declared pixels, a
    table from each of their codes to one of that quantizer's.

    A scale that binary32 does not hold is multiplied in by whole numbers, so that it is exact: 1/255 is a division of
    the codes by 255.

    Raises:
        InputError: the input is quantized already, before it is calculated with.
    """
    if kind.scale == 1 and find_input_quantizer(model) is not None and not _is_preprocessed(model):
        raise InputError(
            "the file quantizes its input already; leave out --input, or write what one of your codes is worth if it "
            "is another number than 1, for example uint8*1/255"
        )
    declared = onnx.ModelProto()
    declared.CopyFrom(model)
    graph = declared.graph
    nodes, constants, last = _declaration(graph, kind)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == graph.input[0].name:
                node.input[index] = last
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    if all(entry.domain != GENERAL for entry in declared.opset_import):
        declared.opset_import.append(helper.make_opsetid(GENERAL, 1))
    return declared


def _is_preprocessed(model: onnx.ModelProto) -> bool:
    """Tell whether *model*, whose input is quantized, calculates with it before."""
    head = {model.graph.input[0].name}
    for node in model.graph.node:
        if head.intersection(node.input) and is_standard(node, *HEAD):
            if is_standard(node, *PREPROCESSING):
                return True
            head.update(node.output)
    return False


def _declaration(graph: onnx.GraphProto, kind: InputType) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    taken = {graph.input[0].name, *(tensor.name for tensor in graph.initializer)}
    taken.update(name for node in graph.node for name in node.output)
    names = _fresh("declared_input", taken)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(value: int | float) -> str:
        name = next(names)
        constants.append(numpy_helper.from_array(np.array(value, dtype=np.float32), name))
        return name

    def append(operation: str, inputs: list[str], domain: str = "", **attributes: int | str) -> str:
        name = next(names)
        nodes.append(helper.make_node(operation, inputs, [name], name=name, domain=domain, **attributes))
        return name

    exact = Fraction(float(np.float32(float(kind.scale)))) == kind.scale
    above, below = (1, 1) if exact else (kind.scale.numerator, kind.scale.denominator)
    if max(above, below) > 1 << 24:
        raise InputError(f"the scale {kind.scale} of --input has numbers over {1 << 24}, which binary32 does not hold")
    last = graph.input[0].name
    for operation, factor in (("Mul", below), ("Div", above)):
        last = last if factor == 1 else append(operation, [last, constant(factor)])
    scale = constant(float(kind.scale) if exact else 1.0)
    if kind.bipolar:
        last = append("BipolarQuant", [last, scale], GENERAL)
    else:
        parameters = [last, scale, constant(0.0), constant(float(kind.bits))]
        last = append("Quant", parameters, GENERAL, signed=int(kind.signed), narrow=0, rounding_mode="ROUND")
    for operation, factor in (("Mul", above), ("Div", below)):
        last = last if factor == 1 else append(operation, [last, constant(factor)])
    return nodes, constants, last


def _fresh(stem: str, taken: set[str]) -> Iterator[str]:
    count = 0
    while True:
        count += 1
        if f"{stem}_{count}" not in taken:
            yield f"{stem}_{count}"
