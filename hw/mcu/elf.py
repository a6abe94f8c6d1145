"""The little of ELF that the back-end reads: where in the file the bytes of a symbol are.

Format: System V ABI, little-endian: ELF-32 for the cores that are cross compiled for, ELF-32 or ELF-64 for the host.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bitproof.pipeline import StageError


@dataclass(frozen=True, slots=True)
class _Format:
    """How the tables of one class of ELF files lie in memory.

    Attributes:
        symbol_fields: places of name, value, section index, size and ``st_info`` in a symbol.
    """

    header: struct.Struct
    section: struct.Struct
    symbol: struct.Struct
    symbol_fields: tuple[int, int, int, int, int]


FORMATS = {
    1: _Format(struct.Struct("<16sHHIIIIIHHHHHH"), struct.Struct("<10I"), struct.Struct("<IIIBBH"), (0, 1, 5, 2, 3)),
    2: _Format(
        struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ"), (0, 4, 3, 5, 1)
    ),
}
"""By ``EI_CLASS``: 32 and 64 bits."""
LITTLE_ENDIAN = 1
"""``EI_DATA``."""
FILE_SYMBOL = 4
"""``st_info`` of the name of a source file, which stands before its local symbols."""
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
        StageError: it is not a little-endian ELF file.
    """
    form = _format_of(image)
    *_, table_offset, _, _, _, _, entry_bytes, count, names_index = form.header.unpack_from(image)
    raw = [form.section.unpack_from(image, table_offset + index * entry_bytes) for index in range(count)]
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
    raise StageError(f"the ELF file has no symbol {symbol!r}; build it again")


def _format_of(image: bytes) -> _Format:
    if image[:4] != b"\x7fELF" or image[4] not in FORMATS or image[5] != LITTLE_ENDIAN:
        raise StageError("the file is not a little-endian ELF file; build it again")
    return FORMATS[image[4]]


def _symbols(image: bytes, table: tuple[ElfSection, ...]) -> Iterator[tuple[str, int, int]]:
    form = _format_of(image)
    for section in table:
        if section.kind == SYMBOL_TABLE:
            names_offset = table[section.link].offset
            for offset in range(section.offset, section.offset + section.size, form.symbol.size):
                fields = form.symbol.unpack_from(image, offset)
                name, value, index, _, _ = (fields[place] for place in form.symbol_fields)
                yield _text(image, names_offset + name), value, index


def _text(image: bytes, offset: int) -> str:
    return image[offset : image.index(b"\0", offset)].decode()


def sized_symbols(image: bytes) -> Iterator[tuple[str, str, int]]:
    """Yield name, source file and bytes of everything with a size that the ELF file *image* keeps in flash.

    The file is that which a local symbol comes from; of a global one it is empty.
    """
    table, form = sections(image), _format_of(image)
    for section in table:
        if section.kind != SYMBOL_TABLE:
            continue
        names, file = table[section.link].offset, ""
        for offset in range(section.offset, section.offset + section.size, form.symbol.size):
            fields = form.symbol.unpack_from(image, offset)
            name, _, index, size, info = (fields[place] for place in form.symbol_fields)
            if info & 0xF == FILE_SYMBOL:
                file = _text(image, names + name)
            elif size and 0 < index < len(table) and table[index].allocated and not table[index].writable:
                yield _text(image, names + name), "" if info >> 4 else file, size
