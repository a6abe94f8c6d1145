"""The negative control of every check: one flipped bit of a weight, chosen so that a sound check sees it.

A code behind an inner layer may hide a weight that is off by one, so a weight is chosen that the integer model itself
shows at its outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path

import numpy as np

from bitproof.export.integer.interpret import run, trace
from bitproof.export.integer.ir import IntegerModel
from bitproof.export.integer.ops import Conv, Product
from bitproof.export.integer.store import load, save
from bitproof.export.integer.types import INPUT, IntegerType
from bitproof.pipeline import Codes, ConfigError

SAMPLES = 64
"""So many samples decide whether a weight shows at the outputs."""
ROWS, COLUMNS = 4, 2
"""Outputs and inputs of the layer whose weights are tried."""


@dataclass(frozen=True, slots=True)
class ChosenWeight:
    """One weight of a product.

    Attributes:
        node: its name.
        row: output of the weight.
        column: input of the weight, the axes behind the first counted as one.
        index: the same, each axis counted alone.
        visible: one more and one less both change an output.
    """

    node: str
    row: int
    column: int
    index: tuple[int, ...]
    visible: bool


def choose_weight(model: IntegerModel, codes: Codes, *, node: str | None, index: Sequence[int]) -> ChosenWeight:
    """Return the weight to flip.

    Args:
        model: the integer model.
        codes: input codes, shape (N, inputs).
        node: name of a product; None: the last.
        index: of a weight within the node's weights; empty: one whose input is active, and that shows at the outputs.

    Raises:
        ConfigError: there is no such node, or it has no such weight.
    """
    layers = {layer.name: layer for layer in model.products}
    name = next(reversed(layers), None) if node is None else node
    if name is None or name not in layers:
        held = ", ".join(layers) or "none"
        raise ConfigError(f"no bit of {name!r} can be flipped; the layers of this network that hold weights: {held}")
    layer, samples = layers[name], codes[:SAMPLES]
    tried = [_given(layer, index)] if index else list(_candidates(model, layer, samples))
    expected = run(model, samples)
    showing = next((pair for pair in tried if _shows(model, layer, *pair, samples, expected)), None)
    row, column = tried[0] if showing is None else showing
    rest = (int(at) for at in np.unravel_index(column, layer.weights.shape[1:]))
    return ChosenWeight(name, row, column, (row, *rest), visible=showing is not None)


def _given(layer: Product, index: Sequence[int]) -> tuple[int, int]:
    shape = layer.weights.shape
    if len(index) != len(shape) or not all(0 <= at < size for at, size in zip(index, shape, strict=True)):
        raise ConfigError(f"{layer.name} has no weight {list(index)}; its weights have the shape {list(shape)}")
    return index[0], int(np.ravel_multi_index(tuple(index[1:]), shape[1:]))


def _candidates(model: IntegerModel, layer: Product, codes: Codes) -> Iterator[tuple[int, int]]:
    """Yield weights (row, column) whose inputs are the most active ones; the middle of a kernel."""
    (source,) = model.sources(layer.name)
    given = codes.reshape(len(codes), *model.shape) if source == INPUT else trace(model, codes)[source]
    activity = np.abs(given).sum(axis=(0, *range(2, given.ndim)))
    groups = layer.groups if isinstance(layer, Conv) else 1
    taps, members = prod(layer.weights.shape[2:]), layer.weights.shape[1]
    for rank, row in product(range(min(COLUMNS, members)), range(min(ROWS, layer.outputs))):
        first = row // (layer.outputs // groups) * members
        member = np.argsort(-activity[first : first + members], kind="stable")[rank]
        yield row, int(member) * taps + taps // 2


def _shows(model: IntegerModel, layer: Product, row: int, column: int, codes: Codes, expected: Codes) -> bool:
    """Tell whether outputs are not *expected* with the weight [*row*, *column*] one higher, and with it one lower."""
    weight = int(layer.weights.reshape(layer.outputs, -1)[row, column])
    changed = (_changed(model, layer, row, column, other) for other in (weight - 1, weight + 1))
    return all((run(other, codes) != expected).any() for other in changed)


def _changed(model: IntegerModel, layer: Product, row: int, column: int, weight: int) -> IntegerModel:
    weights = layer.weights.copy()
    weights.reshape(layer.outputs, -1)[row, column] = weight
    low, high = int(weights.min()), int(weights.max())
    kind = layer.weight_type if layer.weight_type.holds(low, high) else IntegerType.smallest_for(low, high)
    other = replace(layer, weights=weights, weight_type=kind)
    return replace(model, nodes=tuple(other if node is layer else node for node in model.nodes))


def flip_weight_bit(folder: Path, *, node: str, row: int, column: int) -> str:
    """Flip the lowest bit of weight [*row*, *column*] of the product *node* of the integer model in *folder*.

    Returns:
        What was changed, with the old and the new weight.
    """
    model = load(folder)
    layer = next(product for product in model.products if product.name == node)
    old = int(layer.weights.reshape(layer.outputs, -1)[row, column])
    save(_changed(model, layer, row, column, old ^ 1), folder)
    return f"weight [{row}, {column}] of {node}: {old} became {old ^ 1}"
