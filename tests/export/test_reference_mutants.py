"""No fault is explained away: what the walk calls rounding is within the bound, decided here in exact arithmetic."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lab.reference_mutants import FAULTS, WIDTHS, Mutant, mutants, network, observed
from bitproof.export.integer import INPUT, Activation, Add, Affine, IntegerModel, MatMul, Threshold
from bitproof.export.lowering import lower_graph
from bitproof.pipeline import Codes

COUNT = 1_000
UNIT = Fraction(1, 1 << 24)
WIDENED = 1 + Fraction(1, 1 << 18)
"""More than the walk widens its bounds by, since it evaluates them in binary64."""


def relative(roundings: int) -> Fraction:
    return roundings * UNIT / (1 - roundings * UNIT)


def layers(model: IntegerModel, mutant: Mutant) -> dict[str, tuple[Codes, Codes]]:
    """Each value and the magnitudes behind it, with the mutant's codes taken over, by plain NumPy on each node."""
    start = mutant.codes
    values = {INPUT: (start, np.abs(start))}
    for node, sources in model.wired():
        given = [values[source] for source in sources]
        if isinstance(node, MatMul):
            made = tuple(
                value @ weights.T for value, weights in zip(given[0], (node.weights, abs(node.weights)), strict=True)
            )
        elif isinstance(node, Add):
            made = tuple(one + two for one, two in zip(*given, strict=True))
        elif isinstance(node, Affine):
            made = (given[0][0] * node.factors + node.offsets, given[0][1] * abs(node.factors) + abs(node.offsets))
        else:
            assert isinstance(node, Threshold)
            seen = mutant.observation.layers[node.name]
            made = (seen, np.abs(seen))
        values[node.name] = (made[0], made[1])
    return values


def is_near(activation: Activation, accumulator: int, magnitude: int, terms: int, codes: tuple[int, int]) -> bool:
    """Decide exactly whether the bound reaches from the exact value to the boundary between two neighbours."""
    quantization, floats = activation.quantization, activation.chain.floats
    assert floats is not None
    if abs(codes[0] - codes[1]) != quantization.step:
        return False
    level = (max(codes) - quantization.lowest) // quantization.step
    boundary, _ = quantization.boundary(level)
    total = abs(activation.chain.slope) * magnitude + floats.constants + quantization.offset
    bound = total * (relative(3 + terms + floats.roundings + 4) * WIDENED)
    return abs(activation.chain.value(accumulator) - boundary) <= bound


def unexplained(mutant: Mutant) -> Counter[str]:
    """How many codes of each activation differ by more than rounding can cause."""
    model = mutant.lowered.model
    values, found = layers(model, mutant), Counter[str]()
    terms = {INPUT: 1}
    for node, sources in model.wired():
        behind = [terms[source] for source in sources]
        sizes = {MatMul: getattr(node, "inputs", 0), Add: sum(behind), Affine: behind[0] + 1, Threshold: 1}
        terms[node.name] = sizes[type(node)]
        if not isinstance(node, Threshold):
            continue
        accumulators, magnitudes = values[sources[0]]
        expected, actual = node.apply(accumulators), mutant.observation.layers[node.name]
        for at in map(tuple, np.argwhere(expected != actual)):
            activation = mutant.lowered.activations[node.name][at[1]]
            pair = int(expected[at]), int(actual[at])
            near = is_near(activation, int(accumulators[at]), int(magnitudes[at]), terms[sources[0]], pair)
            found[node.name] += not near
    return +found


@pytest.mark.slow
def test_every_code_outside_the_bound_is_unexplained() -> None:
    caught, differing, rounded = Counter[str](), Counter[str](), 0
    for mutant in mutants(COUNT, 11):
        hidden = Counter({k: v for k, v in mutant.found.unexplained.items() if k in mutant.observation.layers})
        assert hidden == unexplained(mutant), mutant.fault
        assert mutant.found.faulty.any() == (mutant.found.first is not None) == bool(mutant.found.unexplained)
        caught[mutant.fault] += mutant.found.first is not None
        differing[mutant.fault] += mutant.differs
        rounded += sum(mutant.found.explained.values())
    assert rounded, "some codes lie within the bound: the test sees both sides of it"
    for fault in FAULTS:
        name = fault.__name__
        assert differing[name] > COUNT // len(FAULTS) // 4, "the fault shows in a quarter of its mutants at least"
        assert caught[name] >= 0.9 * differing[name], (caught, differing)


@pytest.mark.slow
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_file_without_a_fault_is_never_faulty(bits: int, widths: tuple[int, ...]) -> None:
    generator = np.random.default_rng(bits)
    for _ in range(5):
        file = network(generator, bits, widths)
        mutant = observed("none", file, lower_graph(file, Path("net"), "net"), generator)
        assert mutant.found.first is None
        assert mutant.found.compared == mutant.observation.codes.size + sum(
            layer.size for layer in mutant.observation.layers.values()
        )
