"""The constraints of a board: where the ports of the shell are, and how fast its clock is."""

from __future__ import annotations

from bitproof.hw.board import OpenFpga


def constraints(fpga: OpenFpga) -> str:
    """Return the file of constraints that nextpnr reads for *fpga*: LPF for ECP5, CST for Gowin."""
    return _lpf(fpga) if fpga.family == "ecp5" else _cst(fpga)


def _lpf(fpga: OpenFpga) -> str:
    lines = []
    for port, pin in fpga.pins.items():
        lines += [f'LOCATE COMP "{port}" SITE "{pin.site}";', f'IOBUF PORT "{port}" {pin.settings};']
    return "\n".join([*lines, f'FREQUENCY PORT "clock" {fpga.crystal_hz / 1e6:.6f} MHZ;', ""])


def _cst(fpga: OpenFpga) -> str:
    """Return the constraints of Gowin; the frequency is an argument of nextpnr."""
    lines = []
    for port, pin in fpga.pins.items():
        lines += [f'IO_LOC "{port}" {pin.site};', f'IO_PORT "{port}" {pin.settings};']
    return "\n".join([*lines, ""])
