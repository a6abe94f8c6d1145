"""The lowering of QONNX to the integer model: one walk over the graph, exact or refused."""

from bitproof.export.lowering.effort import TooLargeError
from bitproof.export.lowering.lower import Lowered, lower_graph
from bitproof.export.lowering.origins import Origins, load_origins, origins_of, save_origins

__all__ = [
    "Lowered",
    "Origins",
    "TooLargeError",
    "load_origins",
    "lower_graph",
    "origins_of",
    "save_origins",
]
