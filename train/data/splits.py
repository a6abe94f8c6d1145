"""A data set as unsigned 8-bit codes with labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitproof.pipeline import InputError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

CODE_BITS = 8
"""Bits of the codes that a reader returns."""
DEFAULT_HELD_OUT = 12
"""One in this many training samples is held out for validation if the configuration does not say."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a reader returns.

    Attributes:
        name: the data set, for people.
        classes: name of each class; labels are 0..len(classes) - 1.
        shape: one sample, (channels, height, width), or (inputs,) if it has no more structure.
        train: codes of shape (N, inputs), 0..255, and one label per sample.
        test: the same for the test split.
        validation: the same, if the data set comes with a validation split of its own.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    train: tuple[Pixels, Labels]
    test: tuple[Pixels, Labels]
    validation: tuple[Pixels, Labels] | None = None

    def __post_init__(self) -> None:
        given = {"train": self.train, "test": self.test}
        if self.validation is not None:
            given["validation"] = self.validation
        for split, (pixels, labels) in given.items():
            if pixels.dtype != np.uint8 or pixels.shape[1:] != (math.prod(self.shape),):
                raise InputError(
                    f"{self.name}: split {split!r} has codes {pixels.dtype} of shape {pixels.shape}; expected uint8 of "
                    f"shape (N, {math.prod(self.shape)})"
                )
            if len(pixels) != len(labels) or not len(pixels):
                raise InputError(f"{self.name}: split {split!r} has {len(pixels)} samples and {len(labels)} labels")
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= len(self.classes):
                raise InputError(
                    f"{self.name}: split {split!r} has labels {low}..{high}; allowed 0..{len(self.classes) - 1}"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Train, validation and test, each pixels (N, inputs) and labels (N,)."""

    train: tuple[Pixels, Labels]
    validation: tuple[Pixels, Labels]
    test: tuple[Pixels, Labels]


def split(source: Source, validation: int | None, seed: int) -> Splits:
    """Hold out *validation* training samples, drawn by *seed*; the test split is left alone.

    A validation split that the data set comes with is taken as it is.

    Raises:
        InputError: fewer than one sample would be left to train on, or *validation* is given and the split is there.
    """
    pixels, labels = source.train
    if source.validation is not None:
        if validation is not None:
            raise InputError(
                f"data.validation = {validation}: {source.name} comes with {len(source.validation[1])} validation "
                "samples; leave it null"
            )
        return Splits(source.train, source.validation, source.test)
    held_out = len(pixels) // DEFAULT_HELD_OUT if validation is None else validation
    if not 0 < held_out < len(pixels):
        raise InputError(
            f"data.validation = {held_out}: {source.name} has {len(pixels)} training samples; "
            f"allowed 1..{len(pixels) - 1}"
        )
    order = np.random.default_rng(seed).permutation(len(pixels))
    kept, out = np.sort(order[held_out:]), np.sort(order[:held_out])
    return Splits((pixels[kept], labels[kept]), (pixels[out], labels[out]), source.test)
