"""The check of a Vivado project without Vivado, by its Tcl in tclsh.

Every command is held against its recorded signature; then the block design that they describe is held against the pins,
parameters and ranges of the IP, and against the driver. What it cannot show: that Vivado accepts the script, and what
it makes of it.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitproof.hw.pynq.accelerator import ACCELERATOR
from bitproof.hw.pynq.board import bitproof_driver as driver
from bitproof.hw.pynq.design import DMA_WIDTHS, Design
from bitproof.hw.pynq.project import BUILD
from bitproof.hw.pynq.tcl_list import split_list
from bitproof.pipeline import InputError, StageError
from bitproof.pipeline.toolchain import TCLSH

FOLDER = Path(__file__).parent / "vivado"
NEEDED_BY = "the check of a Vivado project"
TIMEOUT_S = 120
OWN = f"bitproof:user:{ACCELERATOR}:1.0"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a command: its options by their names, and its positional arguments."""

    command: str
    options: Mapping[str, str]
    arguments: tuple[str, ...]


@dataclass(slots=True)
class BlockDesign:
    """What the calls make: cells by name with their VLNV and parameters, connections, and assigned addresses."""

    cells: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, dict[str, str]] = field(default_factory=dict)
    interfaces: list[tuple[str, str]] = field(default_factory=list)
    external: list[str] = field(default_factory=list)
    nets: list[tuple[str, ...]] = field(default_factory=list)
    addresses: list[tuple[str, str, int, int]] = field(default_factory=list)
    """Space, segment, offset, range."""


def check_project(folder: Path, design: Design, *, scratch: Path) -> BlockDesign:
    """Check the project in *folder* and return the block design that it describes.

    Args:
        folder: the project.
        design: what it must be.
        scratch: an existing folder for the log.

    Raises:
        ToolMissingError: tclsh is not installed.
        StageError: the script fails, or the design is not one that the IP allows and the driver expects.
    """
    made = block_design(recorded_calls(folder, scratch=scratch))
    ports = accelerator_ports((folder / "rtl" / f"{ACCELERATOR}.v").read_text())
    problems = list(problems_of(made, design, ports))
    if problems:
        raise StageError(f"{folder / BUILD} does not describe the design:\n" + "\n".join(problems))
    return made


def recorded_calls(folder: Path, *, scratch: Path) -> tuple[Call, ...]:
    """Run the script of the project in *folder*, in a copy, and return its calls of Vivado's commands.

    Raises:
        ToolMissingError: tclsh is not installed.
        StageError: it calls what is not recorded, or fails otherwise.
    """
    signatures = json.loads((FOLDER / "commands.json").read_text())["commands"]
    with tempfile.TemporaryDirectory(prefix="bitproof-tcl-") as name:
        place = Path(name)
        shutil.copytree(folder, place / "project", ignore=shutil.ignore_patterns("build", "*.bit", "*.hwh"))
        (place / "signatures").write_text("".join(_signature(key, signatures[key]) for key in sorted(signatures)))
        arguments = [FOLDER / "record.tcl", place / "signatures", place / "calls", place / "project" / BUILD]
        TCLSH.run(arguments, needed_by=NEEDED_BY, cwd=place, log=scratch / "tclsh.log", timeout_s=TIMEOUT_S)
        lines = (place / "calls").read_text(encoding="utf-8").splitlines()
    return tuple(map(_call, lines))


def _signature(name: str, signature: Mapping[str, Any]) -> str:
    least, most = signature["arguments"]
    options = [f"{option}{'=' if valued else ''}" for option, valued in signature["options"].items()]
    return " ".join((name, str(least), str(most), *options)) + "\n"


def _call(line: str) -> Call:
    command, options, arguments = split_list(line)
    pairs = (split_list(pair) for pair in split_list(options))
    return Call(command, dict(pairs), tuple(split_list(arguments)))


