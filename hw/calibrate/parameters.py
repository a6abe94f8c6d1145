"""The few parameters behind an integer model, and the integer model that they stand for.

Output scale and biases first, then two parameters per channel: the affine map in front of its integer thresholds,

    T' = centre + (T - centre) * (1 + 0.3 a) + b * spacing,

rounded to integers, the same at all positions of an image. What is calibrated is therefore again an integer model:
nothing real-valued is left in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import INPUT, Affine, IntegerModel, Interval, Ranges, Threshold
from bitproof.hw.calibrate.supported import require_class_accumulators
from bitproof.hw.faults import spacing_of
from bitproof.pipeline import Codes, InputError

Reals = NDArray[np.float64]
Scope = Literal["output", "thresholds", "all"]
"""Output scale and biases; output scale and thresholds, for a target without an output bias; or all of these."""

RELATIVE_STEP = 0.3
"""By how much one unit of a scale parameter changes the scale; a unit of a shift is one activation level or logit."""
BIAS = "output_bias"


@dataclass(frozen=True, eq=False)
class Parameters:
    """Where each parameter of *model* lies in a vector theta, and what theta = 0 stands for: *model* itself.

    theta[0] is the output scale, then come (unless *scope* is ``thresholds``) the biases, one per class, then (unless
    it is ``output``) for every activation its a, one per channel, and its b.
    """

    model: IntegerModel
    scope: Scope = "all"

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise InputError(f"no parameters {self.scope!r}; allowed: {', '.join(get_args(Scope))}")
        require_class_accumulators(self.model)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return 1 + self.biases + 2 * sum(node.channels for node in self._tuned)

    @property
    def biases(self) -> int:
        """Number of output biases among them."""
        return 0 if self.scope == "thresholds" else self.model.outputs

    @property
    def _tuned(self) -> tuple[Threshold, ...]:
        return () if self.scope == "output" else self.model.nodes_of(Threshold)

    @cached_property
    def _limits(self) -> dict[str, Ranges]:
        """Reachable accumulators of every activation, whatever codes the activations before it give."""
        ranges = {INPUT: self.model.input_ranges}
        limits: dict[str, Ranges] = {}
        for node, sources in self.model.wired():
            taken = [ranges[source] for source in sources]
            if isinstance(node, Threshold):
                limits[node.name] = taken[0]
                ranges[node.name] = (Interval(node.lowest, node.highest),) * node.channels
            else:
                ranges[node.name] = node.ranges(*taken)
        return limits

    @cached_property
    def _bounds(self) -> dict[str, tuple[Codes, Codes]]:
        """Smallest threshold (always met) and largest (never met), each of shape (channels, 1)."""
        return {
            name: (np.array([[i.low] for i in intervals]), np.array([[i.high + 1] for i in intervals]))
            for name, intervals in self._limits.items()
        }

    @cached_property
    def _lines(self) -> dict[str, tuple[Reals, Reals]]:
        """Thresholds of every tuned activation before they were cut off, and their spacing, shape (channels, 1)."""
        return {node.name: _extrapolated(node, self.spacing(node), *self._bounds[node.name]) for node in self._tuned}

    def spacing(self, node: Threshold) -> Reals:
        """Return over how many accumulators the code of an activation changes by a step, shape (channels,), at least 1.

        *node* is one of the model's, its thresholds perhaps moved. It is their mean distance. If there is but one
        threshold per channel, it is the square root of the number of reachable accumulators, about the deviation of a
        random sum.
        """
        if node.levels > 1:
            return spacing_of(node)
        low, high = self._bounds[node.name]
        widths: Reals = np.sqrt((high - low)[:, 0].astype(np.float64))
        return np.maximum(widths, 1.0)

    def slices(self, theta: Reals) -> Iterator[tuple[Threshold, Reals, Reals]]:
        """Return for every tuned activation its node, a and b, views of *theta*, shape (channels,) each."""
        start = 1 + self.biases
        for node in self._tuned:
            middle, end = start + node.channels, start + 2 * node.channels
            yield node, theta[start:middle], theta[middle:end]
            start = end

    def output_scale(self, theta: Reals) -> Fraction:
        """Return the real value of one output code: positive whatever *theta*, shape (size,)."""
        return self.model.output_scale * Fraction(float(np.exp(RELATIVE_STEP * theta[0])))

    def model_of(self, theta: Reals) -> IntegerModel:
        """Return the integer model that *theta*, shape (size,), stands for; 0 gives the same outputs as the original.

        Raises:
            ValueError: *theta* has another shape.
        """
        if theta.shape != (self.size,):
            raise ValueError(f"theta has shape {theta.shape}; expected ({self.size},)")
        moved = {node.name: self._thresholds(node, a, b) for node, a, b in self.slices(theta)}
        changed = replace(
            self.model,
            nodes=tuple(moved.get(node.name, node) for node in self.model.nodes),
            output_scale=self.output_scale(theta),
        )
        if not self.biases:
            return changed
        unit = 1 / float(self.model.output_scale)
        return _with_bias(changed, np.rint(theta[1 : 1 + self.biases] * unit).astype(np.int64))

    def _thresholds(self, node: Threshold, a: Reals, b: Reals) -> Threshold:
        low, high = self._bounds[node.name]
        real, spacing = self._lines[node.name]
        centre = real.mean(axis=1, keepdims=True)
        stretched = centre + (real - centre) * (1 + RELATIVE_STEP * a[:, None])
        moved = np.rint(stretched + spacing * b[:, None]).astype(np.int64)
        # A negative stretch would turn the order of the thresholds around; sorting keeps a count of met ones the same.
        return replace(node, thresholds=np.sort(np.clip(moved, low, high), axis=1))


def _with_bias(model: IntegerModel, offsets: Codes) -> IntegerModel:
    """Return *model* with *offsets*, shape (outputs,), added to its outputs, by its last node if that adds already."""
    last = model.nodes[-1]
    if isinstance(last, Affine):
        return replace(model, nodes=(*model.nodes[:-1], replace(last, offsets=last.offsets + offsets)))
    taken = {node.name for node in model.nodes}
    name = next(name for name in (BIAS, *(f"{BIAS}_{i}" for i in range(1, len(taken) + 1))) if name not in taken)
    wiring = None if model.wiring is None else (*model.wiring, (last.name,))
    return replace(model, nodes=(*model.nodes, Affine.bias(name, offsets)), wiring=wiring)


def _extrapolated(node: Threshold, mean: Reals, low: Codes, high: Codes) -> tuple[Reals, Reals]:
    """Return the thresholds of *node* as if none had been cut off at the reachable accumulators, and their spacing.

    A threshold that is always or never met is kept at the edge of what can be reached, *low* or *high*. What is
    calibrated moves it as its neighbours move, so it is first put where the spacing of those between the edges would
    have it, if that is beyond the edge. The spacing has shape (channels, 1); *mean* if fewer than two are inside.
    """
    real = node.thresholds.astype(np.float64)
    inside = (node.thresholds > low) & (node.thresholds < high)
    count = inside.sum(axis=1, keepdims=True)
    span = np.where(inside, real, -np.inf).max(axis=1) - np.where(inside, real, np.inf).min(axis=1)
    spacing = np.where(count[:, 0] > 1, span / np.maximum(1, count[:, 0] - 1), mean)
    spacing = np.maximum(spacing, 1.0)[:, None]
    level = np.arange(node.levels, dtype=np.float64)[None, :]
    first = (np.where(inside, real - level * spacing, 0.0)).sum(axis=1, keepdims=True) / np.maximum(1, count)
    line = np.where(count > 0, first + level * spacing, real)
    below = np.where(node.thresholds <= low, np.minimum(line, real), real)
    return np.where(node.thresholds >= high, np.maximum(line, real), below), spacing
