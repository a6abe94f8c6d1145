"""The processors that the C back-end builds for: one table row each.

The C sources are the same for all of them. A row says how the cross compiler is told about the core, which QEMU machine
has it, where that machine's memories are, and how much code the kernels are for it. The linker is given the memories
from here, so that they are written down once. What the cores of one instruction set share is its architecture.

``host`` is the machine that bitproof runs on. It has no row: no board, no emulator, and no memory to run out of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from bitproof.pipeline import ConfigError, StageError
from bitproof.pipeline.toolchain import ARM_GCC, QEMU_ARM, QEMU_RISCV32, RISCV_GCC, Tool

EmulatedCore = Literal["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imac"]
"""The cores of the table: firmware runs on them in QEMU."""
CoreName = Literal[EmulatedCore, "host"]
HOST: Final = "host"


@dataclass(frozen=True, slots=True)
class Region:
    """One memory: its first address and its size."""

    origin: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the processors of one instruction set share.

    Attributes:
        runtime: the folder in ``runtime`` with what of the test firmware is written in its instructions.
        compiler: the cross compiler.
        emulator: what runs the firmware.
        emulator_options: what it is told beside the machine.
        markers: the no-operations between which instructions are counted, as their bytes lie in memory.
    """

    runtime: str
    compiler: Tool
    emulator: Tool
    emulator_options: tuple[str, ...]
    markers: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Core:
    """One processor.

    Attributes:
        architecture: its instruction set.
        flags: what the cross compiler is told about it.
        machine: the QEMU machine that has it.
        flash: where code and constants go.
        ram: where everything else goes.
        kernel_bytes: size of the code of each kernel that multiplies, and of what walks over windows and values, by the
            name of its file behind "bitproof_", as the cross compiler (gcc 12.2) makes it with -O2.
        requantize_bytes: likewise of each requantizing kernel, by its method, what it takes from libgcc included.
    """

    architecture: Architecture
    flags: tuple[str, ...]
    machine: str
    flash: Region
    ram: Region
    kernel_bytes: Mapping[str, int]
    requantize_bytes: Mapping[str, int]

    def with_memory(self, flash_bytes: int | None, ram_bytes: int | None) -> Core:
        """Return this core with smaller memories; None: those of the emulated board.

        Raises:
            ConfigError: the emulated board has less.
        """
        for option, asked, region in (("flash", flash_bytes, self.flash), ("ram", ram_bytes, self.ram)):
            if asked is not None and asked > region.size_bytes:
                raise ConfigError(
                    f"{option} = {asked} bytes is more than the emulated board {self.machine} has, on which the "
                    f"firmware is run: at most {region.size_bytes}; give less, or leave {option} out"
                )
        return replace(
            self,
            flash=replace(self.flash, size_bytes=self.flash.size_bytes if flash_bytes is None else flash_bytes),
            ram=replace(self.ram, size_bytes=self.ram.size_bytes if ram_bytes is None else ram_bytes),
        )


STACK_BYTES = 2048
"""RAM that the linker keeps free for the stack at least."""


KERNELS = (
    *("multiply_binary", "multiply_u1", "multiply_ternary", "multiply_u2", "multiply_u4", "multiply_u8"),
    *("multiply_pair_binary", "multiply_pair_u1", "multiply_pair_ternary"),
    *("multiply_pair_u2", "multiply_pair_u4", "multiply_pair_u8"),
    *("convolve", "squares", "depthwise", "depthwise_2", "depthwise_4", "depthwise_8", "windows", "values"),
)
"""Files of kernels, behind "bitproof_", in the order of the sizes below."""


def _kernels(*sizes: int) -> Mapping[str, int]:
    return dict(zip(KERNELS, sizes, strict=True))


def _requantizations(shift: int, shift_64: int, rounding: int, thresholds: int) -> Mapping[str, int]:
    return {
        "multiply-shift": shift,
        "multiply-shift-64": shift_64,
        "rounding-shift": rounding,
        "thresholds": thresholds,
    }


_MPS2_FLASH = Region(0x0000_0000, 4 << 20)
_MPS2_RAM = Region(0x2000_0000, 4 << 20)
_SOFT = ("-mthumb", "-mfloat-abi=soft")

_CORTEX_M = Architecture(
    "cortex_m",
    ARM_GCC,
    QEMU_ARM,
    (),
    (b"\xd2\x46", b"\xdb\x46"),  # mov r10, r10; mov r11, r11
)
_RV32 = Architecture(
    "rv32",
    RISCV_GCC,
    QEMU_RISCV32,
    ("-bios", "none"),  # else QEMU loads a firmware of its own to the address where ours begins
    (b"\x13\x20\x10\x00", b"\x13\x20\x20\x00"),  # slti x0, x0, 1; slti x0, x0, 2
)

