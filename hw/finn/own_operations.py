"""The registration of our operations with QONNX, which asks its registry for them. Runs in the child process only."""

from __future__ import annotations

from qonnx.custom_op.registry import add_op_to_domain

from bitproof.hw.finn import own_products, own_streams
from bitproof.hw.finn.own_layers import DOMAIN, OwnLayer

OPERATIONS: tuple[type[OwnLayer], ...] = (
    own_products.DepthwiseUnit,
    own_products.ImagePadding,
    own_products.MatrixUnit,
    own_products.WindowReducer,
    own_streams.MultiplyShift,
    own_streams.RoundingShift,
    own_streams.SelectLargest,
    own_streams.StreamAdd,
    own_streams.StreamAffine,
    own_streams.StreamConcat,
    own_streams.StreamDuplicate,
    own_streams.StreamScaledAdd,
)
"""The name of a class is that of the operation."""


def register_operations() -> None:
    """Make our operations known."""
    for operation in OPERATIONS:
        add_op_to_domain(DOMAIN, operation)
