"""Input codes for a comparison, and a note of how they were chosen so that it can be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bitproof.pipeline.artifact import Artifact
from bitproof.pipeline.errors import InputError
from bitproof.pipeline.executor import Codes


@dataclass(frozen=True, slots=True)
class Vectors:
    """Input codes with their origin.

    Attributes:
        codes: shape (N, inputs).
        labels: class of each sample, shape (N,); None if there is none.
        origin: how the codes were chosen, for example ``test[0:1000]``.
    """

    codes: Codes
    labels: NDArray[np.int64] | None
    origin: str

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.codes)

    def head(self, count: int) -> Vectors:
        """Return the first *count* samples, or all of them if there are fewer."""
        kept = min(count, len(self))
        stem = self.origin.partition("[")[0]
        labels = None if self.labels is None else self.labels[:kept]
        return Vectors(self.codes[:kept], labels, f"{stem}[0:{kept}]")


def load_vectors(dataset: Artifact, split: str) -> Vectors:
    """Load the *split* (``train``, ``validation`` or ``test``; of an import its vectors) of a data-set artifact.

    Raises:
        InputError: the artifact does not hold that split.
    """
    return _load_split(dataset.path, split)


def _load_split(folder: Path, split: str) -> Vectors:
    try:
        stored = np.load(folder / f"{split}_codes.npy", allow_pickle=False)
        labelled = folder / f"{split}_labels.npy"
        labels = np.load(labelled, allow_pickle=False) if labelled.is_file() else None
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError, BadZipFile, TokenError) as error:
        raise InputError(f"data set {folder} has no readable split {split!r}: {error}") from error
    shape = None if labels is None else labels.shape
    if stored.ndim < 2 or not len(stored) or stored.dtype.kind not in "iu" or shape not in (None, (len(stored),)):
        raise InputError(
            f"data set {folder}, split {split!r}: codes are {stored.dtype} {stored.shape}, labels {shape}; "
            "expected integers (N, inputs) and (N,)"
        )
    codes = stored.reshape(len(stored), -1).astype(np.int64)
    return Vectors(codes, None if labels is None else labels.astype(np.int64), f"{split}[0:{len(codes)}]")
