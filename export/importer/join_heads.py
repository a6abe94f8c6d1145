"""Several outputs (heads) as one: each flattened, then all joined, so that whatever runs or lowers the file gives all.

The names, places and shapes of the heads go with the normalized file, as metadata, and from there into the integer
model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from bitproof.export.importer.graph import WorkingGraph
from bitproof.export.importer.shapes import Shape
from bitproof.pipeline import InputError

KEY = "bitproof.heads"
"""Of the metadata: a list of (name in the user's file, flattened tensor, shape of a sample)."""


def require_outputs(
    outputs: Sequence[onnx.ValueInfoProto], nodes: Sequence[onnx.NodeProto], source: str
) -> list[onnx.ValueInfoProto]:
    """Return those of *outputs* that depend on the input *source*: constants such as a quantizer's scale are left out.

    *nodes* are in order. A single one is returned as it is.

    Raises:
        InputError: no output depends on the input, or one is listed twice.
    """
    names = [value.name for value in outputs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"the output {twice!r} is listed {names.count(twice)} times; list each output once")
    if len(outputs) == 1:
        return list(outputs)
    computed = {source}
    for node in nodes:
        if computed.intersection(node.input):
            computed.update(name for name in node.output if name)
    found = [value for value in outputs if value.name in computed]
    if not found:
        listed = ", ".join(map(repr, names)) or "none"
        raise InputError(f"no output of the file ({listed}) depends on the input {source!r}")
    return found


def join_heads(graph: WorkingGraph, outputs: Sequence[onnx.ValueInfoProto]) -> None:
    """Make *outputs*, several, the one output of *graph*: nodes that flatten and join them are appended."""
    flattened = []
    for value in outputs:
        name = graph.fresh(f"{value.name}_flat")
        graph.nodes.append(helper.make_node("Flatten", [value.name], [name], name=name, axis=1))
        flattened.append(name)
        graph.heads[value.name] = name
    joined = graph.fresh("heads")
    graph.nodes.append(helper.make_node("Concat", flattened, [joined], name=joined, axis=1))
    graph.output = helper.make_tensor_value_info(joined, TensorProto.FLOAT, None)


def note_heads(
    model: onnx.ModelProto, graph: WorkingGraph, shapes: Mapping[str, Shape], aliases: Mapping[str, str]
) -> None:
    """Write the heads of *graph*, if there are several, into the metadata of *model*.

    *shapes* are those of all tensors, *aliases* the tensors that stand for others that have gone.

    Raises:
        InputError: the shape of a head is not known.
    """
    entries = []
    makers = {node.output[0]: node for node in graph.nodes}
    for name, flat in graph.heads.items():
        tensor = aliases.get(flat, flat)
        before = makers[tensor].input[0] if tensor in makers else tensor
        sizes = shapes.get(before, (None,))[1:]
        if not all(isinstance(size, int) for size in sizes):
            raise InputError(f"the shape of the output {name!r} cannot be told; export the network with fixed sizes")
        entries.append([name, tensor, list(sizes)])
    if entries:
        model.metadata_props.add(key=KEY, value=json.dumps(entries))


def heads_of(model: onnx.ModelProto) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return name, flattened tensor and shape of a sample of each head of the normalized *model*; none for one output.

    Raises:
        InputError: the metadata is damaged.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), "[]")
    try:
        return [(str(name), str(flat), tuple(map(int, sizes))) for name, flat, sizes in json.loads(text)]
    except (ValueError, TypeError) as error:
        raise InputError(f"the metadata {KEY!r} of the file is damaged: {error}; import the file again") from error