CORES: Mapping[EmulatedCore, Core] = {
    "cortex-m0": Core(
        _CORTEX_M,
        ("-mcpu=cortex-m0", *_SOFT),
        "microbit",
        Region(0x0000_0000, 256 << 10),
        Region(0x2000_0000, 16 << 10),
        _kernels(
            924, 1356, 1224, 1164, 768, 568, 1008, 3368, 2544, 820, 628, 1288, 3440, 1244, 932, 304, 304, 260, 584, 656
        ),
        _requantizations(128, 484, 124, 116),
    ),
    "cortex-m3": Core(
        _CORTEX_M,
        ("-mcpu=cortex-m3", *_SOFT),
        "mps2-an385",
        _MPS2_FLASH,
        _MPS2_RAM,
        _kernels(
            956, 1012, 896, 1044, 616, 428, 932, 2292, 1828, 588, 484, 1024, 2908, 964, 800, 232, 232, 208, 464, 612
        ),
        _requantizations(112, 300, 88, 100),
    ),
    "cortex-m4": Core(
        _CORTEX_M,
        ("-mcpu=cortex-m4", *_SOFT),
        "mps2-an386",
        _MPS2_FLASH,
        _MPS2_RAM,
        _kernels(
            880, 1096, 692, 628, 464, 384, 888, 2036, 1484, 488, 380, 464, 2520, 1084, 800, 632, 636, 600, 464, 604
        ),
        _requantizations(112, 304, 88, 100),
    ),
    "cortex-m7": Core(
        _CORTEX_M,
        ("-mcpu=cortex-m7", *_SOFT),
        "mps2-an500",
        _MPS2_FLASH,
        _MPS2_RAM,
        _kernels(
            940, 1100, 696, 628, 468, 384, 908, 2028, 1480, 488, 380, 464, 2512, 1084, 792, 624, 628, 604, 464, 612
        ),
        _requantizations(108, 308, 92, 100),
    ),
    "cortex-m33": Core(
        _CORTEX_M,
        ("-mcpu=cortex-m33", *_SOFT),
        "mps2-an505",
        Region(0x1000_0000, 4 << 20),
        Region(0x3800_0000, 4 << 20),
        _kernels(
            908, 1092, 692, 628, 464, 384, 904, 2032, 1484, 488, 380, 464, 2524, 1080, 800, 632, 640, 604, 464, 612
        ),
        _requantizations(112, 300, 88, 100),
    ),
    "cortex-m55": Core(
        _CORTEX_M,
        ("-mcpu=cortex-m55", *_SOFT),
        "mps3-an547",
        Region(0x0000_0000, 512 << 10),
        Region(0x2100_0000, 2 << 20),
        _kernels(
            896, 1172, 748, 652, 496, 412, 932, 2040, 1480, 488, 380, 464, 2576, 1116, 800, 636, 640, 592, 468, 672
        ),
        _requantizations(120, 328, 88, 100),
    ),
    "rv32imac": Core(
        _RV32,
        ("-march=rv32imac", "-mabi=ilp32"),
        "virt",
        Region(0x8000_0000, 4 << 20),  # the board's RAM in two halves: QEMU starts at its first address
        Region(0x8040_0000, 4 << 20),
        _kernels(
            968, 1532, 1288, 1280, 808, 552, 1016, 3264, 2312, 792, 620, 1172, 3560, 1420, 1048, 212, 212, 180, 508, 588
        ),
        _requantizations(140, 452, 96, 108),
    ),
}


def require_board_memory(core: CoreName, flash: int | None = None, ram: int | None = None) -> None:
    """Check that the emulated board of *core* has *flash* and *ram* bytes.

    Raises:
        ConfigError: it has less, or *core* is the host and has no board.
    """
    if core != HOST:
        core_of(core).with_memory(flash, ram)
        return
    for option, asked in (("flash", flash), ("ram", ram)):
        if asked is not None:
            raise ConfigError(
                f"{option} = {asked} says nothing of core=host, which runs in the memory of this machine; leave "
                f"{option} out, or name a core that has a board: {', '.join(CORES)}"
            )


def core_of(name: EmulatedCore) -> Core:
    """Return the table row of *name*.

    Raises:
        StageError: there is none.
    """
    if name not in CORES:
        raise StageError(f"unknown core {name!r}; known: {', '.join(get_args(EmulatedCore))}")
    return CORES[name]
