"""Proofs: checks over every case that can occur, not over samples.

Images alone do not verify thresholds: one that is off by one often changes no image of a thousand. Every check here
decides all reachable accumulators of all channels, or every weight of every matrix, and reports how many cases it
decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from export.integer import (
    Activation,
    Affine,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    Threshold,
    accumulator_type,
    hull,
    propagate,
)
from pipeline import Codes, MatrixUnit, Requantizer, StageError
from pipeline.ledger import ProofEntry

ROWS_AT_ONCE = 1 << 17
RANDOM_VECTORS = 64
FLOAT32_EXACT = 1 << 24
"""Sums of integers that stay within this magnitude are exact in binary32, whatever their order."""


class NamedRequantizer(Requantizer, Protocol):
    """A requantizer that has a name in the ledger."""

    @property
    def name(self) -> str:
        """Name in the ledger."""
        ...


class NamedMatrixUnit(MatrixUnit, Protocol):
    """A matrix unit that has a name in the ledger."""

    @property
    def name(self) -> str:
        """Name in the ledger."""
        ...


def prove_thresholds(node: Threshold, activations: Sequence[Activation], reachable: Sequence[Interval]) -> ProofEntry:
    """Decide whether *node* equals the exact *activations* on every reachable accumulator.

    Both sides are monotone, so they are equal iff each code ``i`` is reached at its threshold and not one below
    (DESIGN: proof by monotonicity). *activations* are those of rising channels.
    """
    cases = failing = 0
    first = None
    for channel, (row, activation, interval) in enumerate(
        zip(node.thresholds.tolist(), activations, reachable, strict=True)
    ):
        for code, boundary in enumerate(row, start=node.lowest + 1):
            for accumulator, expected in ((boundary, True), (boundary - 1, False)):
                if accumulator not in interval:
                    continue
                cases += 1
                if activation.reaches(code, accumulator) is not expected:
                    failing += 1
                    first = first or {"channel": channel, "accumulator": accumulator, "code": code}
    return ProofEntry(
        layer=node.name,
        claim="the integer thresholds equal the exported activation in exact arithmetic on every reachable accumulator",
        method="both are monotone: each code is reached at its threshold and not one below, decided in rationals",
        cases=cases,
        holds=failing == 0,
        first=first,
        failing=failing,
    )


def prove_widths(model: IntegerModel) -> list[ProofEntry]:
    """Decide, for every matrix product, whether its accumulators fit 32 bits and are exact in binary32 sums."""
    ranges = propagate(model)
    entries = []
    incoming: tuple[Interval, ...] = (Interval(model.input.minimum, model.input.maximum),) * model.inputs
    for node in model.nodes:
        if isinstance(node, MatMul):
            kind = accumulator_type(ranges[node.name])
            total = hull(ranges[node.name])
            entries.append(
                ProofEntry(
                    layer=node.name,
                    claim=f"accumulators lie in [{total.low}, {total.high}]: {kind.bits} bits, never over 32",
                    method="interval arithmetic in unbounded integers, per channel, from the real weights",
                    cases=node.outputs,
                    holds=kind.bits <= 32,
                )
            )
            largest = max(max(abs(i.low), abs(i.high)) for i in incoming) * int(np.abs(node.weights).sum(axis=1).max())
            entries.append(
                ProofEntry(
                    layer=node.name,
                    claim=f"partial sums are at most {largest} in magnitude: exact in binary32, in any order",
                    method="sum of magnitudes against 2^24, in unbounded integers",
                    cases=node.outputs,
                    holds=largest <= FLOAT32_EXACT,
                )
            )
        elif isinstance(node, Affine):
            total = hull(ranges[node.name])
            kind = accumulator_type(ranges[node.name])
            entries.append(
                ProofEntry(
                    layer=node.name,
                    claim=f"accumulators with their bias lie in [{total.low}, {total.high}]: {kind.bits} bits, never "
                    "over 32",
                    method="interval arithmetic in unbounded integers, per channel, from the real weights and offsets",
                    cases=node.channels,
                    holds=kind.bits <= 32,
                )
            )
        incoming = ranges[node.name]
    return entries


def prove_requantization(model: IntegerModel, executor: NamedRequantizer) -> list[ProofEntry]:
    """Run every activation of *executor* on every reachable accumulator of every channel and compare with the model.

    Raises:
        StageError: the executor returned codes of another shape.
    """
    ranges = propagate(model)
    entries = []
    sources = [node.name for node in model.nodes]
    for layer, node in enumerate(model.activations):
        reachable = ranges[sources[sources.index(node.name) - 1]]
        entries.append(_sweep(node, layer, reachable, executor))
    return entries


def _sweep(node: Threshold, layer: int, reachable: tuple[Interval, ...], executor: NamedRequantizer) -> ProofEntry:
    lows = np.array([interval.low for interval in reachable])
    highs = np.array([interval.high for interval in reachable])
    total = hull(reachable)
    cases = failing = 0
    first = None
    for start in range(total.low, total.high + 1, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE - 1, total.high)
        accumulators = np.arange(start, stop + 1, dtype=np.int64)[:, None]
        expected = node.apply(np.broadcast_to(accumulators, (len(accumulators), node.channels)))
        actual = _rising_codes(node, layer, start, stop, executor)
        if actual.shape != expected.shape:
            raise StageError(
                f"{executor.name} returned shape {actual.shape} for activation {node.name}; expected {expected.shape}"
            )
        mask = (accumulators >= lows) & (accumulators <= highs)
        differs = (actual != expected) & mask
        cases += int(mask.sum())
        failing += int(differs.sum())
        if first is None and differs.any():
            row, channel = (int(i) for i in np.argwhere(differs)[0])
            first = {
                "channel": channel,
                "accumulator": start + row,
                "expected": int(expected[row, channel]),
                "actual": int(actual[row, channel]),
            }
    return ProofEntry(
        layer=node.name,
        claim=f"the activation that {executor.name} runs equals the integer thresholds on every reachable accumulator",
        method="every reachable accumulator of every channel was run through it",
        cases=cases,
        holds=failing == 0 and cases > 0,
        actual=executor.name,
        first=first,
        failing=failing,
    )


def _rising_codes(node: Threshold, layer: int, first: int, last: int, executor: NamedRequantizer) -> Codes:
    """Return the executor's codes for accumulators first..last in the sign convention of the integer model."""
    codes = executor.requantize(layer, first, last)
    if executor.weight_sign == "trained" and node.flipped.any():
        codes = codes.copy()
        codes[:, node.flipped] = executor.requantize(layer, -last, -first)[::-1, node.flipped]
    return codes


