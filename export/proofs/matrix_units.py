"""The proof that an executor's matrix units hold the model's weights, on inputs that show every weight alone."""

from __future__ import annotations

from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import Conv, IntegerModel, MatMul
from bitproof.export.integer.analysis import Value
from bitproof.pipeline import Codes, MatrixUnit, PairedMatrixUnit, StageError
from bitproof.pipeline.ledger import ProofEntry

RANDOM_VECTORS = 64


class NamedMatrixUnit(MatrixUnit, Protocol):
    """A matrix unit that has a name in the ledger."""

    @property
    def name(self) -> str:
        """Name in the ledger."""
        ...


def prove_matrix_units(model: IntegerModel, executor: NamedMatrixUnit, seed: int) -> list[ProofEntry]:
    """Run every matrix unit of *executor* on vectors that show each weight alone, on extremes and on random codes.

    Each of them is at every place of a unit that multiplies several at once.
    """
    entries = []
    for product in (node for node in model.nodes if isinstance(node, MatMul | Conv)):
        node, value = as_matrix(product), model.values[model.sources(product.name)[0]]
        vectors, count = basis_vectors(node, value, seed), product.weights.size
        actual = _multiplied(executor, node.name, vectors)
        turns = len(actual) // len(vectors)
        expected = np.tile(node.apply(vectors), (turns, 1))
        if actual.shape != expected.shape:
            raise StageError(
                f"{executor.name} returned shape {actual.shape} for {node.name}; expected {expected.shape}"
            )
        differs = np.argwhere(actual != expected)
        first = None
        if len(differs):
            row, channel = (int(i) for i in differs[0])
            first = {
                "vector": row % len(vectors),
                "channel": channel,
                "expected": int(expected[row, channel]),
                "actual": int(actual[row, channel]),
            }
        entries.append(
            ProofEntry(
                layer=node.name,
                claim=f"each of the {count} weights of the matrix unit of {executor.name} is the model's",
                method=f"one input at its largest code, all others {value.resting}; then extremes and random codes"
                + (f"; each at every of {turns} places" if turns > 1 else ""),
                cases=int(expected.size),
                holds=len(differs) == 0,
                actual=executor.name,
                first=first,
                failing=len(differs),
            )
        )
    return entries


def _multiplied(executor: NamedMatrixUnit, node: str, vectors: Codes) -> Codes:
    """Return the accumulators of *vectors*, shape (N, inputs), in each turn: shape (turns * N, outputs)."""
    if not isinstance(executor, PairedMatrixUnit):
        return executor.multiply(node, vectors)
    return np.concatenate([executor.multiply(node, vectors, turn) for turn in range(executor.turns(node))])


def as_matrix(node: MatMul | Conv) -> MatMul:
    """Return the product of *node* with what one window shows, as a vector of shape (channels, *kernel); or *node*."""
    if isinstance(node, MatMul):
        return node
    members, taps = node.weights.shape[1], prod(node.window.kernel)
    weights = np.zeros((node.outputs, node.groups, members, taps), dtype=np.int64)
    groups = np.arange(node.outputs) // (node.outputs // node.groups)
    weights[np.arange(node.outputs), groups] = node.weights.reshape(node.outputs, members, taps)
    return MatMul(node.name, weights.reshape(node.outputs, -1), node.weight_type)


def basis_vectors(node: MatMul, value: Value, seed: int) -> Codes:
    """Return codes of *value*, shape (inputs + 2 * outputs + 65, inputs), that show every weight of *node* behind it.

    Row ``i`` < inputs holds the largest code at input ``i`` and the resting code elsewhere; then for each output
    the codes that make its accumulator largest and smallest; then all inputs at the largest code; then random codes.
    """
    codes = value.codes
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(codes) - 1, size=(RANDOM_VECTORS, node.inputs), endpoint=True)
    positive: NDArray[np.bool_] = node.weights > 0
    least, largest = codes[0], codes[-1]
    return np.concatenate(
        [
            np.where(np.eye(node.inputs, dtype=np.bool_), largest, value.resting),
            np.where(positive, largest, least),
            np.where(node.weights < 0, largest, least),
            np.full((1, node.inputs), largest, dtype=np.int64),
            codes[0] + codes.step * drawn,
        ]
    )
