"""C for microcontrollers: generated sources, firmware, and its run in QEMU."""

from bitproof.hw.mcu.codegen import GenerateC
from bitproof.hw.mcu.cores import CORES, CoreName
from bitproof.hw.mcu.cost import measure
from bitproof.hw.mcu.fault import flip_weight_bit
from bitproof.hw.mcu.firmware import BuildFirmware
from bitproof.hw.mcu.manifest import Manifest
from bitproof.hw.mcu.qemu import FirmwareExecutor

__all__ = [
    "CORES",
    "BuildFirmware",
    "CoreName",
    "FirmwareExecutor",
    "GenerateC",
    "Manifest",
    "flip_weight_bit",
    "measure",
]
