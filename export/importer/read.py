"""The reader of ONNX models: takes the parts that have a meaning, and refuses what cannot be represented.

A file is not trusted: sizes are checked before memory is taken, nothing outside the file is followed, and the order of
the nodes is worked out anew, which finds cycles.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from bitproof.export.importer.graph import Array, WorkingGraph, input_of, integer, label, refusal
from bitproof.export.importer.join_heads import join_heads, require_outputs
from bitproof.pipeline import InputError

OLDEST_IR, NEWEST_IR = 3, 13
OLDEST_OPSET, NEWEST_OPSET = 7, 26
"""Version 6 and before broadcast in another way; onnx 1.21 knows no version after 26."""

MAX_NODES = 100_000
MAX_ELEMENTS = 1 << 28
"""Of all constants together."""
MAX_INPUTS = 1 << 22
"""Numbers of one input sample."""
MAX_AXES = 17
"""Of the input, the batch included."""
MAX_NAME = 10_000
"""Characters of a name."""

TYPES = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.INT16: 2,
    TensorProto.UINT16: 2,
    TensorProto.INT32: 4,
    TensorProto.UINT32: 4,
    TensorProto.INT64: 8,
    TensorProto.UINT64: 8,
    TensorProto.BOOL: 1,
}
"""Types of constants that are read, with their size in bytes."""


BYTES: Mapping[int, str] = {TensorProto.UINT8: "uint8", TensorProto.INT8: "int8"}
"""Types of an input that is cast to float before anything is calculated: what a declaration of it would say."""


def read(model: onnx.ModelProto) -> WorkingGraph:
    """Return the part of *model* that its output depends on.

    Raises:
        InputError: the model is malformed, or holds something that cannot be represented; the message names it.
    """
    _require_text(model)
    opsets = _versions(model)
    graph = model.graph
    if model.functions:
        names = ", ".join(function.name for function in model.functions)
        raise InputError(f"the file defines functions of its own ({names}); inline them before the import")
    if graph.sparse_initializer:
        names = ", ".join(sparse.values.name for sparse in graph.sparse_initializer)
        raise InputError(f"the file holds sparse constants ({names}); store them as dense ones")
    if len(graph.node) > MAX_NODES:
        raise InputError(f"the file has {len(graph.node)} nodes; at most {MAX_NODES} are read")
    _require_unique(graph)
    for node in graph.node:
        _require_plain(node)
    constants = dict(_constants(graph))
    nodes = sort([node for node in graph.node if node.op_type != "Constant" or node.domain not in ("", "ai.onnx")])
    source = _input(graph, constants)
    outputs = require_outputs(graph.output, nodes, source.name)
    live = _live(nodes, {value.name for value in outputs})
    _require_inference(live, constants)
    _require_made(live, [value.name for value in outputs], {source.name, *constants})
    taken = {source.name, *constants, *(name for node in live for name in node.output)}
    found = WorkingGraph(graph.name, source, outputs[0], live, constants, opsets, taken)
    if len(outputs) > 1:
        join_heads(found, outputs)
    return found


def _require_text(model: onnx.ModelProto) -> None:
    """Refuse names that are not UTF-8, which protobuf gives as bytes, and those that would disfigure a message."""
    graph = model.graph
    names = [entry.domain for entry in model.opset_import]
    names.extend(value.name for value in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        names.extend((node.name, node.op_type, node.domain, *node.input, *node.output))
        names.extend(attribute.name for attribute in node.attribute)
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise InputError(f"the name {wrong!r} in the file is not UTF-8; the file is damaged")
    names.append(graph.name)
    odd = next((name for name in names if not name.isprintable() or len(name) > MAX_NAME), None)
    if odd is not None:
        raise InputError(
            f"the name {odd[:80]!a} in the file, {len(odd)} characters, has line breaks, control or other characters "
            f"that cannot be shown, or more than {MAX_NAME}; rename it"
        )


def _versions(model: onnx.ModelProto) -> dict[str, int]:
    if not OLDEST_IR <= model.ir_version <= NEWEST_IR:
        raise InputError(f"the file has ONNX IR version {model.ir_version}; supported: {OLDEST_IR} to {NEWEST_IR}")
    opsets: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if opsets.get(domain, entry.version) != entry.version:
            raise InputError(f"the file imports the domain {domain!r} in versions {opsets[domain]} and {entry.version}")
        opsets[domain] = entry.version
    version = opsets.get("")
    if version is None or not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise InputError(
            f"the file has opset {'of no version' if version is None else version}; "
            f"supported: {OLDEST_OPSET} to {NEWEST_OPSET}"
        )
    return opsets


def _require_unique(graph: onnx.GraphProto) -> None:
    made = Counter(tensor.name for tensor in graph.initializer)
    made.update(name for node in graph.node for name in node.output if name)
    sources = Counter(value.name for value in graph.input)
    for counted in (made, sources):
        repeated = [name for name, count in counted.items() if count > 1]
        if repeated:
            raise InputError(f"the tensor {repeated[0]!r} is defined {counted[repeated[0]]} times; once is allowed")
    outputs = {name for node in graph.node for name in node.output}
    both = [name for name in sources if name in outputs]
    if both:
        raise InputError(f"the tensor {both[0]!r} is an input of the graph and made by a node")


def _require_plain(node: onnx.NodeProto) -> None:
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) != len(names):
        raise refusal(node, "an attribute is given twice")
    if not any(node.output):
        raise refusal(node, "has no output")
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            raise refusal(node, f"attribute {attribute.name!r} is a graph of its own (If, Loop, Scan); unroll it")
        if attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS):
            raise refusal(node, f"attribute {attribute.name!r} is a sparse tensor; store it as a dense one")
        if attribute.ref_attr_name:
            raise refusal(node, f"attribute {attribute.name!r} refers to an attribute of a function")


def _require_inference(nodes: Iterable[onnx.NodeProto], constants: Mapping[str, Array]) -> None:
    """Refuse a network that was exported as it is trained, by the first node that says so.

    Raises:
        InputError: with the node.
    """
    for node in nodes:
        if node.domain not in ("", "ai.onnx"):
            continue
        flag = constants.get(input_of(node, 2)) if node.op_type == "Dropout" else None
        trains = flag is not None and bool(flag.any())
        if node.op_type == "BatchNormalization":
            trains = bool(integer(node, "training_mode", 0)) or len([name for name in node.output if name]) > 1
        if trains:
            raise refusal(
                node,
                "is in training mode; export the network in evaluation mode: call its .eval() before the export, and "
                "give torch.onnx.export no training=TRAINING",
            )


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, Array]]:
    total = 0
    for name, value in (*_initializers(graph), *_constant_nodes(graph)):
        array = array_of(value, name) if isinstance(value, TensorProto) else value
        total += array.size
        if total > MAX_ELEMENTS:
            raise InputError(f"the constants hold more than {MAX_ELEMENTS} numbers (at {name!r})")
        yield name, array


def _initializers(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        if not tensor.name:
            raise InputError("a constant of the file has no name")
        yield tensor.name, tensor


def _constant_nodes(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto | Array]]:
    for node in graph.node:
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            continue
        if len(node.attribute) != 1 or len(node.output) != 1:
            raise refusal(node, f"has {len(node.attribute)} attributes and {len(node.output)} outputs; one each")
        attribute = node.attribute[0]
        yield node.output[0], _attribute_value(node, attribute)


def _attribute_value(node: onnx.NodeProto, attribute: AttributeProto) -> TensorProto | Array:
    match attribute.name, attribute.type:
        case "value", AttributeProto.TENSOR:
            tensor: TensorProto = attribute.t
            return tensor
        case "value_float", AttributeProto.FLOAT:
            return np.array(attribute.f, dtype=np.float32)
        case "value_floats", AttributeProto.FLOATS:
            return np.array(attribute.floats, dtype=np.float32)
        case "value_int", AttributeProto.INT:
            return np.array(attribute.i, dtype=np.int64)
        case "value_ints", AttributeProto.INTS:
            return np.array(attribute.ints, dtype=np.int64)
    raise refusal(node, f"attribute {attribute.name!r} is no number and no tensor of numbers")


def array_of(tensor: TensorProto, name: str) -> Array:
    """Return the numbers of *tensor*, which the file calls *name*.

    Raises:
        InputError: they lie in another file, are too many, of another type, or not as many as its shape says.
    """
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "of no name")
        raise InputError(
            f"the constant {name!r} lies outside the file, in {where!r}, which is not followed; "
            "save the model with its data inside"
        )
    if tensor.data_type not in TYPES:
        raise InputError(f"the constant {name!r} has the type {_type_name(tensor.data_type)}, which is not supported")
    size = 1
    for dimension in tensor.dims:
        size *= dimension
        if dimension < 0 or size > MAX_ELEMENTS:
            raise InputError(f"the constant {name!r} has the shape {list(tensor.dims)}; at most {MAX_ELEMENTS} numbers")
    if tensor.HasField("segment") or (
        tensor.HasField("raw_data") and len(tensor.raw_data) != size * TYPES[tensor.data_type]
    ):
        raise InputError(f"the constant {name!r} of shape {list(tensor.dims)} does not hold {size} numbers")
    try:
        array = numpy_helper.to_array(tensor)
        return np.ascontiguousarray(array).reshape(tuple(tensor.dims))
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"the constant {name!r} of shape {list(tensor.dims)} cannot be read: {error}") from error


def _type_name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)) if kind in TensorProto.DataType.values() else f"number {kind}"


def sort(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return *nodes* in an order in which every tensor is made before it is used, else as near to theirs as can be.

    Raises:
        InputError: there is no such order: the graph has a cycle; the message names its nodes.
    """
    makers = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    waiting = [{makers[name] for name in node.input if name in makers} for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(waiting):
        for maker in needed:
            users[maker].append(index)
    missing = [len(needed) for needed in waiting]
    ready = [index for index in range(len(nodes) - 1, -1, -1) if not missing[index]]
    order: list[int] = []
    while ready:
        index = ready.pop()
        order.append(index)
        for user in reversed(users[index]):
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    if len(order) < len(nodes):
        stuck = [label(nodes[index]) for index in range(len(nodes)) if missing[index]]
        raise InputError(f"the graph has a cycle through, or before, the nodes {', '.join(stuck[:8])}")
    return [nodes[index] for index in order]


def _input(graph: onnx.GraphProto, constants: Iterable[str]) -> onnx.ValueInfoProto:
    held = set(constants)
    used = {name for node in graph.node for name in node.input}
    sources = [value for value in graph.input if value.name not in held]
    if len(sources) > 1:
        sources = [value for value in sources if value.name in used]
    if len(sources) != 1:
        raise InputError(
            f"the network has {len(sources)} inputs ({', '.join(value.name for value in sources)}); one is supported"
        )
    kind = sources[0].type
    held = kind.tensor_type.elem_type if kind.WhichOneof("value") == "tensor_type" else TensorProto.UNDEFINED
    if held in BYTES and _only_cast_to_float(graph.node, sources[0].name):
        kind.tensor_type.elem_type = TensorProto.FLOAT  # every byte is a float; the Casts give what they take
    elif held != TensorProto.FLOAT:
        raise InputError(f"the input {sources[0].name!r} holds {_type_name(held)}; supported: FLOAT, 32 bits")
    dimensions = kind.tensor_type.shape.dim
    if len(dimensions) < 2 or any(dimension.dim_value < 1 for dimension in dimensions[1:]):
        shape = [dimension.dim_value or dimension.dim_param or "?" for dimension in dimensions]
        raise InputError(
            f"the input {sources[0].name!r} has the shape {shape}; supported: the batch first, then at least one size, "
            "all of them fixed"
        )
    if len(dimensions) > MAX_AXES:
        raise InputError(f"the input {sources[0].name!r} has {len(dimensions)} axes; at most {MAX_AXES} are supported")
    if math.prod(dimension.dim_value for dimension in dimensions[1:]) > MAX_INPUTS:
        raise InputError(f"the input {sources[0].name!r} has more than {MAX_INPUTS} numbers a sample")
    return sources[0]


def _only_cast_to_float(nodes: Iterable[onnx.NodeProto], name: str) -> bool:
    users = [node for node in nodes if name in node.input]
    return all(node.op_type == "Cast" and integer(node, "to", 0) == TensorProto.FLOAT for node in users)


def _live(nodes: list[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Return those of the sorted *nodes* that *outputs* depend on."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(name for name in node.output if name):
            kept.append(node)
            needed.update(name for name in node.input if name)
    return kept[::-1]


def _require_made(nodes: list[onnx.NodeProto], outputs: Iterable[str], given: set[str]) -> None:
    made = given.union(name for node in nodes for name in node.output)
    for node in nodes:
        for name in node.input:
            if name and name not in made:
                raise refusal(node, f"takes the tensor {name!r}, which is not in the file")
    for output in outputs:
        if output not in made:
            raise InputError(f"the output {output!r} is not made by any node of the file")


def drop_dead(graph: WorkingGraph) -> None:
    """Remove the nodes and constants that the output does not depend on."""
    graph.nodes = _live(graph.nodes, {graph.output.name})
    used = {graph.output.name, *(name for node in graph.nodes for name in node.input)}
    graph.constants = {name: value for name, value in graph.constants.items() if name in used}
