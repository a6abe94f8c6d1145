"""Apply lint's rules to a configuration before its network is trained: one that cannot be deployed is refused at once.

A training may take hours, and what its network cannot be deployed for is nearly always known before: an operation
without an integer form, a layer that a target does not have, a memory that is too small. What depends on the trained
numbers is decided again by the stages themselves.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import typer

from pipeline.artifact import MANIFEST
from pipeline.config import RunConfig
from pipeline.errors import InputError
from pipeline.plan import Plan
from pipeline.registry import FUNCTIONS, STAGES, resolve
from pipeline.run_folder import CONFIG, RunFolder
from pipeline.stage import StageContext
from pipeline.support import ask, require_all, require_options

MODEL_FILE = "model.onnx"
EXPORTED = "export"


def rehearse_run(run: RunFolder, config: RunConfig, slots: frozenset[str]) -> None:
    """Build the network of *config* without training it, lower it, and ask the targets that *slots* belong to.

    Nothing is done where no slot behind the training is wanted, or where *run* holds the trained network already.

    Raises:
        ConfigError: an option of a target asks for what the target does not have.
        InputError: the network cannot be built, or not be lowered to integers exactly.
        StageError: a target has no form for a layer; the message names both.
        TooLargeError: the network does not fit the memory of a target.
        ToolMissingError: a Python package that is needed for this is not installed.
    """
    require_options(config.targets)
    plan = Plan(config)
    if not slots & {EXPORTED, "integer"} or _is_trained(run, plan):
        return
    typer.echo("asking the targets before the training", err=True)
    wanted = [target for target in config.targets if any(plan.target_of(slot) == target for slot in slots)]
    with tempfile.TemporaryDirectory(prefix="bitproof-run-") as folder:
        file = export_untrained(config, Path(folder)) / MODEL_FILE
        try:
            model = resolve(FUNCTIONS, "lower-file")(file).model
        except InputError as error:
            raise InputError(str(error).replace(str(file), f"the network of {config.name!r}, exported")) from error
    require_all([ask(target, model) for target in wanted])


def export_untrained(config: RunConfig, folder: Path) -> Path:
    """Build the network of *config* without training it, and return the folder in *folder* that it is exported into.

    Raises:
        InputError: the network cannot be built.
    """
    checkpoint: Any = resolve(FUNCTIONS, "untrained-network")(config.data, config.model, folder / "train", config.seed)
    made, scratch = folder / config.name, folder / "scratch"
    made.mkdir()
    scratch.mkdir()
    resolve(STAGES, EXPORTED)().run(checkpoint, StageContext(made, scratch, config.seed))
    return made


def _is_trained(run: RunFolder, plan: Plan) -> bool:
    """Return whether *run* holds the network that the options of *plan* train, lowered for the same targets."""
    if not (run.path / CONFIG).is_file():
        return False
    config = run.config()
    if not isinstance(config, RunConfig) or config.targets != plan.config.targets:
        return False
    held = Plan(config)
    slots = ("data", "train", EXPORTED, "integer")
    return all((run.path / slot / MANIFEST).is_file() and held.options(slot) == plan.options(slot) for slot in slots)
