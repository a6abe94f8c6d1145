"""The target ``c``: C for a microcontroller, compiled and run in QEMU, or for this machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from bitproof.export.program.target import Target
from bitproof.hw.mcu.cores import HOST, CoreName, core_of, require_board_memory
from bitproof.hw.mcu.naming import require_prefix
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.stage import Stage, StagePlan
from bitproof.pipeline.toolchain import Tool

if TYPE_CHECKING:
    from pathlib import Path

    from bitproof.export.integer import IntegerModel

SUFFIXES = {"": 1, "k": 1 << 10, "M": 1 << 20}


def parse_bytes(text: object) -> object:
    """Return the number of bytes that *text* means: digits, with ``k`` (1,024) or ``M`` (1,048,576) behind them.

    What is no text is returned as it is.

    >>> parse_bytes("256k"), parse_bytes("1M"), parse_bytes("4096")
    (262144, 1048576, 4096)

    Raises:
        ValueError: *text* means no number of bytes.
    """
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"([0-9]{1,10})([kM]?)", text)
    if match is None:
        raise ValueError("write a number of bytes, such as 65536, 64k or 1M")
    return int(match.group(1)) * SUFFIXES[match.group(2)]


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1, le=1 << 30)]
Prefix = Annotated[str, AfterValidator(require_prefix)]


class CTarget(Target):
    """C without a library: *core* is the processor it is compiled for and run on.

    That is in QEMU, or for ``host`` on this machine. *flash* and *ram* are the bytes that there are of each; None: as
    many as the emulated board has.
    *prefix* is what the names in C and of the files start with; None: what the network's name gives.
    """

    kind: ClassVar[str] = "c"

    core: CoreName = "cortex-m4"
    flash: Bytes | None = None
    ram: Bytes | None = None
    prefix: Prefix | None = None

    @property
    def name(self) -> str:
        """One target per core."""
        return f"c-{self.core}"

    def stages(self) -> tuple[StagePlan, ...]:
        """Return the generator and the compiler."""
        options = self.model_dump(mode="json")
        return (
            StagePlan(self.name, "integer", self._generate, options),
            StagePlan(self._compiled, self.name, self._compile, options),
        )

    @property
    def _compiled(self) -> str:
        """Name of the stage that compiles: it makes firmware, for the host a shared library."""
        return "library-host" if self.core == HOST else f"firmware-{self.core}"

    def executors(self) -> tuple[ExecutorPlan, ...]:
        """Return the emulator, or the process that calls the library."""
        about, tools = "generated C, compiled for this machine and called on it", list[Tool]()
        if self.core != HOST:
            about, tools = f"generated C on a {self.core}, run in QEMU", [core_of(self.core).architecture.emulator]
        return (
            ExecutorPlan(
                f"c:{self.core}",
                self.name,
                self._compiled,
                about,
                self._run,
                flip=_flip,
                tools=tuple(tools),
                evaluations={"scalar": 320, "logits": 100},
            ),
        )

    def require_options(self) -> None:
        """Check that the emulated board has the memory that is asked for; the host has no options."""
        require_board_memory(self.core, self.flash, self.ram)

    def require_supported(self, model: IntegerModel) -> None:
        """Check the layers first, then the memory."""
        from bitproof.hw.mcu.memory import require_memory

        require_memory(model, self.core, self.flash, self.ram)

    def _generate(self) -> Stage:
        from bitproof.hw.mcu import GenerateC

        return GenerateC(core=self.core, flash_bytes=self.flash, ram_bytes=self.ram, prefix=self.prefix)

    def _compile(self) -> Stage:
        from bitproof.hw.mcu import BuildFirmware, BuildLibrary

        if self.core == HOST:
            return BuildLibrary()
        return BuildFirmware(core=self.core, flash_bytes=self.flash, ram_bytes=self.ram)

    def _run(self, place: Place) -> Executor:
        from bitproof.hw.mcu import FirmwareExecutor, HostExecutor

        if self.core == HOST:
            return HostExecutor(place.artifact, place.workdir)
        return FirmwareExecutor(place.artifact, place.workdir, self.core)


def _flip(folder: Path, *, node: str, row: int, column: int) -> str:
    from bitproof.hw.mcu import flip_weight_bit

    return flip_weight_bit(folder, node=node, row=row, column=column)
