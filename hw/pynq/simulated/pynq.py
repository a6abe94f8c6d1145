"""A stand-in for the package ``pynq``: its Overlay, MMIO and allocate, over a fabric that is simulated.

A driver imports it unchanged if the folder of this file is on its path. The "bit file" is a ZIP archive with the
Verilated accelerator and its memory files, made by ``bitproof.hw.pynq.simulated.fabric``; that file is all that a board
would get, so this module needs Python 3.10 and numpy alone. The AXI DMA is its register model in the simple mode (AMD
PG021): a channel that is halted ignores its length register, an address without memory is a decode error, more words
than the length are an internal error, and a batch without TLAST never ends. What is not flushed does not reach the
device, what is not invalidated does not reach the processor.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import weakref
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

__version__ = "simulated"
FABRIC = "fabric.json"
FIRST_ADDRESS, PAGE = 0x1000_0000, 4096
SEND, RECEIVE = 0x00, 0x30
CONTROL, STATUS, ADDRESS, LENGTH = 0x00, 0x04, 0x18, 0x28
RUN, RESET = 1 << 0, 1 << 2
HALTED, IDLE, INTERNAL_ERROR, DECODE_ERROR = 1 << 0, 1 << 1, 1 << 4, 1 << 6
TIMEOUT_S = 300


class Buffer(np.ndarray):
    """Memory that processor and device share, through a cache that is written and read on demand only."""

    device_address: int
    contents: bytearray

    def flush(self) -> None:
        """Give the device what the processor wrote."""
        self.contents[:] = self.tobytes()

    def invalidate(self) -> None:
        """Give the processor what the device wrote."""
        np.asarray(self)[...] = np.frombuffer(bytes(self.contents), dtype=self.dtype).reshape(self.shape)

    def freebuffer(self) -> None:
        """Give the memory back."""
        _memory.pop(self.device_address, None)


_memory: dict[int, Buffer] = {}
_fabric: list[Fabric] = []


def allocate(shape: tuple[int, ...], dtype: Any = np.uint32, **_: object) -> Buffer:
    """Return a buffer of *shape*."""
    buffer = np.zeros(shape, dtype=dtype).view(Buffer)
    used = [address + -(-other.nbytes // PAGE) * PAGE for address, other in _memory.items()]
    buffer.device_address = max(used, default=FIRST_ADDRESS)
    buffer.contents = bytearray(buffer.nbytes)
    _memory[buffer.device_address] = buffer
    return buffer


def _device_bytes(address: int, size: int) -> memoryview | None:
    """Return the memory of the device at *address*; None if there is not as much."""
    for base, buffer in _memory.items():
        if base <= address and address + size <= base + buffer.nbytes:
            return memoryview(buffer.contents)[address - base : address - base + size]
    return None


class Overlay:
    """The fabric, configured with a bit file; its description lies beside the file as ``.hwh``."""

    def __init__(self, bitfile_name: str, **_: object) -> None:
        path = Path(bitfile_name)
        if not path.is_file():
            raise OSError(f"Bitstream file {path} does not exist.")
        tree = ET.parse(path.with_suffix(".hwh"))  # noqa: S314  the file of whoever loads the bitstream
        self.bitfile_name = str(path)
        self.ip_dict = {
            str(entry.get("INSTANCE")): {"phys_addr": int(str(entry.get("BASEVALUE")), 16)}
            for entry in tree.iter("MEMRANGE")
            if str(entry.get("MEMTYPE")) == "REGISTER"
        }
        _fabric[:] = [Fabric(path)]


class MMIO:
    """Registers at *base_addr*."""

    def __init__(self, base_addr: int, length: int = 4, **_: object) -> None:
        self._base, self._length = base_addr, length

    def read(self, offset: int = 0) -> int:
        """Return the register at *offset*."""
        return _fabric[0].read(self._base, offset)

    def write(self, offset: int, data: int) -> None:
        """Write the register at *offset*."""
        if not 0 <= offset < self._length or offset % 4:
            raise ValueError(f"offset {offset} is outside of the registers, or between them")
        if type(data) is not int:  # pynq 3.0.1 asks for the type itself: no NumPy integer
            raise ValueError("Data type must be int or bytes.")
        _fabric[0].write(self._base, offset, data)


class Fabric:
    """The configured fabric: the registers of DMA and design number, and the accelerator behind them."""

    def __init__(self, bitfile: Path) -> None:
        self._path = Path(tempfile.mkdtemp(prefix="simulated-fabric-"))
        weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        try:
            with zipfile.ZipFile(bitfile) as archive:
                archive.extractall(self._path)
        except zipfile.BadZipFile as error:
            raise OSError(f"{bitfile} is no bitstream of the simulated board") from error
        self._about = json.loads((self._path / FABRIC).read_text())
        (self._path / "fabric").chmod(0o700)
        self._registers: dict[int, int] = {}
        self._pending: dict[int, int] = {}
        self._reset()

    def _reset(self) -> None:
        self._registers = {SEND + STATUS: HALTED, RECEIVE + STATUS: HALTED}
        self._pending = {}

    def read(self, base: int, offset: int) -> int:
        """Return a register."""
        if base == self._about["id_address"]:
            digits = str(self._about["design_id"])
            return int(digits[8:] if offset == 0 else digits[:8], 16)
        return self._registers.get(offset, 0)

    def write(self, base: int, offset: int, value: int) -> None:
        """Write a register of the DMA."""
        if base != self._about["dma_address"]:
            return
        channel = SEND if offset < RECEIVE else RECEIVE
        place = offset - channel
        if place == CONTROL and value & RESET:
            self._reset()
        elif place == CONTROL:
            self._registers[channel + STATUS] &= ~HALTED if value & RUN else ~0
        elif place == LENGTH and not self._registers[channel + STATUS] & HALTED:
            self._registers[channel + STATUS] &= ~IDLE
            self._pending[channel] = value
            if len(self._pending) == 2:
                self._transfer()
        elif place != LENGTH:
            self._registers[offset] = value

    def _transfer(self) -> None:
        sent, room = self._pending.pop(SEND), self._pending.pop(RECEIVE)
        source = _device_bytes(self._registers.get(SEND + ADDRESS, 0), sent)
        target = _device_bytes(self._registers.get(RECEIVE + ADDRESS, 0), room)
        for channel, memory in ((SEND, source), (RECEIVE, target)):
            if memory is None:
                self._registers[channel + STATUS] |= DECODE_ERROR | HALTED
        if source is None or target is None:
            return
        given = self._simulate(np.frombuffer(bytes(source), dtype=np.uint8))
        if given is None:
            return  # the accelerator is stuck
        self._registers[SEND + STATUS] |= IDLE
        beats, last = given[:, :-1], np.flatnonzero(given[:, -1])
        if not len(last):
            return  # without TLAST the channel waits for more
        content = beats[: last[0] + 1].tobytes()
        target[: min(room, len(content))] = content[:room]
        self._registers[RECEIVE + LENGTH] = min(room, len(content))
        self._registers[RECEIVE + STATUS] |= INTERNAL_ERROR | HALTED if len(content) > room else IDLE

    def _simulate(self, content: Any) -> Any:
        """Return what comes for the bytes *content*, a batch; see :meth:`given_for`."""
        beats = content.reshape(-1, self._about["in_beat_bytes"])
        last = np.zeros((len(beats), 1), dtype=np.uint8)
        last[-1] = not self._about["never_ends"]
        return self.given_for(np.hstack([beats, last]))

    def given_for(self, beats: Any) -> Any:
        """Return the beats that come for *beats*, each with its TLAST in the last byte; None: the fabric is stuck."""
        about = self._about
        beats.tofile(self._path / "beats.in")
        arguments = {
            "unit": 0,
            "input": self._path / "beats.in",
            "input-bytes": about["in_beat_bytes"] + 1,
            "repeat": 1,
            "output": self._path / "beats.out",
            "output-bytes": about["out_beat_bytes"] + 1,
            "outputs": len(beats) // about["in_words"] * about["out_words"],
            "words-out": about["out_words"],
            "stall": about["stall_percent"],
            "seed": 0,
            "idle-limit": about["idle_limit"],
        }
        argv = [str(self._path / "fabric"), *(f"+{name}={value}" for name, value in arguments.items())]
        argv += ["+verilator+rand+reset+2", "+verilator+seed+1"]
        done = subprocess.run(argv, cwd=self._path, capture_output=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            return None
        return np.fromfile(self._path / "beats.out", dtype=np.uint8).reshape(-1, about["out_beat_bytes"] + 1)