def block_design(calls: tuple[Call, ...]) -> BlockDesign:
    """Return what *calls* make."""
    made = BlockDesign()
    for call in calls:
        match call.command, call.arguments:
            case "create_bd_cell", (name,):
                made.cells[name] = call.options.get("-vlnv", "")
            case "set_property", (name,) if name in made.cells:
                words = split_list(call.options["-dict"])
                given = zip((key.removeprefix("CONFIG.") for key in words[::2]), words[1::2], strict=True)
                made.parameters.setdefault(name, {}).update(given)
            case "connect_bd_intf_net", (one, other):
                made.interfaces.append((one, other))
            case "make_bd_intf_pins_external", (pin,):
                made.external.append(pin)
            case "connect_bd_net", pins:
                made.nets.append(pins)
            case "assign_bd_address", (segment,):
                offset, size = (int(call.options[name], 16) for name in ("-offset", "-range"))
                made.addresses.append((call.options["-target_address_space"], segment, offset, size))
            case _:
                pass
    return made


def accelerator_ports(text: str) -> dict[str, int]:
    """Return the ports of the accelerator in the Verilog *text*, with their widths in bits.

    Raises:
        InputError: it holds no such module.
    """
    header = re.search(rf"module {ACCELERATOR} \((.*?)\);", text, re.DOTALL)
    if header is None:
        raise InputError(f"there is no module {ACCELERATOR}; write the project again")
    found = re.findall(r"(?:input|output) wire (?:\[(\d+):0\] )?(\w+)", header.group(1))
    return {name: int(high or 0) + 1 for high, name in found}


def problems_of(made: BlockDesign, design: Design, ports: Mapping[str, int]) -> Iterator[str]:
    """Yield what *made* is not: a design that the IP allows, and the one that the driver expects, one line each."""
    known: dict[str, Any] = json.loads((FOLDER / "cells.json").read_text())["cells"]
    known[OWN] = {
        "parameters": {},
        "masters": ["m_axis"],
        "slaves": ["s_axis"],
        "outputs": {},
        "inputs": {"ap_clk": 1, "ap_rst_n": 1},
        "required": ["ap_clk", "ap_rst_n"],
        "spaces": [],
        "segments": {},
    }
    unknown = {name: vlnv for name, vlnv in made.cells.items() if vlnv not in known}
    if unknown:
        yield from (f"cell {name} is of an IP that is not recorded: {vlnv}" for name, vlnv in unknown.items())
        return
    kinds = {name: known[vlnv] for name, vlnv in made.cells.items()}
    yield from _parameters(made, kinds)
    yield from _interfaces(made, kinds)
    yield from _nets(made, kinds)
    yield from _addresses(made, kinds)
    yield from _widths(made, design, ports)
    yield from _driver(made, design)


def _parameters(made: BlockDesign, kinds: Mapping[str, Any]) -> Iterator[str]:
    for name, parameters in made.parameters.items():
        for key, value in parameters.items():
            allowed = kinds[name]["parameters"].get(key)
            if allowed is None:
                yield f"{name} ({made.cells[name]}) has no parameter {key}"
            elif not allowed[0] <= _number(value) <= allowed[1]:
                yield f"{name}: {key} = {value} is not possible; allowed: {allowed[0]}..{allowed[1]}"


def _interfaces(made: BlockDesign, kinds: Mapping[str, Any]) -> Iterator[str]:
    used = [pin for pair in made.interfaces for pin in pair] + made.external
    yield from (f"{pin} is connected twice" for pin in sorted({pin for pin in used if used.count(pin) > 1}))
    for master, slave in made.interfaces:
        for pin, role in ((master, "masters"), (slave, "slaves")):
            cell, _, interface = pin.partition("/")
            if interface not in kinds[cell][role]:
                yield f"{pin} is not one of the {role} of {made.cells[cell]}"
    for cell, kind in kinds.items():
        sizes = made.parameters.get(cell, {})
        for role, count in (("slaves", sizes.get("NUM_SI")), ("masters", sizes.get("NUM_MI"))):
            for interface in kind[role] if count is None else kind[role][: int(count)]:
                if f"{cell}/{interface}" not in used:
                    yield f"{cell}/{interface} is not connected"


def _nets(made: BlockDesign, kinds: Mapping[str, Any]) -> Iterator[str]:
    driven: list[str] = []
    for driving, *pins in made.nets:
        cell, _, pin = driving.partition("/")
        width = kinds[cell]["outputs"].get(pin)
        if width is None:
            yield f"{driving} drives a net and is no output of {made.cells[cell]}"
        for each in pins:
            cell, _, pin = each.partition("/")
            if pin not in kinds[cell]["inputs"]:
                yield f"{each} is driven and is no input of {made.cells[cell]}"
            elif width is not None and kinds[cell]["inputs"][pin] != width:
                yield f"{driving} has {width} bits and {each} {kinds[cell]['inputs'][pin]}"
        driven += pins
    yield from (f"{pin} is driven twice" for pin in sorted({pin for pin in driven if driven.count(pin) > 1}))
    needed = [f"{cell}/{pin}" for cell, kind in kinds.items() for pin in kind["required"]]
    yield from (f"{pin} is not driven" for pin in needed if pin not in driven)


