"""A root folder in which a Dockerfile is carried out where there is no container engine.

debootstrap makes what the base image is made from. Everything runs by ``chroot`` in mount and process namespaces of its
own (``unshare``): /proc is mounted in them alone and goes with them, so that the folder never holds a mount when it is
removed, and nothing outlives the program that it was started for.
"""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.dockerfile import Copy, Run
from bitproof.pipeline.errors import InputError, StageError, ToolMissingError
from bitproof.pipeline.toolchain import APT, Tool, run_program

RELEASES = {"debian:12-slim": "bookworm"}
"""Of each base image, the Debian release that it holds."""
TOOLS = (
    Tool("debootstrap", "1.0.128", f"{APT} debootstrap"),
    Tool("unshare", "2.38", f"{APT} util-linux"),
    Tool("chroot", "9.1", f"{APT} coreutils"),
)
OF_THE_MACHINE = ("/etc/pip.conf", "/etc/resolv.conf")
"""How this machine reaches Debian's and Python's archives; copied into the base, and not counted."""
APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
CERTIFICATES = "/etc/certificates-of-the-machine.pem"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
TIMEOUT_S = 1800

Stamp = tuple[int, int, int, int]
"""Device number, size, time of change of the content, and of the file's attributes."""


def require_tools(needed_by: str) -> None:
    """Require what a root is made with.

    Raises:
        ToolMissingError: a program is not on this machine, or this process has not root's rights.
    """
    for tool in TOOLS:
        tool.require(needed_by)
    if os.geteuid() != 0:
        raise ToolMissingError("root's rights", needed_by=needed_by, install=f"sudo {needed_by}")


@dataclass(frozen=True, slots=True)
class Root:
    """A root in *folder*, made for *needed_by*; what programs say is appended to *log*."""

    folder: Path
    log: Path
    needed_by: str

    def make(self, base: str) -> int:
        """Fill the folder with what the image *base* holds, and return how many bytes that are.

        Raises:
            InputError: it is not known what the base is made from.
            StageError: debootstrap failed.
        """
        if base not in RELEASES:
            raise InputError(f"the base {base!r} is not known; known: {', '.join(RELEASES)}")
        # It mounts /proc in the folder while it works, and may be ended meanwhile.
        argv = [*APART, "--mount-proc", "debootstrap", "--variant=minbase", RELEASES[base], str(self.folder)]
        run_program(argv, needed_by=self.needed_by, cwd=self.folder, log=self.log, timeout_s=TIMEOUT_S)
        self.run(Run("apt-get clean && rm -rf /var/lib/apt/lists/*"))  # which the image does not hold
        size_bytes = added_bytes({}, self.files())
        for path in OF_THE_MACHINE:
            if Path(path).is_file():
                shutil.copyfile(path, self._inside(path))
        bundle = ssl.get_default_verify_paths().cafile
        if bundle is not None:
            shutil.copyfile(bundle, self._inside(CERTIFICATES))
        return size_bytes

    def add(self, layer: Run | Copy, project: Path) -> int:
        """Carry out *layer*, with files of *project*, and return how many bytes it adds, as a layer of an image does.

        That are all bytes of every file that is new or changed.
        """
        before = self.files()
        if isinstance(layer, Run):
            self.run(layer)
        else:
            for source in layer.sources:
                target = self._inside(layer.folder) / Path(source).name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(project / source, target)
                target.chmod(0o644)
        return added_bytes(before, self.files())

    def run(self, line: Run) -> None:
        """Carry out *line* by the root's shell, as root."""
        environment = dict(ENVIRONMENT)
        if self._inside(CERTIFICATES).is_file():
            environment["PIP_CERT"] = CERTIFICATES
        self._program(self.entered(["/bin/sh", "-c", line.line]), environment)

    def ask(self, argv: Sequence[str], user: str) -> str:
        """Run an argument list as *user*, ``USER:GROUP`` in numbers, and return its standard output."""
        return self._program(self.entered(argv, user), ENVIRONMENT)

    def files(self) -> dict[str, Stamp]:
        """Return of every file and link in the root what a change of it changes."""
        found: dict[str, Stamp] = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                state = path.lstat()
                stamp = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
                found[str(path.relative_to(self.folder))] = stamp
        return found

    def _inside(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def entered(self, argv: Sequence[str], user: str | None = None) -> list[str]:
        """Return the argument list that runs *argv* in the root, in namespaces of its own; without *user* as root."""
        options = [] if user is None else [f"--userspec={user}", "--groups="]
        return [*APART, f"--mount-proc={self.folder / 'proc'}", "chroot", *options, str(self.folder), *argv]

    def _program(self, argv: Sequence[str], environment: Mapping[str, str]) -> str:
        return run_program(
            argv,
            needed_by=self.needed_by,
            cwd=self.folder,
            log=self.log,
            timeout_s=TIMEOUT_S,
            environment=environment,
        )


def added_bytes(before: Mapping[str, Stamp], after: Mapping[str, Stamp]) -> int:
    """Return how many bytes the files hold that are in *after* and not, or otherwise, in *before*; each file once."""
    changed = {stamp[0]: stamp[1] for path, stamp in after.items() if before.get(path) != stamp}
    return sum(changed.values())


@contextmanager
def temporary_root(needed_by: str) -> Iterator[Root]:
    """Yield an empty root in a temporary folder, which is removed afterwards.

    Raises:
        StageError: something is mounted in it, in spite of the namespaces; it is left as it is then.
    """
    parent = Path(tempfile.mkdtemp(prefix="bitproof-image-"))
    folder = parent / "root"
    folder.mkdir(mode=0o755)
    try:
        yield Root(folder, parent / "log", needed_by)
    finally:
        held = mounts_in(parent)
        if held:
            raise StageError(f"{', '.join(held)} is mounted: unmount it, then remove {parent}")
        shutil.rmtree(parent)


def mounts_in(folder: Path, table: Path = Path("/proc/self/mounts")) -> list[str]:
    """Return where in *folder* something is mounted, by the kernel's *table*."""
    points = [line.split()[1].encode().decode("unicode_escape") for line in table.read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(folder)]
