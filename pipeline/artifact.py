"""Immutable, content-addressed outputs of stages.

An artifact is a folder of payload files and a manifest, ``artifact.json``, that holds their SHA-256 and
those of the artifacts it was made from. A stage writes into a temporary folder that is renamed when it is
complete, so a folder that has a manifest is whole, whatever happened to the process that was writing it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bitproof.pipeline.errors import IntegrityError
from bitproof.pipeline.plain_file import read_json

MANIFEST = "artifact.json"


def sha256_of_bytes(content: bytes) -> str:
    """Return the SHA-256 of *content* as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_of(folder: Path) -> str:
    """Return the SHA-256 over the sorted names, sizes and bytes of all payload files in *folder*.

    The manifest itself is left out. Symbolic links are refused: their target is not part of the artifact.

    Raises:
        IntegrityError: *folder* holds no file, or holds a link.
    """
    hasher = hashlib.sha256()
    payload = plain_files(folder)
    if not payload:
        raise IntegrityError(f"artifact {folder} holds no files")
    for path in payload:
        name = path.relative_to(folder).as_posix()
        content = path.read_bytes()
        hasher.update(f"{len(name)}:{name}:{len(content)}:".encode())
        hasher.update(content)
    return hasher.hexdigest()


def plain_files(folder: Path) -> list[Path]:
    """Return the files below *folder* by their paths, its manifest left out.

    Raises:
        IntegrityError: there is a link, a pipe, a device or anything else that is neither file nor folder: what is read
            from it is not part of the artifact.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found.append(path)
        elif not stat.S_ISDIR(mode):
            kind = "link" if stat.S_ISLNK(mode) else "special file"
            name = path.relative_to(folder).as_posix()
            raise IntegrityError(f"artifact {folder} holds the {kind} {name}; copy the file instead")
    return [path for path in found if path != folder / MANIFEST]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One stage's output, identified by what is in it and never edited in place.

    Attributes:
        stage: name of the stage that made it.
        kind: what it is, for example ``checkpoint`` or ``integer-model``.
        path: its folder.
        sha256: digest of the payload, see :func:`digest_of`.
        made_from: digests of its sources.
        tools: name and version of every tool that took part.
    """

    stage: str
    kind: str
    path: Path
    sha256: str
    made_from: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Artifact:
        """Read the manifest of *folder*; the payload is not hashed again, see :meth:`verify`.

        Raises:
            IntegrityError: there is no manifest, or it cannot be read.
        """
        try:
            manifest = read_json(folder / MANIFEST)
            return cls(
                stage=str(manifest["stage"]),
                kind=str(manifest["kind"]),
                path=folder,
                sha256=str(manifest["sha256"]),
                made_from=tuple(str(s) for s in manifest["made_from"]),
                tools={str(k): str(v) for k, v in manifest["tools"].items()},
            )
        except FileNotFoundError as error:
            raise IntegrityError(f"{folder} holds no complete artifact (no {MANIFEST}); run the stage again") from error
        except PermissionError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(f"{folder / MANIFEST} is damaged: {error}") from error

    def verify(self) -> None:
        """Hash the payload again.

        Raises:
            IntegrityError: it is not the payload that was hashed when the artifact was made.
        """
        actual = digest_of(self.path)
        if actual != self.sha256:
            raise IntegrityError(
                f"artifact {self.stage!r} at {self.path} was changed after it was made: "
                f"SHA-256 {actual}, recorded {self.sha256}. Delete the folder and run the stage again"
            )


def seal(
    partial: Path,
    final: Path,
    *,
    stage: str,
    kind: str,
    made_from: tuple[str, ...],
    tools: Mapping[str, str],
) -> Artifact:
    """Hash the finished folder *partial*, write its manifest, and rename it to *final*.

    The rename is the commit: before it nothing has the final name, after it everything has.
    """
    sha256 = digest_of(partial)
    manifest = {
        "stage": stage,
        "kind": kind,
        "sha256": sha256,
        "made_from": list(made_from),
        "tools": dict(sorted(tools.items())),
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    return Artifact(stage, kind, final, sha256, made_from, dict(tools))
