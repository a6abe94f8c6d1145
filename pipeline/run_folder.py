"""One run on disk: where its artifacts, checks, ledger, report and logs are."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bitproof.pipeline.artifact import Artifact, sha256_of_bytes
from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.errors import InputError
from bitproof.pipeline.import_config import ImportConfig, SourceFile
from bitproof.pipeline.ledger import FailureEntry
from bitproof.pipeline.plain_file import MAX_JSON_BYTES, read_bytes, read_json
from bitproof.pipeline.stage import INPUTS
from bitproof.pipeline.toolchain import cache_folder

CONFIG = "config.json"

Config = RunConfig | ImportConfig
"""Of a run that trains a network, or of one that begins with a QONNX file."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder ``runs/<name>`` of one configuration."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run in the existing folder *path*.

        Raises:
            InputError: it is not a run.
        """
        try:
            folder = cls(path.resolve())
            holds_config = (folder.path / CONFIG).is_file()
        except (OSError, RuntimeError) as error:  # a name that is too long, a loop of links
            raise InputError(f"{path} is not a run: {error}") from error
        if not holds_config:
            raise InputError(f"{path} is not a run (it holds no {CONFIG}); give the folder that 'bitproof run' made")
        return folder

    @classmethod
    def named(cls, name: str, *, runs: Path) -> RunFolder:
        """Return the run *name* in the folder *runs*; neither needs to exist.

        Raises:
            InputError: *runs* is no folder and none can be made there.
        """
        try:
            folder = cls((runs / name).resolve())
            for taken in (folder.path, *folder.path.parents):
                if taken.exists() and not taken.is_dir():
                    raise InputError(f"{taken} is a file; runs need a folder: --runs FOLDER")
        except (OSError, RuntimeError, ValueError) as error:  # a name that is too long or none, a loop of links
            raise InputError(f"runs cannot be kept in {runs}: {error}; give a folder: --runs FOLDER") from error
        return folder

    @property
    def ledger(self) -> Path:
        """The ledger."""
        return self.path / "ledger.json"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def costs(self) -> Path:
        """What the parts of the executors cost, for machines."""
        return self.path / "report.json"

    @property
    def cache(self) -> Path:
        """Compiled simulators, shared by all runs beside this one, or by all runs if the user names a folder."""
        return cache_folder(self.path.parent / ".cache")

    @property
    def inputs(self) -> Path:
        """The users' files that the run keeps for its targets, each under its SHA-256."""
        return self.path / INPUTS

    def input_file(self, sha256: str) -> SourceFile:
        """Return where the user's file with this digest is kept for a target."""
        return SourceFile(path=self.inputs / sha256, sha256=sha256)

    def keep_input(self, file: SourceFile) -> None:
        """Copy *file* into the run unless it is there, so that it can be read and verified wherever the run is.

        Raises:
            InputError: neither the file nor the copy holds what it did when the run was configured.
        """
        kept = self.input_file(file.sha256).path
        for path in (kept, file.path):
            try:
                content = read_bytes(path, MAX_JSON_BYTES)
            except (OSError, ValueError):
                continue
            if sha256_of_bytes(content) == file.sha256:
                break
        else:
            raise InputError(
                f"{file.path} does not hold what it did when {self.path.name!r} was configured "
                f"(SHA-256 {file.sha256}); put that file back, or name another"
            )
        if path != kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(".partial")
            partial.write_bytes(content)
            partial.replace(kept)

    def write_config(self, config: Config) -> None:
        """Record the configuration; an equal one is left alone."""
        text = config_to_json(config)
        target = self.path / CONFIG
        if target.is_file() and target.read_text() == text:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(target)

    def config(self) -> Config:
        """Return the recorded configuration.

        Raises:
            InputError: it is damaged.
        """
        try:
            content = read_json(self.path / CONFIG)
            kind = ImportConfig if "source" in content else RunConfig
            return kind.model_validate(content)
        except PermissionError:
            raise
        except (OSError, ValueError, TypeError, RecursionError, ValidationError) as error:
            raise InputError(f"{self.path / CONFIG} is damaged ({error}); run 'bitproof run' again") from error

    def artifact(self, name: str) -> Artifact:
        """Return the artifact of the stage *name*.

        Raises:
            IntegrityError: there is none, or its manifest is damaged.
        """
        return Artifact.load(self.path / name)

    def check(self, name: str) -> Path:
        """Return where the result of the check of the executor *name* is."""
        return self.path / "checks" / f"{name}.json"

    def workdir(self, name: str) -> Path:
        """Return an existing folder for the files of the executor *name*; logs stay there."""
        folder = self.path / "scratch" / f"check-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def failure(self, name: str) -> Path:
        """Return where the failure of the stage or check *name* is recorded."""
        return self.path / "failures" / f"{name}.json"

    def failures(self) -> tuple[FailureEntry, ...]:
        """Return the recorded failures, in the order of their names."""
        return tuple(map(_failure, sorted((self.path / "failures").glob("*.json"))))

    def failed(self) -> frozenset[str]:
        """Return the stages and checks that did not succeed, those that have not said why included."""
        paths = [path for folder in ("failures", "ended") for path in (self.path / folder).glob("*")]
        return frozenset(path.name.removesuffix(".json") for path in paths)

    def file(self, name: str) -> Path:
        """Return the file called *name* in the folder."""
        return self.path / name

    def log(self, name: str) -> Path:
        """Return where the stage or check *name* writes what it does."""
        return self.path / "logs" / f"{name}.log"

    def running(self, name: str) -> Path:
        """Return the file that is there while the stage or check *name* is carried out; a killed process leaves it."""
        return self.path / "running" / name

    def ended(self, name: str) -> Path:
        """Return where the shell leaves the exit code of the stage or check *name* if it is not 0."""
        return self.path / "ended" / name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; the lock ends with the process, however it ends.

        Raises:
            InputError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(f"another process is working on {self.path}; wait for it to end") from error
            yield


def _failure(path: Path) -> FailureEntry:
    """Return the failure recorded at *path*; one whose record was cut, as by a full disk, is a failed stage."""
    try:
        return FailureEntry.model_validate(read_json(path))
    except (OSError, ValueError, ValidationError) as error:
        said = f"its failure could not be recorded ({error}); is the disk full? Run again"
        return FailureEntry(stage=path.stem, exit_code=4, message=said)


def config_to_json(config: Config) -> str:
    """Return *config*, defaults included, as JSON that :meth:`RunFolder.config` reads."""
    content = config.model_dump(mode="json")
    content["targets"] = [str(target) for target in config.targets]
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
