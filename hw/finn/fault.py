"""The negative controls of the checks of stitched RTL: one flipped bit of a weight or of a threshold."""

from __future__ import annotations

from pathlib import Path

from bitproof.hw.finn.memory import Field, threshold_field, weight_field
from bitproof.hw.rtl.description import read_description
from bitproof.hw.rtl.providers import PRODUCTS, THRESHOLDING


def flip_weight_bit(folder: Path, *, node: str, row: int, column: int) -> str:
    """Flip the lowest bit of weight [*row*, *column*] of the product *node*, in the artifact copy *folder*.

    Returns:
        What was changed, with the old and the new weight.

    Raises:
        InputError: there is no such weight.
    """
    unit = read_description(folder).unit(node, *PRODUCTS)
    return _flip(weight_field(unit, row, column), folder, f"weight [{row}, {column}] of {unit.name}")


def flip_threshold_bit(folder: Path, *, node: str, channel: int, index: int) -> str:
    """Flip the lowest bit of threshold *index* of *channel* of the activation *node*, in the artifact copy *folder*.

    Returns:
        What was changed, with the old and the new threshold.

    Raises:
        InputError: there is no such threshold.
    """
    unit = read_description(folder).unit(node, THRESHOLDING)
    return _flip(threshold_field(unit, channel, index), folder, f"threshold [{channel}, {index}] of {unit.name}")


def _flip(field: Field, folder: Path, what: str) -> str:
    old, new = field.flip_lowest_bit(folder)
    return f"{what} in {field.file}: {old} became {new}"
