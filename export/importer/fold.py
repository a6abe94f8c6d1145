"""Standard operations on constants, evaluated by onnxruntime: the very binary32 results that a run of the file gives.

Quantizers are not evaluated: the lowering needs their scales and codes, not only their values.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper

from bitproof.export.importer.graph import Array, operations
from bitproof.pipeline import InputError

MAX_ELEMENTS = 1 << 26
"""Of all results together: an Expand or Tile of a few bytes can ask for any number of them."""
MAX_NODES = 10_000
"""Each is run by an onnxruntime of its own."""

_BROADCAST = operations("Add Div Equal Max Min Mul Pow Sub Where")

FOLDED = _BROADCAST | operations(
    "Abs Cast Ceil Clip Concat ConstantOfShape Exp Expand Flatten Floor Gather Log Neg QuantizeLinear Range Reciprocal "
    "Relu Reshape Shape Sign Size Slice Sqrt Squeeze Tile Transpose Unsqueeze"
)


class Folder:
    """Evaluates nodes and counts what their results take."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._elements = self._nodes = 0

    def fold(self, node: onnx.NodeProto, inputs: list[Array]) -> Array | None:
        """Return the output of *node* on the constants *inputs*; None if it is not evaluated.

        A node that fails stays in the graph and is refused with the others that have no integer form.

        Raises:
            InputError: the results of the file would hold more than :data:`MAX_ELEMENTS` numbers, or more than
                :data:`MAX_NODES` nodes are to be evaluated.
        """
        if node.domain or node.op_type not in FOLDED or len(node.output) != 1 or not _is_safe(node, inputs):
            return None
        size = _elements(node, inputs)
        if size is None:
            return None
        self._elements += size
        if self._elements > MAX_ELEMENTS:
            raise InputError(
                f"node {node.name or node.output[0]!r} ({node.op_type}): the constants that the file computes would "
                f"hold more than {MAX_ELEMENTS} numbers"
            )
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InputError(f"the file computes constants by more than {MAX_NODES} nodes; store the constants instead")
        return _evaluate(node, inputs, self._opset)


def _is_safe(node: onnx.NodeProto, inputs: list[Array]) -> bool:
    """Tell whether onnxruntime survives *node*: a division of integers by 0 ends the process."""
    if node.op_type != "Div" or len(inputs) != 2 or inputs[1].dtype.kind not in "iu":
        return True
    overflows = inputs[0].dtype.kind == "i" and (inputs[0] == np.iinfo(inputs[0].dtype).min).any()
    return not (inputs[1] == 0).any() and not (overflows and (inputs[1] == -1).any())


def _elements(node: onnx.NodeProto, inputs: list[Array]) -> int | None:
    """Return how many numbers the output of *node* holds, at most; None if that cannot be told."""
    try:
        if node.op_type == "Range":
            start, limit, step = (float(value.reshape(())) for value in inputs)
            return max(0, math.ceil((limit - start) / step)) if step and math.isfinite(limit - start) else None
        if node.op_type == "ConstantOfShape":
            return math.prod(max(0, int(size)) for size in inputs[0].reshape(-1).tolist())
        if node.op_type == "Tile":
            return inputs[0].size * math.prod(max(0, int(count)) for count in inputs[1].reshape(-1).tolist())
        if node.op_type == "Expand":
            return _broadcast_size([inputs[0].shape, tuple(int(size) for size in inputs[1].reshape(-1).tolist())])
        if node.op_type == "Gather":
            axis = 0 if not inputs[0].ndim else min(inputs[0].shape)
            return inputs[0].size * inputs[1].size if axis else 0
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if node.op_type in ("Concat", "Shape", "Size"):
        return sum(value.size for value in inputs) + 64
    return _broadcast_size([value.shape for value in inputs]) if node.op_type in _BROADCAST else inputs[0].size


def _broadcast_size(shapes: list[tuple[int, ...]]) -> int | None:
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    sizes = [max(column) if min(column) else 0 for column in zip(*padded, strict=True)]
    return None if any(size < 0 for shape in shapes for size in shape) else math.prod(sizes)


def _evaluate(node: onnx.NodeProto, inputs: list[Array], opset: int) -> Array | None:
    import onnxruntime as ort

    names = [name for name in node.input if name]
    if len(set(names)) != len(inputs):
        inputs = [inputs[names.index(name)] for name in dict.fromkeys(names)]
        names = list(dict.fromkeys(names))
    try:
        sources = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in zip(names, inputs, strict=True)
        ]
        result = onnx.ValueInfoProto(name=node.output[0])
        graph = helper.make_graph([node], "fold", sources, [result])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        output = session.run(None, dict(zip(names, inputs, strict=True)))[0]
    except _failures():
        return None
    return output if isinstance(output, np.ndarray) and output.dtype.kind in "fiub" else None


def _failures() -> tuple[type[Exception], ...]:
    """Return how onnxruntime may fail; its own exceptions have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (RuntimeError, ValueError, KeyError, *own)
