"""Input codes by a seed, for a network without vectors: those on the boundaries first, then random ones."""

from __future__ import annotations

import numpy as np

from bitproof.export.importer.input_quantizer import InputQuantizer
from bitproof.pipeline import Codes, InputError

MAX_NUMBERS = 1 << 28
"""Of all samples together: 2 GiB."""


def draw_codes(quantizer: InputQuantizer, inputs: int, samples: int, seed: int) -> Codes:
    """Return *samples* rows of *inputs* codes each.

    First every input at its least, at its greatest, and at the code nearest to 0; then one input alone at its greatest
    or least among zeros, for up to a quarter of the rows; then rows of extremes only, for another quarter; the rest is
    uniform.

    Raises:
        InputError: that would be more than :data:`MAX_NUMBERS` codes.
    """
    if samples * inputs > MAX_NUMBERS:
        raise InputError(
            f"{samples} samples of {inputs} codes are too many to draw; at most {MAX_NUMBERS // inputs} fit: give "
            "fewer --samples"
        )
    generator = np.random.default_rng(seed)
    levels = (quantizer.highest - quantizer.lowest) // quantizer.step + 1
    extremes = np.array([quantizer.lowest, quantizer.highest])
    zero = quantizer.lowest + quantizer.step * int(np.clip(round(-quantizer.lowest / quantizer.step), 0, levels - 1))
    codes = quantizer.lowest + quantizer.step * generator.integers(0, levels, size=(samples, inputs), dtype=np.int64)
    quarter = max(0, samples - 3) // 4
    saturated = slice(3 + quarter, 3 + 2 * quarter)
    codes[saturated] = generator.choice(extremes, size=(quarter, inputs))
    for row, position in enumerate(np.linspace(0, inputs - 1, quarter).astype(np.int64).tolist(), start=3):
        codes[row] = zero
        codes[row, position] = extremes[(row + 1) % 2]
    for row, code in enumerate((quantizer.lowest, quantizer.highest, zero)[:samples]):
        codes[row] = code
    return codes
