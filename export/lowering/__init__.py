"""QONNX to the integer model: one walk over the graph, exact or refused."""

from export.lowering.lower import Lowered, lower_graph
from export.lowering.origins import Origins, load_origins, origins_of, save_origins
from export.lowering.stage import PROOFS, LowerToInteger, lower, lower_file

__all__ = [
    "PROOFS",
    "LowerToInteger",
    "Lowered",
    "Origins",
    "load_origins",
    "lower",
    "lower_file",
    "lower_graph",
    "origins_of",
    "save_origins",
]
