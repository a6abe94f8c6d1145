"""Speech Commands (Warden, arXiv 1804.03209, 2018): one spoken word per second, a folder per word.

A clip becomes 49 frames of 40 ms, 20 ms apart, with 20 mel bands each (:mod:`bitproof.train.data.recordings`). Clips
shorter than a second are followed by silence. The two lists that come with the data set decide the splits, so that no
speaker is in two.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitproof.pipeline import InputError
from bitproof.train.data.recordings import RATE_HZ, log_mel_codes, read_recording
from bitproof.train.data.splits import Labels, Pixels, Source

WINDOW, HOP, BANDS = 640, 320, 20
FRAMES = (RATE_HZ - WINDOW) // HOP + 1
SHAPE = (1, FRAMES, BANDS)
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
MAX_CLIPS = 200_000
MAX_LIST_BYTES = 16 << 20


def read_speech_commands(root: Path | None) -> Source:
    """Read the data set from *root*; folders whose names begin with ``_`` or ``.`` are no words.

    Raises:
        InputError: it is not there (the message tells how to get it), or a clip or list is damaged.
    """
    if root is None or not all((root / name).is_file() for name in LISTS.values()):
        raise InputError(_how_to_get_it(root))
    words = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and folder.name[0] not in "_.")
    clips = [(f"{word}/{path.name}", label) for label, word in enumerate(words) for path in _clips(root / word)]
    if len(words) < 2 or not len(words) <= len(clips) <= MAX_CLIPS:
        raise InputError(
            f"{root} holds {len(clips)} clips of {len(words)} words; 2 words or more and at most {MAX_CLIPS} clips are "
            "read, each as word/name.wav"
        )
    splits = _split(root, clips)
    read = {name: _read_clips(root, chosen) for name, chosen in splits.items()}
    return Source("speech-commands", tuple(words), SHAPE, read["train"], read["test"], read["validation"])


def _clips(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix == ".wav")


def _split(root: Path, clips: list[tuple[str, int]]) -> dict[str, list[tuple[str, int]]]:
    listed = {split: _read_list(root / name) for split, name in LISTS.items()}
    twice = sorted(listed["validation"] & listed["test"])
    if twice:
        raise InputError(f"{root}: {twice[0]} is in both {' and '.join(LISTS.values())}; get the lists again")
    splits: dict[str, list[tuple[str, int]]] = {"train": [], "validation": [], "test": []}
    for clip in clips:
        split = next((split for split, names in listed.items() if clip[0] in names), "train")
        splits[split].append(clip)
    for split, chosen in splits.items():
        if not chosen:
            raise InputError(f"{root}: no clip is in the split {split!r}; the lists name other clips. Get them again")
    return splits


def _read_list(path: Path) -> set[str]:
    """Return the names in a list; they are compared with those of the clips that are there, and never opened."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes; at most {MAX_LIST_BYTES} are read")
        return set(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _read_clips(root: Path, clips: list[tuple[str, int]]) -> tuple[Pixels, Labels]:
    codes = np.empty((len(clips), FRAMES * BANDS), dtype=np.uint8)
    for row, (name, _) in enumerate(clips):
        samples = read_recording(root / name, root, RATE_HZ)
        second = np.pad(samples, (0, RATE_HZ - len(samples)))
        codes[row] = log_mel_codes(second, window=WINDOW, hop=HOP, bands=BANDS).reshape(-1)
    return codes, np.array([label for _, label in clips], dtype=np.int64)


def _how_to_get_it(root: Path | None) -> str:
    why = "data.root is not set" if root is None else f"data.root = {str(root)!r} does not hold {LISTS['test']}"
    return (
        f"Speech Commands: {why}. To get it, download "
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz (2.3 GB), unpack it into a folder of its own "
        "and set data.root to that folder"
    )
