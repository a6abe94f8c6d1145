"""ToyADMOS (Koizumi et al., arXiv 1908.03299, 2019): the sound of toys that run as they should, or do not.

A recording becomes windows of five frames of 64 ms, 32 ms apart, with 128 mel bands each, one behind the other: the
features of the usual autoencoders (DCASE 2020, task 2). Each window has the label of its recording, 0 normal and
1 anomaly, which the nearest folder or file name says that begins with ``normal`` or ``anomal``.

Folders named ``train`` and ``test`` decide the splits, else one recording in five is tested on, drawn by the seed. The
training part of DCASE has no anomalies, and a classifier cannot learn from one class: if that is so, half of each
kind of test recordings is trained on. Results then do not compare with those of detectors that never saw an anomaly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bitproof.pipeline import InputError
from bitproof.train.data.recordings import RATE_HZ, log_mel_codes, read_recording
from bitproof.train.data.splits import DEFAULT_HELD_OUT, Labels, Pixels, Source

CLASSES = ("normal", "anomaly")
FRAMES, WINDOW, HOP, BANDS = 5, 1024, 512, 128
SHAPE = (1, FRAMES, BANDS)
LEAST_SAMPLES = WINDOW + (FRAMES - 1) * HOP
MOST_SAMPLES = 60 * RATE_HZ
MAX_RECORDINGS = 20_000
MAX_BYTES = 4 << 30
"""Of all codes together."""
TEST_SHARE = 5

Recording = tuple[Path, int]


def read_toyadmos(root: Path | None, seed: int) -> Source:
    """Read all labelled WAV files below *root*; others, such as those of background noise, are left out.

    Raises:
        InputError: it is not there (the message tells how to get it), a kind is missing, or a recording is damaged.
    """
    recordings = [] if root is None else _find(root)
    if root is None or not recordings:
        raise InputError(_how_to_get_it(root))
    generator = np.random.default_rng(seed)
    train, test = _train_and_test(root, recordings, generator)
    if {label for _, label in train} == {0}:
        more, test = _draw(test, 2, generator)
        train = sorted([*train, *more])
    validation, train = _draw(train, DEFAULT_HELD_OUT, generator)
    parts = {"train": train, "validation": validation, "test": test}
    for name, part in parts.items():
        if {label for _, label in part} != {0, 1}:
            raise InputError(
                f"{root}: split {name!r} has {len(part)} recordings and not both kinds; at least 4 anomalies are needed"
            )
    read = {name: _read(root, part) for name, part in parts.items()}
    return Source("toyadmos", CLASSES, SHAPE, read["train"], read["test"], read["validation"])


def _find(root: Path) -> list[Recording]:
    found = sorted(path for path in root.rglob("*.wav"))
    if len(found) > MAX_RECORDINGS:
        raise InputError(f"{root} holds {len(found)} WAV files; at most {MAX_RECORDINGS} are read: give one machine's")
    labelled = [(path, _label(path.relative_to(root))) for path in found]
    return [(path, label) for path, label in labelled if label is not None]


def _label(path: Path) -> int | None:
    for part in reversed(path.parts):
        if part.lower().startswith("anomal"):
            return 1
        if part.lower().startswith("normal"):
            return 0
    return None


def _train_and_test(
    root: Path, recordings: list[Recording], generator: np.random.Generator
) -> tuple[list[Recording], list[Recording]]:
    below = {path: path.relative_to(root).parts[:-1] for path, _ in recordings}
    train = [recording for recording in recordings if "train" in below[recording[0]]]
    test = [recording for recording in recordings if "test" in below[recording[0]]]
    if train and test:
        return train, test
    test, train = _draw(recordings, TEST_SHARE, generator)
    return train, test


def _draw(
    recordings: Sequence[Recording], share: int, generator: np.random.Generator
) -> tuple[list[Recording], list[Recording]]:
    """Return one in *share* of each kind, at least one of a kind that there is, and the others."""
    drawn: list[Recording] = []
    rest: list[Recording] = []
    for kind in range(len(CLASSES)):
        own = [recording for recording in recordings if recording[1] == kind]
        order = generator.permutation(len(own))
        count = max(1, len(own) // share) if own else 0
        drawn += [own[index] for index in np.sort(order[:count])]
        rest += [own[index] for index in np.sort(order[count:])]
    return drawn, rest


def _read(root: Path, recordings: Sequence[Recording]) -> tuple[Pixels, Labels]:
    """Return the windows of all *recordings*, shape (N, 640), and the label of each."""
    codes: list[Pixels] = []
    size = 0
    for path, _ in recordings:
        samples = read_recording(path, root, MOST_SAMPLES)
        if len(samples) < LEAST_SAMPLES:
            raise InputError(f"{path} has {len(samples)} samples; a window needs {LEAST_SAMPLES}. Leave it out")
        frames = log_mel_codes(samples, window=WINDOW, hop=HOP, bands=BANDS)
        whole = len(frames) // FRAMES
        codes.append(frames[: whole * FRAMES].reshape(whole, FRAMES * BANDS))
        size += codes[-1].nbytes
        if size > MAX_BYTES:
            raise InputError(f"{root} makes over {MAX_BYTES} bytes of codes; give fewer recordings")
    labels = [np.full(len(own), label, dtype=np.int64) for own, (_, label) in zip(codes, recordings, strict=True)]
    return np.concatenate(codes), np.concatenate(labels)


def _how_to_get_it(root: Path | None) -> str:
    why = "data.root is not set" if root is None else f"data.root = {str(root)!r} holds no labelled WAV files"
    return (
        f"ToyADMOS: {why}. Two ways to get it; set data.root to the folder of one machine:\n"
        "  1. https://zenodo.org/records/3678171 (DCASE 2020 task 2, ToyCar and ToyConveyor, 16 kHz)\n"
        "  2. https://github.com/YumaKoizumi/ToyADMOS-dataset (the whole; convert it to mono of 16 bits at 16 kHz)"
    )
