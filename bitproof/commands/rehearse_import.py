"""The rehearsal of an import in a folder of its own: one that is refused leaves no run and changes none.

Snakemake deletes what a stage is about to make again before the stage can say that it will not. What the user gave is
therefore read, the network lowered, and the targets asked whether they have the memory for it, before anything of the
run is touched.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bitproof.pipeline.artifact import MANIFEST, Artifact
from bitproof.pipeline.errors import InputError
from bitproof.pipeline.import_config import ImportConfig
from bitproof.pipeline.run_folder import CONFIG, RunFolder
from bitproof.pipeline.stage import execute
from bitproof.plan import INTEGER, RunPlan
from bitproof.support import ask, require_memory, require_options


def rehearse_import(run: RunFolder, config: ImportConfig) -> None:
    """Import the files of *config* into a temporary folder, lower the network, and delete it all.

    Nothing is done if *run* holds what the same files gave.

    Raises:
        ConfigError: an option of a target asks for what the target does not have.
        InputError: a file cannot be imported, the vectors or labels do not fit it, or it cannot be lowered.
        TooLargeError: it does not fit the memory of a target.
        ToolMissingError: a package that reads it is not installed.
    """
    require_options(RunPlan(config).targets)
    if _is_made(run, config):
        return
    with tempfile.TemporaryDirectory(prefix="bitproof-import-") as folder:
        try:
            _import_into(Path(folder), config)
        except InputError as error:
            read = str(Path(folder) / "export")  # a copy of the user's file, which is the one to name
            given = str(config.source.path)
            raise InputError(str(error).replace(f"{read}/{_FILE}", given).replace(read, given)) from error


_FILE = "model.onnx"
"""The one file of a QONNX artifact."""


def _import_into(folder: Path, config: ImportConfig) -> None:
    from bitproof.export.lower import lower_file

    plan = RunPlan(config)
    made: dict[str, Artifact] = {}
    for stage in plan.network.stages:
        origin, name = None if stage.source is None else made[stage.source], stage.name
        made[name] = execute(stage.make(), origin, folder / name, seed=config.seed, versions={}, name=name)
        if name == "export":  # before the vectors: they do not matter to a network that is not supported
            lowered = lower_file(made[name].path / _FILE)
            require_memory(ask(target, lowered.model) for target in plan.targets)


def _is_made(run: RunFolder, config: ImportConfig) -> bool:
    """Return whether *run* holds the artifacts that the files and options of *config* give, for the same targets."""
    if not (run.path / CONFIG).is_file() or run.config().targets != config.targets:
        return False
    held, wanted = RunPlan(run.config()), RunPlan(config)
    names = (*(stage.name for stage in wanted.network.stages), INTEGER)
    return all((run.path / name / MANIFEST).is_file() and held.stage(name) == wanted.stage(name) for name in names)
