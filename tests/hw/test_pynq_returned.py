"""What a board sends back is data of a stranger; folders that a bundle would replace are the user's."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitproof.hw.pynq.bundle import SUMS, _require_replaceable
from bitproof.hw.pynq.deploy import Login, _connected, read_returned
from bitproof.hw.pynq.design import design_of
from bitproof.pipeline import Artifact, InputError, StageError

LOGIN = Login("xilinx", "pynq")
CODES = np.arange(6, dtype=np.int64).reshape(2, 3)
GOOD: dict[str, Any] = {
    "exit_code": 0,
    "design_id": "0" * 16,
    "bundle_sha256": "0" * 64,
    "outputs_sha256": "0" * 64,
    "samples": 2,
    "compared": 6,
    "differing": 0,
    "first": None,
    "timing": {"latency_us": 12.5},
    "versions": {"pynq": "3.0.1"},
}


def saved(codes: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(codes), allow_pickle=True)
    return file.getvalue()


def test_a_result_is_read() -> None:
    returned = read_returned(LOGIN, json.dumps(GOOD).encode(), saved(CODES))
    np.testing.assert_array_equal(returned.outputs, CODES, strict=True)


WRONG = {
    "nested": b"[" * 200_000,
    "text": b'"error"',
    "list": b'["error"]',
    "not a number": json.dumps({**GOOD, "timing": {"latency_us": float("nan")}}).encode(),
    "endless": json.dumps({**GOOD, "timing": {"latency_us": float("inf")}}).encode(),
    "huge": json.dumps({**GOOD, "timing": {"latency_us": 10**400}}).encode(),
    "before it began": json.dumps({**GOOD, "timing": {"latency_us": -1}}).encode(),
    "many": json.dumps({**GOOD, "timing": {f"t{n}": 1 for n in range(40_000)}}).encode(),
    "escape": json.dumps({**GOOD, "timing": {"\x1b[2J": 1}}).encode(),
    "half a pair": json.dumps({**GOOD, "versions": {"pynq": "\ud800"}}).encode(),
    "contradiction": json.dumps({**GOOD, "exit_code": 1}).encode(),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_result_that_is_none_is_an_error(kind: str) -> None:
    with pytest.raises(StageError, match=r"pynq returned") as caught:
        read_returned(LOGIN, WRONG[kind], saved(CODES))
    assert "\x1b" not in str(caught.value)


def header(text: str, body: bytes = b"") -> bytes:
    padded = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + body


OUTPUTS = {
    "nothing": b"",
    "archive": b"PK\x03\x04junk",
    "floats": saved(CODES.astype(float)),
    "objects": saved(np.array([[1, "a"]], dtype=object)),
    "one axis": saved(CODES.ravel()),
    "another order": saved(np.asfortranarray(CODES)),
    "too large": header("{'descr': '<i8', 'fortran_order': False, 'shape': (100000000000, 10), }"),
    "far too large": header(f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({10**30}, 1), }}"),
    "open bracket": header("{'descr': '<i8', 'fortran_order': False, 'shape': ((((("),
    "cut": saved(CODES)[:-1],
    "longer": saved(CODES) + b"\0" * 8,
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_that_are_none_are_an_error(kind: str) -> None:
    with pytest.raises(StageError, match=r"^what pynq returned is no result of a self-test: outputs\.npy "):
        read_returned(LOGIN, json.dumps(GOOD).encode(), OUTPUTS[kind])


def test_what_a_board_says_reaches_no_terminal_as_control_characters() -> None:
    said = json.dumps({"exit_code": 4, "error": "\x1b]0;title\x07\x1b[2J hangs"}).encode()
    with pytest.raises(StageError, match=r"\\x1b\]0;title\\x07\\x1b\[2J hangs$"):
        read_returned(LOGIN, said, None)


def test_settings_of_ssh_do_not_turn_the_check_of_the_host_off(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncssh = pytest.importorskip("asyncssh", reason="pip install 'bitproof[deploy]'")
    given: dict[str, Any] = {}

    async def connect(*_: object, **options: object) -> None:
        given.update(options)
        raise OSError("no board")

    monkeypatch.setattr(asyncssh, "connect", connect)

    async def log_in() -> None:
        async with _connected(LOGIN):
            pass

    with pytest.raises(StageError, match="cannot be reached: no board"):
        asyncio.run(log_in())
    assert given["config"] is None
    assert given["known_hosts"] is not None


def test_a_folder_with_files_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "iso"
    folder.mkdir()
    (folder / SUMS).write_text("")
    _require_replaceable(folder)
    (folder / "thesis.iso").write_text("years of work")
    with pytest.raises(InputError, match=r"holds 'thesis\.iso', which is no part of a bundle"):
        _require_replaceable(folder)
    (folder / "thesis.iso").unlink()
    (folder / SUMS).unlink()
    (folder / SUMS).symlink_to("/etc/passwd")
    with pytest.raises(InputError, match=r"holds 'SHA256SUMS', which is no part"):
        _require_replaceable(folder)
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(InputError, match=r"is no folder; move it away"):
        _require_replaceable(link)


def test_a_name_that_would_be_a_command_is_refused() -> None:
    with pytest.raises(InputError, match=r"^a design cannot be called 'r\\nset q"):
        design_of(Artifact("rtl", "rtl", Path("nowhere"), "0"), name="r\nset q [open x]", board="pynq-z1")
