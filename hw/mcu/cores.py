"""The processors that the C back-end builds for: one table row each.

The C sources are the same for all of them. A row says how the cross compiler is told about the core, which QEMU machine
has it, and where that machine's memories are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline import StageError

CoreName = Literal["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7"]


@dataclass(frozen=True, slots=True)
class Region:
    """One memory: its first address and its size."""

    origin: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Core:
    """One processor.

    Attributes:
        flags: what the cross compiler is told about it.
        machine: the QEMU machine that has it.
        flash: where code and constants go.
        ram: where everything else goes.
    """

    flags: tuple[str, ...]
    machine: str
    flash: Region
    ram: Region


_MPS2_FLASH = Region(0x0000_0000, 4 << 20)
_MPS2_RAM = Region(0x2000_0000, 4 << 20)
_SOFT = ("-mthumb", "-mfloat-abi=soft")

CORES: Mapping[CoreName, Core] = {
    "cortex-m0": Core(
        ("-mcpu=cortex-m0", *_SOFT), "microbit", Region(0x0000_0000, 256 << 10), Region(0x2000_0000, 16 << 10)
    ),
    "cortex-m3": Core(("-mcpu=cortex-m3", *_SOFT), "mps2-an385", _MPS2_FLASH, _MPS2_RAM),
    "cortex-m4": Core(("-mcpu=cortex-m4", *_SOFT), "mps2-an386", _MPS2_FLASH, _MPS2_RAM),
    "cortex-m7": Core(("-mcpu=cortex-m7", *_SOFT), "mps2-an500", _MPS2_FLASH, _MPS2_RAM),
}


def core_of(name: CoreName) -> Core:
    """Return the table row of *name*.

    Raises:
        StageError: there is none.
    """
    if name not in CORES:
        raise StageError(f"unknown core {name!r}; known: {', '.join(get_args(CoreName))}")
    return CORES[name]
