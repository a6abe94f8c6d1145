"""Deployment over SSH: a bundle is uploaded, its self-test is run as root, and what it gives is brought back.

Each file goes to a temporary name and is renamed when its digest on the board is right. The temporary name holds the
digest, so that an upload that was cut is resumed. Nothing but the SSH server of the board is used; no secret is kept or
logged.
"""

from __future__ import annotations

import asyncio
import math
import posixpath
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from bitproof.hw.pynq.board.bitproof_driver import MAX_TIMEOUT_S
from bitproof.hw.pynq.bundle import BUNDLED, SUMS, expected_shape
from bitproof.hw.pynq.login import Login, connected
from bitproof.hw.pynq.returned import Returned, most_output_bytes, read_returned, said_by
from bitproof.pipeline import ConfigError, InputError, StageError
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.config import RUN_NAME
from bitproof.pipeline.progress import Progress, silent

if TYPE_CHECKING:
    import asyncssh

FOLDER = "bitproof"
"""Of all bundles, in the home of the user on the board."""
RESULT, OUTPUTS = "result.json", "outputs.npy"
MAX_RESULT_BYTES, MAX_SAID_BYTES = 1 << 20, 1 << 20
"""Of the result, and of what is kept of each output of a command."""
BLOCK_BYTES = 1 << 15
STOPPED = (124, 137)
"""Exit codes of timeout, when it ended its command, and when it had to kill it."""
COMMAND_S, TRANSFER_S, TEST_S, GRACE_S = 60.0, 120.0, 900.0, 30.0
"""Limits in seconds: of a command, of the transfer of one block, of a self-test whose DMA finishes, and how much longer
than the board is waited here."""
AGAIN = "run the same command again to resume"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SelfTest:
    """How the self-test is run: most images of a transfer, seconds of a wait, repeats of a measurement, and a limit."""

    batch: int = 1000
    timeout_s: float = 10.0
    repeats: int = 20
    limit_s: float = TEST_S

    def __post_init__(self) -> None:
        """Refuse what the driver would refuse on the board.

        Raises:
            ConfigError: a number is out of its range.
        """
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            raise ConfigError(
                f"--dma-timeout {self.timeout_s:g} is not possible; allowed: 0 < seconds <= {MAX_TIMEOUT_S}"
            )
        if self.batch < 1 or self.repeats < 0:
            raise ConfigError(
                f"--batch {self.batch} --repeats {self.repeats} are not possible; allowed: 1 and 0 at least"
            )

    @property
    def arguments(self) -> tuple[str, ...]:
        """For ``selftest.sh``."""
        return ("--batch", str(self.batch), "--timeout", f"{self.timeout_s:g}", "--repeats", str(self.repeats))


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
    shape = expected_shape(files)
    asyncio.get_running_loop().set_exception_handler(_without_lost_requests)
    async with connected(login) as connection, _explained(login):
        board = Board(login, connection, posixpath.join(FOLDER, name))
        await board.upload(files, progress)
        said = await board.test(test)
        result = await board.fetch(RESULT, MAX_RESULT_BYTES)
        if result is None:
            raise _why_no_result(login, said)
        outputs = await board.fetch(OUTPUTS, most_output_bytes(shape))
    return read_returned(login.host, result, outputs, shape)


