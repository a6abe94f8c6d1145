"""The little of ELF that the back-end reads: where in the file the bytes of a symbol are.

Format: System V ABI, ELF-32, little-endian (the only form that arm-none-eabi-gcc makes for these cores).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bitproof.pipeline import StageError

HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
SECTION = struct.Struct("<10I")
SYMBOL = struct.Struct("<IIIBBH")
SYMBOL_TABLE = 2
"""``sh_type`` of a symbol table."""
NO_BITS = 8
"""``sh_type`` of a section without bytes in the file."""
ALLOCATED = 0x2
WRITABLE = 0x1


@dataclass(frozen=True, slots=True)
class ElfSection:
    """One section header, as far as it is used."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int

    @property
    def allocated(self) -> bool:
        """It occupies memory on the target."""
        return bool(self.flags & ALLOCATED)

    @property
    def writable(self) -> bool:
        """It occupies RAM on the target."""
        return bool(self.flags & WRITABLE)


def sections(image: bytes) -> tuple[ElfSection, ...]:
    """Return the section headers of the ELF file *image*.

    Raises:
        StageError: it is not a 32-bit little-endian ELF file.
    """
    if image[:6] != b"\x7fELF\x01\x01":
        raise StageError("the firmware is not a 32-bit little-endian ELF file; build it again")
    *_, table_offset, _, _, _, _, entry_bytes, count, names_index = HEADER.unpack_from(image)
    raw = [SECTION.unpack_from(image, table_offset + index * entry_bytes) for index in range(count)]
    names_offset = raw[names_index][4]
    return tuple(
        ElfSection(_text(image, names_offset + name), kind, flags, address, offset, size, link)
        for name, kind, flags, address, offset, size, link, *_ in raw
    )


def file_offset(image: bytes, symbol: str) -> int:
    """Return where in the ELF file *image* the bytes of *symbol* begin.

    Raises:
        StageError: there is no such symbol.
    """
    table = sections(image)
    for name, value, section_index in _symbols(image, table):
        if name == symbol and 0 < section_index < len(table):
            section = table[section_index]
            return section.offset + value - section.address
    raise StageError(f"the firmware has no symbol {symbol!r}; build it again")


def _symbols(image: bytes, table: tuple[ElfSection, ...]) -> Iterator[tuple[str, int, int]]:
    for section in table:
        if section.kind == SYMBOL_TABLE:
            names_offset = table[section.link].offset
            for offset in range(section.offset, section.offset + section.size, SYMBOL.size):
                name, value, _, _, _, index = SYMBOL.unpack_from(image, offset)
                yield _text(image, names_offset + name), value, index


def _text(image: bytes, offset: int) -> str:
    return image[offset : image.index(b"\0", offset)].decode()
