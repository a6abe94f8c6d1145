"""The 8 x 8 digits that scikit-learn ships: 1,797 images, nothing to download."""

from __future__ import annotations

import numpy as np

from bitproof.train.data.splits import Source

FULL_SCALE = 15
"""Pixels are 0..16; times 15 they span 0..240 of the 8-bit input codes."""
TEST_SAMPLES = 360


def read_digits(seed: int) -> Source:
    """Return the digits; the test split is drawn by *seed*, since the data set has none."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = (bunch.data.astype(np.int64) * FULL_SCALE).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(pixels))
    test, train = np.sort(order[:TEST_SAMPLES]), np.sort(order[TEST_SAMPLES:])
    names = tuple(str(digit) for digit in range(10))
    return Source("digits", names, (1, 8, 8), (pixels[train], labels[train]), (pixels[test], labels[test]))
