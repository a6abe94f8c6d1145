"""The negative control of the parity check of generated C: one flipped weight bit inside what was built."""

from __future__ import annotations

from pathlib import Path

from bitproof.hw.mcu.cores import HOST
from bitproof.hw.mcu.elf import file_offset
from bitproof.hw.mcu.firmware import ELF
from bitproof.hw.mcu.library import LIBRARY
from bitproof.hw.mcu.manifest import Manifest
from bitproof.pipeline import StageError

WORD_BYTES = 4


def flip_weight_bit(folder: Path, *, node: str, row: int, column: int) -> str:
    """Flip the lowest bit of weight *column*, in C order, of output *row* of the product *node*, in a copy *folder*.

    Returns:
        What was changed, with the old and the new weight.

    Raises:
        StageError: there is no such weight.
    """
    manifest = Manifest.load(folder)
    products = {entry.name: entry for entry in manifest.products}
    if node not in products:
        raise StageError(f"no product {node!r}: the generated C has {', '.join(products)}")
    entry = products[node]
    word, bit = entry.locate(row, column)
    path = folder / (LIBRARY if manifest.core == HOST else ELF)
    image = bytearray(path.read_bytes())
    start = file_offset(bytes(image), entry.symbol) + word * WORD_BYTES
    fields = int.from_bytes(image[start : start + WORD_BYTES], "little")
    flipped = fields ^ (1 << bit)
    image[start : start + WORD_BYTES] = flipped.to_bytes(WORD_BYTES, "little")
    path.write_bytes(image)
    mask = (1 << entry.bits_per_weight) - 1
    old, new = (entry.weight_of(word_of_fields >> bit & mask) for word_of_fields in (fields, flipped))
    return f"weight [{row}, {column}] of layer {entry.name}: {old} -> {new}"
