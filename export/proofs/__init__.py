"""Proofs: checks over every case that can occur, not over samples.

Images alone do not verify thresholds: one that is off by one often changes no image of a thousand. Every check here
decides all reachable accumulators of all channels and reports how many cases it decided.
"""

from bitproof.export.proofs.float_order import near_boundaries, order_dependent, prove_order
from bitproof.export.proofs.lowering import prove_lowering
from bitproof.export.proofs.matrix_units import basis_vectors, prove_matrix_units
from bitproof.export.proofs.requantization import (
    Activations,
    PartialRequantizer,
    prove_requantization,
    rising_codes,
    rising_codes_at,
    takes_points,
)
from bitproof.export.proofs.thresholds import Staircase, prove_thresholds
from bitproof.export.proofs.widths import prove_widths

__all__ = [
    "Activations",
    "PartialRequantizer",
    "Staircase",
    "basis_vectors",
    "near_boundaries",
    "order_dependent",
    "prove_lowering",
    "prove_matrix_units",
    "prove_order",
    "prove_requantization",
    "prove_thresholds",
    "prove_widths",
    "rising_codes",
    "rising_codes_at",
    "takes_points",
]
