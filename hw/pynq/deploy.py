"""Deployment over SSH: a bundle is uploaded, its self-test is run as root, and what it gives is brought back.

Each file goes to a temporary name and is renamed when its digest on the board is right. The temporary name holds the
digest, so that an upload that was cut is resumed. Nothing but the SSH server of the board is used; no secret is kept or
logged.
"""

from __future__ import annotations

import asyncio
import json
import posixpath
import re
import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from bitproof.hw.pynq.bundle import BUNDLED, SUMS
from bitproof.pipeline import Codes, ConfigError, InputError, StageError
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.config import RUN_NAME
from bitproof.pipeline.progress import Progress, silent
from bitproof.pipeline.record import Record

if TYPE_CHECKING:
    import asyncssh

FOLDER = "bitproof"
"""Of all bundles, in the home of the user on the board."""
RESULT, OUTPUTS = "result.json", "outputs.npy"
MAX_RESULT_BYTES, MAX_OUTPUT_BYTES = 1 << 20, 1 << 30
BLOCK_BYTES = 1 << 15
CONNECT_S, COMMAND_S, TRANSFER_S = 30.0, 60.0, 120.0
"""Limits in seconds: of connecting, of a command, of the transfer of one block."""
AGAIN = "run the same command again to resume"


@dataclass(frozen=True, slots=True)
class Login:
    """Where to log in, and how.

    Attributes:
        user: on the board.
        host: its name or address.
        port: of its SSH server.
        known_hosts: the file of host keys; None: that of the user.
        keys: files of private keys; empty: those of the user, and of an agent.
        password: of the user, for SSH and sudo, if it was asked for.
    """

    user: str
    host: str
    port: int = 22
    known_hosts: Path | None = None
    keys: tuple[Path, ...] = ()
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Login:
        """Return the login that ``USER@HOST`` or ``USER@HOST:PORT`` names.

        Raises:
            ConfigError: it is neither.
        """
        match = re.fullmatch(r"([A-Za-z_][\w.-]*)@([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?", text)
        if match is None or int(match.group(3) or 22) not in range(1, 1 << 16):
            raise ConfigError(
                f"--to {text!r} names no board; write USER@HOST or USER@HOST:PORT, as xilinx@192.168.2.99"
            )
        return cls(match.group(1), match.group(2).strip("[]"), int(match.group(3) or 22))

    def __str__(self) -> str:
        return f"{self.user}@{self.host}"

    @property
    def for_ssh(self) -> str:
        """What ``ssh`` and ``ssh-copy-id`` are to be given."""
        return str(self) if self.port == 22 else f"-p {self.port} {self}"


@dataclass(frozen=True, slots=True)
class SelfTest:
    """How the self-test is run: most images of a transfer, seconds of a wait, repeats of a measurement, and a limit."""

    batch: int = 1000
    timeout_s: float = 10.0
    repeats: int = 20
    limit_s: float = 900.0

    @property
    def arguments(self) -> tuple[str, ...]:
        """For ``selftest.sh``."""
        return ("--batch", str(self.batch), "--timeout", f"{self.timeout_s:g}", "--repeats", str(self.repeats))


Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,39}$")]
Figure = Annotated[float | int, Field(ge=0, lt=1e15, allow_inf_nan=False)]
Version = Annotated[str, Field(pattern=r"^[ -~]{0,200}$")]
HEADER = re.compile(rb"\{'descr': '<i8', 'fortran_order': False, 'shape': \(([1-9]\d{0,11}), ([1-9]\d{0,11})\), \} *\n")
"""Of a file of int64 codes, shape (N, outputs), as ``numpy.save`` writes it."""


class BoardResult(Record):
    """``result.json`` of a self-test that compared codes; nothing of it is believed that can be derived here."""

    exit_code: Annotated[int, Field(ge=0, le=255)]
    design_id: str = Field(pattern="^[0-9a-f]{16}$")
    bundle_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    outputs_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    samples: Annotated[int, Field(ge=1)]
    compared: Annotated[int, Field(ge=1)]
    differing: Annotated[int, Field(ge=0)]
    first: dict[str, int] | None
    timing: Annotated[dict[Name, Figure], Field(max_length=20)]
    versions: Annotated[dict[Name, Version], Field(max_length=20)]


@dataclass(frozen=True, slots=True)
class Returned:
    """What came back: the result, and the output codes, shape (N, outputs)."""

    result: BoardResult
    outputs: Codes


def deploy(
    login: Login, name: str, files: Mapping[str, bytes], test: SelfTest, progress: Progress = silent
) -> Returned:
    """Upload the bundle *files* as *name* to the board, run its self-test, and return what it gives.

    Raises:
        InputError: the host key or the user is refused, sudo is, or the board holds another design.
        StageError: the connection is lost, the board's disk is full, or its hardware does not finish.
        ToolMissingError: asyncssh is not installed.
    """
    if re.fullmatch(RUN_NAME, name) is None:
        raise InputError(f"a bundle cannot be called {name!r} on a board")
    stray = [file for file in files if file not in (*BUNDLED, SUMS)]
    if stray:
        raise InputError(f"a bundle holds no {stray[0]!r}; allowed: {', '.join((*BUNDLED, SUMS))}")
    return asyncio.run(_deploy(login, name, files, test, progress))


