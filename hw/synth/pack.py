"""The bitstream of a routed design, and its check: unpacked again, its size, and the device that it names.

A bitstream of ECP5 that is unpacked gives settings that have to make the same bitstream, and hold the lookup tables and
the block memories of the routed design. One of Gowin has to be unpacked without an error; what comes is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bitproof.hw.board import OpenFpga
from bitproof.hw.synth.place import ROUTERS
from bitproof.hw.synth.tools import ECPPACK, ECPUNPACK, GOWIN_PACK, GOWIN_UNPACK, TIMEOUT_S, PythonScript
from bitproof.pipeline import StageError

BITSTREAMS: Mapping[str, str] = {"ecp5": "bitstream.bit", "gowin": "bitstream.fs"}
UNPACKED, REPACKED = "unpacked", "repacked.bit"
GOWIN_DEVICE = "GW2A-18C"
ECP5_DEVICE = b"\xe2\x00\x00\x00"
"""The command of a bitstream behind which its device stands, VERIFY_ID."""
GOWIN_DEVICE_COMMAND = "00000110"
TABLE = re.compile(r"word: (SLICE\w\.K\w\.INIT) ([01]+)")
EMPTY_TABLE = "1" * 16


def pack(fpga: OpenFpga, *, needed_by: str, folder: Path, log: Path) -> Path:
    """Pack what nextpnr left in *folder*, and check the bitstream; return its path.

    Raises:
        ToolMissingError: the packer is not installed.
        StageError: it failed, or the bitstream is not one of this FPGA with the routed design in it.
    """
    routed, made = ROUTERS[fpga.family].result, BITSTREAMS[fpga.family]

    def run(tool: PythonScript, *arguments: str) -> None:
        tool.run(arguments, needed_by=needed_by, cwd=folder, log=log.resolve(), timeout_s=TIMEOUT_S)

    if fpga.family == "ecp5":
        run(ECPPACK, routed, made)
        settings = _text(folder / routed)
        require_bitstream((folder / made).read_bytes(), fpga, len(memories_of(settings)))
        run(ECPUNPACK, made, UNPACKED)
        require_contents(settings, _text(folder / UNPACKED))
        run(ECPPACK, UNPACKED, REPACKED)
        if (folder / REPACKED).read_bytes() != (folder / made).read_bytes():
            raise StageError("the bitstream that was unpacked and packed again is another one")
    else:
        run(GOWIN_PACK, "-d", GOWIN_DEVICE, "-o", made, routed)
        require_bitstream((folder / made).read_bytes(), fpga, 0)
        run(GOWIN_UNPACK, "-d", GOWIN_DEVICE, "-o", UNPACKED, made)
    return folder / made


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{path} is no text of settings: {error}") from error


def require_bitstream(content: bytes, fpga: OpenFpga, memories: int) -> None:
    """Check size and device of a bitstream that fills so many block *memories*.

    Raises:
        StageError: they are others.
    """
    wanted = fpga.bitstream_bytes + memories * fpga.memory_bytes
    if len(content) < wanted or (fpga.memory_bytes and len(content) != wanted):
        raise StageError(
            f"the bitstream has {len(content)} bytes; one of {fpga.device} has {wanted} here. The packer is "
            "of another version than the board's file (hw/boards) was written for"
        )
    named = idcode_of(content) if fpga.family == "ecp5" else gowin_idcode_of(content.decode("ascii", errors="replace"))
    if named != int(fpga.idcode, 16):
        raise StageError(f"the bitstream is for the device {named:#010x}; {fpga.device} is {fpga.idcode}")


def idcode_of(content: bytes) -> int:
    """Return the device that a bitstream of ECP5 names.

    Raises:
        StageError: it names none.
    """
    place = content.find(ECP5_DEVICE)
    if place < 0:
        raise StageError("the bitstream names no device")
    return int.from_bytes(content[place + 4 : place + 8], "big")


def gowin_idcode_of(text: str) -> int:
    """Return the device that a bitstream of Gowin, lines of binary digits, names.

    Raises:
        StageError: it names none.
    """
    for line in text.splitlines():
        if line.startswith(GOWIN_DEVICE_COMMAND) and re.fullmatch("[01]{40,}", line):
            return int(line[-32:], 2)
    raise StageError("the bitstream names no device")


def require_contents(routed: str, unpacked: str) -> None:
    """Check that the settings *unpacked* from a bitstream of ECP5 hold the tables and memories of the *routed* ones.

    Raises:
        StageError: one differs; the message names its place.
    """
    stored, packed = memories_of(routed), memories_of(unpacked)
    for name in sorted(stored.keys() | packed.keys()):
        if stored.get(name) != packed.get(name):
            raise StageError(f"the bitstream holds another content of the block memory {name} than the routed design")
    wanted, found = tables_of(routed), tables_of(unpacked)
    for place in sorted(wanted.keys() | found.keys()):
        if wanted.get(place, EMPTY_TABLE) != found.get(place, EMPTY_TABLE):
            raise StageError(
                f"the bitstream has {found.get(place, EMPTY_TABLE)} in the table {place}; the routed design has "
                f"{wanted.get(place, EMPTY_TABLE)}"
            )


def memories_of(settings: str) -> dict[str, tuple[str, ...]]:
    """Return the contents of block memories in *settings*, lines of words by name."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in settings.splitlines():
        if line.startswith("."):
            section = line if line.startswith(".bram_init") else ""
            found.update({section: []} if section else {})
        elif section and line:
            found[section].append(line)
    return {name: tuple(lines) for name, lines in found.items()}


def tables_of(settings: str) -> dict[str, str]:
    """Return the lookup tables in *settings*, which are a file of the packer, by tile and place."""
    found, tile = {}, ""
    for line in settings.splitlines():
        match = TABLE.fullmatch(line)
        if line.startswith(".tile"):
            tile = line
        elif match:
            found[f"{tile} {match.group(1)}"] = match.group(2)
    return found
