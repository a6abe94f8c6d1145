"""The bitstream of a routed design, and its check: unpacked again, its size, and the device that it names."""

from __future__ import annotations

from bitproof.hw.board import OpenFpga
from bitproof.hw.synth.tools import ECPPACK, ECPUNPACK, GOWIN_PACK, GOWIN_UNPACK, PythonScript

SUFFIXES = {"ecp5": "bit", "gowin": "fs"}
PACKERS: dict[str, tuple[PythonScript, PythonScript]] = {
    "ecp5": (ECPPACK, ECPUNPACK),
    "gowin": (GOWIN_PACK, GOWIN_UNPACK),
}
GOWIN_DEVICE = "GW2A-18C"


def bitstream_name(fpga: OpenFpga) -> str:
    """Return the name of the file of a bitstream."""
    return f"bitstream.{SUFFIXES[fpga.family]}"
