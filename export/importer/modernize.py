"""The form of opset 20 for nodes of an old opset: parameters as inputs, no attribute that has gone.

An operation that is not here has kept its form since opset 7, or is one that has no integer form and is refused by the
lowering under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from bitproof.export.importer.domains import is_standard
from bitproof.export.importer.graph import (
    WorkingGraph,
    input_of,
    int64,
    integer,
    integers,
    number,
    put,
    refusal,
    text,
    without,
)
from bitproof.export.importer.shapes import Shape


def modernize(node: onnx.NodeProto, graph: WorkingGraph, shapes: Mapping[str, Shape]) -> None:
    """Rewrite the standard *node* of a *graph* whose own opset is older.

    Raises:
        InputError: the old form says something that the new one cannot.
    """
    if not is_standard(node, *_FORMS) or not node.input:
        return
    since, rewrite = _FORMS[node.op_type]
    if graph.opsets[""] < since:
        rewrite(node, graph, shapes)


def _axes_to_input(node: onnx.NodeProto, graph: WorkingGraph, _shapes: Mapping[str, Shape]) -> None:
    axes = integers(node, "axes")
    without(node, ["axes"])
    if axes is not None:
        _set_input(node, 1, graph.constant(f"{node.output[0]}_axes", int64(*axes)))


def _set_input(node: onnx.NodeProto, index: int, name: str) -> None:
    inputs = [*node.input, *[""] * (index + 1 - len(node.input))]
    inputs[index] = name
    del node.input[:]
    node.input.extend(inputs)


def _batch_normalization(node: onnx.NodeProto, graph: WorkingGraph, _shapes: Mapping[str, Shape]) -> None:
    if graph.opsets[""] < 9:
        if integer(node, "spatial", 1) != 1:
            raise refusal(node, "spatial = 0 has a mean and a variance at every position; supported: one per channel")
        without(node, ["spatial"])


def _clip(node: onnx.NodeProto, graph: WorkingGraph, _shapes: Mapping[str, Shape]) -> None:
    for index, name in ((1, "min"), (2, "max")):
        bound = number(node, name)
        if bound is not None:
            _set_input(node, index, graph.constant(f"{node.output[0]}_{name}", np.array(bound, dtype=np.float32)))
    without(node, ["min", "max"])


def _pad(node: onnx.NodeProto, graph: WorkingGraph, _shapes: Mapping[str, Shape]) -> None:
    pads, value = integers(node, "pads"), number(node, "value")
    if pads is None:
        raise refusal(node, "has no pads")
    _set_input(node, 1, graph.constant(f"{node.output[0]}_pads", int64(*pads)))
    if value:
        _set_input(node, 2, graph.constant(f"{node.output[0]}_value", np.array(value, dtype=np.float32)))
    without(node, ["pads", "value"])


def _softmax(node: onnx.NodeProto, _graph: WorkingGraph, shapes: Mapping[str, Shape]) -> None:
    """Before opset 13 all axes from *axis* on were one; that is the same as one axis if the others have size 1."""
    axis = integer(node, "axis", 1)
    shape = shapes.get(node.input[0])
    rank = len(shape) if shape is not None else None
    behind = () if shape is None else shape[axis % len(shape) + 1 :] if shape else ()
    if rank is None or any(size != 1 for size in behind):
        raise refusal(
            node, f"axis = {axis} of an opset before 13 joins the axes behind it; export with opset 13 or later"
        )
    put(node, "axis", axis)


def _resize(node: onnx.NodeProto, _graph: WorkingGraph, _shapes: Mapping[str, Shape]) -> None:
    """Before opset 11 the nearest element was found by rounding down, and there was no region of interest."""
    factors = input_of(node, 1)
    if text(node, "mode", "nearest") != "nearest" or not factors:
        return
    del node.input[1:]
    _set_input(node, 2, factors)
    node.op_type = "Resize"
    put(node, "coordinate_transformation_mode", "asymmetric")
    put(node, "nearest_mode", "floor")


def _slice(node: onnx.NodeProto, graph: WorkingGraph, _shapes: Mapping[str, Shape]) -> None:
    for index, name in enumerate(("starts", "ends", "axes"), start=1):
        values = integers(node, name)
        if values is not None:
            _set_input(node, index, graph.constant(f"{node.output[0]}_{name}", int64(*values)))
    without(node, ["starts", "ends", "axes"])


def _split(node: onnx.NodeProto, graph: WorkingGraph, _shapes: Mapping[str, Shape]) -> None:
    sizes = integers(node, "split")
    without(node, ["split"])
    if sizes is not None:
        _set_input(node, 1, graph.constant(f"{node.output[0]}_split", int64(*sizes)))
    elif not input_of(node, 1):
        put(node, "num_outputs", len(node.output))


def _topk(node: onnx.NodeProto, graph: WorkingGraph, _shapes: Mapping[str, Shape]) -> None:
    _set_input(node, 1, graph.constant(f"{node.output[0]}_k", int64(integer(node, "k", 1))))
    without(node, ["k"])


_Rewrite = Callable[[onnx.NodeProto, WorkingGraph, Mapping[str, Shape]], None]

_FORMS: Mapping[str, tuple[int, _Rewrite]] = {
    "BatchNormalization": (14, _batch_normalization),
    "Clip": (11, _clip),
    "LogSoftmax": (13, _softmax),
    "Pad": (11, _pad),
    "ReduceMax": (18, _axes_to_input),
    "ReduceMean": (18, _axes_to_input),
    "ReduceMin": (18, _axes_to_input),
    "ReduceProd": (18, _axes_to_input),
    "ReduceSum": (13, _axes_to_input),
    "Resize": (11, _resize),
    "Slice": (10, _slice),
    "Softmax": (13, _softmax),
    "Split": (18, _split),
    "Squeeze": (13, _axes_to_input),
    "TopK": (10, _topk),
    "Unsqueeze": (13, _axes_to_input),
    "Upsample": (10, _resize),
}
"""For each operation the opset that changed its form, and how the form before it is rewritten."""


def resolve_padding(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> None:
    """Replace ``auto_pad`` of a convolution or pool by the pads that it stands for, if the sizes are known."""
    if not is_standard(node, "Conv", "MaxPool", "AveragePool") or not node.input:
        return
    automatic = text(node, "auto_pad", "NOTSET")
    shape, weights = shapes.get(node.input[0]), shapes.get(input_of(node, 1))
    kernel = integers(node, "kernel_shape") or (None if weights is None else weights[2:])
    if automatic == "NOTSET":
        without(node, ["auto_pad"])
    if automatic not in ("VALID", "SAME_UPPER", "SAME_LOWER") or shape is None or kernel is None:
        return
    axes = len(shape) - 2
    strides = integers(node, "strides") or (1,) * axes
    dilations = integers(node, "dilations") or (1,) * axes
    if not len(kernel) == len(strides) == len(dilations) == axes or min((*strides, *dilations), default=0) < 1:
        return
    begin, end = [0] * axes, [0] * axes
    if automatic != "VALID":
        for axis, size in enumerate(shape[2:]):
            extent = kernel[axis]
            if not isinstance(size, int) or not isinstance(extent, int):
                return
            windows = -(-size // strides[axis])
            total = max(0, (windows - 1) * strides[axis] + dilations[axis] * (extent - 1) + 1 - size)
            begin[axis] = total // 2 if automatic == "SAME_UPPER" else total - total // 2
            end[axis] = total - begin[axis]
    without(node, ["auto_pad"])
    put(node, "pads", [*begin, *end])
