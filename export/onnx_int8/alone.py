"""An activation of a packed-int8 file run alone: the operators that the file has, with its constants, in onnxruntime.

The accumulators of a quantized operator cannot be given to it, its bias can: so it is run on codes 0 with one output
channel for each accumulator, whose bias is ``a * k + B``. That is what the operator requantizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitproof.export.onnx_int8.graph import CONTRIB, CONTRIB_OPERATIONS, MAX_STORED
from bitproof.pipeline import Codes, InputError

CHANNELS_AT_ONCE = 1 << 16
MAX_NUMBER = 1 << 32
SHOWING = ("ConvInteger", "MatMulInteger", "Cast", "Add")
"""Operators that show the accumulators of a step that is one operator."""
CONSTRUCTIONS = ("quantized", "carried", "joined", "unchanged")
"""Those that an activation cannot be cut out of; every other is a part of the graph."""

Run = Callable[[onnx.ModelProto, Mapping[str, NDArray[Any]]], NDArray[Any]]
"""Runs a graph of one output in onnxruntime."""


def requantized(graph: onnx.GraphProto, entry: Mapping[str, Any], accumulators: Codes, run: Run) -> Codes:
    """Return the stored codes that the activation of *entry* gives for *accumulators*, shape (N, channels)."""
    if entry["construction"] == "unchanged":
        return accumulators + int(entry["zero_point"])
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    flat = accumulators.reshape(-1)
    channels = np.tile(np.arange(accumulators.shape[1]), len(accumulators))
    made = [np.zeros(0, dtype=np.int64)]
    ways = {"quantized": _quantized, "carried": _carried, "joined": _joined}
    for start in range(0, len(flat), CHANNELS_AT_ONCE):
        part = slice(start, start + CHANNELS_AT_ONCE)
        model, given = ways[entry["construction"]](graph, entry, constants, flat[part], channels[part])
        made.append(run(model, given).reshape(-1).astype(np.int64))
    return np.concatenate(made).reshape(accumulators.shape)


NUMBERS = {
    "quantized": ("factor", "highest", "clipped"),
    "carried": ("factor", "highest", "clipped"),
    "joined": ("highest", "clipped"),
    "unchanged": (),
}
"""Entries of a description that are whole numbers or truth values, by construction."""


def require_described(graph: onnx.GraphProto, entry: Mapping[str, Any]) -> None:
    """Refuse an entry that does not describe an activation of *graph*.

    Raises:
        LookupError, TypeError, ValueError: something is missing, or of another type or size.
    """
    construction, channels = entry["construction"], int(entry["shape"][0])
    for key in NUMBERS[construction]:
        if not isinstance(entry[key], int) or abs(entry[key]) > MAX_NUMBER:
            raise ValueError(f"{key} = {entry[key]!r:.100} is no integer of 32 bits")
    if construction != "unchanged":
        _require_as_in_graph(graph, entry)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    if construction in ("quantized", "carried"):
        sizes = [list(constants[entry[key]].dims) for key in ("scale", "offset")]
        if sizes != [[channels], [channels]] or len(_bias(entry)) != channels:
            raise ValueError(f"{entry['layer']!r} has constants of the sizes {sizes} for {channels} channels")
        if not all(isinstance(number, int) and abs(number) <= MAX_NUMBER for number in entry["bias"]):
            raise ValueError("a bias is no integer of 32 bits")
    if construction == "joined":
        numbers = [*entry["stored_points"], *(end for span in entry["spans"] for end in span)]
        if len(numbers) != 6 or not all(isinstance(n, int) and abs(n) <= MAX_STORED for n in numbers):
            raise ValueError(f"{entry['layer']!r} adds codes in {entry['spans']!r:.100}")
        _node_with(graph, entry["scale"], ("QLinearAdd",))


def _require_as_in_graph(graph: onnx.GraphProto, entry: Mapping[str, Any]) -> None:
    """Refuse an entry whose factor or Clip is not the graph's own: what is run alone must be what the file has.

    Raises:
        LookupError, ValueError: they differ.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    node, clips = makers[entry["target"]], []
    while node.op_type in ("Clip", "MaxPool", "QuantizeLinear"):
        if node.op_type == "Clip":
            clips.append([int(constants[name]) for name in node.input[1:]])
        node = makers[node.input[0]]
    if clips != ([[0, int(entry["highest"])]] if entry["clipped"] else []):
        raise ValueError(f"{entry['layer']!r} is clipped to {clips}, not as described")
    if entry["construction"] == "quantized":
        scaled = makers[makers[node.input[3]].input[0]]
        scaled = makers[scaled.input[0]] if scaled.op_type == "Add" else scaled
        if scaled.op_type != "Mul" or int(constants[scaled.input[1]]) != int(entry["factor"]):
            raise ValueError(f"{entry['layer']!r}: its weights are not multiplied by {entry['factor']}")


