"""A part of an ONNX graph, cut out so that it can be run alone."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor, by the tensor's name."""
    return {output: node for node in graph.node for output in node.output}


def cut(
    model: onnx.ModelProto,
    source: str,
    target: str,
    *,
    source_type: int,
    target_type: int,
    shape: Sequence[int],
    bypass: Sequence[str] = (),
) -> onnx.ModelProto:
    """Return the part of *model* that computes tensor *target* from tensor *source*, shape (N, *shape).

    The target has that shape too; the types are ``TensorProto`` element types. Nodes of an operation in *bypass*, which
    only pass numbers on, are left out.
    """
    sizes = ["N", *shape]
    part = _part(model, {source}, [target], bypass)
    graph = helper.make_graph(
        part.node,
        "part",
        [helper.make_tensor_value_info(source, source_type, sizes)],
        [helper.make_tensor_value_info(target, target_type, sizes)],
        part.initializer,
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def with_outputs(
    model: onnx.ModelProto, source: str, shape: Sequence[int | str], targets: Sequence[str]
) -> onnx.ModelProto:
    """Return the part of *model* that computes all *targets* from tensor *source*, float32 of *shape*, batch included.

    The shapes of the targets are left to shape inference.
    """
    part = _part(model, {source}, targets, ())
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.output, *model.graph.value_info)}
    graph = helper.make_graph(
        part.node,
        "part",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, types.get(name) or TensorProto.FLOAT, None) for name in targets],
        part.initializer,
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _part(model: onnx.ModelProto, sources: set[str], targets: Sequence[str], bypass: Sequence[str]) -> onnx.GraphProto:
    makers = producers(model.graph)
    kept: list[onnx.NodeProto] = []
    pending, seen = list(targets), set(sources)
    while pending:
        tensor = pending.pop()
        node = makers.get(tensor)
        if tensor in seen or node is None:
            continue
        seen.update(node.output)
        kept.append(node)
        pending.extend(name for name in node.input if name)
    positions = {node.output[0]: position for position, node in enumerate(model.graph.node)}
    kept.sort(key=lambda node: positions[node.output[0]])
    passed = {node.output[0]: node.input[0] for node in kept if node.op_type in bypass}
    used = {name for node in kept for name in node.input}
    return onnx.GraphProto(
        node=[_rewired(node, passed) for node in kept if node.op_type not in bypass],
        initializer=[tensor for tensor in model.graph.initializer if tensor.name in used],
    )


def _rewired(node: onnx.NodeProto, passed: dict[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for index, name in enumerate(copy.input):
        source = name
        while source in passed:
            source = passed[source]
        copy.input[index] = source
    return copy
