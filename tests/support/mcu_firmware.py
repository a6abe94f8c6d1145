"""Firmware of an integer model, built by the two stages of the target ``c``."""

from __future__ import annotations

from pathlib import Path

from integer_networks import saved

from bitproof.export.integer import IntegerModel
from bitproof.hw.mcu import BuildFirmware, CoreName, GenerateC
from bitproof.pipeline import Artifact, StageContext


def built_firmware(
    model: IntegerModel,
    folder: Path,
    core: CoreName = "cortex-m4",
    *,
    flash: int | None = None,
    ram: int | None = None,
    definitions: tuple[str, ...] = (),
) -> Artifact:
    """Generate and compile the C of *model* in new folders below *folder*, and return the artifact ``firmware``."""
    artifact = saved(model, folder / "integer")
    for stage in (GenerateC(core, flash, ram), BuildFirmware(core, definitions, flash, ram)):
        workdir, scratch = folder / stage.name, folder / f"{stage.name}-scratch"
        workdir.mkdir()
        scratch.mkdir()
        stage.run(artifact, StageContext(workdir, scratch, 0))
        artifact = Artifact(stage.name, stage.produces, workdir, "")
    return artifact
