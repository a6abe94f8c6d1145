"""The context that the writers of all operations share: the graph, and what is known of every value of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bitproof.export.integer import Ranges, Shape
from bitproof.export.integer.types import Sums
from bitproof.export.onnx_int8.costs import Costs
from bitproof.export.onnx_int8.graph import GraphWriter, Value

Construction = Literal["fastest", "integer-only", "single-steps"]
"""``fastest``: whatever is proven; ``integer-only``: no codes in floats; ``single-steps``: one integer operation after
the other, in standard operators without a float32 factor."""


@dataclass
class Context:
    """What writing a node needs beside the node.

    Attributes:
        graph: the ONNX graph under construction.
        ranges: of every value of the model, by name.
        shapes: of one sample of every value, by name.
        sums: behind every value.
        costs: decide between the constructions of a product that are proven.
        construction: which operators may be used.
        activations: for each activation its tensors, shape and method, in order.
        hidden: values that no tensor of the graph holds; how it is described, with the nodes that would give it.
        times_ps: of the activations behind a product, what both take by *costs*, in picoseconds a sample.
    """

    graph: GraphWriter
    ranges: Mapping[str, Ranges]
    shapes: Mapping[str, Shape]
    sums: Mapping[str, Sums]
    costs: Costs
    construction: Construction = "fastest"
    activations: list[dict[str, Any]] = field(default_factory=list)
    hidden: dict[str, dict[str, Any]] = field(default_factory=dict)
    times_ps: dict[str, int] = field(default_factory=dict)


Inputs = Sequence[tuple[str, Value]]
"""The names of what a node takes, each with its form in the ONNX graph."""
