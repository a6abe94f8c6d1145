"""The methods that are compared, and the control of each: the same noise and the same knobs without loss values.

A control measures, in place of the loss, the linear model that the straight-through gradient already is. Its
directions, its noise and its cost in random numbers are those of the method; what it lacks is the information in the
loss values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.lab.networks import NetworkSpec
from bitproof.train.estimators import (
    Adaptive,
    BiasCorrected,
    Estimator,
    Guided,
    Loss,
    Memory,
    Problem,
    Ramp,
    Schedule,
    Spsa,
    StraightThrough,
    Weighted,
)
from bitproof.train.smoothing import implied_by

FORWARD, BACKWARD = 1.0, 2.0
"""Cost of one pass over one batch, in forward passes."""


@dataclass(frozen=True, slots=True)
class WithoutLossValues:
    """An estimator that sees, for a loss, the linear model of the straight-through gradient."""

    method: Estimator

    @property
    def extra_forward_passes(self) -> int:
        """None: the linear model costs no pass."""
        return 0

    def __call__(self, problem: Problem, generator: torch.Generator, progress: float, memory: Memory) -> Tensor:
        """Backpropagate once, then let the method measure the linear model."""
        return self.method(replace(problem, extra_passes=_linear_model(problem)), generator, progress, memory)


def _linear_model(problem: Problem):  # type: ignore[no-untyped-def]  # noqa: ANN202  a context manager's factory
    @contextmanager
    def measuring() -> Iterator[Loss]:
        gradients = [None if p.grad is None else p.grad.clone() for p in problem.parameters]

        def loss() -> Tensor:
            pairs = zip(gradients, problem.parameters, strict=True)
            return torch.stack([(g.double() * p.double()).sum() for g, p in pairs if g is not None]).sum()

        yield loss

    return measuring


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the comparison.

    Attributes:
        name: its name.
        schedule: which estimator when.
        steps: how many steps it trains, as a multiple of the common number.
        control_of: the method that it is the control of; None: it is a method itself.
        reference: the run of the straight-through estimator with equal compute that it is compared with.
    """

    name: str
    schedule: Schedule
    steps: float = 1.0
    control_of: str | None = None
    reference: str = "ste"

    @property
    def cost(self) -> float:
        """Forward passes a common step (a straight-through step costs 3)."""
        late = (1 - self.schedule.start) * self.schedule.late.extra_forward_passes
        return self.steps * (FORWARD + BACKWARD + late * FORWARD)


STE_FIFTH, STE_WHOLE = "ste, 17/15 of the steps", "ste, 5/3 of the steps"
"""The compute of one extra pair of passes in the last fifth of the steps, and in all of them."""


def methods(spec: NetworkSpec) -> list[Method]:
    """Return all methods for the network *spec*, each followed by its control."""
    eps = Ramp.constant(implied_by(spec.surrogate, "round").eps_bar)
    one = Spsa(1, eps, "uniform")

    def guided(beta_min: float) -> Guided:
        return Guided(1, Ramp(1.0, beta_min), spec.surrogate)

    zeroth: list[tuple[str, Estimator, float, str]] = [
        ("guided, beta to 0.9999, last 20 %", guided(0.9999), 0.8, STE_FIFTH),
        ("guided, beta to 0.9999", guided(0.9999), 0.0, STE_WHOLE),
        ("guided, beta to 0.999", guided(0.999), 0.0, STE_WHOLE),
        ("guided, beta 1", guided(1.0), 0.0, STE_WHOLE),
        ("weighted, alpha 0.9999", Weighted(one, Ramp.constant(0.9999)), 0.0, STE_WHOLE),
        ("bias-corrected, decay 0.9999", BiasCorrected(one, 0.9999), 0.0, STE_WHOLE),
        ("adaptive", Adaptive(one, 0.99), 0.0, STE_WHOLE),
        ("spsa, n = 1", one, 0.0, STE_WHOLE),
    ]
    straight = StraightThrough()
    rows = [
        Method("ste", Schedule(straight, 1.0)),
        Method(STE_FIFTH, Schedule(straight, 1.0), 17 / 15),
        Method(STE_WHOLE, Schedule(straight, 1.0), 5 / 3),
    ]
    for name, estimator, start, reference in zeroth:
        rows.append(Method(name, Schedule(estimator, start), reference=reference))
        if name != "guided, beta 1":  # without loss values that is the straight-through estimator itself
            blind = Schedule(WithoutLossValues(estimator), start)
            rows.append(Method(f"{name}: control", blind, control_of=name))
    return rows
