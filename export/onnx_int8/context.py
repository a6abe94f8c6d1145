"""The context that the writers of all operations share: the graph, and what is known of every value of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bitproof.export.integer import Ranges, Shape
from bitproof.export.onnx_int8.graph import GraphWriter, Value


@dataclass
class Context:
    """What writing a node needs beside the node.

    Attributes:
        graph: the ONNX graph under construction.
        ranges: of every value of the model, by name.
        shapes: of one sample of every value, by name.
        activations: for each activation its tensors, shape and method, in order.
    """

    graph: GraphWriter
    ranges: Mapping[str, Ranges]
    shapes: Mapping[str, Shape]
    activations: list[dict[str, Any]] = field(default_factory=list)


Inputs = Sequence[tuple[str, Value]]
"""The names of what a node takes, each with its form in the ONNX graph."""
