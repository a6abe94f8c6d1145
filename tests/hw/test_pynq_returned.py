"""What a board sends back is not trusted: whatever it is, it is a result within bounds or an error for the user."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest

from bitproof.hw.pynq.returned import most_output_bytes, read_returned
from bitproof.pipeline import InputError, StageError

SHAPE = (2, 3)
CODES = np.arange(6, dtype=np.int64).reshape(SHAPE) - 3
GOOD: dict[str, Any] = {
    "exit_code": 0,
    "design_id": "0" * 16,
    "bundle_sha256": "0" * 64,
    "outputs_sha256": "0" * 64,
    "samples": 2,
    "compared": 6,
    "differing": 0,
    "first": None,
    "timing": {"latency_us": 1.5, "batch": 2},
    "versions": {"pynq": "3.0.1"},
}
FIRST = {"sample": 1, "output": 2, "expected": 5, "actual": -5}


def saved(codes: Any) -> bytes:  # noqa: ANN401  any array
    content = io.BytesIO()
    np.save(content, codes)
    return content.getvalue()


def with_header(text: str, body: bytes = b"\0" * 48) -> bytes:
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr("a.npy", saved(CODES))
    return content.getvalue()


def read(result: bytes, outputs: bytes | None) -> Any:  # noqa: ANN401  what it is
    return read_returned("pynq", result, outputs, SHAPE)


def test_a_result_is_read() -> None:
    returned = read(json.dumps(GOOD).encode(), saved(CODES))
    np.testing.assert_array_equal(CODES, returned.outputs, strict=True)
    assert returned.result.timing == {"latency_us": 1.5, "batch": 2}
    assert type(returned.result.timing["batch"]) is int
    assert len(saved(CODES)) <= most_output_bytes(SHAPE)
    differing = {**GOOD, "exit_code": 1, "differing": 1, "first": FIRST}
    assert read(json.dumps(differing).encode(), saved(CODES)).result.first.actual == -5


RESULTS = {
    "empty": b"",
    "no UTF-8": b"\xff",
    "nested": b"[" * 200_000,
    "text": b'"error"',
    "list": b'["error"]',
    "number": b"1",
    "null": b"null",
    "half": b"{",
    "nothing": b"{}",
    "NaN": json.dumps({**GOOD, "timing": {"a": float("nan")}}).encode(),
    "infinity": json.dumps({**GOOD, "timing": {"a": float("inf")}}).encode(),
    "1e999": json.dumps(GOOD).replace("1.5", "1e999").encode(),
    "huge": json.dumps({**GOOD, "timing": {"a": 10**4000}}).encode(),
    "negative": json.dumps({**GOOD, "timing": {"a": -1}}).encode(),
    "truth": json.dumps({**GOOD, "timing": {"a": True}}).encode(),
    "surrogate": json.dumps({**GOOD, "versions": {"pynq": "\ud800"}}).encode(),
    "surrogate in a key": json.dumps({**GOOD, "timing": {"\ud800": 1}}).encode(),
    "control character": json.dumps({**GOOD, "versions": {"pynq": "\x1b[2J"}}).encode(),
    "control character in a key": json.dumps({**GOOD, "timing": {"a\x1b[2J": 1}}).encode(),
    "line end in a key": json.dumps({**GOOD, "timing": {"a\n": 1}}).encode(),
    "many": json.dumps({**GOOD, "timing": {f"k{i}": i for i in range(100)}}).encode(),
    "text as a count": json.dumps({**GOOD, "differing": "0"}).encode(),
    "truth as a code": json.dumps({**GOOD, "exit_code": True}).encode(),
    "exit code 1 of equal codes": json.dumps({**GOOD, "exit_code": 1}).encode(),
    "exit code 0 of different codes": json.dumps({**GOOD, "differing": 1, "first": FIRST}).encode(),
    "no difference": json.dumps({**GOOD, "exit_code": 1, "differing": 1, "first": {**FIRST, "actual": 5}}).encode(),
    "empty first": json.dumps({**GOOD, "exit_code": 1, "differing": 1, "first": {}}).encode(),
    "repeated key": json.dumps(GOOD)[:-1].encode() + b',"differing":5}',
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(StageError, match=r"^what pynq returned is no result of a self-test: ") as caught:
        read(RESULTS[name], saved(CODES))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 10_000


OUTPUTS = {
    "none": None,
    "empty": b"",
    "magic alone": b"\x93NUMPY",
    "another version": b"\x93NUMPY\x09\x00\x00\x00",
    "archive": archive(),
    "damaged archive": b"PK\x03\x04junk",
    "another shape": saved(CODES.T.copy()),
    "huge shape": with_header("{'descr': '<i8', 'fortran_order': False, 'shape': (1152921504606846976, 1), }"),
    "endless shape": with_header(f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({10**30}, 1), }}"),
    "negative shape": with_header("{'descr': '<i8', 'fortran_order': False, 'shape': (-1, 3), }"),
    "open brackets": with_header("{'descr': '<i8', 'fortran_order': (((False, 'shape': (2, 3), "),
    "nested": with_header("(" * 5000),
    "minus": with_header("-" * 9000 + "1"),
    "control characters": with_header("\x1b[2J"),
    "floats": saved(CODES.astype(float)),
    "columns first": saved(np.asfortranarray(CODES)),
    "another order of bytes": saved(CODES.astype(">i8")),
    "one byte less": saved(CODES)[:-1],
    "one byte more": saved(CODES) + b"\0",
    "objects": b"\x80\x04]\x94.",
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(StageError, match=r"is no result of a self-test: outputs have ") as caught:
        read(json.dumps(GOOD).encode(), OUTPUTS[name])
    assert str(caught.value).isprintable()


def test_what_a_board_says_of_its_error_is_shown_as_one_plain_line() -> None:
    with pytest.raises(StageError, match=r"^the self-test on pynq says: no end$"):
        read(b'{"error": "no end", "exit_code": 4}', None)
    with pytest.raises(InputError, match=r"^the self-test on pynq says: ") as caught:
        read(json.dumps({"error": "\x1b]0;pwn\x07\x1b[2J" + "x" * 10_000}).encode(), None)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 9000
