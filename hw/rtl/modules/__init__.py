"""Layers in SystemVerilog of our own, behind FINN's stream interface: what FINN has in HLS only, or not at all.

Each class describes one module: its streams, its parameters, its memory files, and what it computes.
"""

from bitproof.hw.rtl.modules.module import FOLDER, Memory, Module
from bitproof.hw.rtl.modules.window import WindowReducer

__all__ = ["FOLDER", "Memory", "Module", "WindowReducer"]
