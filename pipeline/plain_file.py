"""Files of unknown origin: read only if they are plain files, of a bounded size, and JSON that says each thing once."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 1 << 28


def read_bytes(path: Path, most: int) -> bytes:
    """Return what the file at *path* holds, at most *most* bytes; a pipe, a device or a terminal is not waited for.

    Raises:
        OSError: it cannot be read now, or is no plain file.
        ValueError: it is larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a plain file")
        content: bytes | None = file.read(most + 1)
    if content is None:  # a file of the kernel that has nothing to say yet
        raise OSError(f"{path} is not a plain file")
    if len(content) > most:
        raise ValueError(f"{path} has more than {most} bytes")
    return content


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> Any:  # noqa: ANN401  JSON is any of its types
    """Return the value in the JSON file at *path*.

    Raises:
        OSError: it cannot be read, or is no plain file.
        ValueError: it is larger than *most* bytes, no UTF-8 or no JSON, names a key twice in one object, or holds one
            half of a surrogate pair, which no text can.
    """
    return json_value(read_bytes(path, most))


def json_value(content: bytes, *, finite: bool = False) -> Any:  # noqa: ANN401  JSON is any of its types
    """Return the value in *content*; *finite* refuses NaN and Infinity, which are no JSON.

    Raises:
        ValueError: it is no UTF-8 or no JSON, names a key twice in one object, or holds one half of a surrogate pair.
        RecursionError: it is nested too deeply.
    """
    text = content.decode("utf-8")
    value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number if finite else None)
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate is an error here, and not later
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"keys repeat: {', '.join(map(repr, repeated))}")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
