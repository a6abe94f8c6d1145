"""The attributes by which our modules stand in FINN's graph, from the layers. Runs in the child process only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np
from onnx import TensorProto, numpy_helper

from bitproof.export.integer import IntegerType, Shape
from bitproof.hw.finn.layers import (
    Arithmetic,
    Depthwise,
    Fork,
    Frame,
    Junction,
    Layer,
    Product,
    Reduction,
    Scaling,
    Selection,
    Sum,
)
from bitproof.hw.finn.own_layers import qonnx_name
from bitproof.hw.rtl.modules import Encoding, MultiplyShiftUnit
from bitproof.hw.rtl.providers import (
    ADD,
    AFFINE,
    CONCAT,
    DEPTHWISE_UNIT,
    DUPLICATE,
    IMAGE_PADDING,
    LOGIC_MATRIX_UNIT,
    MULTIPLY_SHIFT,
    ROUNDING_SHIFT,
    SCALED_ADD,
    SELECT_LARGEST,
    WINDOW_REDUCER,
    Op,
)
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True)
class Attributes:
    """A node of our own.

    Attributes:
        op: its operation.
        takes: shapes of the tensors that it takes.
        makes: names of those that it makes.
        attributes: beside the backend.
    """

    op: Op
    takes: tuple[Shape, ...]
    makes: tuple[str, ...]
    attributes: Mapping[str, object]


@singledispatch
def attributes_of(layer: Layer) -> Attributes:
    """Return the node of *layer*, which is of our own modules."""
    raise NotImplementedError(type(layer))  # every class of layer of ours is registered below


def own_op(layer: Layer) -> Op:
    """Return the operation of *layer*."""
    return attributes_of(layer).op


@attributes_of.register
def _(layer: Product) -> Attributes:
    assert layer.logic is not None, "FINN's matrix unit serves it"
    codes, encoding = layer.logic
    pixels = layer.shape[:-1]
    attributes = _weights(layer.node.weights, codes, encoding) | {"SIMD": layer.node.inputs, "Pixels": pixels}
    return _of(LOGIC_MATRIX_UNIT, layer, ((*pixels, layer.node.inputs),), attributes, layer.node.outputs)


@attributes_of.register
def _(layer: Depthwise) -> Attributes:
    pixels, (channels, taps) = layer.shape[:-1], layer.weights.shape
    attributes = _weights(layer.weights, layer.codes, layer.encoding) | {"Pixels": pixels}
    return _of(DEPTHWISE_UNIT, layer, ((*pixels, channels * taps),), attributes, channels)


@attributes_of.register
def _(layer: Reduction) -> Attributes:
    *pixels, channels = layer.shape
    attributes = {"Channels": channels, "Taps": layer.taps, "Sum": int(layer.function == "sum"), "Pixels": pixels}
    taken = ((*pixels, channels * layer.taps),)
    return _of(WINDOW_REDUCER, layer, taken, attributes | _types(layer.source), channels)


@attributes_of.register
def _(layer: Frame) -> Attributes:
    *pixels, channels = layer.source
    attributes = {"Channels": channels, "Code": layer.code, "Begin": layer.window.begin, "End": layer.window.end}
    places = {"Pixels": pixels, "OutPixels": layer.shape[:-1]}
    return _of(IMAGE_PADDING, layer, (layer.source,), attributes | places | _types(layer.kind), channels)


@attributes_of.register
def _(layer: Arithmetic) -> Attributes:
    unit, node, channels = layer.unit, layer.unit.place.node, layer.shape[-1]
    codes = unit.place.codes
    reachable = [(interval.low, interval.high) for interval in layer.reachable]
    common = {
        "Thresholds": _tensor(node.thresholds),
        "Reachable": _tensor(np.array(reachable, dtype=np.int64)),
        "Lowest": node.lowest,
        "CodeBits": codes.bits,
        "CodeSigned": int(codes.signed),
    }
    common |= _per_channel(layer.shape) | _types(unit.place.accumulators)
    if isinstance(unit, MultiplyShiftUnit):
        form = unit.constants
        constants = {"Multipliers": _tensor(form.multiplier), "Offsets": _tensor(form.offset), "Shift": form.shift}
        return _of(MULTIPLY_SHIFT, layer, (layer.shape,), common | constants, channels)
    constants = {"Offsets": _tensor(unit.offset), "Shift": unit.shift, "Ties": unit.ties}
    return _of(ROUNDING_SHIFT, layer, (layer.shape,), common | constants, channels)


@attributes_of.register
def _(layer: Sum) -> Attributes:
    common = _per_channel(layer.shape) | _types(*layer.sources)
    taken = (layer.shape, layer.shape)
    if layer.plain:
        return _of(ADD, layer, taken, common, layer.shape[-1])
    constants = {"Factors": _tensor(layer.factors), "Offsets": _tensor(layer.offsets)}
    return _of(SCALED_ADD, layer, taken, common | constants, layer.shape[-1])


@attributes_of.register
def _(layer: Scaling) -> Attributes:
    constants = {"Factors": _tensor(layer.factors), "Offsets": _tensor(layer.offsets)}
    common = _per_channel(layer.shape) | _types(layer.source)
    return _of(AFFINE, layer, (layer.shape,), common | constants, layer.shape[-1])


@attributes_of.register
def _(layer: Junction) -> Attributes:
    pixels = layer.shape[:-1]
    taken = tuple((*pixels, count) for count in layer.channels)
    attributes = {"Counts": layer.channels, "Pixels": pixels} | _types(*layer.sources)
    return _of(CONCAT, layer, taken, attributes, 1)


@attributes_of.register
def _(layer: Selection) -> Attributes:
    attributes = {"Channels": layer.channels, "Count": layer.shape[0]} | _types(layer.source)
    return _of(SELECT_LARGEST, layer, ((layer.channels,),), attributes, 1)


@attributes_of.register
def _(layer: Fork) -> Attributes:
    attributes = _per_channel(layer.shape) | _types(layer.source)
    made = _of(DUPLICATE, layer, (layer.shape,), attributes, layer.shape[-1])
    return replace(made, makes=(layer.makes, layer.also))


def _of(op: Op, layer: Layer, takes: tuple[Shape, ...], attributes: Mapping[str, object], lanes: int) -> Attributes:
    """Return the node with all its *lanes* in a word; empty attributes are left out, as ONNX demands."""
    given = {name: value for name, value in {**attributes, "PE": lanes}.items() if value not in ((), [])}
    return Attributes(op, tuple(tuple(shape) for shape in takes), (layer.makes,), given)


def _weights(weights: Codes, codes: Encoding, encoding: Encoding) -> dict[str, object]:
    bits = 0 if encoding.kind == "bipolar" else encoding.bits
    bipolar = int(codes.kind == "bipolar")
    return {"Weights": _tensor(weights), "WeightBits": bits, "Bipolar": bipolar, **_types(codes.stream)}


def _per_channel(shape: Shape) -> dict[str, object]:
    return {"Channels": shape[-1], "Pixels": shape[:-1]}


def _types(*kinds: IntegerType) -> dict[str, object]:
    return {"Types": [qonnx_name(kind) for kind in kinds]}


def _tensor(integers: Codes) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(integers, dtype=np.int64))
