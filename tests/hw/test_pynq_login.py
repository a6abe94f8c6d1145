"""Logging in: the host key is always checked, files of keys are read first, and no board is waited for long."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pynq_hand_made import CODES, hand_made_bundle
from ssh_board import Cut

from bitproof.hw.pynq import deploy as deployment
from bitproof.hw.pynq import login as logging_in
from bitproof.hw.pynq.bundle import read_bundle
from bitproof.hw.pynq.deploy import SelfTest, deploy
from bitproof.hw.pynq.login import Login
from bitproof.pipeline import BitproofError, ConfigError, InputError, StageError

asyncssh = pytest.importorskip("asyncssh", reason="pip install 'bitproof[deploy]'")

from ssh_loopback import Loopback, ssh_loopback  # noqa: E402  it needs asyncssh

TEST = SelfTest(batch=2, timeout_s=1, repeats=1, limit_s=20)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "me"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(logging_in, "GLOBAL_HOST_KEYS", tmp_path / "none")
    return folder


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    hand_made_bundle(tmp_path / "bundle")
    return read_bundle(tmp_path / "bundle")


async def says_nothing(process: Any) -> None:  # noqa: ANN401
    process.stderr.write(b"Traceback\n\x1b[2J\x1b]0;owned\x07no fabric\xff\n")
    process.exit(1)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Loopback]:
    with ssh_loopback(tmp_path / "board", says_nothing) as started:
        yield started


def login_to(board: Loopback, **changes: Any) -> Login:  # noqa: ANN401  any field
    return replace(Login("root", "127.0.0.1", board.port, known_hosts=board.known_hosts, keys=(board.key,)), **changes)


REACHED = r"^the self-test on 127.0.0.1 left no result \(exit code 1\): "


def test_what_a_board_prints_is_shown_without_control_characters(board: Loopback, files: dict[str, bytes]) -> None:
    with pytest.raises(StageError, match=REACHED) as caught:
        deploy(login_to(board), "small", files, TEST)
    assert str(caught.value).isprintable()
    (command,) = [command for command in board.commands if "bash selftest.sh" in command]
    assert command.endswith("&& exec timeout -k 5 20 bash selftest.sh --batch 2 --timeout 1 --repeats 1")


CONFIGURATIONS = [
    "Host *\n  UserKnownHostsFile none\n",
    "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n",
    "Host *\n  ProxyCommand sh -c 'touch {home}/proxied'\n",
    "Host *\n  Port abc\n",
]


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_no_configuration_of_ssh_turns_the_check_of_the_host_key_off(
    text: str, board: Loopback, files: dict[str, bytes], home: Path
) -> None:
    (home / ".ssh" / "config").write_text(text.format(home=home))
    for known in (
        "",
        f"[127.0.0.1]:{board.port} {asyncssh.generate_private_key('ssh-ed25519').export_public_key().decode()}",
    ):
        (home / ".ssh" / "known_hosts").write_text(known)
        with pytest.raises(InputError, match=r"^the host key of 127.0.0.1 is not one that is known .* ssh -p "):
            deploy(login_to(board, known_hosts=None), "small", files, TEST)
    assert not board.commands
    (home / ".ssh" / "known_hosts").write_bytes(board.known_hosts.read_bytes())
    with pytest.raises(StageError, match=REACHED):
        deploy(login_to(board, known_hosts=None), "small", files, TEST)
    assert not (home / "proxied").exists()


def test_without_a_file_of_host_keys_no_board_is_known(board: Loopback, files: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match=r"^the host key of 127.0.0.1 is not one that is known"):
        deploy(login_to(board, known_hosts=None), "small", files, TEST)


def test_the_host_keys_of_the_machine_count(
    board: Loopback, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging_in, "GLOBAL_HOST_KEYS", board.known_hosts)
    with pytest.raises(StageError, match=REACHED):
        deploy(login_to(board, known_hosts=None), "small", files, TEST)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\n", b"@foo bar\n", "folder"])
def test_a_file_of_host_keys_that_is_none_is_named(
    content: bytes | str | None, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "hosts"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"/hosts holds no host keys: .*--known-hosts"):
        deploy(Login("u", "127.0.0.1", 1, known_hosts=path), "small", files, TEST)


@pytest.mark.parametrize("kind", ["missing", "garbage", "binary", "folder", "encrypted"])
def test_a_key_that_cannot_be_used_is_named(kind: str, files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "mine"
    if kind == "folder":
        path.mkdir()
    elif kind == "encrypted":
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(path, "pkcs8-pem", passphrase="x")
    elif kind != "missing":
        path.write_bytes(b"not a key" if kind == "garbage" else b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"^--key .*/mine cannot be .*give a private key of ssh"):
        deploy(Login("u", "127.0.0.1", 1, keys=(path,)), "small", files, TEST)


@pytest.mark.parametrize("host", ["a" * 300, "a..b", "::::"])
def test_a_name_that_no_host_can_have_is_an_error_of_the_user(host: str, files: dict[str, bytes]) -> None:
    with pytest.raises(BitproofError, match=r"write --to USER@HOST|cannot be reached") as caught:
        deploy(Login("u", host, 1), "small", files, TEST)
    assert caught.value.exit_code in (2, 4)


def test_of_a_flood_a_bounded_part_is_kept(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flood(process: Any) -> None:  # noqa: ANN401
        for _ in range(20):
            process.stdout.write(b"x" * 20_000)
            process.stderr.write(b"y" * 20_000)
            await process.stdout.drain()
        process.stderr.write(b"\nthe end\n")
        process.exit(1)

    kept: list[deployment.Said] = []
    explained = deployment._why_no_result

    def why(login: Login, said: deployment.Said) -> InputError | StageError:
        kept.append(said)
        return explained(login, said)

    monkeypatch.setattr(deployment, "MAX_SAID_BYTES", 1 << 16)
    monkeypatch.setattr(deployment, "_why_no_result", why)
    with ssh_loopback(tmp_path / "board", flood) as board, pytest.raises(StageError, match=REACHED + "the end$"):
        deploy(login_to(board), "small", files, TEST)
    assert [len(kept[0].output), len(kept[0].errors)] == [1 << 16, 1 << 16]


@pytest.mark.parametrize("silent", ["stat", "open", "write", "close", "posix_rename", "mkdir"])
def test_a_board_that_goes_silent_is_not_waited_for(
    silent: str,
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = tmp_path / "board" / "home"

    class Silent(asyncssh.SFTPServer):  # type: ignore[name-defined, misc]
        def __init__(self, chan: Any) -> None:  # noqa: ANN401
            super().__init__(chan, chroot=str(home))

    async def never(_: object, *given: Any) -> None:  # noqa: ANN401
        if silent in {"write", "close"}:
            given[0].close()
        await asyncio.sleep(60)

    setattr(Silent, silent, never)
    for limit in ("COMMAND_S", "TRANSFER_S"):
        monkeypatch.setattr(deployment, limit, 0.5)
    monkeypatch.setattr(logging_in, "CLOSE_S", 0.5)
    with (
        ssh_loopback(tmp_path / "board", says_nothing, Silent) as board,
        pytest.raises(StageError, match=r"^the connection to 127.0.0.1 was lost \(no answer in time\); run the same"),
    ):
        deploy(login_to(board), "small", files, TEST)
    gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("code", [124, 137])
def test_a_self_test_that_the_board_ended_is_named(code: int, files: dict[str, bytes], tmp_path: Path) -> None:
    async def ended(process: Any) -> None:  # noqa: ANN401
        process.exit(code)

    with (
        ssh_loopback(tmp_path / "board", ended) as board,
        pytest.raises(StageError, match=r"^the self-test on 127.0.0.1 did not end within 20 s; is the board still"),
    ):
        deploy(login_to(board), "small", files, TEST)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_deployment_that_was_cut_is_resumed_and_read(share: float, files: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "board" / "home" / "bitproof" / "small"
    digest = "0" * 64
    result = {
        "exit_code": 0,
        "design_id": "0" * 16,
        "bundle_sha256": digest,
        "outputs_sha256": digest,
        "samples": 2,
        "compared": 8,
        "differing": 0,
        "first": None,
        "timing": {"a": 1.5},
        "versions": {},
    }

    async def passes(process: Any) -> None:  # noqa: ANN401
        np.save(folder / "outputs.npy", CODES)
        (folder / "result.json").write_text(json.dumps(result))
        process.exit(0)

    size = sum(map(len, files.values()))
    with ssh_loopback(tmp_path / "board", passes) as board:
        relay = Cut(board.port, most=int(share * size))
        known = tmp_path / "known"
        known.write_text(board.known_hosts.read_text().replace(f":{board.port}", f":{relay.port}"))
        with relay.relaying(), pytest.raises(StageError, match=r"resume$"):
            deploy(login_to(board, port=relay.port, known_hosts=known), "small", files, TEST)
        returned = deploy(login_to(board), "small", files, TEST)
    np.testing.assert_array_equal(CODES, returned.outputs, strict=True)
    assert {path.name for path in folder.iterdir()} == {*files, "outputs.npy", "result.json"}


@pytest.mark.parametrize(
    "text",
    ["192.168.2.99", "xilinx@", "xilinx@host:0", "xilinx@host:99999", "-o@x", "a@-b", "u@h:٢٢", "ü@h", "u@h\n"],
)
def test_what_names_no_board_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"names no board; write USER@HOST or USER@HOST:PORT"):
        Login.parse(text)


@pytest.mark.parametrize(
    ("text", "login", "arguments"),
    [
        ("xilinx@pynq", Login("xilinx", "pynq", 22), "xilinx@pynq"),
        ("xilinx@my_board:2222", Login("xilinx", "my_board", 2222), "-p 2222 xilinx@my_board"),
        ("root@[fe80::1]:2222", Login("root", "fe80::1", 2222), "-p 2222 root@fe80::1"),
    ],
)
def test_a_board_is_named(text: str, login: Login, arguments: str) -> None:
    assert Login.parse(text) == login
    assert str(login) == text
    assert login.ssh_arguments == arguments
