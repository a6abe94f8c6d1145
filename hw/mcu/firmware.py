"""The stage that compiles the generated C into firmware that QEMU can run, with a bare-metal runtime of our own.

The firmware is a test harness around the network: it takes commands through semihosting files (``runtime/main.c``
documents them). No C library is linked. The same sources give the same bytes, whatever the folder.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

from bitproof.hw.mcu.codegen import make_environment
from bitproof.hw.mcu.cores import STACK_BYTES, Core, CoreName, core_of
from bitproof.hw.mcu.elf import NO_BITS, sections
from bitproof.hw.mcu.manifest import FILE as MANIFEST_FILE
from bitproof.hw.mcu.manifest import Manifest
from bitproof.hw.mcu.package import SOURCES
from bitproof.pipeline import Artifact, Stage, StageContext, StageError
from bitproof.pipeline.toolchain import ARM_GCC

RUNTIME = Path(__file__).parent / "runtime"
RUNTIME_FILES = ("firmware.h", "main.c", "semihosting.c", "semihosting.h", "startup.c")
LINKER_SCRIPT = "firmware.ld"
ELF = "firmware.elf"
SIZES = "size.json"
COMPILE_FLAGS = (
    "-std=c99",
    "-O2",
    "-ffreestanding",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-pedantic",
    "-Werror",
)
NO_LIBRARY_CALLS = "-fno-tree-loop-distribute-patterns"
"""Keeps the compiler from making our memset out of calls of itself."""
TIMEOUT_S = 300.0


class Mode(IntEnum):
    """What the firmware is told to do; see ``runtime/main.c``."""

    RUN = 1
    REQUANTIZE = 2
    MULTIPLY = 3
    MEASURE = 4
    REQUANTIZE_AT = 5
    TRACE = 6
    MEASURE_STEPS = 7


@dataclass(frozen=True)
class BuildFirmware(Stage):
    """Compile C sources into bare-metal firmware.

    Attributes:
        core: the processor; the sources must have been generated for it.
        definitions: preprocessor definitions, for example ``BITPROOF_LANES=0``; they change no result.
        flash_bytes: how much flash the linker is given; None: what the emulated board has.
        ram_bytes: how much RAM likewise.
    """

    core: CoreName = "cortex-m4"
    definitions: tuple[str, ...] = ()
    flash_bytes: int | None = None
    ram_bytes: int | None = None

    name: ClassVar[str] = "firmware"
    consumes: ClassVar[str] = "c-sources"
    produces: ClassVar[str] = "firmware"

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write ``firmware.elf``, ``size.json`` and the manifest of the sources.

        Raises:
            ConfigError: the emulated board has less memory than was asked for.
            StageError: the sources are for another core, do not compile, or do not fit the memory.
            ToolMissingError: the cross compiler is not installed.
        """
        core = core_of(self.core).with_memory(self.flash_bytes, self.ram_bytes)
        manifest = Manifest.load(source.path)
        if manifest.core != self.core:
            raise StageError(f"the C sources are for {manifest.core}, not {self.core}: generate them for {self.core}")
        ARM_GCC.require(f"firmware for {self.core}")
        build = ctx.scratch / "build"
        _collect(source.path, manifest, build)
        elf = _compile(core, manifest, build, self.definitions, ctx.scratch / "gcc.log")
        shutil.copyfile(elf, ctx.workdir / ELF)
        sizes = sizes_of(elf.read_bytes(), manifest.arena_bytes)
        (ctx.workdir / SIZES).write_text(json.dumps(sizes, indent=2, sort_keys=True) + "\n")
        shutil.copyfile(source.path / MANIFEST_FILE, ctx.workdir / MANIFEST_FILE)
        return {ARM_GCC.name: ARM_GCC.version() or "unknown"}


def _collect(sources: Path, manifest: Manifest, build: Path) -> None:
    """Gather all files in one folder, so that the compiler is given bare names and no path reaches the firmware."""
    build.mkdir(parents=True)
    for name in manifest.sources:
        shutil.copyfile(sources / SOURCES / name, build / name)
    for name in (*RUNTIME_FILES, LINKER_SCRIPT):
        shutil.copyfile(RUNTIME / name, build / name)
    (build / "network_under_test.h").write_text(adapter_header(manifest))


