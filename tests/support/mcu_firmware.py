"""The generated C of an integer model, built by the two stages of the target ``c``, and its executor."""

from __future__ import annotations

from pathlib import Path

from integer_networks import saved

from bitproof.export.integer import IntegerModel
from bitproof.hw.mcu import HOST, BuildFirmware, BuildLibrary, CoreName, FirmwareExecutor, GenerateC, HostExecutor
from bitproof.pipeline import Artifact, Stage, StageContext


def built_firmware(
    model: IntegerModel,
    folder: Path,
    core: CoreName = "cortex-m4",
    *,
    flash: int | None = None,
    ram: int | None = None,
    definitions: tuple[str, ...] = (),
) -> Artifact:
    """Generate and compile the C of *model* in new folders below *folder*, and return the artifact.

    It is a ``firmware``, for the host a ``c-library``.
    """
    artifact = saved(model, folder / "integer")
    compiler: Stage = BuildLibrary() if core == HOST else BuildFirmware(core, definitions, flash, ram)
    for stage in (GenerateC(core, flash, ram), compiler):
        workdir, scratch = folder / stage.name, folder / f"{stage.name}-scratch"
        workdir.mkdir()
        scratch.mkdir()
        stage.run(artifact, StageContext(workdir, scratch, 0))
        artifact = Artifact(stage.name, stage.produces, workdir, "")
    return artifact


def executor_on(core: CoreName, artifact: Artifact, workdir: Path) -> FirmwareExecutor | HostExecutor:
    """Return what runs *artifact*, which was built for *core*, with its files in *workdir*."""
    return HostExecutor(artifact, workdir) if core == HOST else FirmwareExecutor(artifact, workdir, core)
