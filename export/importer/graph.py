"""The graph that the passes of the normalization work on, and safe access to what a node holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, helper

from bitproof.pipeline import InputError

Array = NDArray[Any]

GENERAL = "qonnx.custom_op.general"
CHANNELS_LAST = "qonnx.custom_op.channels_last"

OPSET = 20
"""Every standard operation of a normalized file has the form that it has in this version, or a later one."""


@dataclass
class WorkingGraph:
    """One graph while it is rewritten; a working copy, nobody else sees it.

    Attributes:
        name: the graph's name.
        input: the one real input; its first axis is the batch.
        output: name of the one output tensor.
        output_rank: number of axes that the file declares for it; None if it declares none.
        nodes: in an order in which every tensor is made before it is used.
        constants: every constant tensor by name.
        opsets: version of each domain.
        taken: names of tensors.
        heads: of a file with several outputs, the flattened tensor of each; empty: it has one.
    """

    name: str
    input: onnx.ValueInfoProto
    output: onnx.ValueInfoProto
    nodes: list[onnx.NodeProto]
    constants: dict[str, Array]
    opsets: dict[str, int]
    taken: set[str] = field(default_factory=set)
    heads: dict[str, str] = field(default_factory=dict)

    def fresh(self, name: str) -> str:
        """Return *name*, or *name* with a number behind it if a tensor has that name already."""
        candidate, count = name, 1
        while candidate in self.taken:
            count += 1
            candidate = f"{name}_{count}"
        self.taken.add(candidate)
        return candidate

    def constant(self, name: str, value: Array) -> str:
        """Add the constant *value* and return its name, which begins with *name*."""
        fresh = self.fresh(name)
        self.constants[fresh] = value
        return fresh


def label(node: onnx.NodeProto) -> str:
    """Return how messages call *node*: its name, or its first output if it has none."""
    return node.name or (node.output[0] if node.output else "without a name")


def refusal(node: onnx.NodeProto, why: str) -> InputError:
    """Return the error that *node* cannot be represented, for the reason *why*."""
    return InputError(f"node {label(node)!r} ({node.op_type}): {why}")


def _value(node: onnx.NodeProto, name: str, kind: int, what: str) -> Any:  # noqa: ANN401  depends on the attribute
    for attribute in node.attribute:
        if attribute.name == name:
            if attribute.type != kind:
                raise refusal(node, f"attribute {name!r} is not {what}")
            return helper.get_attribute_value(attribute)
    return None


def integer(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return the integer attribute *name* of *node*."""
    value = _value(node, name, AttributeProto.INT, "an integer")
    return default if value is None else int(value)


def integers(node: onnx.NodeProto, name: str) -> tuple[int, ...] | None:
    """Return the attribute *name* of *node*, a list of integers; None if it is absent."""
    value = _value(node, name, AttributeProto.INTS, "a list of integers")
    return None if value is None else tuple(int(entry) for entry in value)


def number(node: onnx.NodeProto, name: str) -> float | None:
    """Return the float attribute *name* of *node*; None if it is absent."""
    value = _value(node, name, AttributeProto.FLOAT, "a number")
    return None if value is None else float(value)


def text(node: onnx.NodeProto, name: str, default: str) -> str:
    """Return the string attribute *name* of *node*."""
    value = _value(node, name, AttributeProto.STRING, "a string")
    return default if value is None else bytes(value).decode("utf-8", errors="replace")


def without(node: onnx.NodeProto, names: Iterable[str]) -> None:
    """Remove the attributes *names* from *node*."""
    kept = [attribute for attribute in node.attribute if attribute.name not in set(names)]
    del node.attribute[:]
    node.attribute.extend(kept)


def put(node: onnx.NodeProto, name: str, value: int | float | str | list[int]) -> None:
    """Set the attribute *name* of *node*."""
    without(node, [name])
    node.attribute.append(helper.make_attribute(name, value))


def input_of(node: onnx.NodeProto, index: int) -> str:
    """Return the name of input *index* of *node*; empty if it is left out."""
    return node.input[index] if index < len(node.input) else ""


def operations(names: str) -> frozenset[str]:
    """Return the set of the operations *names*, which spaces divide."""
    return frozenset(names.split())


def int64(*values: int) -> NDArray[np.int64]:
    """Return *values* as the vector that standard operations take as axes, shapes and pads."""
    return np.array(values, dtype=np.int64)
