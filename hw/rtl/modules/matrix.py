"""The matrix unit in plain logic: for what FINN's refuses, and for FPGAs without its DSP slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bitproof.export.integer import IntegerType
from bitproof.hw.rtl.modules.encoding import Encoding, reachable_sums
from bitproof.hw.rtl.modules.module import Memory, Module, as_int64, layout
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Codes


@dataclass(frozen=True, slots=True, eq=False)
class MatrixUnit(Module):
    """The product of a matrix and a vector, *pe* outputs and *simd* inputs at a time.

    The weight memory is in the order of FINN's matrix unit, and its file has the name of FINN's.

    Attributes:
        weights: the integers, shape (outputs, inputs).
        pe: divides the number of outputs.
        simd: divides the number of inputs.
        codes: how the input codes are encoded.
        encoding: how the weights are.
        accumulator: type of the outputs, signed; holds every sum that the weights can cause.
    """

    module: ClassVar[str] = "matrix_unit"
    needs: ClassVar[tuple[str, ...]] = ("constant_rom.sv", "code_product.sv", "adder_tree.sv", "matrix_row.sv")

    weights: Codes
    pe: int
    simd: int
    codes: Encoding
    encoding: Encoding
    accumulator: IntegerType

    def __post_init__(self) -> None:
        (rows, columns), folding = self.weights.shape, (self.pe, self.simd)
        divides = min(folding) >= 1 and rows % self.pe == 0 and columns % self.simd == 0
        self.require(
            divides,
            f"takes {rows} outputs and {columns} inputs by (pe, simd) that divide them, not {folding}; choose divisors",
        )
        self.require_weights(self.weights, self.encoding)
        self.require_accumulator(self.accumulator, *reachable_sums(self.codes, self.weights))

    @property
    def inputs(self) -> tuple[StreamLayout, ...]:
        """A vector by *simd* codes in a word."""
        return (layout(self.codes.stream, self.simd, self.weights.shape[1] // self.simd),)

    @property
    def outputs(self) -> tuple[StreamLayout, ...]:
        """Its sums by *pe* in a word."""
        return (layout(self.accumulator, self.pe, self.weights.shape[0] // self.pe),)

    @property
    def cycles(self) -> int:
        """One for each word of weights."""
        return self.inputs[0].words * self.outputs[0].words

    @property
    def parameters(self) -> Mapping[str, int]:
        """Those of ``matrix_unit.sv``."""
        return {
            "MW": self.weights.shape[1],
            "MH": self.weights.shape[0],
            "PE": self.pe,
            "SIMD": self.simd,
            "CODE_BITS": self.codes.bits,
            "CODE_KIND": self.codes.number,
            "WEIGHT_BITS": self.encoding.bits,
            "WEIGHT_KIND": self.encoding.number,
            "ACC_BITS": self.accumulator.bits,
        }

    @property
    def memories(self) -> Mapping[str, Memory]:
        """Groups of *pe* rows outside, groups of *simd* columns inside; in a word, rows outside and columns inside."""
        rows, columns = self.weights.shape
        blocks = self.encoding.elements(self.weights).reshape(rows // self.pe, self.pe, columns // self.simd, self.simd)
        words = blocks.transpose(0, 2, 1, 3).reshape(-1, self.pe * self.simd)
        return {"weights": Memory(as_int64(words), self.encoding.bits, suffix="memblock")}

    def apply(self, *streams: Codes) -> tuple[Codes, ...]:
        """Return the sums, shape (words, pe)."""
        vectors = self.codes.integers(streams[0]).reshape(-1, self.weights.shape[1])
        return (as_int64(vectors @ self.weights.T).reshape(-1, self.pe),)
