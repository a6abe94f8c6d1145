"""What a board sends back: its result and its output codes. A board may be any machine, so none of it is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from bitproof.pipeline import Codes, InputError, StageError
from bitproof.pipeline.errors import one_line
from bitproof.pipeline.ledger import Count, MismatchEntry, Timing, Versions
from bitproof.pipeline.plain_file import json_value
from bitproof.pipeline.record import Record

MAGIC = b"\x93NUMPY\x01\x00"
"""Of NumPy's format, version 1.0, which is what numpy.save writes for integers."""
MAX_HEADER_BYTES = 256
MOST_SHOWN = 2000
"""Characters of what a board says in a message."""


class BoardResult(Record):
    """``result.json`` of a self-test that compared codes; nothing of it is believed that can be derived here."""

    exit_code: Literal[0, 1]
    design_id: str = Field(pattern="^[0-9a-f]{16}$")
    bundle_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    outputs_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    samples: Annotated[Count, Field(ge=1)]
    compared: Annotated[Count, Field(ge=1)]
    differing: Count
    first: MismatchEntry | None
    timing: Timing
    versions: Versions

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.exit_code != (self.differing > 0):
            raise ValueError(f"exit_code = {self.exit_code} and differing = {self.differing} contradict each other")
        return self


@dataclass(frozen=True, slots=True)
class Returned:
    """What came back: the result, and the output codes, shape (N, outputs)."""

    result: BoardResult
    outputs: Codes


def said_by(text: str) -> str:
    """Return the first part of *text*, which a board says, as a message can show it."""
    return one_line(text[:MOST_SHOWN])


def read_returned(host: str, result: bytes, outputs: bytes | None, shape: tuple[int, ...]) -> Returned:
    """Return what the board *host* says in *result*, with its *outputs*, which must have *shape*.

    Raises:
        InputError: the board says that the bundle or the bit file is not the right one.
        StageError: it says that its hardware does not finish, or what came back is no result.
    """
    try:
        content = json_value(result, finite=True)
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        error = content.get("error")
        if error is None:
            return Returned(BoardResult.model_validate(content), _codes(outputs or b"", shape))
    except (ValueError, RecursionError, ValidationError) as reason:
        raise StageError(f"what {host} returned is no result of a self-test: {said_by(_words(reason))}") from reason
    kind = StageError if content.get("exit_code") == 4 else InputError
    raise kind(f"the self-test on {host} says: {said_by(str(error))}")


def _words(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'result'}: {first['msg']}"


def most_output_bytes(shape: tuple[int, ...]) -> int:
    """Return how large the file of output codes of *shape* can be."""
    return MAX_HEADER_BYTES + 8 * int(np.prod(shape))


def _codes(content: bytes, shape: tuple[int, ...]) -> Codes:
    """Return the codes in *content*, as numpy.save writes them; its header is compared and not parsed.

    Raises:
        ValueError: it is not that of codes of *shape*.
    """
    start = len(MAGIC) + 2
    size = int.from_bytes(content[len(MAGIC) : start], "little")
    header, body = content[start : start + size], content[start + size :]
    expected = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}"
    if content[: len(MAGIC)] != MAGIC or header.rstrip(b" \n") != expected.encode():
        found = header[:100].decode("ascii", "replace").strip()
        raise ValueError(f"outputs have the header {found!r}; {expected!r} is expected")
    if len(body) != 8 * int(np.prod(shape)):
        raise ValueError(f"outputs have {len(body)} bytes of codes; {8 * int(np.prod(shape))} are expected")
    return np.frombuffer(body, dtype="<i8").reshape(shape).astype(np.int64)
