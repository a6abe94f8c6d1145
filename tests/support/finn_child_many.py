"""FINN's graphs and RTL of many networks in one child process, in place of one process each.

``python finn_child_many.py FOLDER...``: each folder holds an integer model in ``model`` and gets ``graph`` and ``rtl``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bitproof.hw.finn.child import build, generate, leave_torch_out

PART, CLOCK_NS, CYCLES, FIFO_DEPTH = "xc7z020clg400-1", "10", "2000", "2"


def make(folder: Path) -> None:
    """Build and compare both graphs of the model in *folder*, and write its RTL."""
    graph, rtl = folder / "graph", folder / "rtl"
    graph.mkdir()
    rtl.mkdir()
    build(str(folder / "model"), str(graph), PART, CLOCK_NS, CYCLES)
    generate(str(graph / "folded.onnx"), str(rtl), PART, CLOCK_NS, FIFO_DEPTH)


if __name__ == "__main__":
    leave_torch_out()
    from bitproof.hw.finn.own_operations import register_operations

    register_operations()
    for argument in sys.argv[1:]:
        make(Path(argument))
