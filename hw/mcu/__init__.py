"""C for microcontrollers: generated sources, firmware, and its run in QEMU."""

from hw.mcu.codegen import GenerateC
from hw.mcu.cores import CORES, CoreName
from hw.mcu.cost import measure
from hw.mcu.fault import flip_weight_bit
from hw.mcu.firmware import BuildFirmware
from hw.mcu.manifest import Manifest
from hw.mcu.qemu import FirmwareExecutor

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
