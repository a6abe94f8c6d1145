"""Simultaneous perturbation: the gradient of the smoothed loss from loss values alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch

from bitproof.train.estimators.directions import DistributionName, draw_noise, estimate_along
from bitproof.train.estimators.problem import Loss, Memory, Problem
from bitproof.train.estimators.ramp import Ramp


@dataclass(frozen=True, slots=True)
class Spsa:
    """n antithetic loss differences along random directions (n-SPSA); no derivative of the network takes part.

    Formula, with ``eps = delta * (quantization step of the layer)``, u of variance 1 an element::

        G = 1/n * sum_i [L(theta + eps u_i) - L(theta - eps u_i)] / (2 eps) * u_i

    Claim: unbiased for the gradient of ``E_u L(theta + eps u)`` where u is gaussian, at any eps; for the other
    distributions unbiased on a quadratic loss, and up to O(eps^2) on a smooth one. On a linear loss of gradient g the
    total variance is ``|g|^2 / n`` times d + 1 (gaussian), d - 1 (sphere, rademacher), d - 1/5 (uniform).
    Cost: 2n forward passes; the training pass runs only if other parameters want a backpropagated gradient.
    Source: Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation",
    IEEE Transactions on Automatic Control, 1992; gaussian: Nesterov and Spokoiny, 2017.

    Attributes:
        directions: n.
        delta: the standard deviation of a perturbation, in quantization steps, over the phase.
        distribution: of the directions.
    """

    directions: int
    delta: Ramp
    distribution: DistributionName

    def __post_init__(self) -> None:
        if self.directions < 1 or not all(0 < end < math.inf for end in (self.delta.first, self.delta.last)):
            raise ValueError(
                f"directions = {self.directions}, delta = {self.delta.first}..{self.delta.last}; "
                "allowed: directions >= 1 and delta > 0"
            )

    @property
    def extra_forward_passes(self) -> int:
        """Forward passes per step beyond the training pass."""
        return 2 * self.directions

    def estimate(
        self, problem: Problem, measured: Loss, generator: torch.Generator, progress: float
    ) -> list[torch.Tensor]:
        """Return G, one tensor a perturbed parameter; nothing else is written."""
        delta = self.delta.at(progress)
        epsilons = [delta * step for step in problem.step_sizes()]
        draw = partial(draw_noise, self.distribution, problem.parameters, generator)
        return estimate_along(problem, measured, epsilons, self.directions, draw, generator)

    def __call__(
        self,
        problem: Problem,
        generator: torch.Generator,
        progress: float,
        memory: Memory,  # noqa: ARG002  nothing to remember
    ) -> torch.Tensor:
        """Estimate the gradient of the perturbed parameters; backpropagate for the others if there are any."""
        if problem.others:
            loss = problem.loss()
            problem.backward(loss)
        with problem.measuring() as measured:
            if not problem.others:
                loss = measured()
            estimates = self.estimate(problem, measured, generator, progress)
        write_gradients(problem, estimates)
        return loss.detach()


def gradients_of(problem: Problem) -> list[torch.Tensor]:
    """Return the backpropagated gradient of every perturbed parameter; zeros if none arrived."""
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in problem.parameters]


def write_gradients(problem: Problem, estimates: list[torch.Tensor]) -> None:
    """Make *estimates* the gradients of the perturbed parameters."""
    for parameter, estimate in zip(problem.parameters, estimates, strict=True):
        if parameter.grad is None:
            parameter.grad = estimate
        else:
            parameter.grad.copy_(estimate)
