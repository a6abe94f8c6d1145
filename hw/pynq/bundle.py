"""The deployment bundle: one folder with all that a board needs, and the SHA-256 of each file in it."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bitproof.hw.pynq.board import bitproof_driver as driver
from bitproof.hw.pynq.design import Design
from bitproof.hw.pynq.project import design_json
from bitproof.pipeline import Codes, InputError
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.errors import one_line
from bitproof.pipeline.plain_file import read_bytes

FOLDER = Path(__file__).parent / "board"
BOARD_FILES = ("bitproof_driver.py", "selftest.py", "selftest.sh", "demo.ipynb")
SUMS, VECTORS, LEDGER, HARDWARE = "SHA256SUMS", "vectors.npz", "ledger.json", "bitproof.hwh"
BUNDLED = (*BOARD_FILES, driver.DESIGN, VECTORS, LEDGER, driver.BITSTREAM, HARDWARE)
"""Every name that a bundle may hold beside SHA256SUMS: none leaves its folder."""
REPLACED = (*BUNDLED, SUMS, "result.json", "outputs.npy")
"""Names in a folder that a new bundle may replace: of an earlier one, and of what a self-test leaves."""
MAX_FILE_BYTES = 1 << 28
TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)


@dataclass(frozen=True, slots=True)
class Bitstream:
    """A bit file and its description."""

    bit: bytes
    hwh: bytes


def write_bundle(
    folder: Path, design: Design, *, inputs: Codes, expected: Codes, ledger: bytes, bitstream: Bitstream | None
) -> None:
    """Write the bundle of *design* to *folder* by a rename; one that is there is replaced. The same bytes every time.

    Args:
        folder: where it goes.
        design: what it runs.
        inputs: golden vectors, shape (N, inputs).
        expected: the integer model's output codes, shape (N, outputs).
        ledger: the run's ledger.
        bitstream: None: there is none yet, and the bundle cannot run.

    Raises:
        InputError: *folder* holds something else than a bundle.
    """
    require_replaceable(folder)
    files = {name: (FOLDER / name).read_bytes() for name in BOARD_FILES}
    files |= {driver.DESIGN: design_json(design).encode(), VECTORS: _npz(inputs, expected), LEDGER: ledger}
    if bitstream is not None:
        files |= {driver.BITSTREAM: bitstream.bit, HARDWARE: bitstream.hwh}
    sums = "".join(f"{sha256_of_bytes(files[name])}  {name}\n" for name in sorted(files))
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".bitproof-bundle-", dir=folder.parent))
    try:
        (beside / "new").mkdir()
        for name, content in {**files, SUMS: sums.encode()}.items():
            (beside / "new" / name).write_bytes(content)
        if folder.exists():
            folder.rename(beside / "old")
        try:
            (beside / "new").rename(folder)
        except OSError:
            if (beside / "old").exists():
                (beside / "old").rename(folder)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def require_replaceable(folder: Path) -> None:
    """Check that nothing but a bundle, and what its self-test leaves, lies at *folder*.

    Raises:
        InputError: something else does, and is named.
    """
    hint = "give another folder: --out FOLDER"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is a link or no folder, and a bundle is not written there; {hint}")
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in there:
        if path.is_symlink() or not (path.is_file() if path.name in REPLACED else path.name == "__pycache__"):
            raise InputError(f"{folder} holds {one_line(path.name)}, which no bundle has, and is not replaced; {hint}")
    if there and not (folder / SUMS).exists():
        raise InputError(f"{folder} is not empty and holds no bundle; {hint}")


def read_bundle(folder: Path) -> dict[str, bytes]:
    """Return the files of the bundle in *folder* by their names, SHA256SUMS included and last.

    Raises:
        InputError: it is none, a file is damaged, or a name is not one that a bundle has.
    """
    try:
        sums = read_bytes(folder / SUMS, MAX_FILE_BYTES)
        files = {}
        for line in sums.decode("ascii").splitlines():
            match = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
            if match is None or match.group(2) not in BUNDLED:
                raise InputError(f"{folder / SUMS}: {line!r} names no file of a bundle; bundle the run again")
            files[match.group(2)] = read_bytes(folder / match.group(2), MAX_FILE_BYTES)
            if sha256_of_bytes(files[match.group(2)]) != match.group(1):
                raise InputError(f"{folder / match.group(2)} was changed after it was bundled; bundle the run again")
        _require_complete(folder, files)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is no bundle: {error}; make one with bitproof bundle RUN") from error
    return {**files, SUMS: sums}


def _require_complete(folder: Path, files: Mapping[str, bytes]) -> None:
    optional = (driver.BITSTREAM, HARDWARE)
    missing = [name for name in BUNDLED if name not in files and name not in optional]
    if any(name in files for name in optional):
        missing += [name for name in optional if name not in files]
    if missing:
        raise InputError(f"{folder / SUMS} names no {missing[0]}, which a bundle needs; bundle the run again")


def expected_shape(files: Mapping[str, bytes]) -> tuple[int, ...]:
    """Return the shape of the outputs that a board gives for the vectors of the bundle *files*.

    Raises:
        InputError: it has none.
    """
    try:
        with np.load(io.BytesIO(files[VECTORS]), allow_pickle=False) as vectors:
            return tuple(int(size) for size in vectors["expected"].shape)
    except (KeyError, ValueError, OSError, EOFError, BadZipFile) as error:
        raise InputError(f"the bundle has no {VECTORS} that can be read; bundle the run again") from error


def _npz(inputs: Codes, expected: Codes) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, inputs=_narrow(inputs), expected=_narrow(expected))
    return content.getvalue()


def _narrow(codes: Codes) -> NDArray[np.integer]:
    """Return *codes* in the narrowest type that holds them."""
    least, largest = int(codes.min()), int(codes.max())
    kind = next(kind for kind in TYPES if np.iinfo(kind).min <= least and largest <= np.iinfo(kind).max)
    return codes.astype(kind)
