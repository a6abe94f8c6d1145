"""Flipped bits of the memories of stitched RTL: drawn, one at a time, and what finds each of them.

Whether a flip can change a code at all is calculated apart from the hardware: a weight always can; a threshold can if
the search over the thresholds as they lie in the memory ends in another code for a reachable accumulator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitproof.export.integer import Conv, IntegerModel, MatMul, Threshold, run
from bitproof.export.proofs import basis_vectors, prove_requantization
from bitproof.export.proofs.matrix_units import as_matrix
from bitproof.hw.finn.memory import Field, threshold_field, weight_field
from bitproof.hw.rtl.description import RtlNode, read_description
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.hw.rtl.providers import PRODUCTS, THRESHOLDING
from bitproof.pipeline import Codes, WeightSign


@dataclass(frozen=True, slots=True)
class Flip:
    """One bit of a weight or of a threshold.

    Attributes:
        unit: that holds it.
        row: output of the weight, or channel of the threshold.
        column: input of the weight, or number of the threshold.
        bit: which one, 0 the lowest.
    """

    unit: RtlNode
    row: int
    column: int
    bit: int

    @property
    def node(self) -> str:
        """The node of the integer model."""
        assert self.unit.covers is not None, "every unit carries out a node"
        return self.unit.covers

    @property
    def field(self) -> Field:
        """Where it lies."""
        place = threshold_field if self.unit.op == THRESHOLDING else weight_field
        return place(self.unit, self.row, self.column)

    @contextmanager
    def made(self, folder: Path) -> Iterator[None]:
        """Flip the bit in the memory file in *folder*, and at the end back."""
        self.field.flip_bit(folder, self.bit)
        try:
            yield
        finally:
            self.field.flip_bit(folder, self.bit)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was seen of a flip.

    Attributes:
        by_images: output codes differ.
        by_proof: the proof of its unit fails; not asked if images show it.
        matters: it can change a code that the unit gives.
    """

    by_images: bool
    by_proof: bool
    matters: bool

    @property
    def found(self) -> bool:
        """Images or the proof show it."""
        return self.by_images or self.by_proof


def draw_flips(folder: Path, count: int, generator: np.random.Generator) -> list[Flip]:
    """Draw *count* bits among those of all weights and thresholds of the RTL in *folder*, each as likely as any."""
    units = [unit for unit in read_description(folder).nodes if unit.op in (*PRODUCTS, THRESHOLDING)]
    sizes = np.array([np.prod(_extent(unit)) for unit in units])
    flips = []
    for number in generator.choice(len(units), size=count, p=sizes / sizes.sum()):
        row, column, bit = (int(generator.integers(size)) for size in _extent(units[number]))
        flips.append(Flip(units[number], row, column, bit))
    return flips


def _extent(unit: RtlNode) -> tuple[int, int, int]:
    """Return the numbers of rows, columns and bits of what *unit* holds."""
    parameters = unit.parameters
    if unit.op == THRESHOLDING:
        return parameters["channels"], parameters["levels"], parameters["threshold_bits"]
    groups = parameters["MH"] if "taps" in parameters else parameters.get("groups", 1)
    return parameters["MH"], parameters["MW"] // groups, parameters["weight_bits"]


def verdicts(
    model: IntegerModel, folder: Path, executor: RtlExecutor, flips: Sequence[Flip], codes: Codes
) -> list[Verdict]:
    """Make each of *flips* in turn in *folder*, which *executor* simulates, and look at *codes* and at the proof."""
    expected, found = run(model, codes), []
    for flip in flips:
        with flip.made(folder):
            by_images = bool((executor(codes) != expected).any())
            by_proof = not by_images and not _proven(model, executor, flip)
            found.append(Verdict(by_images, by_proof, _matters(model, folder, flip)))
    return found


@dataclass(frozen=True, slots=True)
class _OneActivation:
    """An executor that says of one activation only that it can be run alone."""

    executor: RtlExecutor
    node: str
    name: str = RtlExecutor.name
    weight_sign: WeightSign = RtlExecutor.weight_sign

    def requantizes(self, node: str) -> bool:
        return node == self.node

    def requantize(self, node: str, first: int, last: int) -> Codes:
        return self.executor.requantize(node, first, last)

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        return self.executor.requantize_at(node, accumulators)

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str:
        return self.executor.why_monotone(node, lows, highs)


def _proven(model: IntegerModel, executor: RtlExecutor, flip: Flip) -> bool:
    node = model.node(flip.node)
    if isinstance(node, Threshold):
        return all(entry.holds for entry in prove_requantization(model, _OneActivation(executor, node.name)))
    assert isinstance(node, MatMul | Conv), node
    matrix = as_matrix(node)
    vectors = basis_vectors(matrix, model.values[model.sources(node.name)[0]], 0)
    return np.array_equal(matrix.apply(vectors), executor.multiply(node.name, vectors))


def _matters(model: IntegerModel, folder: Path, flip: Flip) -> bool:
    node = model.node(flip.node)
    if not isinstance(node, Threshold):
        return True
    reachable = model.values[model.sources(node.name)[0]].ranges[flip.row]
    accumulators = np.arange(reachable.low, reachable.high + 1)
    levels = flip.unit.parameters["levels"]
    held = [threshold_field(flip.unit, flip.row, index).read(folder) for index in range(levels)]
    passed = np.zeros(len(accumulators), dtype=np.int64)
    for stage in reversed(range(levels.bit_length())):
        further = passed + (1 << stage)
        within = further <= levels
        pivots = np.array(held)[np.minimum(further, levels) - 1]
        passed = np.where(within & (accumulators >= pivots), further, passed)
    channels = np.zeros((len(accumulators), node.channels), dtype=np.int64)
    channels[:, flip.row] = accumulators
    wanted = node.apply(channels)[:, flip.row]
    given = passed + _lowest(node, levels)
    return bool((given != wanted).any())


def _lowest(node: Threshold, levels: int) -> int:
    """Return the code below all of the *levels* thresholds of the memory, which are more than the model's at times."""
    if levels == node.levels:
        return node.lowest
    return 0 if node.lowest >= 0 else -((levels + 1) // 2)
