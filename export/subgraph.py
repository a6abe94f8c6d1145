"""Cut a part out of an ONNX graph, so that one activation can be run alone."""

from __future__ import annotations

import onnx
from onnx import helper


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor, by the tensor's name."""
    return {output: node for node in graph.node for output in node.output}


def cut(
    model: onnx.ModelProto, source: str, target: str, *, source_type: int, target_type: int, channels: int
) -> onnx.ModelProto:
    """Return the part of *model* that computes tensor *target* from tensor *source*, shape (N, channels).

    The target has that shape too; the types are ``TensorProto`` element types.
    """
    makers = producers(model.graph)
    kept: list[onnx.NodeProto] = []
    pending, seen = [target], {source}
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
    used = {name for node in kept for name in node.input}
    graph = helper.make_graph(
        kept,
        "part",
        [helper.make_tensor_value_info(source, source_type, ["N", channels])],
        [helper.make_tensor_value_info(target, target_type, ["N", channels])],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
