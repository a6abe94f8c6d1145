"""The rehearsal of a run before any training: a network that cannot be deployed by lint's rules is refused at once.

A training may take hours, and what its network cannot be deployed for is nearly always known before: an operation
without an integer form, a layer that a target does not have, a memory that is too small. What depends on the trained
numbers is decided again by the stages themselves.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer

from bitproof.pipeline.artifact import MANIFEST
from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.errors import InputError
from bitproof.pipeline.run_folder import CONFIG, RunFolder
from bitproof.pipeline.stage import StageContext
from bitproof.pipeline.user_files import blaming_users_lines, file_of, files_of, users_names
from bitproof.plan import RunPlan
from bitproof.support import ask, require_all, require_options

MODEL_FILE = "model.onnx"
EXPORTED = "export"


def rehearse_run(run: RunFolder, config: RunConfig, stages: frozenset[str]) -> None:
    """Build the network of *config* without training it, lower it, and ask the targets that *stages* belong to.

    A network from a user's file is built and exported even if the training alone is wanted. Nothing is done if *run*
    holds the trained network already, or if what is wanted needs none of it.

    Raises:
        ConfigError: an option of a target asks for what the target does not have.
        InputError: the network cannot be built or exported, or not be lowered to integers exactly; the message names
            the layer, or the line of the user's file.
        StageError: a target has no form for a layer; the message names both.
        TooLargeError: the network does not fit the memory of a target.
        ToolMissingError: a Python package that is needed for this is not installed.
    """
    plan = RunPlan(config)
    require_options(plan.targets)
    is_lowered, is_own = bool(stages & {EXPORTED, "integer"}), file_of(config.model.name) is not None
    if not (is_lowered or (is_own and stages & {"train", "train-float"})) or _is_trained(run, plan):
        return
    from bitproof.export.lower import lower_file

    if is_lowered:
        typer.echo("asking the targets before the training", err=True)
    wanted = [target for target in plan.targets if stages & {stage.name for stage in target.stages()}]
    with blaming_users_lines(users_names(config)), tempfile.TemporaryDirectory(prefix="bitproof-run-") as folder:
        file = export_untrained(config, Path(folder)) / MODEL_FILE
        if not is_lowered:
            return
        try:
            model = lower_file(file).model
        except InputError as error:
            raise InputError(str(error).replace(str(file), f"the network of {config.name!r}, exported")) from error
    require_all([ask(target, model) for target in wanted])


def export_untrained(config: RunConfig, folder: Path) -> Path:
    """Build the network of *config* without training it, and return the folder in *folder* that it is exported into.

    Raises:
        InputError: the network cannot be built.
    """
    from bitproof.export.qonnx import ExportQonnx
    from bitproof.train.checkpoint import load_network
    from bitproof.train.untrained import untrained_checkpoint

    checkpoint = untrained_checkpoint(config.data, config.model, folder / "train", config.seed)
    made, scratch = folder / config.name, folder / "scratch"
    made.mkdir()
    scratch.mkdir()
    ExportQonnx(load_network).run(checkpoint, StageContext(made, scratch, config.seed))
    return made


def _is_trained(run: RunFolder, plan: RunPlan) -> bool:
    """Return whether *run* holds the network that the options of *plan* train, lowered for the same targets."""
    if not (run.path / CONFIG).is_file():
        return False
    config = run.config()
    if not isinstance(config, RunConfig) or config.targets != plan.config.targets:
        return False
    stages = ("data", "train", EXPORTED, "integer")
    manifests = [run.path / name / MANIFEST for name in stages]
    if not all(manifest.is_file() for manifest in manifests):
        return False
    file, trained = file_of(config.model.name), manifests[1].stat().st_mtime_ns
    edited = file is not None and any(
        not path.is_file() or path.stat().st_mtime_ns > trained for path in files_of(file)
    )
    held = RunPlan(config)
    return not edited and all(held.stage(name) == plan.stage(name) for name in stages)