def _addresses(made: BlockDesign, kinds: Mapping[str, Any]) -> Iterator[str]:
    taken: dict[str, list[tuple[int, int, str]]] = {}
    for space, segment, offset, size in made.addresses:
        cell, _, name = space.partition("/")
        if name not in kinds[cell]["spaces"]:
            yield f"{space} is no address space of {made.cells[cell]}"
        cell, _, name = segment.partition("/")
        window = kinds[cell]["segments"].get(name)
        if window is None:
            yield f"{segment} is no segment of {made.cells[cell]}"
        elif not window[0] <= offset <= offset + size <= window[1] or offset % size:
            yield f"{segment} at 0x{offset:08x}, 0x{size:x} bytes, is not within 0x{window[0]:08x}..0x{window[1]:08x}"
        for low, high, other in taken.setdefault(space, []):
            if offset < high and low < offset + size:
                yield f"{segment} and {other} overlap in {space}"
        taken[space].append((offset, offset + size, segment))


def _widths(made: BlockDesign, design: Design, ports: Mapping[str, int]) -> Iterator[str]:
    """Compare the streams: of the DMA, of the accelerator's ports, and of ``design.json``."""
    dma = made.parameters.get(driver.DMA_NAME, {})
    widths = {
        "the DMA's stream to the accelerator": (int(dma.get("c_m_axis_mm2s_tdata_width", 0)), design.input.beat_bits),
        "s_axis_tdata of the accelerator": (ports.get("s_axis_tdata", 0), design.input.beat_bits),
        "m_axis_tdata of the accelerator": (ports.get("m_axis_tdata", 0), design.output.beat_bits),
    }
    for what, (found, expected) in widths.items():
        if found != expected or found not in DMA_WIDTHS:
            yield f"{what} has {found} bits, and {driver.DESIGN} says {expected}"
    for key, beat in (("c_m_axi_mm2s_data_width", design.input), ("c_m_axi_s2mm_data_width", design.output)):
        if int(dma.get(key, 0)) < beat.beat_bits:
            yield f"{driver.DMA_NAME}: {key} = {dma.get(key)} is narrower than its stream of {beat.beat_bits} bits"


def _driver(made: BlockDesign, design: Design) -> Iterator[str]:
    """Compare with the constants of the driver."""
    found = {segment.partition("/")[0]: (offset, size) for space, segment, offset, size in made.addresses}
    for name, address in ((driver.DMA_NAME, driver.DMA_ADDRESS), (driver.ID_NAME, driver.ID_ADDRESS)):
        if found.get(name) != (address, driver.REGISTER_RANGE):
            shown = "nowhere" if name not in found else f"at 0x{found[name][0]:08x}, 0x{found[name][1]:x} bytes"
            yield f"{name} is {shown}; the driver expects it at 0x{address:08x}, 0x{driver.REGISTER_RANGE:x} bytes"
    dma = made.parameters.get(driver.DMA_NAME, {})
    if dma.get("c_include_sg") != "0":
        yield f"{driver.DMA_NAME}: the driver has the simple mode only, and c_include_sg = {dma.get('c_include_sg')}"
    if (1 << int(dma.get("c_sg_length_width", 0))) - 1 != driver.MAX_TRANSFER_BYTES:
        yield f"{driver.DMA_NAME}: the driver sends up to {driver.MAX_TRANSFER_BYTES} bytes at once"
    halves = [made.parameters.get(name, {}).get("CONST_VAL", "0") for name in ("id_high", "id_low")]
    number = "".join(f"{int(half, 16):08x}" for half in halves)
    if number != design.design_id:
        yield f"the fabric would say that it is design {number}; {driver.DESIGN} says {design.design_id}"


def _number(text: str) -> float:
    return int(text, 16) if text.startswith("0x") else float(text)
