"""Read TensorBoard's event files without TensorBoard."""

from __future__ import annotations

import struct
from collections import defaultdict
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def scalars_of(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of every scalar by its tag; a record is length, its check sum, content, its check sum."""
    content = path.read_bytes()
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    position = 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        event = Event.FromString(content[position + 12 : position + 12 + length])
        position += 16 + length
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                found[value.tag].append((event.step, value.simple_value))
    return found
