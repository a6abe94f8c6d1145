"""Nodes that move numbers and change none: Reshape, Flatten, Transpose, Squeeze, Unsqueeze, Pad, Identity."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import onnx

from bitproof.export.integer import Pad, Reshape, Shape
from bitproof.export.lowering.codes import codes_of, in_order
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes, axis_of, has_input, require_only
from bitproof.export.lowering.known import Constant, GraphInput, Known, QuantizedConstant, Tensor


def transpose(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Transpose."""
    known = lowering.known[node.input[0]]
    axes = len(lowering.shape(known)) + 1 if isinstance(known, Tensor) else _axes(known)
    order = tuple(attributes(node).get("perm", range(axes - 1, -1, -1)))
    if sorted(order) != list(range(axes)):
        raise UnsupportedError(f"perm = {list(order)} does not permute {axes} axes")
    if isinstance(known, Constant):
        return Constant(known.values.transpose(order))
    if isinstance(known, QuantizedConstant):
        return QuantizedConstant(known.codes.transpose(order), known.scales.transpose(order))
    if order[0] != 0:
        raise UnsupportedError(f"perm = {list(order)} moves the batch axis; it must stay first")
    if isinstance(known, GraphInput):
        return GraphInput(tuple(known.shape[axis - 1] for axis in order[1:]), preprocessed=True)
    kept = known.private and lowering.private(node.output[0])
    return replace(known, axes=tuple(known.axes[axis - 1] for axis in order[1:]), private=kept)


def _axes(known: Known) -> int:
    if isinstance(known, GraphInput):
        return len(known.shape) + 1
    assert not isinstance(known, Tensor)
    return (known.values if isinstance(known, Constant) else known.codes).ndim


