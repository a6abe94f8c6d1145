"""The layer of an activation: thresholds, or constants that equal them where there would be too many."""

from __future__ import annotations

from bitproof.export.integer import IntegerType, Ranges, Shape, Threshold, hull
from bitproof.hw.finn.layers import Activation, Arithmetic, Layer
from bitproof.hw.finn.supported import as_bits, code_type, in_steps_of_one, require_activation
from bitproof.hw.rtl.modules import Place, requantizer_of
from bitproof.pipeline import StageError

MANY_LEVELS = 128
"""Thresholds of a channel from which arithmetic is tried: codes of 8 bits have 255."""


def activation_layer(
    node: Threshold, takes: tuple[str, ...], shape: Shape, reachable: Ranges, *, bits: bool
) -> tuple[Layer, IntegerType]:
    """Return the layer of *node*, and the type of its codes in the stream.

    Args:
        node: of the integer model.
        takes: name of the stream of the accumulators.
        shape: of the stream.
        reachable: the accumulators of each channel.
        bits: its codes -1 and 1 are to be bits.

    Raises:
        StageError: it has no form.
    """
    if bits:
        node = as_bits(node)
    if node.levels >= MANY_LEVELS and node.step == 1:
        total = hull(reachable)
        codes = IntegerType.smallest_for(min(node.lowest, 0), node.highest)
        accumulators = IntegerType.smallest_for(min(total.low, -1), max(total.high, 0))
        place = Place(node, reachable, accumulators, codes, node.channels)
        try:
            unit = requantizer_of(place)
        except StageError:  # these thresholds have no such form
            pass
        else:
            return Arithmetic(node.name, takes, node.name, shape, unit, reachable), codes
    require_activation(node)
    return Activation(node.name, takes, node.name, shape, in_steps_of_one(node, reachable), bits), code_type(node)


def bipolar_codes(node: Threshold) -> bool:
    """Tell whether the codes of *node* are -1 and 1."""
    return (node.lowest, node.step, node.levels) == (-1, 2, 1)
