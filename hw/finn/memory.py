"""The places of every weight and every threshold in the memory files of FINN's units and ours.

A matrix unit, FINN's or ours, reads one word per cycle: SIMD inputs of one group of PE outputs. With PE = 2, SIMD = 3
and weights of 2 bits, word 0 of a matrix of 4 x 6 holds the first columns of the first rows, word 1 the same rows'
columns 3 to 5, word 2 rows 2 and 3::

    bit   11 10   9  8   7  6   5  4   3  2   1  0
        [ w[1,2] w[1,1] w[1,0] w[0,2] w[0,1] w[0,0] ]
          processing element 1   processing element 0

A depthwise unit reads one tap of PE channels per cycle, the taps of a group of channels one after the other.

A thresholding unit is a binary search over thresholds t0 to t6, say, in 3 stages, whose memories hold for each channel
the thresholds that can be the pivot of the stage::

    stage 0            t3              one word per channel
    stage 1      t1          t5        two
    stage 2    t0  t2      t4  t6      four

So the trailing zeros of ``i + 1`` name the stage of threshold ``i``, counted from the last, and what is left of
``i + 1`` above them is its word.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bitproof.hw.rtl.description import RtlNode
from bitproof.hw.rtl.providers import DEPTHWISE_UNIT
from bitproof.pipeline import InputError


@dataclass(frozen=True, slots=True)
class Field:
    """A signed integer within a memory file.

    Attributes:
        file: path relative to the artifact.
        word: line of the file, counted from 0.
        bit: position of its lowest bit in the word.
        bits: its width.
        bipolar: the bit stands for 1 or for -1.
    """

    file: str
    word: int
    bit: int
    bits: int
    bipolar: bool = False

    def read(self, folder: Path) -> int:
        """Return the integer."""
        raw = int(self._lines(folder)[self.word], 16) >> self.bit & ((1 << self.bits) - 1)
        if self.bipolar:
            return 2 * raw - 1
        return raw - (1 << self.bits) if raw >> (self.bits - 1) else raw

    def flip_lowest_bit(self, folder: Path) -> tuple[int, int]:
        """Invert the lowest bit of the integer in the file; return the old and the new integer."""
        return self.flip_bit(folder, 0)

    def flip_bit(self, folder: Path, place: int) -> tuple[int, int]:
        """Invert the bit *place* of the integer, 0 the lowest, in the file; return the old and the new integer."""
        old = self.read(folder)
        lines = self._lines(folder)
        line = lines[self.word]
        lines[self.word] = f"{int(line, 16) ^ 1 << (self.bit + place):0{len(line)}x}"
        (folder / self.file).write_text("\n".join(lines) + "\n")
        return old, self.read(folder)

    def _lines(self, folder: Path) -> list[str]:
        return (folder / self.file).read_text().split()


def weight_field(node: RtlNode, row: int, column: int) -> Field:
    """Return where the product *node* keeps weight [*row*, *column*], counted as in the integer model.

    Of a convolution in groups, the columns are those of its group.

    Raises:
        InputError: it has no such weight.
    """
    parameters = node.parameters
    outputs, inputs, pe, bits = (parameters[name] for name in ("MH", "MW", "PE", "weight_bits"))
    depthwise = node.op == DEPTHWISE_UNIT
    groups = outputs if depthwise else parameters.get("groups", 1)
    if not (0 <= row < outputs and 0 <= column < inputs // groups):
        raise InputError(f"{node.name} has no weight [{row}, {column}]; its shape is ({outputs}, {inputs // groups})")
    bipolar = bool(parameters.get("bipolar_weights", 0))
    if depthwise:
        word = row // pe * parameters["taps"] + column
        return Field(f"data/{node.name}_weights.dat", word, row % pe * bits, bits, bipolar)
    simd = parameters["SIMD"]
    column += row // (outputs // groups) * (inputs // groups)
    column = column if node.columns is None else node.columns.place(column)
    word = row // pe * (inputs // simd) + column // simd
    return Field(f"data/{node.name}_memblock.dat", word, (row % pe * simd + column % simd) * bits, bits, bipolar)


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
