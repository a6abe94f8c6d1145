"""The right codes in the wrong place: permuted channels, positions or elements, and inputs read in another order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np

from bitproof.export.divergence.cause import Cause, Finding
from bitproof.export.divergence.locate import Evidence
from bitproof.export.integer import IntegerModel, MatMul, Product, Reshape, Shape
from bitproof.pipeline import Codes

TRIED_SAMPLES = 32
"""So many samples tell most orders apart; one that fits them is tried on all."""


def find_permutation(evidence: Evidence) -> Finding | None:
    """Decide whether the codes are the expected ones with channels, positions or elements in another order."""
    expected, actual = evidence.expected, evidence.actual
    samples, channels, *sizes = expected.shape
    if len(sizes) > 1 and sizes[0] == sizes[1] and np.array_equal(actual, np.swapaxes(expected, -1, -2)):
        return Finding(Cause.WRONG_LAYOUT, "the outputs are transposed: rows and columns change places", {})
    views = {"channels": [np.moveaxis(v, 1, 0).reshape(channels, -1) for v in (expected, actual)]}
    if sizes:
        views["positions"] = [v.reshape(samples * channels, -1).T for v in (expected, actual)]
        views["elements"] = [v.reshape(samples, -1).T for v in (expected, actual)]
    for what, (wanted, found) in views.items():
        order = _order(wanted, found)
        if order is not None:
            moved = [i for i, source in enumerate(order) if i != source]
            first = moved[0]
            return Finding(
                Cause.WRONG_LAYOUT,
                f"the outputs are the expected ones with {len(moved)} of {len(order)} {what} in another order: "
                f"{what[:-1]} {first} holds what {what[:-1]} {order[first]} should hold",
                {"axis": what, "moved": len(moved), "first": first, "holds": order[first]},
            )
    return None


def _order(expected: Codes, actual: Codes) -> list[int] | None:
    """Return for each row of *actual* the row of *expected* that it equals, each used once; None: there is none."""
    free: dict[bytes, list[int]] = {}
    for row, codes in enumerate(np.ascontiguousarray(expected)):
        free.setdefault(codes.tobytes(), []).append(row)
    order = [-1] * len(actual)
    moved = []
    for row, codes in enumerate(np.ascontiguousarray(actual)):
        if np.array_equal(codes, expected[row]):
            free[codes.tobytes()].remove(row)
            order[row] = row
        else:
            moved.append(row)
    for row in moved:
        rows = free.get(np.ascontiguousarray(actual[row]).tobytes())
        if not rows:
            return None
        order[row] = rows.pop(0)
    return order


def find_input_order(model: IntegerModel, evidence: Evidence) -> Finding | None:
    """Decide whether a product gives what it would if its inputs, or its kernel, were read in another order."""
    if not isinstance(evidence.node, Product):
        return None
    differing = (evidence.actual != evidence.expected).reshape(len(evidence.actual), -1).any(axis=1)
    tried = np.argsort(~differing, kind="stable")[:TRIED_SAMPLES]
    for what, apply in _readings(model, evidence.node):
        if all(
            np.array_equal(apply(evidence.sources[0][rows]), evidence.actual[rows]) for rows in (tried, slice(None))
        ):
            return Finding(Cause.WRONG_LAYOUT, what, {})
    return None


class _Reading:
    """A product whose inputs are brought into another order first."""

    def __init__(self, node: Product, sizes: Shape, axes: Shape) -> None:
        self.node, self.sizes, self.axes = node, sizes, axes

    def __call__(self, codes: Codes) -> Codes:
        moved = codes.reshape(len(codes), *self.sizes).transpose(0, *(axis + 1 for axis in self.axes))
        return self.node.apply(np.ascontiguousarray(moved).reshape(codes.shape))


def _readings(model: IntegerModel, node: Product) -> Iterator[tuple[str, _Reading]]:
    (source,) = model.sources(node.name)
    if isinstance(node, MatMul):
        before = next((n for n in model.nodes if n.name == source), None)
        sizes = before.sizes if isinstance(before, Reshape) else (node.inputs,)
        for axes in permutations(range(len(sizes))):
            if list(axes) != sorted(axes):
                what = f"the inputs, of shape {sizes}, are read in the order of the axes {axes}"
                yield what, _Reading(node, sizes, axes)
        return
    sizes = model.shapes()[source]
    same = tuple(range(len(sizes)))
    if len(sizes) == 3 and sizes[1] == sizes[2]:
        yield "the inputs are read with rows and columns exchanged", _Reading(node, sizes, (0, 2, 1))
    weights = node.weights
    if weights.ndim == 4 and weights.shape[2] == weights.shape[3]:
        exchanged = replace(node, weights=np.ascontiguousarray(np.swapaxes(weights, 2, 3)))
        yield "the kernels are read with rows and columns exchanged", _Reading(exchanged, sizes, same)
    spatial = tuple(range(2, weights.ndim))
    mirrored = replace(node, weights=np.ascontiguousarray(np.flip(weights, spatial)))
    yield "the kernels are read from their end to their beginning", _Reading(mirrored, sizes, same)