def _without_lost_requests(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report *context* unless it is a request that was given up: why it was is in the error for the user."""
    import asyncssh

    if not isinstance(context.get("exception"), asyncssh.Error):
        loop.default_exception_handler(context)


@asynccontextmanager
async def _explained(login: Login) -> AsyncIterator[None]:
    """Turn what SSH raises into errors for the user."""
    import asyncssh

    try:
        yield
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError) as error:
        raise StageError(f"the connection to {login.host} was lost ({said_by(error.reason)}); {AGAIN}") from error
    except (asyncssh.ChannelOpenError, TimeoutError, OSError) as error:
        reason = said_by(str(error)) or "no answer in time"
        raise StageError(f"the connection to {login.host} was lost ({reason}); {AGAIN}") from error
    except asyncssh.SFTPError as error:
        raise StageError(
            f"{login.host} could not write the bundle: {said_by(error.reason) or 'failure'} (is its disk full?); "
            f"{AGAIN}"
        ) from error


@dataclass(frozen=True, slots=True)
class _Counted:
    """Bytes of one file, counted behind those that were sent before."""

    progress: Progress
    before: int
    total: int

    def __call__(self, sent: int) -> None:
        self.progress("upload", self.before + sent, self.total)


async def within(call: Awaitable[T], limit_s: float | None = None) -> T:
    """Return what *call* gives within *limit_s* seconds, by default COMMAND_S: a board may be silent at any time."""
    return await asyncio.wait_for(call, COMMAND_S if limit_s is None else limit_s)


@dataclass(frozen=True, slots=True)
class Said:
    """The end of what a command on the board printed, and how it ended; None: it was killed."""

    code: int | None
    output: str
    errors: str


async def _tail(stream: asyncssh.SSHReader[bytes]) -> str:
    """Read *stream* to its end and return the last part of it."""
    kept = b""
    while block := await stream.read(BLOCK_BYTES):
        kept = (kept + block)[-MAX_SAID_BYTES:]
    return kept.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Board:
    """A board that is connected, and the folder of the bundle on it, relative to the user's home."""

    login: Login
    connection: asyncssh.SSHClientConnection
    folder: str

    @asynccontextmanager
    async def _sftp(self) -> AsyncIterator[asyncssh.SFTPClient]:
        sftp = await within(self.connection.start_sftp_client())
        try:
            yield sftp
        finally:
            sftp.exit()

    async def upload(self, files: Mapping[str, bytes], progress: Progress) -> None:
        """Bring *files* into the folder, those that are there with these bytes left out; SHA256SUMS is the last one."""
        async with self._sftp() as sftp:
            await within(sftp.makedirs(self.folder, exist_ok=True))
            names = [*(name for name in sorted(files) if name != SUMS), SUMS]
            there = await self._digests(names)
            missing = [name for name in names if there.get(name) != sha256_of_bytes(files[name])]
            total = sum(len(files[name]) for name in missing) or 1
            done = 0
            for name in missing:
                await self._put(sftp, name, files[name], _Counted(progress, done, total))
                done += len(files[name])
            for name in (RESULT, OUTPUTS):  # of an earlier test
                if await within(sftp.exists(posixpath.join(self.folder, name))):
                    await within(sftp.remove(posixpath.join(self.folder, name)))

    async def _put(self, sftp: asyncssh.SFTPClient, name: str, content: bytes, sent: Callable[[int], None]) -> None:
        digest = sha256_of_bytes(content)
        partial = f".{name}.{digest[:16]}.partial"
        path = posixpath.join(self.folder, partial)
        begun = int((await within(sftp.stat(path))).size or 0) if await within(sftp.exists(path)) else 0
        place = begun if begun <= len(content) else 0
        file = await within(sftp.open(path, "r+b" if place else "wb"))
        try:
            while place < len(content):
                sent(place)
                block = content[place : place + BLOCK_BYTES]
                await within(file.write(block, place), TRANSFER_S)
                place += len(block)
        finally:
            await within(file.close())
        if (await self._digests([partial])).get(partial) != digest:
            await within(sftp.remove(path))
            raise StageError(f"{name} arrived damaged on {self.login.host} and was deleted; {AGAIN}")
        await within(sftp.posix_rename(path, posixpath.join(self.folder, name)))

    async def _digests(self, names: list[str]) -> dict[str, str]:
        """Return the SHA-256 of those of *names* that are there."""
        command = f"cd {shlex.quote(self.folder)} && sha256sum -- {shlex.join(names)} 2>/dev/null"
        said = await within(self._run(command))
        lines = [line.partition("  ") for line in said.output.splitlines()]
        return {name: digest for digest, _, name in lines}

    async def _run(self, command: str, given: str = "") -> Said:
        """Run *command* with *given* on its standard input; whatever it prints, a bounded part of it is kept."""
        process = await self.connection.create_process(command, encoding=None)
        async with process:
            try:
                process.stdin.write(given.encode())
                process.stdin.write_eof()
            except BrokenPipeError:  # it has ended already
                pass
            output, errors = await asyncio.gather(_tail(process.stdout), _tail(process.stderr))
        return Said(process.exit_status, output, errors)

    async def test(self, test: SelfTest) -> Said:
        """Run the self-test as root and wait for its end; the board ends it, too, when the time is over."""
        limit_s = str(math.ceil(test.limit_s))
        script = shlex.join(("timeout", "-k", "5", limit_s, "bash", "selftest.sh", *test.arguments))
        if self.login.user == "root":
            root, given = "", ""
        elif self.login.password is None:
            root, given = "sudo -n -- ", ""
        else:
            root, given = "sudo -S -p '' -- ", f"{self.login.password}\n"
        command = f"cd {shlex.quote(self.folder)} && exec {root}{script}"
        try:
            said = await within(self._run(command, given), test.limit_s + GRACE_S)
        except TimeoutError:
            said = None
        if said is None or said.code in STOPPED:
            raise StageError(
                f"the self-test on {self.login.host} did not end within {test.limit_s:g} s; is the board still there?"
            )
        return said

    async def fetch(self, name: str, most: int) -> bytes | None:
        """Return what the file *name* in the folder holds, at most *most* bytes; None if there is none.

        Raises:
            StageError: it is larger.
        """
        path = posixpath.join(self.folder, name)
        async with self._sftp() as sftp:
            if not await within(sftp.exists(path)):
                return None
            file = await within(sftp.open(path, "rb"))
            content = b""
            while len(content) <= most:
                block = await within(file.read(min(MAX_SAID_BYTES, most + 1 - len(content)), len(content)), TRANSFER_S)
                if not block:
                    return content
                content += bytes(block)
        raise StageError(f"{name} on {self.login.host} has more than {most} bytes; that is no result of a self-test")


def _why_no_result(login: Login, said: Said) -> InputError | StageError:
    lines = said.errors.strip().splitlines()
    refused = [line for line in lines if line.startswith("sudo:") or "sudoers" in line]
    if refused:
        hint = "deploy with --ask-password" if login.password is None else "is the password right?"
        return InputError(f"sudo on {login.host} refuses {login.user}: {said_by(refused[0])}; {hint}")
    last = f": {said_by(lines[-1])}" if lines else ""
    return StageError(f"the self-test on {login.host} left no result (exit code {said.code}){last}")
