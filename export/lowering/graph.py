"""The state of one walk over a graph, and how its nodes are read: constants, attributes, consumers, refusals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from bitproof.export.integer import Activation, IntegerType, Shape
from bitproof.export.lowering.builder import Builder
from bitproof.export.lowering.effort import EXACT_NUMBERS
from bitproof.export.lowering.known import Constant, Known, QuantizedConstant, Rationals, Rounded, Tensor, rationals
from bitproof.pipeline import InputError


class UnsupportedError(InputError):
    """A node that cannot be lowered exactly: what is at fault, and what would work."""


@dataclass(frozen=True, slots=True)
class Span:
    """The part of the graph that one activation stands for: from tensor *source* to the quantizer's output *target*."""

    source: str
    target: str


@dataclass
class Lowering:
    """One walk over one graph.

    Attributes:
        graph: the graph, normalized.
        path: where it came from, for messages.
        opset: version of each operator set by its domain.
    """

    graph: onnx.GraphProto
    path: Path
    opset: dict[str, int]
    builder: Builder = field(default_factory=Builder)
    known: dict[str, Known] = field(default_factory=dict)
    activations: dict[str, list[Activation]] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    dropped: list[onnx.NodeProto] = field(default_factory=list)
    input: InputCoding | None = None
    unequal_weights: list[tuple[str, int, int]] = field(default_factory=list)
    rounded: dict[str, Rounded] = field(default_factory=dict)
    dequantized: dict[Rounded, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known.update({t.name: Constant(numpy_helper.to_array(t)) for t in self.graph.initializer})
        uses = [name for node in self.graph.node for name in node.input]
        self.consumers = Counter([*uses, *(value.name for value in self.graph.output)])

    def tensor(self, node: onnx.NodeProto, index: int) -> Tensor:
        """Return input *index* of *node*, which must be computed from the network's input, behind a quantizer.

        Raises:
            UnsupportedError: it is a constant, or real numbers that no quantizer has turned into codes.
        """
        known = self.known[node.input[index]]
        if isinstance(known, Tensor):
            return known
        if isinstance(known, Constant | QuantizedConstant):
            raise UnsupportedError(f"input {index} ({node.input[index]!r}) is a constant; it must be computed")
        raise UnsupportedError(
            "takes the graph's input, which no Quant node has turned into codes; begin the network with a quantizer "
            "of its input: a QuantIdentity in Brevitas, a Quant node in QONNX"
        )

    def private(self, tensor: str) -> bool:
        """Tell whether one node alone uses *tensor*."""
        return self.consumers[tensor] == 1

    def reals(self, node: onnx.NodeProto, index: int) -> Rationals:
        """Return the exact numbers of the constant input *index* of *node*, quantized or not.

        Raises:
            UnsupportedError: it is not a constant, or not finite.
        """
        known = self.known.get(node.input[index])
        if isinstance(known, Constant | QuantizedConstant):
            size = known.values.size if isinstance(known, Constant) else known.codes.size
            self.builder.effort.spend(size // EXACT_NUMBERS, f"the {size} numbers of {node.input[index]!r}")
        if isinstance(known, QuantizedConstant):
            return known.reals()
        if not isinstance(known, Constant):
            raise UnsupportedError(f"input {index} ({node.input[index]!r}) must be a constant")
        try:
            return rationals(known.values)
        except ValueError as error:
            raise UnsupportedError(f"input {index} ({node.input[index]!r}) {error}") from error

    def integers(self, node: onnx.NodeProto, index: int) -> tuple[int, ...]:
        """Return the whole numbers of the constant input *index* of *node*.

        Raises:
            UnsupportedError: it is not a constant, or holds a fraction.
        """
        numbers = self.reals(node, index).reshape(-1).tolist()
        if any(number.denominator != 1 for number in numbers):
            raise UnsupportedError(f"input {index} ({node.input[index]!r}) must hold whole numbers, not {numbers}")
        return tuple(int(number) for number in numbers)

    def shape(self, tensor: Tensor) -> Shape:
        """Return the shape of one sample of *tensor*, in the graph's order of axes."""
        sizes = self.builder.shapes[tensor.node]
        return tuple(sizes[axis] for axis in tensor.axes)


@dataclass(frozen=True, slots=True)
class InputCoding:
    """The codes of the network's input: their type, which occur, the tensor that holds them.

    *rounds* tells whether a real input becomes the code nearest to it, of two the even one.
    """

    tensor: str
    kind: IntegerType
    codes: range
    shape: Shape
    rounds: bool


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of *node* by name; text as ``str``."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: v.decode(errors="replace") if isinstance(v, bytes) else v for name, v in values.items()}


def has_input(node: onnx.NodeProto, index: int) -> bool:
    """Tell whether the optional input *index* of *node* is given."""
    return len(node.input) > index and bool(node.input[index])


def require_only(node: onnx.NodeProto, **allowed: object) -> None:
    """Refuse an attribute of *node* that is given and differs from the only value that is supported.

    Raises:
        UnsupportedError: with the attribute, its value and the supported one.
    """
    given = attributes(node)
    for name, only in allowed.items():
        if name in given and given[name] != only:
            raise UnsupportedError(f"{name} = {given[name]}; supported: {only}")


def axis_of(axis: int, rank: int) -> int:
    """Return *axis* of *rank* axes, counted from the front.

    Raises:
        UnsupportedError: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise UnsupportedError(f"axis = {axis} of {rank} axes; allowed: {-rank} to {rank - 1}")
    return axis % rank


def name_of(node: onnx.NodeProto) -> str:
    """Return what to call *node* in a message."""
    return node.name or (node.output[0] if node.output else "unnamed")


def along_channels(lowering: Lowering, tensor: Tensor, constants: Rationals) -> list[Fraction] | None:
    """Return *constants*, which broadcast to (N, *sample), for each channel of the integer value behind *tensor*.

    None if they differ along another axis, or do not broadcast.
    """
    shape = lowering.shape(tensor)
    if constants.size == 1:
        return [constants.reshape(-1)[0]] * len(tensor.chains)
    if constants.ndim > len(shape) + 1:
        return None
    sizes = (1,) * (len(shape) + 1 - constants.ndim) + constants.shape
    varying = [axis for axis, size in enumerate(sizes) if size > 1]
    if len(varying) != 1 or varying[0] == 0 or sizes[varying[0]] != shape[varying[0] - 1]:
        return None
    return list(constants.reshape(-1)) if tensor.axes[varying[0] - 1] == 0 else None


def value_range(lowering: Lowering, tensor: Tensor, scale: Fraction) -> tuple[int, int]:
    """Return the smallest and the largest number of *tensor* over *scale*, rounded outwards.

    Raises:
        UnsupportedError: they lie behind a curve.
    """
    if any(chain.curve is not None for chain in tensor.chains):
        raise UnsupportedError(
            "takes real numbers behind a curve such as LeakyRelu or Tanh; put a Quant node before it"
        )
    ends: list[Fraction] = []
    for chain, interval in zip(tensor.chains, lowering.builder.ranges[tensor.node], strict=True):
        for code in (interval.low, interval.high):
            low, high = chain.value(code).interval(64)
            ends += [low / scale, high / scale]
    return int(min(ends).__floor__()), int(max(ends).__ceil__())
