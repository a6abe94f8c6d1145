"""The executor that runs firmware on an emulated microcontroller and reads its codes back.

QEMU is a functional model: it executes every instruction with its architectural result, and has no notion of cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bitproof.hw.mcu.cores import EmulatedCore, core_of
from bitproof.hw.mcu.cost import measure
from bitproof.hw.mcu.executor import CExecutor, Command
from bitproof.hw.mcu.firmware import ELF
from bitproof.hw.mcu.part_costs import part_costs
from bitproof.pipeline import Artifact, Codes
from bitproof.pipeline.ledger import CostEntry
from bitproof.pipeline.toolchain import Confinement

COMMAND_MAGIC = 0x31435042
MACHINE_OPTIONS = (
    *("-nographic", "-monitor", "none", "-serial", "none"),
    *("-semihosting-config", "enable=on,target=native"),
    *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
)
"""The guest may open files of the host, those that it is confined to, and nothing else: semihosting also has an
operation that runs a command there, and QEMU may start no process."""
EXIT_CODES = (
    "its exit codes: 101 hard fault, 102 bad command, 103 a file cannot be read or written (is the disk full?), "
    "104 network"
)


class FirmwareExecutor(CExecutor):
    """Runs a ``firmware`` artifact in QEMU."""

    def __init__(self, artifact: Artifact, workdir: Path, core: EmulatedCore = "cortex-m4") -> None:
        """Read the manifest of *artifact*, see :class:`CExecutor`."""
        super().__init__(artifact, workdir, core)
        self.core = core_of(core)
        self._elf = (artifact.path / ELF).resolve()

    def measure(self, codes: Codes) -> Mapping[str, int | float | str]:
        """Return what one inference costs, measured on the first of *codes* (:mod:`bitproof.hw.mcu.cost`)."""
        return measure(self, codes)

    def part_costs(self, codes: Codes) -> tuple[CostEntry, ...]:
        """Return what each layer and the code around them cost (:mod:`bitproof.hw.mcu.part_costs`)."""
        return part_costs(self, codes)

    def _carry_out(self, command: Command, options: Sequence[str]) -> None:
        words = [COMMAND_MAGIC, command.mode, command.number, command.count, command.first & 0xFFFF_FFFF]
        (self.workdir / "command.bin").write_bytes(np.array(words, dtype="<u4").tobytes())
        architecture = self.core.architecture
        machine = ["-M", self.core.machine, *architecture.emulator_options, *MACHINE_OPTIONS]
        architecture.emulator.require(f"target c{{core={self.manifest.core}}}")
        architecture.emulator.run(
            [*machine, "-kernel", self._elf, *options],
            needed_by=f"firmware for {self.manifest.core} ({EXIT_CODES})",
            cwd=self.workdir,
            log=self.workdir / "qemu.log",
            timeout_s=command.timeout_s,
            confined=Confinement(readable=(self._elf,), writable=(self.workdir,)),
        )
