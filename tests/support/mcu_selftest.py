"""Firmware that runs the self-test of a network and nothing else, in QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitproof.export.integer import IntegerModel
from bitproof.hw.mcu import firmware as stage
from bitproof.hw.mcu.codegen import write_sources
from bitproof.hw.mcu.cores import EmulatedCore, core_of
from bitproof.hw.mcu.elf import file_offset
from bitproof.hw.mcu.manifest import Manifest, ProductEntry
from bitproof.hw.mcu.plan import plan_network
from bitproof.hw.mcu.qemu import MACHINE_OPTIONS

MAIN = """#include "firmware.h"
#include "semihosting.h"
#include "{p}_selftest.h"
static int32_t memory[{P}_SELFTEST_BYTES / 4];
uint32_t firmware_main(void) {{
    const int32_t file = semihosting_open("answer.bin", SEMIHOSTING_WRITE);
    const int32_t answer = {call};
    return semihosting_write(file, &answer, sizeof answer) ? EXIT_DONE : EXIT_FILE;
}}
"""


@dataclass(frozen=True)
class SelfTestFirmware:
    """The firmware of one network on one core."""

    elf: Path
    manifest: Manifest
    core: EmulatedCore

    @classmethod
    def build(
        cls, model: IntegerModel, folder: Path, core: EmulatedCore = "cortex-m4", *, called: bool = True
    ) -> SelfTestFirmware:
        """Generate and compile *model* in the new *folder*; if not *called*, the self-test is left out of it."""
        (folder / "c").mkdir(parents=True)
        manifest = write_sources(plan_network(model), folder / "c", model_sha256="0" * 64, core=core)
        build, p = folder / "build", manifest.prefix
        stage._collect(folder / "c", manifest, core_of(core).architecture, build)
        call = f"{p}_selftest(memory, sizeof memory)" if called else "memory[0]"
        (build / "main.c").write_text(MAIN.format(p=p, P=p.upper(), call=call))
        return cls(stage._compile(core_of(core), manifest, build, (), folder / "gcc.log"), manifest, core)

    def answer(self) -> int:
        """Run it, and return what the self-test says."""
        folder = self.elf.parent
        core = core_of(self.core)
        core.architecture.emulator.run(
            ["-M", core.machine, *core.architecture.emulator_options, *MACHINE_OPTIONS, "-kernel", self.elf],
            needed_by="self-test",
            cwd=folder,
            log=folder / "qemu.log",
            timeout_s=60,
        )
        return int(np.frombuffer((folder / "answer.bin").read_bytes(), dtype="<i4")[0])

    @contextmanager
    def flipped(self, generator: np.random.Generator) -> Iterator[str]:
        """Flip one bit of one weight, all bits of all weights alike, while the block runs; yield which."""
        image = self.elf.read_bytes()
        products = self.manifest.products
        sizes = np.array([entry.outputs * _each(entry) for entry in products])
        entry = products[generator.choice(len(products), p=sizes / sizes.sum())]
        row, column = generator.integers(entry.outputs), generator.integers(_each(entry))
        word, bit = entry.locate(int(row), int(column))
        bit += int(generator.integers(entry.bits_per_weight))
        place = file_offset(image, entry.symbol) + 4 * word + bit // 8
        changed = bytearray(image)
        changed[place] ^= 1 << bit % 8
        self.elf.write_bytes(changed)
        try:
            yield f"bit {bit} of word {word} of {entry.symbol}"
        finally:
            self.elf.write_bytes(image)


def _each(entry: ProductEntry) -> int:
    """Return how many weights one output of *entry* has."""
    _, members, height, width = entry.patch or (1, entry.inputs, 1, 1)
    return height * width * (1 if entry.layout == "depthwise" else members)
