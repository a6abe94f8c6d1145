"""Backpropagation through an integer model, whose activations pass on the slope of the line that they approximate."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from bitproof.export.integer import INPUT, IntegerModel, Product, Threshold, trace
from bitproof.hw.calibrate.backward import backward, by_weights
from bitproof.hw.calibrate.parameters import RELATIVE_STEP, Parameters, Reals
from bitproof.pipeline import Codes

ELEMENTS_AT_ONCE = 1 << 24
"""Of all values of the model for the samples that go backward together, to bound the memory."""


def backpropagate(
    parameters: Parameters, model: IntegerModel, inputs: Codes, outputs: Codes, error: Reals
) -> tuple[Reals, dict[str, Reals]]:
    """Send *error* backward through *model*; return the gradients by theta and, by layer, by the weights.

    Args:
        parameters: what theta stands for.
        model: that of some theta, with weights of its own.
        inputs: the samples' codes, shape (N, inputs).
        outputs: the device's codes for them, shape (N, outputs).
        error: gradient by the logits, shape (N, outputs).
    """
    scale, nominal = float(model.output_scale), float(parameters.model.output_scale)
    gradient = np.zeros(parameters.size)
    gradient[0] = RELATIVE_STEP * scale * float((error * outputs).sum())
    gradient[1 : 1 + parameters.biases] = (scale / nominal * error.sum(axis=0))[: parameters.biases]
    weights = {node.name: np.zeros(node.weights.shape) for node in model.products}
    for rows in _groups(model, len(inputs)):
        part, by_layer = _through_graph(parameters, model, inputs[rows], error[rows] * scale)
        gradient += part
        for name, found in by_layer.items():
            weights[name] += found
    return gradient, weights


def _groups(model: IntegerModel, samples: int) -> Iterator[slice]:
    each = sum(prod(shape) for shape in model.shapes().values())
    rows = max(1, ELEMENTS_AT_ONCE // each)
    return (slice(start, start + rows) for start in range(0, samples, rows))


def _through_graph(
    parameters: Parameters, model: IntegerModel, inputs: Codes, error: Reals
) -> tuple[Reals, dict[str, Reals]]:
    """Return the gradients by the activations' part of theta and by weights, given *error*, by the output codes."""
    gradient = np.zeros(parameters.size)
    of = {node.name: (a, b) for node, a, b in parameters.slices(gradient)}
    values = trace(model, inputs)
    values[INPUT] = inputs.reshape(len(inputs), *model.shape)
    tuned, last = _behind_parameters(model), model.nodes[-1].name
    flowing = {last: error.reshape(values[last].shape)}
    weights: dict[str, Reals] = {}
    for node, sources in reversed(tuple(model.wired())):
        arriving, taken = flowing.pop(node.name, None), [values[source] for source in sources]
        if arriving is None:  # nothing of it reaches the output
            continue
        if isinstance(node, Product):
            weights[node.name] = by_weights(node, taken[0], arriving)
        if isinstance(node, Threshold):
            spacing = parameters.spacing(node)
            sent: tuple[Reals, ...] = (_through_thresholds(node, spacing, taken[0], arriving, of.get(node.name)),)
        elif tuned.isdisjoint(sources):
            continue
        else:
            sent = backward(node, taken, arriving)
        for source, part in zip(sources, sent, strict=True):
            flowing[source] = flowing[source] + part if source in flowing else part
    return gradient, weights


def _behind_parameters(model: IntegerModel) -> set[str]:
    """Return the values that depend on weights or thresholds: no gradient is needed by the others."""
    found: set[str] = set()
    for node, sources in model.wired():
        if isinstance(node, Product | Threshold) or not found.isdisjoint(sources):
            found.add(node.name)
    return found


def _through_thresholds(
    node: Threshold, spacing: Reals, accumulators: Codes, flowing: Reals, parameters: tuple[Reals, Reals] | None
) -> Reals:
    """Return the gradient by the accumulators; write those by a and b into *parameters*, if there are any.

    *spacing* has shape (channels,); *accumulators* and *flowing*, the gradient by the codes, (N, channels, ...).
    """
    column = (-1, *(1,) * (accumulators.ndim - 2))
    first, last, wide = (each.reshape(column) for each in (node.thresholds[:, 0], node.thresholds[:, -1], spacing))
    sloped = (accumulators >= first - wide / 2) & (accumulators < last + wide / 2)
    flowing = node.step * flowing * sloped
    if parameters is not None:
        a, b = parameters
        everywhere = (0, *range(2, accumulators.ndim))
        if node.levels > 1:  # stretching moves no single threshold
            distance = (accumulators - node.thresholds.mean(axis=1).reshape(column)) / wide
            a[:] = -RELATIVE_STEP * (flowing * distance).sum(axis=everywhere)
        b[:] = -flowing.sum(axis=everywhere)
    return flowing / wide
