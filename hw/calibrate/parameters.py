"""The few parameters behind an integer model, and the integer model that they stand for.

Output scale and biases first, then two parameters a neuron: the affine map in front of its integer thresholds,

    T' = centre + (T - centre) * (1 + 0.3 a) + b * spacing,

rounded to integers. What is calibrated is therefore again an integer model: nothing real-valued is left in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from export.integer import Affine, IntegerModel, Interval, MatMul, Node, Threshold, require_operations
from hw.faults import spacing_of
from pipeline import Codes, InputError

Reals = NDArray[np.float64]
Scope = Literal["output", "thresholds", "all"]
"""Output scale and biases; output scale and thresholds, for a target without an output bias; or all of these."""

RELATIVE_STEP = 0.3
"""By how much one unit of a scale parameter changes the scale; a unit of a shift is one activation level or logit."""
BIAS = "output_bias"


@dataclass(frozen=True, eq=False)
class Parameters:
    """Where each parameter of *model* lies in a vector theta, and what theta = 0 stands for: *model* itself.

    theta[0] is the output scale, then come (unless *scope* is ``thresholds``) the biases, one a class, then (unless it
    is ``output``) for every activation its a, one a channel, and its b.
    """

    model: IntegerModel
    scope: Scope = "all"

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise InputError(f"no parameters {self.scope!r}; allowed: {', '.join(get_args(Scope))}")
        require_operations(self.model, "calibration", (MatMul, Threshold, Affine))
        last = self.model.nodes[-1]
        if isinstance(last, Threshold):
            raise InputError(
                f"the last layer {last.name!r} of {self.model.name!r} is an activation; calibration needs output "
                "accumulators: end the network with a matrix product"
            )

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
        return () if self.scope == "output" else self.model.activations

    @cached_property
    def _limits(self) -> dict[str, tuple[Interval, ...]]:
        """Reachable accumulators of every tuned activation, whatever codes the layers before it give."""
        current = (Interval(self.model.input.minimum, self.model.input.maximum),) * self.model.inputs
        limits: dict[str, tuple[Interval, ...]] = {}
        for node in self.model.nodes:
            if isinstance(node, Threshold):
                limits[node.name] = current
                current = (Interval(node.lowest, node.lowest + node.levels),) * node.channels
            else:
                current = node.ranges(current)
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
        return {node.name: _extrapolated(node, *self._bounds[node.name]) for node in self._tuned}

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
        nodes: list[Node] = [moved.get(node.name, node) for node in self.model.nodes]
        if self.biases:
            unit = 1 / float(self.model.output_scale)
            offsets = np.rint(theta[1 : 1 + self.biases] * unit).astype(np.int64)
            if isinstance(nodes[-1], Affine):
                nodes[-1] = Affine.bias(nodes[-1].name, nodes[-1].offsets + offsets)
            else:
                nodes.append(Affine.bias(BIAS, offsets))
        return replace(self.model, nodes=tuple(nodes), output_scale=self.output_scale(theta))

    def _thresholds(self, node: Threshold, a: Reals, b: Reals) -> Threshold:
        low, high = self._bounds[node.name]
        real, spacing = self._lines[node.name]
        centre = real.mean(axis=1, keepdims=True)
        stretched = centre + (real - centre) * (1 + RELATIVE_STEP * a[:, None])
        moved = np.rint(stretched + spacing * b[:, None]).astype(np.int64)
        # A negative stretch would turn the order of the thresholds around; sorting keeps a count of met ones the same.
        return replace(node, thresholds=np.sort(np.clip(moved, low, high), axis=1))


def _extrapolated(node: Threshold, low: Codes, high: Codes) -> tuple[Reals, Reals]:
    """Return the thresholds of *node* as if none had been cut off at the reachable accumulators, and their spacing.

    A threshold that is always or never met is kept at the edge of what can be reached, *low* or *high*. What is
    calibrated moves it as its neighbours move, so it is first put where the spacing of those between the edges would
    have it, if that is beyond the edge. The spacing has shape (channels, 1).
    """
    real = node.thresholds.astype(np.float64)
    inside = (node.thresholds > low) & (node.thresholds < high)
    count = inside.sum(axis=1, keepdims=True)
    span = np.where(inside, real, -np.inf).max(axis=1) - np.where(inside, real, np.inf).min(axis=1)
    spacing = np.where(count[:, 0] > 1, span / np.maximum(1, count[:, 0] - 1), spacing_of(node))
    spacing = np.maximum(spacing, 1.0)[:, None]
    level = np.arange(node.levels, dtype=np.float64)[None, :]
    first = (np.where(inside, real - level * spacing, 0.0)).sum(axis=1, keepdims=True) / np.maximum(1, count)
    line = np.where(count > 0, first + level * spacing, real)
    below = np.where(node.thresholds <= low, np.minimum(line, real), real)
    return np.where(node.thresholds >= high, np.maximum(line, real), below), spacing
