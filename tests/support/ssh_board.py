"""A board on loopback: a real sshd in a chroot that holds what PYNQ's image would, with a simulated fabric.

The root has this machine's system folders, a Python with numpy, and the simulated package pynq; nothing of the project.
It lives in mount and process namespaces of its own, and ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess  # noqa: TID251  a server of a test
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bitproof.hw.pynq.simulated import fabric

SSHD, SUDO = Path("/usr/sbin/sshd"), Path("/usr/bin/sudo")
USER, PASSWORD = "xilinx", "correct horse battery"
ALLOWED, ASKED, REFUSED = f"{USER} ALL=(ALL) NOPASSWD: ALL", f"{USER} ALL=(ALL) ALL", ""
"""What sudo grants the user: everything, everything for the password, nothing."""
FILES = {
    "etc/passwd": f"root:x:0:0::/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
    f"{USER}:x:1000:1000::/home/{USER}:/bin/bash\n",
    "etc/group": f"root:x:0:\n{USER}:x:1000:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\n",
    "etc/hosts": "127.0.0.1 localhost pynq\n",
    "etc/pam.d/sudo": "auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n",
    "etc/profile.d/pynq_venv.sh": "export PATH=/opt/python/bin:$PATH PYTHONPATH=/opt/site\n",
}
CONFIG = f"""Port {{port}}
ListenAddress 127.0.0.1
HostKey /etc/ssh/host_key
PidFile none
UsePAM no
AllowUsers {USER}
AuthorizedKeysFile /etc/ssh/authorized_keys
StrictModes no
PasswordAuthentication yes
Subsystem sftp internal-sftp
"""


def why_no_board() -> str:
    """Return why there can be none on this machine; empty: there can."""
    if os.geteuid() != 0:
        return "namespaces and a chroot need root"
    missing = [path.name for path in (SSHD, SUDO) if not path.is_file()]
    return f"missing: {', '.join(missing)} (apt-get install openssh-server sudo)" if missing else ""


@dataclass
class SshBoard:
    """A board that is on."""

    folder: Path
    port: int
    known_hosts: Path
    key: Path
    pid: int = 0

    @property
    def home(self) -> Path:
        """The home of the user, as the board's processes see it."""
        return Path(f"/proc/{self.pid}/root/home/{USER}")

    @property
    def options(self) -> tuple[object, ...]:
        """Of ``bitproof deploy``."""
        return ("--known-hosts", self.known_hosts, "--key", self.key)

    def grant(self, line: str) -> None:
        """Let sudo grant what *line* says."""
        path = self.folder / "root" / "etc" / "sudoers"
        path.unlink(missing_ok=True)
        path.write_text(f"Defaults !fqdn, !lecture\n{line}\n")
        path.chmod(0o440)


@contextlib.contextmanager
def ssh_board(folder: Path, *, home_bytes: int = 1 << 28) -> Iterator[SshBoard]:
    """Yield a board whose root lies in the new *folder*; the home of its user holds *home_bytes*."""
    root = folder / "root"
    make_root(root)
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "host_key", root / "etc" / "ssh" / "host_key")
    shutil.copy(folder / "user_key.pub", root / "etc" / "ssh" / "authorized_keys")
    (root / "etc" / "ssh" / "authorized_keys").chmod(0o644)
    port = free_port()
    (root / "etc" / "ssh" / "sshd_config").write_text(CONFIG.format(port=port))
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    board = SshBoard(folder, port, known_hosts, folder / "user_key")
    board.grant(ALLOWED)
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script_of(root, home_bytes)]
    with (folder / "sshd.log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            wait_for(port, process, folder / "sshd.log")
            (children,) = Path(f"/proc/{process.pid}/task").glob("*/children")
            board.pid = int(children.read_text().split()[0])
            yield board
        finally:
            process.kill()


def make_root(root: Path) -> None:
    for name in ("etc/ssh", "etc/pam.d", "etc/profile.d", f"home/{USER}", "run/sshd", "proc", "dev", "tmp", "usr"):
        (root / name).mkdir(parents=True)
    for name in ("opt/python", "opt/site/numpy", "opt/site/numpy.libs", "root"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("null", "zero", "urandom"):
        (root / "dev" / name).touch()
    for name, text in FILES.items():
        (root / name).write_text(text)
    (root / "tmp").chmod(0o1777)
    shutil.copy(fabric.MODULE, root / "opt" / "site" / "pynq.py")
    argv = ["openssl", "passwd", "-6", "-stdin"]
    digest = subprocess.run(argv, input=PASSWORD, text=True, capture_output=True, check=True).stdout.strip()
    (root / "etc" / "shadow").write_text(f"root:*:1::::::\n{USER}:{digest}:1::::::\n")
    (root / "etc" / "shadow").chmod(0o600)


def script_of(root: Path, home_bytes: int) -> str:
    """Return the shell script that mounts what the root lacks, and becomes its sshd."""
    site = Path(np.__file__).parent
    bound = {
        "/usr": "usr",
        sys.base_prefix: "opt/python",
        str(site): "opt/site/numpy",
        str(site.with_name("numpy.libs")): "opt/site/numpy.libs",
        **{f"/dev/{name}": f"dev/{name}" for name in ("null", "zero", "urandom")},
    }
    lines = ["mount --make-rprivate /"]
    lines += [f"mount --rbind '{source}' '{root / target}'" for source, target in bound.items()]
    lines.append(f"mount -t proc proc '{root / 'proc'}'")
    home = root / "home" / USER
    lines.append(f"mount -t tmpfs -o size={home_bytes},uid=1000,gid=1000,mode=0755 tmpfs '{home}'")
    return "\n".join([*lines, f"exec chroot '{root}' {SSHD} -D -e -f /etc/ssh/sshd_config"])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the board did not start:\n{log.read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail("the board did not start in a minute")


@dataclass
class Cut:
    """A relay to a board that ends its connection after *most* bytes from the client."""

    target: int
    most: int
    passed: int = 0
    port: int = field(default_factory=free_port)

    @contextlib.contextmanager
    def relaying(self) -> Iterator[None]:
        """Relay one connection after the other while the block runs."""
        with socket.create_server(("127.0.0.1", self.port)) as server:
            threading.Thread(target=self._serve, args=(server,), daemon=True).start()
            yield

    def _serve(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                board = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self._back, args=(board, client), daemon=True).start()
                self._forth(client, board)

    def _forth(self, client: socket.socket, board: socket.socket) -> None:
        with client, board, contextlib.suppress(OSError):
            while self.passed < self.most and (block := client.recv(min(4096, self.most - self.passed))):
                self.passed += len(block)
                board.sendall(block)
            for end in (client, board):
                end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _back(board: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := board.recv(65536):
                client.sendall(block)