async def _deploy(login: Login, name: str, files: Mapping[str, bytes], test: SelfTest, progress: Progress) -> Returned:
    async with _connected(login) as connection, _explained(login):
        board = Board(login, connection, posixpath.join(FOLDER, name))
        await board.upload(files, progress)
        said = await board.test(test)
        result = await board.fetch(RESULT, MAX_RESULT_BYTES)
        if result is None:
            raise _why_no_result(login, said)
        outputs = await board.fetch(OUTPUTS, MAX_OUTPUT_BYTES)
    return read_returned(login, result, outputs)


@asynccontextmanager
async def _connected(login: Login) -> AsyncIterator[asyncssh.SSHClientConnection]:
    import asyncssh

    wanted = "password,keyboard-interactive" if login.password is not None else "publickey"
    try:
        connection = await asyncssh.connect(
            login.host,
            login.port,
            username=login.user,
            config=None,  # of ssh: its "UserKnownHostsFile none" would trust every host
            known_hosts=() if login.known_hosts is None else str(login.known_hosts),
            client_keys=[str(key) for key in login.keys] or (),
            agent_path=() if not login.keys else None,
            password=login.password,
            preferred_auth=wanted,
            connect_timeout=CONNECT_S,
            login_timeout=CONNECT_S,
            keepalive_interval=10,
            keepalive_count_max=3,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise InputError(
            f"the host key of {login.host} is not one that is known ({error.reason}). Compare its fingerprint on the "
            f"board (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then log in once with ssh {login.for_ssh}"
        ) from error
    except asyncssh.PermissionDenied as error:
        raise InputError(
            f"{login.host} does not let {login.user} in: copy a key to it (ssh-copy-id {login.for_ssh}), or use "
            "--ask-password"
        ) from error
    except (OSError, asyncssh.Error) as error:
        reason = str(error) or type(error).__name__
        raise StageError(f"{login.host} port {login.port} cannot be reached: {reason}; is the board on?") from error
    async with connection:
        yield connection


@asynccontextmanager
async def _explained(login: Login) -> AsyncIterator[None]:
    """Turn what SSH raises into errors for the user."""
    import asyncssh

    try:
        yield
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError) as error:
        raise StageError(f"the connection to {login.host} was lost ({error.reason}); {AGAIN}") from error
    except (asyncssh.ChannelOpenError, TimeoutError, OSError) as error:
        reason = str(error) or "no answer in time"
        raise StageError(f"the connection to {login.host} was lost ({reason}); {AGAIN}") from error
    except asyncssh.SFTPError as error:
        raise StageError(
            f"{login.host} could not write the bundle: {error.reason or 'failure'} (is its disk full?); {AGAIN}"
        ) from error


@dataclass(frozen=True, slots=True)
class _Counted:
    """Bytes of one file, counted behind those that were sent before."""

    progress: Progress
    before: int
    total: int

    def __call__(self, sent: int) -> None:
        self.progress("upload", self.before + sent, self.total)


@dataclass(frozen=True, slots=True)
class Said:
    """What a command on the board printed on standard error, and how it ended; None: it was killed."""

    code: int | None
    errors: str