def require_node(node: Mapping[str, Any]) -> None:
    """Refuse a node that would show what no tensor holds, unless it is of the few kinds that do.

    Raises:
        LookupError, TypeError, ValueError: it is of another kind, or no node at all.
    """
    names = [*node["inputs"], node["output"]]
    numbers = [n for value in node["attributes"].values() for n in (value if isinstance(value, list) else [value])]
    if node["op"] not in SHOWING or not all(isinstance(name, str) for name in names):
        raise ValueError(f"a node of type {node['op']!r:.100} shows no value; those that do are {', '.join(SHOWING)}")
    if not all(isinstance(number, int) and abs(number) <= MAX_NUMBER for number in numbers):
        raise ValueError(f"a node of type {node['op']} has attributes that are no integers of 32 bits")


def every_pair(graph: onnx.GraphProto, entry: Mapping[str, Any], run: Run) -> tuple[Codes, Codes, Codes]:
    """Run the sum of *entry* on every pair of codes; return both codes and what it stores, each shape (pairs,)."""
    spans = [np.arange(low, high + 1, dtype=np.int64) for low, high in entry["spans"]]
    one, two = (grid.reshape(-1) for grid in np.meshgrid(*spans, indexing="ij"))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    model, given = _added(graph, entry, constants, one, two)
    return one, two, run(model, given).reshape(-1).astype(np.int64)


def why_monotone(graph: onnx.GraphProto, entry: Mapping[str, Any], lows: Codes, highs: Codes) -> str | None:
    """Say why the activation of *entry* does not fall from *lows* to *highs*, shape (channels,); None: it may."""
    if entry["construction"] == "unchanged":
        return "codes stay as they are"
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scale = constants[entry["scale"]]
    if not (scale > 0).all() or not np.isfinite(scale).all():
        return None
    if entry["construction"] == "quantized":
        factor = int(entry["factor"])
        bias = constants[entry["offset"]].astype(object) - _bias(entry) * factor
        ends = np.concatenate([lows.astype(object) * factor + bias, highs.astype(object) * factor + bias])
        limits = np.iinfo(np.int32)
        if factor < 1 or min(ends) < limits.min or max(ends) > limits.max:
            return None
        return (
            "the sum fits 32 bits, and conversion to float32, product by a positive factor, rounding and saturation "
            "are monotone"
        )
    if entry["construction"] == "carried":
        return "sum, quotient by a positive divisor, rounding and saturation are monotone in float32"
    return None


def _bias(entry: Mapping[str, Any]) -> NDArray[np.object_]:
    return np.array(entry["bias"], dtype=object)


