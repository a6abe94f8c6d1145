"""The description of a module: streams, parameters, memory files, and the integers that it gives.

A module is used under a name of its own, as FINN's are: the wrapper of that name sets the parameters and names the
memory files, so who connects it knows its streams only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from bitproof.export.integer import IntegerType
from bitproof.hw.rtl.modules.encoding import Encoding
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Codes, StageError

FOLDER = Path(__file__).parent
"""Where the SystemVerilog is."""


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """A memory of constants, which the module reads word by word.

    Attributes:
        words: the integers, shape (words, elements); element 0 is in the lowest bits of a word.
        bits: width of an element, in two's complement or unsigned.
        suffix: what the name of its file ends with; empty: the name of the memory.
    """

    words: Codes
    bits: int
    suffix: str = ""

    def text(self) -> str:
        """Return the file for ``$readmemh``: one word in a line, in hexadecimal, without a prefix."""
        mask, digits = (1 << self.bits) - 1, -(-self.bits * self.words.shape[1] // 4)
        lines = (
            sum((value & mask) << (position * self.bits) for position, value in enumerate(row))
            for row in self.words.tolist()
        )
        return "".join(f"{line:0{digits}x}\n" for line in lines)


class Module(ABC):
    """One of our modules with its parameters; a subclass is a frozen dataclass, checked when it is made.

    Attributes:
        module: name of the SystemVerilog module, and of its file.
        needs: the files of the modules that it instantiates.
    """

    module: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def inputs(self) -> tuple[StreamLayout, ...]:
        """Streams ``in0_V``, ``in1_V``."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[StreamLayout, ...]:
        """Streams ``out0_V``, ``out1_V``."""

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, int]:
        """The integer parameters of the SystemVerilog module."""

    @property
    def memories(self) -> Mapping[str, Memory]:
        """The memories by their name; the file of ``weights`` is parameter ``WEIGHTS_FILE``."""
        return {}

    @property
    def cycles(self) -> int:
        """Clock cycles from sample to sample when no stream stalls: a word per cycle through the busiest one."""
        return max(stream.words for stream in (*self.inputs, *self.outputs))

    @abstractmethod
    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return what leaves the module when *streams* enter it: the reference.

        A stream is the elements of its words, shape (words, elements), as :meth:`StreamLayout.unpack` gives them.
        """

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the SystemVerilog files in :data:`FOLDER`, in compile order."""
        return (*self.needs, f"{self.module}.sv")

    def memory_files(self, name: str) -> Mapping[str, str]:
        """Return the memory files of the instance *name*: their text by their path relative to the artifact."""
        return {self.memory_path(name, memory): content.text() for memory, content in self.memories.items()}

    def memory_path(self, name: str, memory: str) -> str:
        """Return the path of the file of *memory* of the instance *name*, relative to the artifact."""
        return f"data/{name}_{self.memories[memory].suffix or memory}.dat"

    def wrapper(self, name: str) -> str:
        """Return the Verilog module *name*, which is this one with its parameters and memory files."""
        settings = [f".{key}({_literal(value)})" for key, value in self.parameters.items()]
        settings += [f'.{memory.upper()}_FILE("{self.memory_path(name, memory)}")' for memory in self.memories]
        ports = [("input", 1, "ap_clk"), ("input", 1, "ap_rst_n")]
        for direction, prefix, streams in (("input", "in", self.inputs), ("output", "out", self.outputs)):
            back = "output" if direction == "input" else "input"
            for index, stream in enumerate(streams):
                ports += [(direction, stream.width_bits, f"{prefix}{index}_V_TDATA")]
                ports += [(direction, 1, f"{prefix}{index}_V_TVALID"), (back, 1, f"{prefix}{index}_V_TREADY")]
        declared = ",\n".join(f"  {way} {_range(bits)}{port}" for way, bits, port in ports)
        connected = ",\n".join(f"    .{port}({port})" for _, _, port in ports)
        parameters = ",\n    ".join(settings)
        return (
            f"module {name} (\n{declared}\n);\n  {self.module} #(\n    {parameters}\n  ) unit (\n{connected}\n  );\n"
            "endmodule\n"
        )

    def require(self, holds: bool, why: str) -> None:
        """Raise unless *holds*.

        Raises:
            StageError: the parameters are not possible, and *why*.
        """
        if not holds:
            raise StageError(f"module {self.module} {why}")

    def require_weights(self, weights: Codes, encoding: Encoding) -> None:
        """Raise unless *encoding* holds every one of *weights*.

        Raises:
            StageError: it does not.
        """
        ends = f"{int(weights.min())}..{int(weights.max())}"
        self.require(encoding.holds(weights), f"cannot hold weights {ends} as {encoding}; take a wider encoding")

    def require_accumulator(self, accumulator: IntegerType, low: int, high: int) -> None:
        """Raise unless *accumulator* is signed and holds every sum *low*..*high*.

        Raises:
            StageError: it is not, or does not.
        """
        needed = IntegerType.smallest_for(min(low, -1), high)
        self.require(
            accumulator.signed and accumulator.holds(low, high),
            f"has sums {low}..{high}, which {accumulator} does not hold; take {needed} or wider",
        )


def words_of(channels: Codes, pe: int) -> Codes:
    """Return constants of channels, shape (channels,), by *pe* in a word."""
    return as_int64(channels.reshape(-1, pe))


def signed_bits(integers: Codes) -> int:
    """Return the width of the narrowest signed type that holds all of *integers*."""
    return IntegerType.smallest_for(min(int(integers.min()), -1), int(integers.max())).bits


def layout(kind: IntegerType, elements: int, words: int) -> StreamLayout:
    """Return the stream of *words* words a sample, each of *elements* integers of type *kind*."""
    return StreamLayout(bits=kind.bits, signed=kind.signed, elements=elements, words=words)


def as_int64(rows: Codes) -> Codes:
    """Return *rows* in C order, as every reference gives them."""
    return np.ascontiguousarray(rows, dtype=np.int64)


def _range(bits: int) -> str:
    return "" if bits == 1 else f"[{bits - 1}:0] "


def _literal(value: int) -> str:
    return str(int(value))
