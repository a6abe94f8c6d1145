"""The idx format of LeCun's MNIST page, in which MNIST and Fashion-MNIST come: 28 x 28 pixels, ten classes."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitproof.pipeline import InputError
from bitproof.train.data.splits import Labels, Pixels

SIZES = {"train": 60_000, "t10k": 10_000}
SHAPE = (1, 28, 28)
PIXELS = 28 * 28
MAX_BYTES = 64 << 20
FILES = tuple(f"{part}-{kind}" for part in SIZES for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))


def find_idx_folder(candidates: Sequence[Path]) -> Path | None:
    """Return the first folder that holds all four files, packed with gzip or not."""
    for folder in candidates:
        if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in FILES):
            return folder
    return None


def read_idx_folder(folder: Path) -> list[tuple[Pixels, Labels]]:
    """Return pixels (N, 784) and labels (N,) of the training part, then of the test part.

    Raises:
        InputError: a file is damaged or of another size.
    """
    return [
        (_read_images(folder, part, samples), _read_labels(folder, part, samples)) for part, samples in SIZES.items()
    ]


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read one idx file of unsigned bytes, packed with gzip or not.

    Raises:
        InputError: it is not an idx file of *shape*.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    if not content.startswith(header) or len(content) != len(header) + int(np.prod(shape)):
        raise InputError(f"{path} is not an idx file of {shape} unsigned bytes ({len(content)} bytes); get it again")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape)


def _locate(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _read_images(folder: Path, part: str, samples: int) -> Pixels:
    return read_idx(_locate(folder, f"{part}-images-idx3-ubyte"), (samples, 28, 28)).reshape(samples, PIXELS)


def _read_labels(folder: Path, part: str, samples: int) -> Labels:
    return read_idx(_locate(folder, f"{part}-labels-idx1-ubyte"), (samples,)).astype(np.int64)
