"""Input codes for a comparison, and a note of how they were chosen so that it can be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import Artifact
from pipeline.errors import InputError
from pipeline.executor import Codes


@dataclass(frozen=True, slots=True)
class Vectors:
    """Input codes with their origin.

    Attributes:
        codes: shape (N, inputs).
        labels: class of each sample, shape (N,); None where there is none.
        origin: how the codes were chosen, for example ``test[0:1000]``.
    """

    codes: Codes
    labels: NDArray[np.int64] | None
    origin: str

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.codes)

    def head(self, count: int) -> Vectors:
        """Return the first *count* samples, or all of them where there are fewer."""
        kept = min(count, len(self))
        stem = self.origin.partition("[")[0]
        labels = None if self.labels is None else self.labels[:kept]
        return Vectors(self.codes[:kept], labels, f"{stem}[0:{kept}]")


def load_vectors(dataset: Artifact, split: str) -> Vectors:
    """Load the *split* (``train``, ``validation`` or ``test``) of a data-set artifact as input codes.

    Raises:
        InputError: the artifact does not hold that split.
    """
    return _load_split(dataset.path, split)


def _load_split(folder: Path, split: str) -> Vectors:
    try:
        pixels = np.load(folder / f"{split}_codes.npy", allow_pickle=False)
        labels = np.load(folder / f"{split}_labels.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise InputError(f"data set {folder} has no readable split {split!r}: {error}") from error
    if pixels.ndim < 2 or not len(pixels) or pixels.dtype != np.uint8 or labels.shape != (len(pixels),):
        raise InputError(
            f"data set {folder}, split {split!r}: codes are {pixels.dtype} {pixels.shape}, labels {labels.shape}; "
            "expected uint8 (N, inputs) and (N,)"
        )
    codes = pixels.reshape(len(pixels), -1).astype(np.int64)
    return Vectors(codes, labels.astype(np.int64), f"{split}[0:{len(codes)}]")
