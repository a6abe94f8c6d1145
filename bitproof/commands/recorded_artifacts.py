"""The artifacts of a run, held against those of its ledger, and the command that finishes a run if they differ."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from bitproof.pipeline.artifact import Artifact
from bitproof.pipeline.errors import InputError, IntegrityError
from bitproof.pipeline.import_config import ImportConfig
from bitproof.pipeline.ledger import Ledger
from bitproof.pipeline.run_folder import CONFIG, RunFolder


def artifact_problems(run: RunFolder, ledger: Ledger, *, hash_again: bool) -> Iterator[str]:
    """Yield a line for each artifact that *ledger* names and *run* does not hold.

    What the manifests say is compared; with *hash_again* it is not trusted, and every payload is hashed.
    """
    for entry in ledger.artifacts:
        folder = run.path / entry.path
        if not _inside(folder, run):
            yield f"artifact path {entry.path!r} leaves the run's folder"
            continue
        try:
            artifact = Artifact.load(folder)
            if artifact.sha256 != entry.sha256:
                finish = f"finish the run: {finish_command(run)}"
                yield f"artifact {entry.stage!r} at {folder} is not the one in the ledger; {finish}"
            elif hash_again:
                artifact.verify()
        except IntegrityError as error:
            yield str(error)


def require_recorded(run: RunFolder, ledger: Ledger) -> None:
    """Refuse a run of which a part was made again after its ledger: its artifacts do not belong together.

    Raises:
        InputError: a line for each artifact that is not the one in *ledger*, and the command that finishes the run.
    """
    problems = list(artifact_problems(run, ledger, hash_again=False))
    if problems:
        raise InputError("\n".join(problems))


def finish_command(run: RunFolder) -> str:
    """Return the command line that brings *run* to its end with the configuration that it holds."""
    config = run.config()
    runs = ("--runs", str(run.path.parent))
    if not isinstance(config, ImportConfig):
        named = () if config.name == run.path.name else ("--set", f"name={json.dumps(run.path.name)}")
        return shlex.join(("bitproof", "run", str(run.path / CONFIG), *named, *runs))
    files: dict[str, Path | None] = {
        "--vectors": None if config.vectors is None else config.vectors.path,
        "--labels": None if config.labels is None else config.labels.path,
    }
    given = [word for option, path in files.items() if path is not None for word in (option, str(path))]
    if config.input is not None:
        given += ["--input", config.input]
    for target in config.targets:
        given += ["--target", str(target)]
    numbers = ("--samples", str(config.parity.samples), "--seed", str(config.seed))
    words = ("bitproof", "import", str(config.source.path), "--name", run.path.name, *given, *numbers, *runs)
    return shlex.join(words)


def _inside(folder: Path, run: RunFolder) -> bool:
    try:
        return folder.resolve().is_relative_to(run.path)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that is too long or no name at all
        return False
