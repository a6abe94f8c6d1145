"""How large the partial sums of a value may become, whatever their order: what float32 evaluation of it depends on.

How an operation carries the sums behind its inputs on is in :mod:`bitproof.export.integer.ops`.
"""

from __future__ import annotations

from bitproof.export.integer.ir import INPUT, IntegerModel
from bitproof.export.integer.types import Bounds, Sums

__all__ = ["Sums", "sums_of"]


def sums_of(model: IntegerModel) -> dict[str, Sums]:
    """Return the sums behind the output of every node, by its name, ``input`` included."""
    bounds = {INPUT: Bounds(model.input_ranges, Sums.of_codes(model.input_ranges))}
    for node, sources in model.wired():
        inputs = [bounds[source] for source in sources]
        bounds[node.name] = Bounds(node.ranges(*(value.ranges for value in inputs)), node.sums(*inputs))
    return {name: value.sums for name, value in bounds.items()}
