"""Layers in SystemVerilog of our own, behind FINN's stream interface: what FINN has in HLS only, or not at all.

Each class describes one module: its streams, its parameters, its memory files, and what it computes.
"""

from bitproof.hw.rtl.modules.encoding import BIPOLAR, Encoding, accumulator_type
from bitproof.hw.rtl.modules.image import Padding, SelectLargest
from bitproof.hw.rtl.modules.join import Add, Affine, Concat, Duplicate, ScaledAdd, type_of_both
from bitproof.hw.rtl.modules.matrix import MatrixUnit
from bitproof.hw.rtl.modules.module import FOLDER, Memory, Module
from bitproof.hw.rtl.modules.requantizer import TIES, MultiplyShiftUnit, Place, RoundingShiftUnit, requantizer_of
from bitproof.hw.rtl.modules.window import DepthwiseUnit, WindowReducer

__all__ = [
    "BIPOLAR",
    "FOLDER",
    "TIES",
    "Add",
    "Affine",
    "Concat",
    "DepthwiseUnit",
    "Duplicate",
    "Encoding",
    "MatrixUnit",
    "Memory",
    "Module",
    "MultiplyShiftUnit",
    "Padding",
    "Place",
    "RoundingShiftUnit",
    "ScaledAdd",
    "SelectLargest",
    "WindowReducer",
    "accumulator_type",
    "requantizer_of",
    "type_of_both",
]
