"""CIFAR-10 (Krizhevsky, 2009): 50,000 and 10,000 colour images of 32 x 32 pixels in ten classes.

Only the binary version is read. The Python version is pickle, which runs the code that a file names.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bitproof.pipeline import InputError
from bitproof.train.data.splits import Labels, Pixels, Source

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
RECORDS = 10_000
"""Images in each of the six files."""
FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
ARCHIVE = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
"""As the data set's page states it."""
MAX_ARCHIVE_BYTES = 256 << 20
"""Unpacked; the archive holds 184 MB."""


def read_cifar10(root: Path | None, scratch: Path) -> Source:
    """Read the data set from *root*, unpacked or as the archive, else download it into *scratch*.

    Raises:
        InputError: it is nowhere (the message names the ways to get it), or a file is damaged.
    """
    files = _read_archive(_download(scratch)) if root is None else _read_root(root)
    batches = [_decode(name, content) for name, content in files.items() if name != TEST_FILE]
    pixels, labels = zip(*batches, strict=True)
    train = np.concatenate(pixels), np.concatenate(labels)
    return Source("cifar-10", CLASSES, SHAPE, train, _decode(TEST_FILE, files[TEST_FILE]))


def _read_root(root: Path) -> Mapping[str, bytes]:
    for folder in (root, root / FOLDER):
        if all((folder / name).is_file() for name in (*TRAIN_FILES, TEST_FILE)):
            return {name: _read(folder / name) for name in (*TRAIN_FILES, TEST_FILE)}
    if (root / ARCHIVE).is_file():
        return _read_archive(root / ARCHIVE)
    pickled = (root / "cifar-10-batches-py").exists() or (root / "data_batch_1").exists()
    what = "holds the Python version, which is pickle" if pickled else "does not hold its six .bin files"
    raise InputError(_how_to_get_it(f"data.root = {str(root)!r} {what}"))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(RECORDS * RECORD_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _read_archive(path: Path) -> Mapping[str, bytes]:
    """Return the contents of the six files; nothing is unpacked to disk, so no name in the archive is a path."""
    wanted = {f"{FOLDER}/{name}": name for name in (*TRAIN_FILES, TEST_FILE)}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.offset_data + member.size > MAX_ARCHIVE_BYTES:
                    raise InputError(f"{path} unpacks to more than {MAX_ARCHIVE_BYTES} bytes; get it again: {URL}")
                content = archive.extractfile(member) if member.isreg() and member.name in wanted else None
                if content is not None:
                    found[wanted[member.name]] = content.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise InputError(f"cannot read {path}: {error}; get it again: {URL}") from error
    missing = sorted(set(wanted.values()) - set(found))
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; get it again: {URL}")
    return {name: found[name] for name in (*TRAIN_FILES, TEST_FILE)}


def _decode(name: str, content: bytes) -> tuple[Pixels, Labels]:
    """Return pixels (N, 3072), the red plane first, and labels (N,): a record is a label and the pixels."""
    if len(content) != RECORDS * RECORD_BYTES:
        raise InputError(
            f"CIFAR-10: {name} has {len(content)} bytes; {RECORDS * RECORD_BYTES} are {RECORDS} records. Get it again"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(RECORDS, RECORD_BYTES)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _download(scratch: Path) -> Path:
    from torchvision.datasets.utils import download_url

    try:
        download_url(URL, str(scratch), ARCHIVE, MD5)  # it refuses a file of another checksum
    except (OSError, RuntimeError) as error:
        raise InputError(_how_to_get_it(f"data.root is not set, and the download failed ({error})")) from error
    return scratch / ARCHIVE


def _how_to_get_it(why: str) -> str:
    return (
        f"CIFAR-10: {why}. Two ways to get it:\n"
        f"  1. download {URL} (the binary version, 162 MB) and set data.root to its folder, unpacked or not\n"
        "  2. on a machine with a connection leave data.root empty: it is downloaded and its checksum verified"
    )