def reshape(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Reshape to a constant shape that leaves the samples apart."""
    known = lowering.known[node.input[0]]
    wanted = lowering.integers(node, 1)
    if isinstance(known, Constant | QuantizedConstant):
        return _reshaped_constant(known, wanted)
    shape = _shape(lowering, known)
    return _reshaped(lowering, node, known, _resolved(wanted, shape, bool(attributes(node).get("allowzero", 0))))


def flatten(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Flatten of everything but the batch."""
    known = lowering.known[node.input[0]]
    axis = attributes(node).get("axis", 1)
    shape = _shape(lowering, known)
    if axis not in (1, -len(shape)):
        raise UnsupportedError(f"axis = {axis}; supported: 1, which keeps the batch")
    return _reshaped(lowering, node, known, (prod(shape),))


def squeeze(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Squeeze of axes of size 1."""
    known = lowering.known[node.input[0]]
    shape = _shape(lowering, known)
    rank = len(shape) + 1
    axes = {axis_of(axis, rank) for axis in _listed_axes(lowering, node)} or {
        i + 1 for i, n in enumerate(shape) if n == 1
    }
    if 0 in axes or any(shape[axis - 1] != 1 for axis in axes):
        raise UnsupportedError(f"axes = {sorted(axes)} of (N, {shape}); only axes of size 1, not the batch, can go")
    return _reshaped(lowering, node, known, tuple(n for i, n in enumerate(shape) if i + 1 not in axes) or (1,))


def unsqueeze(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Unsqueeze."""
    known = lowering.known[node.input[0]]
    listed = _listed_axes(lowering, node)
    if isinstance(known, Constant | QuantizedConstant):
        raise UnsupportedError("of quantized weights; supported: on what is computed from the input")
    shape = _shape(lowering, known)
    rank = len(shape) + 1 + len(listed)
    axes = sorted(axis_of(axis, rank) for axis in listed)
    if not axes or axes[0] == 0 or len(set(axes)) != len(axes):
        raise UnsupportedError(f"axes = {list(listed)}; it must keep the batch first")
    sizes = list(shape)
    for axis in axes:
        sizes.insert(axis - 1, 1)
    return _reshaped(lowering, node, known, tuple(sizes))


def pad(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Pad with zeros around the spatial axes."""
    require_only(node, mode="constant")
    given = attributes(node)
    pads = tuple(given["pads"]) if "pads" in given else lowering.integers(node, 1)
    value = lowering.reals(node, 2).reshape(-1)[0] if has_input(node, 2) else given.get("value", 0.0)
    if value != 0:
        raise UnsupportedError(f"pads with {float(value)}; supported: 0")
    tensor, _ = codes_of(lowering, in_order(lowering, lowering.tensor(node, 0)))
    rank = len(tensor.axes) + 1
    if has_input(node, 3):
        axes = [axis_of(axis, rank) for axis in lowering.integers(node, 3)]
        spread = [0] * (2 * rank)
        for position, axis in enumerate(axes):
            spread[axis], spread[rank + axis] = pads[position], pads[len(axes) + position]
        pads = tuple(spread)
    if len(pads) != 2 * rank or any(pads[i] for i in (0, 1, rank, rank + 1)) or min(pads) < 0:
        raise UnsupportedError(f"pads = {list(pads)}; supported: 0 or more around the spatial axes alone")
    if not any(pads):
        return tensor
    made = Pad(lowering.builder.name(Pad), tuple(pads[2:rank]), tuple(pads[rank + 2 :]))
    lowering.builder.emit(made, tensor.node)
    return replace(tensor, node=made.name, private=False)


def identity(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower a node that computes nothing."""
    return lowering.known[node.input[0]]


def _listed_axes(lowering: Lowering, node: onnx.NodeProto) -> tuple[int, ...]:
    given = attributes(node).get("axes")
    if given is not None:
        return tuple(given)
    return lowering.integers(node, 1) if has_input(node, 1) else ()


def _shape(lowering: Lowering, known: Known) -> Shape:
    if isinstance(known, GraphInput):
        return known.shape
    if isinstance(known, Tensor):
        return lowering.shape(known)
    raise UnsupportedError("of a constant; supported: on what is computed from the input")


def _resolved(wanted: tuple[int, ...], shape: Shape, allow_zero: bool) -> Shape:
    """Return the shape of a sample that a Reshape to *wanted* gives; the batch must stay as it is."""
    sizes = list(wanted[1:])
    if not allow_zero:
        sizes = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(sizes)]
    first = wanted[0] if wanted else 1
    total = prod(shape)
    if sizes.count(-1) == 1 and first in (0, 1):
        known = prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = total // known if known > 0 and total % known == 0 else 0
    if first not in (0, 1, -1) or min(sizes, default=0) < 1 or prod(sizes) != total:
        raise UnsupportedError(f"gives (N, {', '.join(map(str, shape))}) the shape {list(wanted)}; the batch must stay")
    return tuple(sizes)


def _reshaped(lowering: Lowering, node: onnx.NodeProto, known: Known, sizes: Shape) -> Known:
    if isinstance(known, GraphInput):
        return replace(known, shape=sizes)
    assert isinstance(known, Tensor), "constants are reshaped elsewhere"
    kept = known.private and lowering.private(node.output[0])
    if sizes == lowering.shape(known):
        return replace(known, private=kept)
    tensor = in_order(lowering, known)
    builder = lowering.builder
    before = builder.shapes[tensor.node]
    if tensor.uniform:
        chains = tensor.chains[:1] * sizes[0]
    elif sizes[0] == before[0]:
        chains = tensor.chains
    elif sizes[0] % before[0] == 0 and prod(before[1:]) % (sizes[0] // before[0]) == 0:
        chains = tuple(chain for chain in tensor.chains for _ in range(sizes[0] // before[0]))
    else:
        raise UnsupportedError(f"mixes channels of different scales into {sizes}; put a Quant node before it")
    made = Reshape(builder.name(Reshape), before, sizes)
    builder.emit(made, tensor.node)
    return Tensor(made.name, tuple(range(len(sizes))), chains, private=False)


def _reshaped_constant(known: Constant | QuantizedConstant, wanted: tuple[int, ...]) -> Known:
    try:
        if isinstance(known, Constant):
            return Constant(known.values.reshape(wanted))
        scales = np.broadcast_to(known.scales, known.codes.shape) if known.scales.size > 1 else known.scales
        codes = known.codes.reshape(wanted)
        scales = scales.reshape(codes.shape if scales.size > 1 else (1,) * codes.ndim)
        return QuantizedConstant(codes, scales)
    except ValueError as error:
        raise UnsupportedError(f"cannot give a constant the shape {list(wanted)}") from error
