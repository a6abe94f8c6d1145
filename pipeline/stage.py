"""The one unit of work: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bitproof.pipeline.artifact import Artifact, seal
from bitproof.pipeline.errors import InputError
from bitproof.pipeline.progress import Progress, silent

INPUTS = "inputs"
"""Folder of a run that holds the users' files that its targets read, each under its SHA-256."""


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage may touch.

    Attributes:
        workdir: the empty folder that becomes the artifact; a stage writes its payload here and nowhere else.
        scratch: a folder for logs and intermediate files, kept but not hashed.
        seed: seed of every random generator that the stage makes.
        resume: a folder for what lets a stage that was interrupted resume; it need not exist, outlives failures and is
            removed when the stage succeeds. None: the stage is not to keep anything.
        progress: what work that takes long calls before each of its parts.
        inputs: the folder of the users' files that the run keeps for its targets, each under its SHA-256; None: there
            is none.
    """

    workdir: Path
    scratch: Path
    seed: int
    resume: Path | None = None
    progress: Progress = silent
    inputs: Path | None = None

    def input_file(self, sha256: str) -> Path:
        """Return where the run keeps the user's file with this digest.

        Raises:
            InputError: it keeps none.
        """
        if self.inputs is None:
            raise InputError(f"the user's file with the SHA-256 {sha256} is read by stages of a run alone")
        return self.inputs / sha256


@dataclass(frozen=True)
class MakesArtifact(ABC):
    """What every stage says of itself.

    A subclass is a frozen dataclass: its fields are its options, its command-line spec and, with the digest
    of its source, its cache key.
    """

    name: ClassVar[str]
    produces: ClassVar[str]
    """Kind of the artifact that it makes."""
    distributions: ClassVar[tuple[str, ...]] = ()
    """Python distributions whose versions belong in the manifest."""


@dataclass(frozen=True)
class Stage(MakesArtifact):
    """Turn one artifact into the next."""

    consumes: ClassVar[str]
    """Kind of the artifact that it is made from; :func:`execute` refuses every other."""

    @abstractmethod
    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write the payload into ``ctx.workdir`` and return the versions of external tools used.

        Raises:
            StageError: the artifact could not be made; the message names the layer.
            ToolMissingError: a tool that it needs is not installed.
        """


@dataclass(frozen=True)
class FirstStage(MakesArtifact):
    """Read the outside world: a data set, a user's file."""

    @abstractmethod
    def run(self, ctx: StageContext) -> Mapping[str, str]:
        """Write the payload into ``ctx.workdir`` and return the versions of external tools used.

        Raises:
            InputError: what is read is not there, or not valid.
            ToolMissingError: a tool that it needs is not installed.
        """


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage of a run, before anything that it needs is imported.

    Attributes:
        name: of the stage within the run, of its artifact and of the folder of that.
        source: the name of the stage whose artifact it is made from; None for a :class:`FirstStage`.
        make: imports and returns the stage.
        options: what its artifact depends on beside the source, as plain JSON values: it is stale when they change.
        priority: stages with a higher one go first when several could run.
        measure: tells from the folder of its artifact what that costs, for the ledger's ``resources`` under the stage's
            name; None: its artifact says nothing of the kind, or an executor that runs it does.
    """

    name: str
    source: str | None
    make: Callable[[], Stage | FirstStage] = field(compare=False)
    options: Mapping[str, object] = field(default_factory=dict)
    priority: int = 0
    measure: Callable[[Path], Mapping[str, int | float | str]] | None = field(default=None, compare=False)


def execute(
    stage: Stage | FirstStage,
    source: Artifact | None,
    final: Path,
    *,
    seed: int,
    versions: Mapping[str, str],
    name: str,
    progress: Progress = silent,
    inputs: Path | None = None,
) -> Artifact:
    """Run *stage* in a temporary folder beside *final* and commit the result by a rename.

    *name* is the stage's name within the run (one class may serve several targets); the temporary folder
    and the scratch folder carry it, and so does the folder from which an interrupted stage resumes. *inputs* is the
    folder of the users' files, by default that beside *final*.

    Raises:
        InputError: *source* is not of the kind that the stage consumes.
    """
    run_folder = final.parent
    partial = run_folder / "tmp" / name
    scratch = run_folder / "scratch" / name
    for folder in (partial, scratch):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    resume = run_folder / "resume" / name
    tools = _run(stage, source, StageContext(partial, scratch, seed, resume, progress, inputs or run_folder / INPUTS))
    made_from = () if source is None else (source.sha256,)
    artifact = seal(
        partial,
        final,
        stage=name,
        kind=stage.produces,
        made_from=made_from,
        tools={**versions, **tools},
    )
    if resume.exists():
        shutil.rmtree(resume)
    return artifact


def _run(stage: Stage | FirstStage, source: Artifact | None, ctx: StageContext) -> Mapping[str, str]:
    """Run *stage* on what it takes: the one place where the kind of its source is checked."""
    if isinstance(stage, FirstStage):
        if source is not None:
            raise InputError(f"stage {stage.name} reads the outside world; it was given the artifact {source.path}")
        return stage.run(ctx)
    if source is None or source.kind != stage.consumes:
        found = "nothing" if source is None else f"{source.path}, which is of kind {source.kind!r}"
        raise InputError(f"stage {stage.name} is made from an artifact of kind {stage.consumes!r}, not from {found}")
    return stage.run(source, ctx)
