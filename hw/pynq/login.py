"""Logging in to a board over SSH: who, where, with which keys; the host key is always checked.

The configuration files of ssh are not read: a line in them could turn the check of the host key off, or run a program.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bitproof.pipeline import ConfigError, InputError, StageError
from bitproof.pipeline.errors import one_line
from bitproof.pipeline.plain_file import read_bytes

if TYPE_CHECKING:
    import asyncssh

SSH_PORT = 22
LOGIN = r"([A-Za-z_][A-Za-z0-9_.-]*)@([A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?"
CONNECT_S, CLOSE_S = 30.0, 5.0
"""Limits in seconds: of connecting, and of taking leave."""
MAX_KEY_BYTES = 1 << 24
GLOBAL_HOST_KEYS = Path("/etc/ssh/ssh_known_hosts")
KNOWN_HINT = "give one that ssh wrote: --known-hosts ~/.ssh/known_hosts, or log in once with ssh"


@dataclass(frozen=True, slots=True)
class Login:
    """Where to log in, and how.

    Attributes:
        user: on the board.
        host: its name or address.
        port: of its SSH server.
        known_hosts: the file of host keys; None: those of ssh, of the user and of the machine.
        keys: files of private keys; empty: those of the user, and of an agent.
        password: of the user, for SSH and sudo, if it was asked for.
    """

    user: str
    host: str
    port: int = SSH_PORT
    known_hosts: Path | None = None
    keys: tuple[Path, ...] = ()
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Login:
        """Return the login that ``USER@HOST`` or ``USER@HOST:PORT`` names.

        Raises:
            ConfigError: it is neither.
        """
        match = re.fullmatch(LOGIN, text)
        if match is None or int(match.group(3) or SSH_PORT) not in range(1, 1 << 16):
            raise ConfigError(
                f"--to {text!r} names no board; write USER@HOST or USER@HOST:PORT, as xilinx@192.168.2.99"
            )
        return cls(match.group(1), match.group(2).strip("[]"), int(match.group(3) or SSH_PORT))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + ("" if self.port == SSH_PORT else f":{self.port}")

    @property
    def ssh_arguments(self) -> str:
        """For ``ssh`` and ``ssh-copy-id``, which take no port behind the host."""
        return ("" if self.port == SSH_PORT else f"-p {self.port} ") + f"{self.user}@{self.host}"


def known_host_keys(path: Path | None) -> asyncssh.SSHKnownHosts:
    """Return the host keys in the file *path*; None: those of ssh, and none at all where it has no file.

    Raises:
        InputError: a file cannot be read, or is no file of host keys.
    """
    import asyncssh

    texts = []
    for file in (Path.home() / ".ssh" / "known_hosts", GLOBAL_HOST_KEYS) if path is None else (path,):
        try:
            text = read_bytes(file, MAX_KEY_BYTES).decode("utf-8")
            asyncssh.import_known_hosts(text)
        except FileNotFoundError as error:
            if path is not None:
                raise InputError(f"{file} holds no host keys: there is no such file; {KNOWN_HINT}") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{file} holds no host keys: {_reason(error)}; {KNOWN_HINT}") from error
        else:
            texts.append(text)
    return asyncssh.import_known_hosts("\n".join(texts))


def require_private_keys(paths: tuple[Path, ...]) -> None:
    """Check that each of *paths* is a private key that can be used without a passphrase.

    Raises:
        InputError: one is not.
    """
    import asyncssh

    for path in paths:
        try:
            asyncssh.import_private_key(read_bytes(path, MAX_KEY_BYTES))
        except asyncssh.KeyImportError as error:
            hint = "give a private key of ssh: --key ~/.ssh/id_ed25519, or add one with a passphrase to the agent"
            raise InputError(f"--key {path} cannot be used: {one_line(str(error))}; {hint} (ssh-add)") from error
        except (OSError, ValueError) as error:
            raise InputError(
                f"--key {path} cannot be read: {_reason(error)}; give a private key of ssh: --key ~/.ssh/id_ed25519"
            ) from error


def _reason(error: OSError | ValueError) -> str:
    """Return what *error* says without the path, which the message has."""
    return one_line((error.strerror if isinstance(error, OSError) else None) or str(error))


@asynccontextmanager
async def connected(login: Login) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect to the board, and leave it at the end within a time limit.

    Raises:
        InputError: a file of keys cannot be read, or the board is not the one that is known, or refuses the user.
        StageError: it cannot be reached.
    """
    connection = await _connect(login)
    try:
        yield connection
    finally:
        connection.close()
        try:
            await asyncio.wait_for(connection.wait_closed(), CLOSE_S)
        except TimeoutError:
            connection.abort()


async def _connect(login: Login) -> asyncssh.SSHClientConnection:
    import asyncssh

    require_private_keys(login.keys)
    known_hosts = known_host_keys(login.known_hosts)
    try:
        return await asyncssh.connect(
            login.host,
            login.port,
            config=None,
            username=login.user,
            known_hosts=known_hosts,
            client_keys=[str(key) for key in login.keys] or (),
            agent_path=() if not login.keys else None,
            password=login.password,
            preferred_auth="password,keyboard-interactive" if login.password is not None else "publickey",
            connect_timeout=CONNECT_S,
            login_timeout=CONNECT_S,
            keepalive_interval=10,
            keepalive_count_max=3,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise InputError(
            f"the host key of {login.host} is not one that is known ({one_line(error.reason)}). Compare its "
            "fingerprint on the board (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then log in once with "
            f"ssh {login.ssh_arguments}"
        ) from error
    except asyncssh.PermissionDenied as error:
        raise InputError(
            f"{login.host} does not let {login.user} in: copy a key to it (ssh-copy-id {login.ssh_arguments}), or "
            "--ask-password"
        ) from error
    except (OSError, asyncssh.Error) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise StageError(f"{login.host} port {login.port} cannot be reached: {reason}; is the board on?") from error
    except ValueError as error:  # a name that no host can have, or a key of the user's that is damaged
        raise InputError(
            f"cannot log in to {login}: {one_line(str(error))}; write --to USER@HOST with the board's name or address, "
            "and --key FILE if a key in ~/.ssh is damaged"
        ) from error
