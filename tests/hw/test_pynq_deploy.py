"""Deployment to a real sshd on loopback: equal codes, every fault named, uploads resumed, no secret left anywhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pynq_boards import PynqCase
from ssh_board import ASKED, PASSWORD, REFUSED, USER, Cut, SshBoard, ssh_board, why_no_board

from bitproof.hw.pynq.bundle import Bitstream, read_bundle
from bitproof.hw.pynq.deploy import SelfTest, deploy
from bitproof.hw.pynq.login import Login
from bitproof.pipeline import InputError, StageError

asyncssh = pytest.importorskip("asyncssh", reason="pip install 'bitproof[deploy]'")

pytestmark = [
    pytest.mark.tool,
    pytest.mark.slow,
    pytest.mark.xdist_group("pynq"),
    pytest.mark.skipif(bool(why_no_board()), reason=why_no_board()),
]

TEST = SelfTest(batch=16, timeout_s=5, repeats=1, limit_s=120)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshBoard]:
    with ssh_board(tmp_path_factory.mktemp("board")) as started:
        yield started


@pytest.fixture(scope="module")
def good(pynq_case: PynqCase) -> Bitstream:
    return pynq_case.bitstream()


@pytest.fixture
def files(pynq_case: PynqCase, good: Bitstream, tmp_path: Path) -> dict[str, bytes]:
    return read_bundle(pynq_case.bundle(tmp_path / "bundle", good))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of its own for the bundle of each test, so that nothing is left of another's."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


def login_to(board: SshBoard, **changes: Any) -> Login:  # noqa: ANN401  any field
    login = Login(USER, "127.0.0.1", board.port, known_hosts=board.known_hosts, keys=(board.key,))
    return replace(login, **changes)


def sent_bytes(board: SshBoard, name: str, files: dict[str, bytes]) -> int:
    """Deploy, and return how many bytes the client sent; they are counted by a relay that never cuts."""
    relay = Cut(board.port, most=1 << 40)
    with relay.relaying():
        deploy(through(board, relay), name, files, TEST)
    return relay.passed


def through(board: SshBoard, relay: Cut) -> Login:
    known = board.folder / f"known-{relay.port}"
    known.write_text(board.known_hosts.read_text().replace(f":{board.port}", f":{relay.port}"))
    return login_to(board, port=relay.port, known_hosts=known)


def test_the_board_gives_the_codes_of_the_integer_model(
    pynq_case: PynqCase, board: SshBoard, files: dict[str, bytes], name: str
) -> None:
    returned = deploy(login_to(board), name, files, TEST)
    np.testing.assert_array_equal(pynq_case.expected, returned.outputs, strict=True)
    assert returned.result.differing == 0
    assert returned.result.versions["pynq"] == "simulated"
    assert returned.result.timing["batch"] == 16
    left = {path.name for path in (board.home / "bitproof" / name).iterdir()} - {"__pycache__"}
    assert left == {*files, "result.json", "outputs.npy"}  # no temporary name


def test_what_is_there_is_not_sent_again(board: SshBoard, files: dict[str, bytes], name: str) -> None:
    size = sum(map(len, files.values()))
    first, second = sent_bytes(board, name, files), sent_bytes(board, name, files)
    assert first > size > 4 * second


def test_a_flipped_weight_is_caught(pynq_case: PynqCase, board: SshBoard, name: str, tmp_path: Path) -> None:
    broken = pynq_case.bitstream(pynq_case.flipped(tmp_path / "rtl"))
    returned = deploy(login_to(board), name, read_bundle(pynq_case.bundle(tmp_path / "flipped", broken)), TEST)
    assert returned.result.exit_code == 1
    assert returned.result.differing == (returned.outputs != pynq_case.expected).sum() > 0


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.5, 0.9, 0.97, 0.99])
def test_a_connection_that_is_lost_is_resumed(
    share: float, pynq_case: PynqCase, board: SshBoard, files: dict[str, bytes], name: str
) -> None:
    """Of all that the client sends, the share is let through; the second attempt sends what is missing."""
    size = sum(map(len, files.values()))
    relay = Cut(board.port, most=int(share * size))
    with relay.relaying(), pytest.raises(StageError, match=r"resume$|is the board on\?$"):
        deploy(through(board, relay), name, files, TEST)
    sent = sent_bytes(board, name, files)
    assert sent < size * (1.1 - share) + 60_000
    np.testing.assert_array_equal(
        pynq_case.expected, np.load(board.home / "bitproof" / name / "outputs.npy"), strict=True
    )


def test_a_damaged_upload_is_never_renamed(board: SshBoard, files: dict[str, bytes], name: str) -> None:
    folder = board.home / "bitproof" / name
    folder.mkdir(parents=True)
    for made in (folder.parent, folder):
        os.chown(made, 1000, 1000)
    from hashlib import sha256

    content = files["bitproof.bit"]
    left = folder / f".bitproof.bit.{sha256(content).hexdigest()[:16]}.partial"
    left.write_bytes(b"\0" * 1000)  # of the right name, and of wrong bytes
    os.chown(left, 1000, 1000)
    with pytest.raises(StageError, match=r"^bitproof.bit arrived damaged on 127.0.0.1 and was deleted; run the same"):
        deploy(login_to(board), name, files, TEST)
    assert not left.exists()
    assert not (folder / "bitproof.bit").exists()
    deploy(login_to(board), name, files, TEST)


def test_another_host_key_is_refused(board: SshBoard, files: dict[str, bytes], name: str, tmp_path: Path) -> None:
    other = tmp_path / "known_hosts"
    for text in (f"[127.0.0.1]:{board.port} {board.key.with_suffix('.pub').read_text()}", ""):
        other.write_text(text)
        with pytest.raises(InputError, match=r"^the host key of 127.0.0.1 is not one that is known"):
            deploy(login_to(board, known_hosts=other), name, files, TEST)
    assert not (board.home / "bitproof" / name).exists()


def test_a_stranger_is_refused(board: SshBoard, files: dict[str, bytes], name: str) -> None:
    message = rf"^127.0.0.1 does not let {USER} in: copy a key to it"
    with pytest.raises(InputError, match=message):
        deploy(login_to(board, keys=(board.folder / "host_key",)), name, files, TEST)
    with pytest.raises(InputError, match=message):
        deploy(login_to(board, password="wrong"), name, files, TEST)


def test_a_password_serves_for_ssh_and_sudo_and_stays_nowhere(
    board: SshBoard, files: dict[str, bytes], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    board.grant(ASKED)
    try:
        with pytest.raises(
            InputError, match=rf"^sudo on 127.0.0.1 refuses {USER}: sudo: a password is required; deploy "
        ):
            deploy(login_to(board), name, files, TEST)
        asyncssh.set_debug_level(2)
        with caplog.at_level(logging.DEBUG):
            login = login_to(board, password=PASSWORD, keys=())
            deploy(login, name, files, TEST)
        board.grant(REFUSED)
        with pytest.raises(InputError, match=rf"^sudo on 127.0.0.1 refuses {USER}: .*; is the password right"):
            deploy(login, name, files, TEST)
    finally:
        board.grant(f"{USER} ALL=(ALL) NOPASSWD: ALL")
    assert caplog.records
    assert PASSWORD not in caplog.text + repr(login)
    kept = [path for path in (board.home / "bitproof" / name).iterdir() if path.is_file()]
    assert not [path for path in [*kept, board.folder / "sshd.log"] if PASSWORD.encode() in path.read_bytes()]


def test_a_full_disk_is_named_and_room_made_is_used(
    pynq_case: PynqCase, files: dict[str, bytes], tmp_path: Path
) -> None:
    with ssh_board(tmp_path / "small", home_bytes=1 << 20) as board:
        filler = board.home / "photos"
        filler.write_bytes(b"\0" * ((1 << 20) - (1 << 16)))
        with pytest.raises(
            StageError, match=r"^127.0.0.1 could not write the bundle: .*\(is its disk full\?\); run the"
        ):
            deploy(login_to(board), "small", files, TEST)
        filler.unlink()
        returned = deploy(login_to(board), "small", files, TEST)
    np.testing.assert_array_equal(pynq_case.expected, returned.outputs)


def test_a_dma_that_never_finishes_is_an_error(pynq_case: PynqCase, board: SshBoard, name: str, tmp_path: Path) -> None:
    endless = pynq_case.bundle(tmp_path / "endless", pynq_case.bitstream(never_ends=True))
    with pytest.raises(StageError, match=r"^the self-test on 127.0.0.1 says: no end within 0.5 s: all of "):
        deploy(login_to(board), name, read_bundle(endless), replace(TEST, timeout_s=0.5))
    with pytest.raises(
        StageError, match=r"^the self-test on 127.0.0.1 did not end within 1 s; is the board still there"
    ):
        deploy(login_to(board), name, read_bundle(endless), replace(TEST, timeout_s=60, limit_s=1))


def test_another_bit_file_is_refused(pynq_case: PynqCase, board: SshBoard, name: str, tmp_path: Path) -> None:
    other = replace(pynq_case, design=pynq_case.design.model_copy(update={"design_id": "0123456789abcdef"}))
    folder = other.bundle(tmp_path / "other", pynq_case.bitstream())
    with pytest.raises(
        InputError, match=rf"says: the fabric holds the design {pynq_case.design.design_id}, and design"
    ):
        deploy(login_to(board), name, read_bundle(folder), TEST)


def test_a_board_that_is_off_is_named(board: SshBoard, files: dict[str, bytes]) -> None:
    with pytest.raises(StageError, match=r"^127.0.0.1 port 1 cannot be reached: .*; is the board on"):
        deploy(login_to(board, port=1), "off", files, TEST)


@pytest.mark.parametrize("stray", ["../../.ssh/authorized_keys", "/etc/passwd", "notes.txt"])
def test_no_file_leaves_the_folder(stray: str, board: SshBoard, files: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match=r"^a bundle holds no '"):
        deploy(login_to(board), "small", {**files, stray: b""}, TEST)
    for wrong in ("../up", "", ".", "-rf", "a/b", "a b"):
        with pytest.raises(InputError, match=r"^a bundle cannot be called"):
            deploy(login_to(board), wrong, files, TEST)
