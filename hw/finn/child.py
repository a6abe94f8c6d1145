"""The commands that import FINN, run as ``python -m bitproof.hw.finn.child COMMAND REFUSAL ARGUMENT...``.

:mod:`bitproof.hw.finn.process` starts them. A StageError that a command raises on purpose is written to the file
REFUSAL, so that its text reaches the user without the log around it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from bitproof.pipeline import StageError

TORCH = ("torch", "torch.nn", "torch.nn.functional")


def leave_torch_out() -> None:
    """Let empty modules stand for torch, whose import takes longer than what a command does.

    FINN imports it for the Python execution of LayerNorm, a layer that is never built here. Whatever asks these modules
    for anything raises AttributeError; libraries that ask whether an array is a tensor learn that it is none.
    """
    for name in TORCH:
        module = ModuleType(name, "Empty: see bitproof.hw.finn.child.")
        module.__path__ = []
        sys.modules[name] = module
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, module)
    vars(sys.modules["torch"])["Tensor"] = type("Tensor", (), {})


def build(model: str, out: str, part: str, clock_ns: str, cycles: str) -> None:
    """Turn the integer model in *model* into FINN graphs in *out*."""
    from bitproof.hw.finn.hardware_layers import build_graphs

    build_graphs(Path(model), Path(out), part=part, clock_ns=int(clock_ns), target_cycles=int(cycles))


def generate(graph: str, out: str, part: str, clock_ns: str, fifo_depth: str) -> None:
    """Write the RTL of every node of the folded *graph* into *out*."""
    from bitproof.hw.finn.generate import generate_rtl

    generate_rtl(Path(graph), Path(out), part=part, clock_ns=int(clock_ns), fifo_depth=int(fifo_depth))


def execute(graph: str, inputs: str, outputs: str) -> None:
    """Run the codes in the file *inputs* through the hardware layers of *graph*."""
    from bitproof.hw.finn.execute import execute_graph

    execute_graph(Path(graph), Path(inputs), Path(outputs))


COMMANDS: Mapping[str, Callable[..., None]] = {"build": build, "generate": generate, "execute": execute}


def main(arguments: Sequence[str]) -> int:
    """Carry out one command and return the exit status."""
    command, refusal, *rest = arguments
    leave_torch_out()
    from bitproof.hw.finn.own_operations import register_operations

    register_operations()
    try:
        COMMANDS[command](*rest)
    except StageError as error:
        Path(refusal).write_text(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
