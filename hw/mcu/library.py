"""The stage that compiles the generated C for the machine that it runs on: a shared library.

Any program that calls C can load it; the check does so from Python (:mod:`bitproof.hw.mcu.host`). The same sources
give the same bytes, whatever the folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bitproof.hw.mcu.cores import HOST
from bitproof.hw.mcu.manifest import FILE as MANIFEST_FILE
from bitproof.hw.mcu.manifest import Manifest
from bitproof.hw.mcu.package import SOURCES
from bitproof.pipeline import Artifact, Stage, StageContext, StageError
from bitproof.pipeline.toolchain import require_host_compiler

LIBRARY = "network.so"
FLAGS = ("-std=c99", "-O2", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
LINK_FLAGS = ("-shared", "-Wl,--build-id=none")
"""A build identifier would be another digest of what the artifact's own covers."""
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class BuildLibrary(Stage):
    """Compile C sources that were generated for the host into a shared library."""

    name: ClassVar[str] = "library"
    consumes: ClassVar[str] = "c-sources"
    produces: ClassVar[str] = "c-library"

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write ``network.so``, the public header and the manifest of the sources.

        Raises:
            StageError: the sources are for another core, or do not compile.
            ToolMissingError: there is no C compiler.
        """
        manifest = Manifest.load(source.path)
        if manifest.core != HOST:
            raise StageError(f"the C sources are for {manifest.core}, not {HOST}: generate them for {HOST}")
        needed_by = "target c{core=host}"
        compiler = require_host_compiler(needed_by)
        build = ctx.scratch / "build"
        build.mkdir(parents=True)
        for name in manifest.sources:
            shutil.copyfile(source.path / SOURCES / name, build / name)
        # Bare names: no path reaches the library, by __FILE__ or otherwise.
        sources = sorted(name for name in manifest.sources if name.endswith(".c"))
        compiler.run(
            [*FLAGS, *LINK_FLAGS, *sources, "-o", LIBRARY],
            needed_by=needed_by,
            cwd=build,
            log=ctx.scratch / f"{compiler.name}.log",
            timeout_s=TIMEOUT_S,
        )
        header = f"{manifest.prefix}.h"
        for path in (build / LIBRARY, build / header, source.path / MANIFEST_FILE):
            shutil.copyfile(path, ctx.workdir / path.name)
        return {compiler.name: compiler.version() or "unknown"}