@dataclass(frozen=True, slots=True)
class Board:
    """A board that is connected, and the folder of the bundle on it, relative to the user's home."""

    login: Login
    connection: asyncssh.SSHClientConnection
    folder: str

    async def upload(self, files: Mapping[str, bytes], progress: Progress) -> None:
        """Bring *files* into the folder, those that are there with these bytes left out; SHA256SUMS is the last one."""
        async with self.connection.start_sftp_client() as sftp:
            await asyncio.wait_for(sftp.makedirs(self.folder, exist_ok=True), COMMAND_S)
            names = [*(name for name in sorted(files) if name != SUMS), SUMS]
            there = await self._digests(names)
            missing = [name for name in names if there.get(name) != sha256_of_bytes(files[name])]
            total = sum(len(files[name]) for name in missing) or 1
            done = 0
            for name in missing:
                await self._put(sftp, name, files[name], _Counted(progress, done, total))
                done += len(files[name])
            for name in (RESULT, OUTPUTS):  # of an earlier test
                if await sftp.exists(posixpath.join(self.folder, name)):
                    await sftp.remove(posixpath.join(self.folder, name))

    async def _put(self, sftp: asyncssh.SFTPClient, name: str, content: bytes, sent: Callable[[int], None]) -> None:
        digest = sha256_of_bytes(content)
        partial = f".{name}.{digest[:16]}.partial"
        path = posixpath.join(self.folder, partial)
        begun = int((await sftp.stat(path)).size or 0) if await sftp.exists(path) else 0
        place = begun if begun <= len(content) else 0
        async with sftp.open(path, "r+b" if place else "wb") as file:
            while place < len(content):
                sent(place)
                block = content[place : place + BLOCK_BYTES]
                await asyncio.wait_for(file.write(block, place), TRANSFER_S)
                place += len(block)
        if (await self._digests([partial])).get(partial) != digest:
            await sftp.remove(path)
            raise StageError(f"{name} arrived damaged on {self.login.host} and was deleted; {AGAIN}")
        await sftp.posix_rename(path, posixpath.join(self.folder, name))

    async def _digests(self, names: list[str]) -> dict[str, str]:
        """Return the SHA-256 of those of *names* that are there."""
        command = f"cd {shlex.quote(self.folder)} && sha256sum -- {shlex.join(names)} 2>/dev/null"
        said = await self._run(command, COMMAND_S)
        lines = [line.partition("  ") for line in said.splitlines()]
        return {name: digest for digest, _, name in lines}

    async def _run(self, command: str, limit_s: float) -> str:
        done = await asyncio.wait_for(self.connection.run(command, check=False), limit_s)
        return str(done.stdout)

    async def test(self, test: SelfTest) -> Said:
        """Run the self-test as root and wait for its end."""
        script = shlex.join(("bash", "selftest.sh", *test.arguments))
        if self.login.user == "root":
            root, given = "", None
        elif self.login.password is None:
            root, given = "sudo -n -- ", None
        else:
            root, given = "sudo -S -p '' -- ", f"{self.login.password}\n"
        command = f"cd {shlex.quote(self.folder)} && exec {root}{script}"
        try:
            done = await asyncio.wait_for(self.connection.run(command, input=given or "", check=False), test.limit_s)
        except TimeoutError as error:
            raise StageError(
                f"the self-test on {self.login.host} did not end within {test.limit_s:g} s; is the board still there?"
            ) from error
        return Said(done.exit_status, str(done.stderr))

    async def fetch(self, name: str, most: int) -> bytes | None:
        """Return what the file *name* in the folder holds, at most *most* bytes; None if there is none.

        Raises:
            StageError: it is larger.
        """
        path = posixpath.join(self.folder, name)
        async with self.connection.start_sftp_client() as sftp:
            if not await sftp.exists(path):
                return None
            async with sftp.open(path, "rb") as file:
                content = await asyncio.wait_for(file.read(most + 1), TRANSFER_S)
        if len(content) > most:
            raise StageError(
                f"{name} on {self.login.host} has more than {most} bytes; that is no result of a self-test"
            )
        return bytes(content)


def _why_no_result(login: Login, said: Said) -> InputError | StageError:
    lines = said.errors.strip().splitlines()
    refused = [line for line in lines if line.startswith("sudo:") or "sudoers" in line]
    if refused:
        hint = "deploy with --ask-password" if login.password is None else "is the password right?"
        return InputError(f"sudo on {login.host} refuses {login.user}: {_shown(refused[0])}; {hint}")
    last = f": {_shown(lines[-1])}" if lines else ""
    return StageError(f"the self-test on {login.host} left no result (exit code {said.code}){last}")


def read_returned(login: Login, result: bytes, outputs: bytes | None) -> Returned:
    """Return what the board says in *result*, with its *outputs*.

    Raises:
        InputError: the board says that the bundle or the bit file is not the right one.
        StageError: it says that its hardware does not finish, or what came back is no result.
    """
    try:
        content = _json_of(result)
        if "error" in content:
            error = StageError if content.get("exit_code") == 4 else InputError
            raise error(f"the self-test on {login.host} says: {_shown(str(content['error']))}")
        said = BoardResult.model_validate(content)
        codes = _codes_of(outputs or b"")
    except (ValueError, TypeError, RecursionError, ValidationError) as error:
        raise StageError(f"what {login.host} returned is no result of a self-test: {_shown(str(error))}") from error
    if (said.exit_code == 0) != (said.differing == 0):
        raise StageError(f"{login.host} returned exit code {said.exit_code} with {said.differing} differing codes")
    return Returned(said, codes)


def _json_of(content: bytes) -> dict[str, Any]:
    """Return the JSON object *content*.

    Raises:
        ValueError: it is none, or holds what JSON has no number or no character for.
    """

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no number of JSON")

    found = json.loads(content, parse_constant=refuse)
    if not isinstance(found, dict):
        raise TypeError(f"a result is an object, not {type(found).__name__}")
    json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no character
    return found


def _codes_of(content: bytes) -> Codes:
    """Return the codes in the file *content*, shape (N, outputs); nothing but its shape is taken from its header.

    Raises:
        ValueError: it is no file of int64 codes.
    """
    length = int.from_bytes(content[8:10], "little")
    header = HEADER.fullmatch(content[10 : 10 + length]) if content.startswith(b"\x93NUMPY\x01\x00") else None
    if header is None:
        raise ValueError("outputs.npy is no file of int64 codes, shape (N, outputs)")
    shape = (int(header.group(1)), int(header.group(2)))
    body = content[10 + length :]
    if len(body) != 8 * shape[0] * shape[1]:
        raise ValueError(f"outputs.npy of shape {shape} has {len(body)} bytes of codes")
    return np.frombuffer(body, dtype="<i8").reshape(shape).astype(np.int64)


def _shown(text: str) -> str:
    """Return what a board says as a message can show it: short, and without control characters."""
    short = text[:2000]
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in short)