def _quantized(
    graph: onnx.GraphProto, entry: Mapping[str, Any], constants: Mapping[str, NDArray[Any]], at: Codes, channel: Codes
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    factor, own = int(entry["factor"]), np.array(entry["bias"], dtype=np.int64)
    bias = (at - own[channel]) * factor + constants[entry["offset"]].astype(np.int64)[channel]
    node = _node_with(graph, entry["scale"], ("QLinearConv", "QGemm"))
    stored = constants[node.input[5]].reshape(-1)[:1]
    scale = constants[entry["scale"]][channel]
    is_matrix = node.op_type == "QGemm"
    zero = np.repeat(stored, len(at)) if is_matrix else stored.reshape(())
    weights = np.full((1, len(at)) if is_matrix else (len(at), 1, 1, 1), stored[0], dtype=stored.dtype)
    codes = constants[node.input[2]]
    source = np.full((1, 1) if is_matrix else (1, 1, 1, 1), codes, dtype=np.uint8)
    one, none = np.array(1, dtype=np.float32), np.array(0, dtype=np.uint8)
    given: dict[str, NDArray[Any]] = {"x": source, "bias": bias.astype(np.int32), "scale": scale}
    given |= {"weights": weights, "weight_zero": zero}
    fixed: dict[str, NDArray[Any]] = {"one": one, "none": none, "code_zero": codes}
    head = ["x", "one", "code_zero", "weights", "scale", "weight_zero"]
    operands = [*head, "bias", "one", "none"] if is_matrix else [*head, "one", "none", "bias"]
    attributes: dict[str, int | float] = {"transA": 0, "transB": 0, "alpha": 1.0} if is_matrix else {}
    nodes = [helper.make_node(node.op_type, operands, ["made"], domain=_domain(node.op_type), **attributes)]
    if entry["clipped"]:
        fixed["highest"] = np.array(int(entry["highest"]), dtype=np.uint8)
        nodes.append(helper.make_node("Clip", ["made", "none", "highest"], ["codes"]))
    return _model(graph, nodes, given, fixed), given


def _carried(
    graph: onnx.GraphProto, entry: Mapping[str, Any], constants: Mapping[str, NDArray[Any]], at: Codes, channel: Codes
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    own = np.array(entry["bias"], dtype=np.int64)
    given: dict[str, NDArray[Any]] = {
        "x": (at - own[channel]).astype(np.float32)[None],
        "bias": constants[entry["offset"]][channel],
        "scale": constants[entry["scale"]][channel],
        "zeros": np.zeros(len(at), dtype=np.uint8),
    }
    fixed = {"none": np.array(0, dtype=np.uint8), "highest": np.array(int(entry["highest"]), dtype=np.uint8)}
    nodes = [
        helper.make_node("Add", ["x", "bias"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "scale", "zeros"], ["made"], axis=1),
    ]
    if entry["clipped"]:
        nodes.append(helper.make_node("Clip", ["made", "none", "highest"], ["codes"]))
    return _model(graph, nodes, given, fixed), given


def _joined(
    graph: onnx.GraphProto, entry: Mapping[str, Any], constants: Mapping[str, NDArray[Any]], at: Codes, channel: Codes
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    del channel  # one function for all
    (low, high), (least, most) = entry["spans"]
    one = np.clip(at - least, low, high)
    return _added(graph, entry, constants, one, np.clip(at - one, least, most))


def _added(
    graph: onnx.GraphProto, entry: Mapping[str, Any], constants: Mapping[str, NDArray[Any]], one: Codes, two: Codes
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    points = [int(point) for point in entry["stored_points"]]
    given = {"a": (one + points[0]).astype(np.uint8), "b": (two + points[1]).astype(np.uint8)}
    node = _node_with(graph, entry["scale"], ("QLinearAdd",))
    fixed = {name: constants[name] for name in node.input if name in constants}
    operands = ["a", *node.input[1:3], "b", *node.input[4:]]
    nodes = [helper.make_node("QLinearAdd", operands, ["made"], domain=_domain("QLinearAdd"))]
    if entry["clipped"]:
        fixed |= {"least": np.array(0, dtype=np.uint8), "highest": np.array(int(entry["highest"]), dtype=np.uint8)}
        nodes.append(helper.make_node("Clip", ["made", "least", "highest"], ["codes"]))
    return _model(graph, nodes, given, fixed), given


def _domain(op: str) -> str:
    return CONTRIB if op in CONTRIB_OPERATIONS else ""


def _node_with(graph: onnx.GraphProto, operand: str, kinds: tuple[str, ...]) -> onnx.NodeProto:
    """Return the node of one of *kinds* that takes the constant *operand*.

    Raises:
        InputError: there is none.
    """
    for node in graph.node:
        if node.op_type in kinds and operand in node.input:
            return node
    raise InputError(f"the graph has no {' or '.join(kinds)} with the constant {operand!r}")


def _model(
    graph: onnx.GraphProto,
    nodes: list[onnx.NodeProto],
    given: Mapping[str, NDArray[Any]],
    fixed: Mapping[str, NDArray[Any]],
) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for name, value in given.items()
    ]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.UINT8, None)]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in fixed.items()]
    made = helper.make_graph(nodes, graph.name, inputs, outputs, constants)
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(CONTRIB, 1)], ir_version=8
    )
