"""An SSH server in this process, without sshd or root: what a board does that is broken or hostile is played by it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

SelfTestPlayed = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class Loopback:
    """A server that is on, and the commands that came."""

    port: int
    known_hosts: Path
    key: Path
    commands: list[str]


@contextlib.contextmanager
def ssh_loopback(
    folder: Path, selftest: SelfTestPlayed, sftp: Callable[[Any], asyncssh.SFTPServer] | None = None
) -> Iterator[Loopback]:
    """Yield a server whose users' home is the folder ``home`` in *folder*; *selftest* plays the self-test."""
    home = folder / "home"
    home.mkdir(parents=True)
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    user_key.write_private_key(folder / "key")
    commands: list[str] = []

    async def run(process: Any) -> None:  # noqa: ANN401  of asyncssh, which has no type for bytes here
        commands.append(process.command)
        if "bash selftest.sh" in process.command:
            await selftest(process)
            return
        done = await asyncio.create_subprocess_shell(process.command, cwd=home, stdout=asyncio.subprocess.PIPE)
        output, _ = await done.communicate()
        process.stdout.write(output)
        process.exit(done.returncode or 0)

    connections: list[Any] = []

    class AnyUser(asyncssh.SSHServer):  # type: ignore[misc]
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)

        def begin_auth(self, username: str) -> bool:
            return False

    ready: Future[int] = Future()
    ended: list[Callable[[], object]] = []

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        ended.append(lambda: loop.call_soon_threadsafe(over.set))
        server = await asyncssh.create_server(
            AnyUser,
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            process_factory=run,
            sftp_factory=sftp or (lambda chan: asyncssh.SFTPServer(chan, chroot=str(home))),
            encoding=None,
        )
        ready.set_result(server.get_port())
        await over.wait()
        server.close()
        for connection in connections:
            connection.abort()
        await asyncio.sleep(0.05)  # files and sockets are closed in the next turns of the loop

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    port = ready.result(20)
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
    try:
        yield Loopback(port, known_hosts, folder / "key", commands)
    finally:
        ended[0]()
        thread.join(10)
