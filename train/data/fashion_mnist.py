"""Fashion-MNIST (Xiao et al., 2017): 60,000 and 10,000 images of 28 x 28 pixels in ten classes, from idx files."""

from __future__ import annotations

from pathlib import Path

from bitproof.pipeline import InputError
from bitproof.train.data.idx import SHAPE, find_idx_folder, read_idx_folder
from bitproof.train.data.splits import Source

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


def read_fashion_mnist(root: Path | None, scratch: Path) -> Source:
    """Read the data set from *root*, else from the Debian package, else download it into *scratch*.

    Raises:
        InputError: it is nowhere (the message names the three ways to get it), or a file is damaged.
    """
    folder = find_idx_folder([DEBIAN_FOLDER] if root is None else [root, root / "FashionMNIST" / "raw"])
    if folder is None:
        if root is not None:
            raise InputError(_how_to_get_it(f"data.root = {str(root)!r} does not hold its four idx files"))
        folder = _download(scratch)
    train, test = read_idx_folder(folder)
    return Source("fashion-mnist", CLASSES, SHAPE, train, test)


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
