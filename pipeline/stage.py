"""The one unit of work: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bitproof.pipeline.artifact import Artifact, seal
from bitproof.pipeline.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage may touch.

    Attributes:
        workdir: the empty folder that becomes the artifact; a stage writes its payload here and nowhere else.
        scratch: a folder for logs and intermediate files, kept but not hashed.
        seed: seed of every random generator that the stage makes.
        resume: a folder for what lets a stage that was interrupted go on; it need not exist, outlives failures and is
            removed when the stage succeeds. None: the stage is not to keep anything.
        progress: what work that takes long calls before each of its parts.
    """

    workdir: Path
    scratch: Path
    seed: int
    resume: Path | None = None
    progress: Progress = silent


@dataclass(frozen=True)
class Stage(ABC):
    """Turn one artifact into the next.

    A subclass is a frozen dataclass: its fields are its options, its command-line spec and, with the digest
    of its source, its cache key.
    """

    name: ClassVar[str]
    consumes: ClassVar[str | None]
    """Kind of the source artifact; None where the stage reads the outside world (data sets)."""
    produces: ClassVar[str]
    """Kind of the artifact that it makes."""
    distributions: ClassVar[tuple[str, ...]] = ()
    """Python distributions whose versions belong in the manifest."""

    @abstractmethod
    def run(self, source: Artifact | None, ctx: StageContext) -> Mapping[str, str]:
        """Write the payload into ``ctx.workdir`` and return the versions of external tools used.

        Raises:
            StageError: the artifact could not be made; the message names the layer.
            ToolMissingError: a tool that it needs is not installed.
        """


def execute(
    stage: Stage,
    source: Artifact | None,
    final: Path,
    *,
    seed: int,
    versions: Mapping[str, str],
    slot: str,
    progress: Progress = silent,
) -> Artifact:
    """Run *stage* in a temporary folder beside *final* and commit the result by a rename.

    *slot* is the artifact's name within the run (a stage may serve several targets); the temporary folder
    and the scratch folder carry it, and so does the folder from which an interrupted stage goes on.
    """
    run_folder = final.parent
    partial = run_folder / "tmp" / slot
    scratch = run_folder / "scratch" / slot
    for folder in (partial, scratch):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    resume = run_folder / "resume" / slot
    tools = stage.run(source, StageContext(partial, scratch, seed, resume, progress))
    made_from = () if source is None else (source.sha256,)
    artifact = seal(
        partial,
        final,
        stage=slot,
        kind=stage.produces,
        made_from=made_from,
        tools={**versions, **tools},
    )
    if resume.exists():
        shutil.rmtree(resume)
    return artifact
