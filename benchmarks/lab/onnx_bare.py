"""The fastest operators of onnxruntime for the layers of a network, each in a graph of its own.

A packed-int8 file cannot be faster than the operators that do its arithmetic. Each layer is given to those that could:
products in QLinearConv or QGemm on int8 or uint8 weights and in float32, pools and sums on bytes or in float32. They
get neither a bias nor a Clip nor scales per channel, and what onnxruntime does to change a layout does not count.
Activations and reshapes have no operator of their own: products requantize, and a new shape moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.lab.onnx_times import Numbers
from bitproof.export.integer import (
    Add,
    Affine,
    Concat,
    Conv,
    IntegerModel,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    Shape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
)
from bitproof.export.onnx_int8.graph import CONTRIB
from bitproof.export.onnx_int8.products import spatial
from bitproof.export.onnx_int8.writer import IR_VERSION, OPSET
from bitproof.export.program.schedule import schedule

Kind = type[np.generic]
Operands = Mapping[str, Numbers | None]
"""What an operator takes behind its first input, in order: constants; None: another input, or (called "") nothing."""
NOTHING: Operands = {"": None}
MADE: Mapping[str, list[str]] = {"TopK": ["y", "indices"]}
"""What an operator makes, if that is not ``y`` alone."""
FREE = (Threshold, Affine, Reshape)
"""Operations without an operator of their own."""
SEED = 0


@dataclass(frozen=True, slots=True)
class Bare:
    """An operator alone.

    Attributes:
        name: of the operator, with the type that tells it from others.
        graph: the ONNX file; it takes ``x0``, ``x1`` and so on.
        kind: type of what it takes.
        taken: the shape of one sample of each.
    """

    name: str
    graph: bytes
    kind: Kind
    taken: tuple[Shape, ...]

    def values(self, batch: int) -> dict[str, Numbers]:
        """Return random small numbers to run it on."""
        generator = np.random.default_rng(SEED)
        return {
            f"x{place}": generator.integers(0, 16, (batch, *shape)).astype(self.kind)
            for place, shape in enumerate(self.taken)
        }


def bare_layers(model: IntegerModel) -> dict[str, tuple[Bare, ...]]:
    """Return for each layer of *model* that has operators those that could do its arithmetic.

    Layers of the same shapes get equal ones.
    """
    shapes, found = model.shapes(), {}
    sums = {step.main.name for step in schedule(model).steps if step.thresholds is None}
    for node in model.nodes:
        if isinstance(node, FREE):
            continue
        taken = tuple(shapes[name] for name in model.sources(node.name))
        found[node.name] = tuple(WAYS[type(node)](node, taken))
        if isinstance(node, MatMul) and node.name in sums:
            found[node.name] += (_sums(node, taken),)
    return found


def _conv(node: Conv, taken: tuple[Shape, ...]) -> Iterator[Bare]:
    attributes = {"group": node.groups, **spatial(node.window)}
    for kind in (np.int8, np.uint8):
        operands = {**_product(node.weights.shape, kind), **_result()}
        yield _bare("QLinearConv", taken, operands, np.uint8, attributes)
    yield _bare("Conv", taken, {"w": _weights(node.weights.shape, np.float32)}, np.float32, attributes)


def _matmul(node: MatMul, taken: tuple[Shape, ...]) -> Iterator[Bare]:
    shape = node.weights.shape[::-1]
    for kind in (np.int8, np.uint8):
        operands = {**_product(shape, kind), **NOTHING, **_result()}  # the bias is left out
        yield _bare("QGemm", taken, operands, np.uint8, {"transA": 0, "transB": 0, "alpha": 1.0}, CONTRIB)
    yield _bare("Gemm", taken, {"w": _weights(shape, np.float32)}, np.float32)


def _sums(node: MatMul, taken: tuple[Shape, ...]) -> Bare:
    """Return the operator that leaves a product in 32 bits: alone it may win, but an activation has no use for it."""
    return _bare("MatMulInteger", taken, {"w": _weights(node.weights.shape[::-1], np.int8)}, np.uint8)


def _max_pool(node: MaxPool, taken: tuple[Shape, ...]) -> Iterator[Bare]:
    attributes = spatial(node.window)
    yield _bare("MaxPool", taken, {}, np.uint8, attributes)
    yield _bare("MaxPool", taken, {}, np.float32, attributes)
    if len(taken[0]) == 3:
        channels, height, width = taken[0]
        yield _bare("NhwcMaxPool", ((height, width, channels),), {}, np.uint8, attributes, CONTRIB)


def _sum_pool(node: SumPool, taken: tuple[Shape, ...]) -> Iterator[Bare]:
    """Averages, too: the same sums, and a division that costs nothing beside them."""
    scales = {"xs": _one(), "xz": _zero(), **_result()}
    window, channels = node.window, taken[0][0]
    if window.kernel == taken[0][1:] and not window.padded:
        axes = {"axes": np.arange(2, len(taken[0]) + 1, dtype=np.int64)}
        yield _bare("ReduceSum", taken, axes, np.int32, {"keepdims": 1})
        yield _bare("GlobalAveragePool", taken, {}, np.float32)
        yield _bare("QLinearGlobalAveragePool", taken, scales, np.uint8, {"channels_last": 0}, CONTRIB)
        return
    attributes = spatial(window)
    ones = np.ones((channels, 1, *window.kernel), dtype=np.float32)
    yield _bare("Conv", taken, {"w": ones}, np.float32, {"group": channels, **attributes})
    if set(attributes.pop("dilations")) == {1}:
        padded: dict[str, Any] = {**attributes, "count_include_pad": 1}
        yield _bare("AveragePool", taken, {}, np.float32, padded)
        yield _bare("QLinearAveragePool", taken, scales, np.uint8, padded, CONTRIB)


def _add(node: Add, taken: tuple[Shape, ...]) -> Iterator[Bare]:
    del node
    one, zero = _one(), _zero()
    operands = {"as": one, "az": zero, "x1": None, "bs": one, "bz": zero, **_result()}
    yield _bare("QLinearAdd", taken, operands, np.uint8, {}, CONTRIB)
    yield _bare("Add", taken, {"x1": None}, np.float32)


def _concat(node: Concat, taken: tuple[Shape, ...]) -> Iterator[Bare]:
    del node
    yield _bare("Concat", taken, {f"x{place}": None for place in range(1, len(taken))}, np.uint8, {"axis": 1})


def _pad(node: Pad, taken: tuple[Shape, ...]) -> Iterator[Bare]:
    pads = np.array([0, 0, *node.begin, 0, 0, *node.end], dtype=np.int64)
    yield _bare("Pad", taken, {"pads": pads, "filler": _zero()}, np.uint8)


def _transpose(node: Transpose, taken: tuple[Shape, ...]) -> Iterator[Bare]:
    yield _bare("Transpose", taken, {}, np.uint8, {"perm": [0, *(axis + 1 for axis in node.axes)]})


def _top_k(node: TopK, taken: tuple[Shape, ...]) -> Iterator[Bare]:
    yield _bare("TopK", taken, {"count": np.array([node.count], dtype=np.int64)}, np.float32, {"axis": 1})


WAYS: Mapping[type[Node], Callable[[Any, tuple[Shape, ...]], Iterator[Bare]]] = {
    Conv: _conv,
    MatMul: _matmul,
    MaxPool: _max_pool,
    SumPool: _sum_pool,
    Add: _add,
    Concat: _concat,
    Pad: _pad,
    Transpose: _transpose,
    TopK: _top_k,
}
"""The operators of each operation."""


def _one() -> Numbers:
    return np.array(1, dtype=np.float32)


def _zero() -> Numbers:
    return np.array(0, dtype=np.uint8)


def _weights(shape: Sequence[int], kind: Kind) -> Numbers:
    """Return random weights of 4 bits: their values decide nothing about the time."""
    middle = 128 if kind is np.uint8 else 0
    return (np.random.default_rng(SEED).integers(-7, 8, shape) + middle).astype(kind)


def _product(shape: Sequence[int], kind: Kind) -> Operands:
    """Return what a quantized product takes: scale and zero point of its codes, weights, and theirs."""
    middle = np.array(128 if kind is np.uint8 else 0, dtype=kind)
    return {"xs": _one(), "xz": _zero(), "w": _weights(shape, kind), "ws": _one(), "wz": middle}


def _result() -> Operands:
    """Return scale and zero point of the codes that an operator makes."""
    return {"ys": _one(), "yz": _zero()}


def _bare(
    op: str,
    taken: tuple[Shape, ...],
    operands: Operands,
    kind: Kind,
    attributes: Mapping[str, Any] | None = None,
    domain: str = "",
) -> Bare:
    """Write the graph of one operator, which takes ``x0`` of type *kind*, and then *operands*."""
    constants = {name: value for name, value in operands.items() if value is not None}
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    inputs = [helper.make_tensor_value_info(f"x{i}", element, ["N", *shape]) for i, shape in enumerate(taken)]
    names = ["x0", *operands]
    node = helper.make_node(op, names, MADE.get(op, ["y"]), name=op, domain=domain, **(attributes or {}))
    output = TensorProto.INT32 if op == "MatMulInteger" else element
    made = [helper.make_tensor_value_info("y", output, None)]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    graph = helper.make_graph([node], op, inputs, made, stored)
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    told_by = constants["w"].dtype if "w" in constants else np.dtype(kind)
    return Bare(f"{op} {told_by.name}", proto.SerializeToString(), kind, taken)
