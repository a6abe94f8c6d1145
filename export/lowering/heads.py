"""Nodes at the end of a classifier: TopK, ArgMax, and Softmax or Sigmoid, which change no order of classes."""

from __future__ import annotations

from fractions import Fraction

import onnx

from bitproof.export.integer import Chain, TopK
from bitproof.export.lowering.codes import shift
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes, require_only
from bitproof.export.lowering.known import Known, Tensor, unit_of


def top_k(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower the indices of TopK; the largest numbers themselves have no integer form here."""
    require_only(node, largest=1, sorted=1)
    values, indices = node.output[0], node.output[1] if len(node.output) > 1 else ""
    if lowering.consumers[values] or not indices:
        raise UnsupportedError("its largest numbers are used; supported: the indices alone (its second output)")
    (count,) = lowering.integers(node, 1) if len(node.input) > 1 else (int(attributes(node)["k"]),)
    return _largest(lowering, node, count)


def arg_max(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower ArgMax: of equal numbers the first."""
    require_only(node, select_last_index=0)
    return _largest(lowering, node, 1)


def _largest(lowering: Lowering, node: onnx.NodeProto, count: int) -> Tensor:
    tensor = lowering.tensor(node, 0)
    axis = attributes(node).get("axis", 0 if node.op_type == "ArgMax" else -1)
    if len(tensor.axes) != 1 or axis not in (1, -1):
        raise UnsupportedError(f"axis = {axis} of samples of shape {lowering.shape(tensor)}; supported: the classes")
    if not 1 <= count <= len(tensor.chains):
        raise UnsupportedError(f"takes the {count} largest of {len(tensor.chains)} classes")
    name = _comparable(lowering, tensor)
    made = TopK(lowering.builder.name(TopK), len(tensor.chains), count)
    lowering.builder.emit(made, name)
    return Tensor(made.name, (0,), (Chain.of(Fraction(1)),) * count, private=False)


def _comparable(lowering: Lowering, tensor: Tensor) -> str:
    """Return a node whose codes are ordered as the real numbers of *tensor*."""
    if tensor.uniform and tensor.chains[0].direction > 0 and not _clamps(tensor):
        return tensor.node
    linear = tensor.linear()
    if linear is None:
        raise UnsupportedError("compares numbers behind different batch norms or clips; put a Quant node before it")
    unit = unit_of([number for pair in linear for number in pair])
    factors, offsets = ([pair[i] / unit for pair in linear] for i in (0, 1))
    return shift(lowering, tensor.node, factors, offsets)


def _clamps(tensor: Tensor) -> bool:
    return any(chain.low is not None or chain.high is not None or chain.curve is not None for chain in tensor.chains)


def drop_at_the_end(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Drop a Softmax, LogSoftmax, Sigmoid or Tanh that makes the graph's output, and note it."""
    outputs = {value.name for value in lowering.graph.output}
    tensor = lowering.tensor(node, 0)
    if node.output[0] not in outputs:
        raise UnsupportedError("is not the last node; only at the very end, where it keeps the order of the classes")
    if node.op_type in ("Softmax", "LogSoftmax"):
        axis = attributes(node).get("axis", -1)
        if len(tensor.axes) != 1 or axis not in (1, -1):
            raise UnsupportedError(
                f"axis = {axis} of samples of shape {lowering.shape(tensor)}; supported: the classes"
            )
    lowering.dropped.append(node)
    return tensor
