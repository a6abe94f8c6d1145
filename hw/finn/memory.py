"""The places of every weight and every threshold in FINN's memory files.

A matrix unit reads one word per cycle: all inputs of one group of PE outputs, SIMD inputs at a time; the word holds the
weights of processing element 0 in its lowest bits, input 0 lowest. A thresholding unit is a binary search: stage ``s``
of ``M`` has a memory with the ``2^s`` thresholds of each channel that can be its pivot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bitproof.hw.rtl.description import RtlNode
from bitproof.pipeline import InputError


@dataclass(frozen=True, slots=True)
class Field:
    """A signed integer within a memory file.

    Attributes:
        file: path relative to the artifact.
        word: line of the file, counted from 0.
        bit: position of its lowest bit in the word.
        bits: its width.
    """

    file: str
    word: int
    bit: int
    bits: int

    def read(self, folder: Path) -> int:
        """Return the integer."""
        raw = int(self._lines(folder)[self.word], 16) >> self.bit & ((1 << self.bits) - 1)
        return raw - (1 << self.bits) if raw >> (self.bits - 1) else raw

    def flip_lowest_bit(self, folder: Path) -> tuple[int, int]:
        """Invert the lowest bit of the integer in the file; return the old and the new integer."""
        old = self.read(folder)
        lines = self._lines(folder)
        line = lines[self.word]
        lines[self.word] = f"{int(line, 16) ^ 1 << self.bit:0{len(line)}x}"
        (folder / self.file).write_text("\n".join(lines) + "\n")
        return old, self.read(folder)

    def _lines(self, folder: Path) -> list[str]:
        return (folder / self.file).read_text().split()


def weight_field(node: RtlNode, row: int, column: int) -> Field:
    """Return where matrix unit *node* keeps weight [*row*, *column*], counted as in the integer model.

    Raises:
        InputError: it has no such weight.
    """
    parameters = node.parameters
    outputs, inputs, pe, simd = (parameters[name] for name in ("MH", "MW", "PE", "SIMD"))
    if not (0 <= row < outputs and 0 <= column < inputs):
        raise InputError(f"{node.name} has no weight [{row}, {column}]; its shape is ({outputs}, {inputs})")
    bits = parameters["weight_bits"]
    word = row // pe * (inputs // simd) + column // simd
    return Field(f"data/{node.name}_memblock.dat", word, (row % pe * simd + column % simd) * bits, bits)


def threshold_field(node: RtlNode, channel: int, index: int) -> Field:
    """Return where thresholding unit *node* keeps threshold *index*, counted from 0, of *channel*.

    Raises:
        InputError: it has no such threshold.
    """
    parameters = node.parameters
    channels, levels, pe = (parameters[name] for name in ("channels", "levels", "PE"))
    if not (0 <= channel < channels and 0 <= index < levels):
        raise InputError(f"{node.name} has no threshold [{channel}, {index}]; its shape is ({channels}, {levels})")
    stages = levels.bit_length()
    below = ((index + 1) & -(index + 1)).bit_length() - 1  # stages after the one whose pivot it is
    stage = stages - 1 - below
    word = (channel // pe << stage) + ((index + 1) >> (below + 1))
    return Field(f"data/{node.name}_threshs_{channel % pe}_{stage}.dat", word, 0, parameters["threshold_bits"])