def prove_matrix_units(model: IntegerModel, executor: NamedMatrixUnit, seed: int) -> list[ProofEntry]:
    """Run every matrix unit of *executor* on vectors that show each weight alone, on extremes and on random codes."""
    entries = []
    kinds = _input_types(model)
    for layer, (node, kind) in enumerate(zip(model.matmuls, kinds, strict=True)):
        vectors = basis_vectors(node, kind, seed)
        expected = node.apply(vectors)
        actual = executor.multiply(layer, vectors)
        if actual.shape != expected.shape:
            raise StageError(
                f"{executor.name} returned shape {actual.shape} for {node.name}; expected {expected.shape}"
            )
        differs = np.argwhere(actual != expected)
        first = None
        if len(differs):
            row, channel = (int(i) for i in differs[0])
            first = {
                "vector": row,
                "channel": channel,
                "expected": int(expected[row, channel]),
                "actual": int(actual[row, channel]),
            }
        entries.append(
            ProofEntry(
                layer=node.name,
                claim=f"each of the {node.weights.size} weights of the matrix unit of {executor.name} is the model's",
                method="one input at its largest code, all others 0; then extremes and random codes",
                cases=int(expected.size),
                holds=len(differs) == 0,
                actual=executor.name,
                first=first,
                failing=len(differs),
            )
        )
    return entries


def _input_types(model: IntegerModel) -> list[IntegerType]:
    kinds = []
    current = model.input
    for node in model.nodes:
        if isinstance(node, MatMul):
            kinds.append(current)
        elif isinstance(node, Threshold):
            current = IntegerType.smallest_for(node.lowest, node.lowest + node.levels)
    return kinds


def basis_vectors(node: MatMul, kind: IntegerType, seed: int) -> Codes:
    """Return input codes, shape (inputs + 2 * outputs + 65, inputs), that show every weight of *node*.

    Row ``i`` < inputs holds the largest code at input ``i`` and 0 elsewhere; then for each output the codes that make
    its accumulator largest and smallest; then all inputs at the largest code; then random codes.
    """
    generator = np.random.default_rng(seed)
    random = generator.integers(kind.minimum, kind.maximum, size=(RANDOM_VECTORS, node.inputs), endpoint=True)
    positive: NDArray[np.bool_] = node.weights > 0
    return np.concatenate(
        [
            np.eye(node.inputs, dtype=np.int64) * kind.maximum,
            np.where(positive, kind.maximum, kind.minimum),
            np.where(node.weights < 0, kind.maximum, kind.minimum),
            np.full((1, node.inputs), kind.maximum, dtype=np.int64),
            random,
        ]
    )
