"""A device for the package ``pynq`` itself: its Overlay, MMIO and metadata run unchanged over the simulated fabric.

Import it before the first Overlay is made. It needs pynq 3.0.1 or 4.0.0, and nothing of this project but ``pynq.py``
beside it, from which the model of memory and registers is taken.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import pynq.overlay
from pynq.metadata.runtime_metadata_parser import RuntimeMetadataParser
from pynq.pl_server.device import Device
from pynqmetadata.frontends import Metadata

_spec = importlib.util.spec_from_file_location("simulated_pynq", Path(__file__).with_name("pynq.py"))
assert _spec is not None
assert _spec.loader is not None
model = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(model)


class Clocks:
    """The clocks of the processing system, which a PC has not: what an Overlay asks for is kept."""

    asked: ClassVar[dict[int, tuple[float, ...]]] = {}

    @classmethod
    def set_device(cls, device: object) -> None:
        """Take the clocks of *device* (pynq 4.0.0): there are none."""
        del device

    @classmethod
    def set_pl_clk(cls, index: int, *divisors: int, clk_mhz: float = 0) -> None:
        """Keep what is asked of a clock: divisors, or from pynq 4.0.0 on the frequency."""
        cls.asked[index] = (*divisors, clk_mhz)


pynq.overlay.Clocks = Clocks


class Memory:
    """The memory that processor and fabric share."""

    def allocate(self, shape: tuple[int, ...], dtype: Any, **_: object) -> Any:
        """Return a buffer."""
        return model.allocate(shape, dtype)


class SimulatedDevice(Device):  # type: ignore[misc]
    """The device that pynq finds on a PC once this module is imported."""

    _probe_priority_ = 50

    def __init__(self) -> None:
        super().__init__("simulated")
        self.capabilities = {"REGISTER_RW": True}
        self.default_memory = Memory()
        self.name = "simulated"
        self._fabric: Any = None

    @classmethod
    def _probe_(cls) -> list[SimulatedDevice]:
        return [cls()]

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> Any:
        """Return what pynq's own parser reads in the ``hwh``."""
        del partial
        return RuntimeMetadataParser(Metadata(input=Path(bitfile_name).with_suffix(".hwh")))

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """Configure the fabric."""
        del parser
        self._fabric = model.Fabric(Path(bitstream.bitfile_name))

    def gen_cache(self, *_: object, **__: object) -> None:
        """Keep no cache of metadata."""

    def read_registers(self, address: int, length: int) -> bytes:
        """Return a register."""
        return int(self._fabric.read(address & ~0xFFFF, address & 0xFFFF)).to_bytes(4, "little")[:length]

    def write_registers(self, address: int, data: Any) -> None:
        """Write a register."""
        self._fabric.write(address & ~0xFFFF, address & 0xFFFF, int.from_bytes(bytes(data), "little"))
