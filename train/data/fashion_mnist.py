"""Fashion-MNIST (Xiao et al., 2017): 60,000 and 10,000 images of 28 x 28 pixels in ten classes, from idx files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import InputError
from train.data.splits import Labels, Pixels, Source

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
SIZES = {"train": 60_000, "t10k": 10_000}
PIXELS = 28 * 28
MAX_BYTES = 64 << 20
FILES = tuple(f"{part}-{kind}" for part in SIZES for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))


def read_fashion_mnist(root: Path | None, scratch: Path) -> Source:
    """Read the data set from *root*, else from the Debian package, else download it into *scratch*.

    Raises:
        InputError: it is nowhere (the message names the three ways to get it), or a file is damaged.
    """
    folder = find(root)
    if folder is None:
        if root is not None:
            raise InputError(_how_to_get_it(f"data.root = {str(root)!r} does not hold its four idx files"))
        folder = _download(scratch)
    parts = [
        (_read_images(folder, part, samples), _read_labels(folder, part, samples)) for part, samples in SIZES.items()
    ]
    return Source("fashion-mnist", CLASSES, (1, 28, 28), parts[0], parts[1])


def find(root: Path | None) -> Path | None:
    """Return the folder that holds all four files, packed or not; only *root* is searched where it is given."""
    candidates = [DEBIAN_FOLDER] if root is None else [root, root / "FashionMNIST" / "raw"]
    for folder in candidates:
        if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in FILES):
            return folder
    return None


def _how_to_get_it(why: str) -> str:
    return (
        f"Fashion-MNIST: {why}. Three ways to get it:\n"
        "  1. apt-get install dataset-fashion-mnist\n"
        "  2. set data.root to a folder that holds the four idx files (packed with gzip or not)\n"
        "  3. on a machine with a connection leave data.root empty: torchvision downloads it"
    )


def _download(scratch: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(scratch), download=True)  # torchvision checks the MD5 of each file
    except (OSError, RuntimeError) as error:
        raise InputError(_how_to_get_it(f"not installed, and the download failed ({error})")) from error
    return scratch / "FashionMNIST" / "raw"


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read one idx file of unsigned bytes (the format of LeCun's MNIST page), packed with gzip or not.

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
