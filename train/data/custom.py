"""A user's data set: a function in a Python file that returns codes and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bitproof.pipeline import InputError
from bitproof.train.data.splits import Labels, Pixels, Source
from bitproof.train.user_code import call_user_function

REQUIRED, OPTIONAL = ("train", "test"), ("validation", "classes")
Split = tuple[Pixels, Labels]
MOST_CLASSES = 65_536
"""More are taken for labels that do not count from 0."""


def read_custom(name: str, root: Path | None, seed: int) -> Source:
    """Call ``function(root, seed)`` of *name*, ``path/to/file.py:function``, and check what it returns.

    It returns a mapping: ``train`` and ``test``, perhaps ``validation``, each a pair of codes and labels; perhaps
    ``classes``, the names of the classes (else their numbers). Codes are uint8 of shape (N, inputs), or (N, channels,
    height, width) for images; labels are whole numbers of shape (N,), from 0.

    Raises:
        InputError: the function is not there, raises an exception, or returns something else.
    """
    returned = call_user_function("data.name", name, root, seed)
    if not isinstance(returned, Mapping):
        raise InputError(f"{name} returned {type(returned).__name__}; it must return a mapping with {_keys()}")
    unknown = [key for key in returned if key not in (*REQUIRED, *OPTIONAL)]
    missing = [key for key in REQUIRED if key not in returned]
    if unknown or missing:
        raise InputError(f"{name} returned the keys {list(returned)}; allowed: {_keys()}")
    splits = {key: _pair(name, key, returned[key]) for key in (*REQUIRED, "validation") if key in returned}
    shapes = {key: codes.shape[1:] for key, (codes, _) in splits.items()}
    if len(set(shapes.values())) != 1:
        raise InputError(f"{name} returned samples of different shapes: {shapes}")
    largest = max(int(labels.max(initial=0)) for _, labels in splits.values())
    if "classes" not in returned and largest >= MOST_CLASSES:
        raise InputError(
            f"{name} returned the label {largest}, so {largest + 1} classes; allowed without 'classes': labels 0 to "
            f"{MOST_CLASSES - 1}. Number the classes from 0, or return their names as 'classes'"
        )
    classes = _classes(name, returned.get("classes", [str(number) for number in range(largest + 1)]))
    inputs = math.prod(shapes["train"])
    flat = {key: (codes.reshape(len(codes), inputs), labels) for key, (codes, labels) in splits.items()}
    return Source(Path(name).name, classes, shapes["train"], flat["train"], flat["test"], flat.get("validation"))


def _keys() -> str:
    return f"{' and '.join(REQUIRED)}, perhaps {' and '.join(OPTIONAL)}"


def _pair(name: str, key: str, value: object) -> Split:
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(isinstance(p, np.ndarray) for p in value):
        raise InputError(f"{name}: {key!r} is {type(value).__name__}; it must be a pair of NumPy arrays: codes, labels")
    codes, labels = value
    if codes.dtype != np.uint8 or codes.ndim not in (2, 4):
        raise InputError(
            f"{name}: the codes of {key!r} are {codes.dtype} of shape {codes.shape}; they must be uint8 of shape "
            "(N, inputs) or (N, channels, height, width)"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise InputError(
            f"{name}: the labels of {key!r} are {labels.dtype} of shape {labels.shape}; they must be whole numbers of "
            "shape (N,)"
        )
    return codes, labels.astype(np.int64)


def _classes(name: str, names: object) -> tuple[str, ...]:
    if not isinstance(names, list | tuple) or not names or not all(isinstance(entry, str) for entry in names):
        raise InputError(f"{name}: 'classes' is {names!r}; it must be a list of names")
    return tuple(names)