def adapter_header(manifest: Manifest) -> str:
    """Return ``network_under_test.h``: the network of *manifest* under names that a test program knows."""
    return (
        make_environment()
        .get_template("network_under_test.h.j2")
        .render(
            p=manifest.prefix,
            signed_input=manifest.signed_input,
            inputs=manifest.inputs,
            outputs=manifest.outputs,
            products=manifest.products,
            activations=manifest.activations,
            values=manifest.values,
            arena_words=max(1, manifest.arena_bytes // 4),
            most_codes=manifest.most_codes,
            most_accumulators=manifest.most_accumulators,
        )
    )


def _compile(core: Core, manifest: Manifest, build: Path, definitions: tuple[str, ...], log: Path) -> Path:
    sources = sorted(name for name in (*manifest.sources, *RUNTIME_FILES) if name.endswith(".c"))
    objects = []
    for name in sources:
        extra = (NO_LIBRARY_CALLS,) if name in RUNTIME_FILES else tuple(f"-D{item}" for item in definitions)
        objects.append(name.replace(".c", ".o"))
        _gcc([*core.flags, *COMPILE_FLAGS, *extra, "-c", name, "-o", objects[-1]], build, log)
    memory = {
        "flash_origin": core.flash.origin,
        "flash_size": core.flash.size_bytes,
        "ram_origin": core.ram.origin,
        "ram_size": core.ram.size_bytes,
        "stack_least": STACK_BYTES,
    }
    symbols = [f"-Wl,--defsym={name}={value:#x}" for name, value in memory.items()]
    options = ["-nostdlib", "-nostartfiles", "-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments"]
    try:
        _gcc([*core.flags, *options, *symbols, "-T", LINKER_SCRIPT, *objects, "-lgcc", "-o", ELF], build, log)
    except StageError as error:
        raise _link_error(core, str(error)) from error
    return build / ELF


def _link_error(core: Core, said: str) -> StageError:
    """Return what the linker *said* in terms of the target, if it is about memory."""
    regions = {"FLASH": ("flash", core.flash), "RAM": ("ram", core.ram)}
    over = dict(re.findall(r"region `(\w+)' overflowed by (\d+) bytes", said))
    section = {region: name for name, region in re.findall(r"section `([.\w]+)' will not fit in region `(\w+)'", said)}
    lines = [
        f"section {section.get(region, 'unknown')} exceeds the {regions[region][1].size_bytes:,} bytes of "
        f"{regions[region][0]} by {int(count):,} bytes"
        for region, count in over.items()
        if region in regions
    ]
    if "too little RAM is left for the stack" in said:
        lines.append(f"the {core.ram.size_bytes:,} bytes of ram leave less than {STACK_BYTES:,} bytes for the stack")
    if not lines:
        return StageError(said)
    return StageError(
        f"the firmware does not fit: {'; '.join(lines)}. The estimate before compiling was too small for this "
        f"compiler; use smaller layers or fewer bits of their weights, or a target with more "
        f"memory. The linker said: {said}"
    )


def _gcc(arguments: list[str], build: Path, log: Path) -> None:
    ARM_GCC.run(arguments, needed_by="target c (firmware)", cwd=build, log=log, timeout_s=TIMEOUT_S)


def sizes_of(image: bytes, arena_bytes: int) -> dict[str, int]:
    """Return the bytes of flash, initialized data and zeroed data of the ELF file *image*, in all and of the network.

    ``flash_bytes`` holds code, constants and the initial values of the data; the test harness is included.
    """
    used = [section for section in sections(image) if section.allocated]
    data = sum(section.size for section in used if section.writable and section.kind != NO_BITS)
    bss = sum(section.size for section in used if section.writable and section.kind == NO_BITS)
    constant = sum(section.size for section in used if not section.writable)
    return {
        "flash_bytes": constant + data,
        "data_bytes": data,
        "bss_bytes": bss,
        "arena_bytes": arena_bytes,
    }
