"""Wrong weights, by exact integers: which change of one channel's weights explains all of its accumulators.

With equal inputs ``x`` the accumulators of a channel differ by ``sum of delta[i] * x[i]``. One wrong weight is found by
trying each; several by solving the system modulo a prime, and the solution counts only if it also holds in integers, on
more samples than it has unknowns. An executor whose matrix unit can be run alone is asked directly: one input at a time
shows every weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitproof.export.divergence.cause import Cause, Finding
from bitproof.export.divergence.locate import Evidence
from bitproof.export.integer import Affine, IntegerModel, Interval, MatMul, Product
from bitproof.pipeline import Codes, MatrixUnit

PRIME = (1 << 31) - 1
MAX_UNKNOWNS = 512
LARGEST_DELTA = 1 << 16
ELEMENTS_AT_ONCE = 1 << 22
NAMED = 8


@dataclass(frozen=True, slots=True)
class WrongWeight:
    """One weight: *index* within the node's weights, the model's value and the one that explains the difference."""

    index: tuple[int, ...]
    expected: int
    actual: int

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.index))}]: expected {self.expected}, actual {self.actual}"

    def as_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {"index": list(self.index), "expected": self.expected, "actual": self.actual}


def find_wrong_weight(model: IntegerModel, evidence: Evidence, executor: object) -> Finding | None:
    """Decide whether other weights, or another constant, explain all accumulators of the channel at fault."""
    node = evidence.node
    if isinstance(node, Affine):
        return _wrong_constants(node, evidence)
    if not isinstance(node, Product):
        return None
    if isinstance(node, MatMul) and isinstance(executor, MatrixUnit):
        shown = _shown_weights(model, node, executor)
        if shown:
            return _several(node.name, shown, "each input was run alone")
    inputs, deltas = _system(node, evidence)
    alone = _alone(inputs, deltas)
    constant = int(deltas[0]) if (deltas == deltas[0]).all() else None
    if len(alone) == 1 and constant is None:
        return _several(node.name, [_weight(node, evidence, *alone[0])], "it alone explains every accumulator")
    if alone:
        fitting = [_weight(node, evidence, *pair) for pair in alone]
        return _one_of(node.name, fitting, constant)
    if constant is not None:
        what = f"every accumulator of the channel is {constant:+d} off: a wrong bias"
        return Finding(Cause.WRONG_WEIGHT, what, {"bias": constant})
    solution = _solve(inputs, deltas)
    if solution is None:
        return None
    changed = [_weight(node, evidence, int(i), int(solution[i])) for i in np.flatnonzero(solution)]
    return _several(node.name, changed, "together they explain every accumulator")


def _several(name: str, weights: list[WrongWeight], how: str) -> Finding:
    more = f" and {len(weights) - NAMED} more" if len(weights) > NAMED else ""
    noun = "weight" if len(weights) == 1 else f"{len(weights)} weights"
    listing = "; ".join(map(str, weights[:NAMED]))
    detail = f"{noun} of {name} {listing}{more} ({how})"
    return Finding(Cause.WRONG_WEIGHT, detail, {"weights": [w.as_json() for w in weights]})


def _one_of(name: str, weights: list[WrongWeight], constant: int | None) -> Finding:
    more = f" and {len(weights) - NAMED} more" if len(weights) > NAMED else ""
    bias = "" if constant is None else f", or a bias that is {constant:+d} off"
    detail = (
        f"one weight of {name}: {'; or '.join(map(str, weights[:NAMED]))}{more}{bias} (each alone explains every "
        "accumulator; more samples tell them apart)"
    )
    return Finding(Cause.WRONG_WEIGHT, detail, {"one_of": [w.as_json() for w in weights]})


def _weight(node: Product, evidence: Evidence, column: int, delta: int) -> WrongWeight:
    channel = evidence.first.channel
    inner = tuple(int(i) for i in np.unravel_index(column, node.weights.shape[1:]))
    expected = int(node.weights[(channel, *inner)])
    return WrongWeight((channel, *inner), expected, expected + delta)


def _shown_weights(model: IntegerModel, node: MatMul, unit: MatrixUnit) -> list[WrongWeight]:
    """Return every weight that the unit holds wrong: input by input at its largest code, the others at rest."""
    (source,) = model.sources(node.name)
    value = model.values[source]
    if len(value.ranges) != node.inputs:
        return []
    steps = np.array([_farthest(interval, value.resting) - value.resting for interval in value.ranges], dtype=np.int64)
    vectors = value.resting + np.concatenate([np.zeros((1, node.inputs), dtype=np.int64), np.diag(steps)])
    given = unit.multiply(node.name, vectors)
    products = given[1:] - given[0]
    wrong = []
    for source_index, channel in np.argwhere(products != (node.weights * steps).T):
        product, step = int(products[source_index, channel]), int(steps[source_index])
        if not step or product % step:
            return []
        index = (int(channel), int(source_index))
        wrong.append(WrongWeight(index, int(node.weights[index]), product // step))
    return wrong


def _farthest(interval: Interval, resting: int) -> int:
    """Return the end of *interval* that differs from the code *resting*: the upper one if it does."""
    return interval.low if interval.high == resting else interval.high


def _system(node: Product, evidence: Evidence) -> tuple[Codes, Codes]:
    """Return the inputs behind each accumulator of the channel, shape (rows, weights of it), and the differences."""
    deltas = (evidence.channel(evidence.actual) - evidence.channel(evidence.expected)).reshape(len(evidence.actual), -1)
    positions, unknowns = deltas.shape[1], int(np.prod(node.weights.shape[1:]))
    most = max(1, ELEMENTS_AT_ONCE // (positions * unknowns))
    rows = np.sort(np.argsort(~deltas.any(axis=1), kind="stable")[:most])
    source = evidence.sources[0][rows]
    if isinstance(node, MatMul):
        return source, deltas[rows].reshape(-1)
    members = node.weights.shape[1]
    group = evidence.first.channel // (node.outputs // node.groups)
    counts = evidence.expected.shape[2:]
    padded = node.window.pad(source[:, group * members : (group + 1) * members], 0)
    taps = [met.reshape(len(rows), members, positions) for _, met in node.window.taps(padded, counts)]
    columns = np.stack(taps, axis=2).reshape(len(rows), unknowns, positions)
    return columns.transpose(0, 2, 1).reshape(-1, unknowns), deltas[rows].reshape(-1)


def _alone(inputs: Codes, deltas: Codes) -> list[tuple[int, int]]:
    """Return (column, delta) for each column of *inputs* that times one integer is *deltas*."""
    reference = int(np.flatnonzero(deltas)[0])
    met = inputs[reference]
    possible = np.flatnonzero(met)
    possible = possible[deltas[reference] % met[possible] == 0]
    factors = deltas[reference] // met[possible]
    fits = (inputs[:, possible] * factors == deltas[:, None]).all(axis=0)
    return [(int(column), int(factor)) for column, factor in zip(possible[fits], factors[fits], strict=True)]


def _solve(inputs: Codes, deltas: Codes) -> Codes | None:
    """Return integers that times *inputs* are *deltas*, with 0 for those that are free; None if nothing is found."""
    unknowns = inputs.shape[1]
    if unknowns > MAX_UNKNOWNS:
        return None
    order = np.argsort(deltas == 0, kind="stable")[: 2 * unknowns + 64]
    system = np.concatenate([inputs[order], deltas[order, None]], axis=1) % PRIME
    pivots: list[int] = []
    for column in range(unknowns):
        below = np.flatnonzero(system[len(pivots) :, column])
        if not len(below):
            continue
        row = len(pivots)
        other = row + int(below[0])
        system[[row, other]] = system[[other, row]]
        system[row] = system[row] * pow(int(system[row, column]), -1, PRIME) % PRIME
        factors = system[:, column].copy()
        factors[row] = 0
        touched = np.flatnonzero(factors)
        system[touched] = (system[touched] - factors[touched, None] * system[row] % PRIME) % PRIME
        pivots.append(column)
    if len(inputs) <= len(pivots):
        return None  # as many unknowns as equations: anything would fit
    solution = np.zeros(unknowns, dtype=np.int64)
    solution[pivots] = (system[: len(pivots), -1] + PRIME // 2) % PRIME - PRIME // 2
    if np.abs(solution).max(initial=0) > LARGEST_DELTA or not np.array_equal(inputs @ solution, deltas):
        return None
    return solution


def _wrong_constants(node: Affine, evidence: Evidence) -> Finding | None:
    """Decide whether another factor and offset of the channel explain its outputs."""
    if not evidence.inputs_agree:
        return None
    channel = evidence.first.channel
    codes, actual = (evidence.channel(v).reshape(-1) for v in (evidence.sources[0], evidence.actual))
    known = int(node.factors[channel]), int(node.offsets[channel])
    low, high = int(codes.argmin()), int(codes.argmax())
    spread = int(codes[high] - codes[low])
    factor = known[0] if not spread else int(actual[high] - actual[low]) // spread
    offset = int(actual[low]) - factor * int(codes[low])
    if not np.array_equal(actual, factor * codes + offset):
        return None
    what = (
        f"{node.name}, channel {channel}: expected factor {known[0]} and offset {known[1]}, actual {factor}, {offset}"
    )
    return Finding(Cause.WRONG_WEIGHT, what, {"expected": list(known), "actual": [factor, offset]})
