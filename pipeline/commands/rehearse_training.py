"""Build and export the untrained network of a user's file first: one that no stage could use is not trained."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.artifact import MANIFEST
from pipeline.config import RunConfig
from pipeline.plan import Plan
from pipeline.registry import FUNCTIONS, STAGES, resolve
from pipeline.run_folder import CONFIG, RunFolder
from pipeline.stage import StageContext
from pipeline.user_files import blaming_users_lines, file_of, files_of, users_names


def rehearse_training(run: RunFolder, config: RunConfig) -> None:
    """Build the network of *config* if a file of the user's gives it, export it untrained, and delete it all.

    Nothing is done where *run* holds what the same file and options gave.

    Raises:
        InputError: the network or its data set cannot be made, or it cannot be exported; the message names the layer
            or the line of the user's.
        ToolMissingError: a package that it needs is not installed.
    """
    if file_of(config.model.name) is None or _is_trained(run, config):
        return
    with blaming_users_lines(users_names(config)), tempfile.TemporaryDirectory(prefix="bitproof-train-") as name:
        folder = Path(name)
        checkpoint = resolve(FUNCTIONS, "untrained-network")(config.data, config.model, folder / "train", config.seed)
        made, scratch = folder / "export", folder / "scratch"
        made.mkdir()
        scratch.mkdir()
        resolve(STAGES, "export")().run(checkpoint, StageContext(made, scratch, config.seed))


def _is_trained(run: RunFolder, config: RunConfig) -> bool:
    """Return whether *run* holds the network that the file, as it is now, and the options of *config* give."""
    manifests = [run.path / slot / MANIFEST for slot in ("train", "export")]
    if not all(path.is_file() for path in (run.path / CONFIG, *manifests)):
        return False
    held, file = run.config(), file_of(config.model.name)
    trained = manifests[0].stat().st_mtime_ns
    edited = file is None or not file.is_file() or any(path.stat().st_mtime_ns > trained for path in files_of(file))
    return not edited and isinstance(held, RunConfig) and Plan(held).options("train") == Plan(config).options("train")
