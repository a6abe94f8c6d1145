"""First-order-guided zeroth-order gradient descent: loss values measured along the straight-through direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bitproof.train.estimators.directions import DistributionName, Tensors, draw_noise, estimate_along
from bitproof.train.estimators.problem import Memory, Problem
from bitproof.train.estimators.ramp import Ramp
from bitproof.train.estimators.spsa import gradients_of, write_gradients
from bitproof.train.smoothing import Smoothing, implied_by
from bitproof.train.surrogates import SurrogateName


@dataclass(frozen=True, slots=True)
class Guided:
    """Two-sided loss differences along directions that lean on the straight-through gradient (FOGZO).

    Formula, with phi = theta / eps, eps = eps_bar * (quantization step of the layer), h = eps * (straight-through
    gradient), all perturbed parameters of the network as one vector::

        v_i = sqrt(beta) * s_i * h / |h|  +  sqrt(1 - beta) * u_i         s_i = +-1, u_i of variance 1
        G   = 1/n * sum_i [L(theta + eps v_i) - L(theta - eps v_i)] / 2 * v_i / eps

    eps_bar and the distribution of u are those that the surrogate implies (:mod:`bitproof.train.smoothing`), unless
    they are given; the step of 1-bit weights is the distance between their two values, so that one eps_bar serves both.
    Parameters that are not perturbed keep the backpropagated gradient.

    Claim: for a loss without odd terms beyond the first over the perturbation, E[G] = (beta P + (1 - beta) I) grad L in
    phi, P the projection on the guide: biased towards the guide. With beta = 1, G is the straight-through gradient
    times the ratio of the measured to the predicted slope along it; as beta goes to 0, G goes to SPSA.
    Of each difference, the guide's part of v has the square sqrt(beta)^2 = beta and u's part the mean square
    (1 - beta) d, d the number of perturbed parameters: noise = (1 - beta) d is the power of the noise over that of the
    signal, to a factor of 1 - noise / d. The same beta is more noise the larger the network is; the same noise is not.
    Cost: 2n forward passes per step beyond the training pass.
    Source: Yang and Aamodt, "Improving the Straight-Through Estimator with Zeroth-Order Information", NeurIPS 2025,
    arXiv 2510.23926. Steps differ between layers, so the guide is normalized in phi, not in theta.

    Attributes:
        directions: n.
        beta: over the phase, each above 0 and at most 1; the paper lets it fall linearly from 1. None: *noise* says it.
        surrogate: the surrogate of the network's quantizers.
        delta: eps_bar; None: the one that the surrogate implies.
        distribution: of u; None: the one that the surrogate implies.
        noise: (1 - beta) d at the end of the phase, 0 to 1; beta falls linearly from 1. It has no effect beside *beta*.
    """

    directions: int = 1
    beta: Ramp | None = None
    surrogate: SurrogateName = "identity"
    delta: float | None = None
    distribution: DistributionName | None = None
    noise: float = 0.01

    def __post_init__(self) -> None:
        first, last = (1.0, 1.0) if self.beta is None else (self.beta.first, self.beta.last)
        if self.directions < 1 or not 0 < min(first, last) <= max(first, last) <= 1:
            raise ValueError(
                f"directions = {self.directions}, beta = {first}..{last}; allowed: directions >= 1 and 0 < beta <= 1"
            )
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise = {self.noise}; allowed: 0 <= noise <= 1; more noise than signal: give beta")
        if self.delta is not None and not 0 < self.delta < math.inf:
            raise ValueError(f"delta = {self.delta}; allowed: delta > 0")

    @property
    def smoothing(self) -> Smoothing:
        """The perturbation that the surrogate implies."""
        return implied_by(self.surrogate, "round")

    @property
    def extra_forward_passes(self) -> int:
        """Forward passes per step beyond the training pass."""
        return 2 * self.directions

    def beta_at(self, progress: float, elements: int) -> float:
        """Return beta at *progress*, 0 to 1, for *elements* perturbed parameters, at least 1."""
        ramp = Ramp(1.0, 1.0 - self.noise / elements) if self.beta is None else self.beta
        return ramp.at(progress)

    def __call__(
        self,
        problem: Problem,
        generator: torch.Generator,
        progress: float,
        memory: Memory,  # noqa: ARG002  nothing to remember
    ) -> torch.Tensor:
        """Backpropagate, then replace the gradients of the perturbed parameters."""
        loss = problem.loss()
        problem.backward(loss)
        eps_bar = self.smoothing.eps_bar if self.delta is None else self.delta
        beta = self.beta_at(progress, sum(parameter.numel() for parameter in problem.parameters))
        with problem.measuring() as measured:
            epsilons = [step * eps_bar for step in problem.step_sizes()]
            gradients = gradients_of(problem)
            guide = guide_factors(gradients, epsilons)

            def draw() -> list[torch.Tensor]:
                return self._lean(self._noise(gradients, generator), gradients, guide, beta, generator)

            estimates = estimate_along(problem, measured, epsilons, self.directions, draw, generator)
        write_gradients(problem, estimates)
        return loss.detach()

    def _noise(self, like: Tensors, generator: torch.Generator) -> list[torch.Tensor]:
        if self.distribution is None:
            return self.smoothing.draw(like, generator)
        return draw_noise(self.distribution, like, generator)

    @staticmethod
    def _lean(
        noise: list[torch.Tensor],
        gradients: Tensors,
        guide: Sequence[torch.Tensor],
        beta: float,
        generator: torch.Generator,
    ) -> list[torch.Tensor]:
        """Turn *noise* into v, in place: no second direction is held."""
        sign = 2 * torch.randint(2, (), generator=generator, device=generator.device) - 1
        for part, gradient, factor in zip(noise, gradients, guide, strict=True):
            part.mul_(math.sqrt(1 - beta)).addcmul_(gradient, math.sqrt(beta) * sign * factor)
        return noise


def guide_factors(gradients: Tensors, epsilons: Tensors) -> list[torch.Tensor]:
    """Return, for every gradient, the factor that makes all of them one unit vector in phi; 0 if they are all 0."""
    squares = [(gradient * epsilon).square().sum() for gradient, epsilon in zip(gradients, epsilons, strict=True)]
    length = torch.stack(squares).sum().sqrt()
    return [torch.where(length > 0, epsilon / length, torch.zeros_like(epsilon)) for epsilon in epsilons]
