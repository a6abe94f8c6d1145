"""C for microcontrollers and this machine: generated sources, firmware in QEMU, and a shared library."""

from bitproof.hw.mcu.codegen import GenerateC
from bitproof.hw.mcu.cores import CORES, HOST, CoreName, EmulatedCore
from bitproof.hw.mcu.cost import measure
from bitproof.hw.mcu.fault import flip_weight_bit
from bitproof.hw.mcu.firmware import BuildFirmware
from bitproof.hw.mcu.host import HostExecutor
from bitproof.hw.mcu.library import BuildLibrary
from bitproof.hw.mcu.manifest import Manifest
from bitproof.hw.mcu.qemu import FirmwareExecutor

__all__ = [
    "CORES",
    "HOST",
    "BuildFirmware",
    "BuildLibrary",
    "CoreName",
    "EmulatedCore",
    "FirmwareExecutor",
    "GenerateC",
    "HostExecutor",
    "Manifest",
    "flip_weight_bit",
    "measure",
]
