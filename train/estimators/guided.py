"""First-order-guided zeroth-order gradient descent: loss values measured along the straight-through direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from train.estimators.problem import Loss, Memory, Problem

IDENTITY_SMOOTHING = 1 / (2 * math.sqrt(3))
"""eps_bar: the smoothing, in quantization steps, that the identity straight-through estimator implies."""
UNIT_VARIANCE_BOUND = math.sqrt(3)
"""A uniform variable on (-sqrt 3, sqrt 3) has variance 1."""

Tensors = Sequence[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Guided:
    """Two-sided loss differences along directions that lean on the straight-through gradient.

    Formula, with phi = theta / eps, eps = eps_bar * (quantization step of the layer), h = eps * (straight-through
    gradient), all quantized weights of the network as one vector::

        v_i = sqrt(beta) * s_i * h / |h|  +  sqrt(1 - beta) * u_i         s_i = +-1, u_i uniform, variance 1
        G   = 1/n * sum_i [L(theta + eps v_i) - L(theta - eps v_i)] / 2 * v_i / eps

    beta falls linearly from 1 to *beta_min* over the guided phase. Parameters that are not quantized weights keep the
    backpropagated gradient.

    Claim: for a loss without odd terms beyond the first over the perturbation, E[G] = (beta P + (1 - beta) I) grad L in
    phi, P the projection on the guide: biased towards the guide. With beta = 1, G is the straight-through gradient
    times the ratio of the measured to the predicted slope along it.
    Cost: 2n forward passes a step beyond the training pass.
    Source: Yang and Aamodt, "Improving the Straight-Through Estimator with Zeroth-Order Information", NeurIPS 2025,
    arXiv 2510.23926 (FOGZO). Steps differ between layers, so the guide is normalized in phi, not in theta.
    """

    directions: int = 1
    beta_min: float = 0.9999

    def __post_init__(self) -> None:
        if self.directions < 1 or not 0 < self.beta_min <= 1:
            raise ValueError(
                f"directions = {self.directions}, beta_min = {self.beta_min}; "
                "allowed: directions >= 1 and 0 < beta_min <= 1"
            )

    @property
    def extra_forward_passes(self) -> int:
        """Forward passes a step beyond the training pass."""
        return 2 * self.directions

    def beta(self, progress: float) -> float:
        """Return beta at *progress*, 0 to 1, of the guided phase."""
        return 1 - (1 - self.beta_min) * progress

    def __call__(
        self,
        problem: Problem,
        generator: torch.Generator,
        progress: float,
        memory: Memory,  # noqa: ARG002  nothing to remember
    ) -> torch.Tensor:
        """Backpropagate, then replace the gradients of the quantized weights."""
        loss = problem.loss()
        problem.backward(loss)
        epsilons = [float(step) * IDENTITY_SMOOTHING for step in problem.step_sizes()]
        gradients = [_gradient(parameter) for parameter in problem.parameters]
        guide = _unit_guide(gradients, epsilons)
        estimates = [torch.zeros_like(gradient) for gradient in gradients]
        with problem.measuring() as measured:
            for _ in range(self.directions):
                direction = draw_direction(guide, self.beta(progress), generator)
                difference = _loss_difference(problem, measured, direction, epsilons)
                for estimate, part, epsilon in zip(estimates, direction, epsilons, strict=True):
                    estimate.add_(difference / (2 * self.directions * epsilon) * part)
        for gradient, estimate in zip(gradients, estimates, strict=True):
            gradient.copy_(estimate)
        return loss.detach()


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _unit_guide(gradients: Tensors, epsilons: Sequence[float]) -> list[torch.Tensor]:
    """Return the straight-through gradient in phi, of length 1 over all weights together; zero where it is zero."""
    slopes = [epsilon * gradient for gradient, epsilon in zip(gradients, epsilons, strict=True)]
    length = torch.stack([slope.square().sum() for slope in slopes]).sum().sqrt()
    return [torch.where(length > 0, slope / length, torch.zeros_like(slope)) for slope in slopes]


def draw_direction(guide: Tensors, beta: float, generator: torch.Generator) -> list[torch.Tensor]:
    """Draw one direction in phi around *guide*: a fair sign, and noise of variance ``1 - beta`` an element."""
    device = generator.device
    sign = 2 * torch.randint(2, (), generator=generator, device=device) - 1
    direction = []
    for part in guide:
        uniform = torch.rand(part.shape, generator=generator, device=device, dtype=part.dtype)
        noise = (2 * uniform - 1) * UNIT_VARIANCE_BOUND
        direction.append(math.sqrt(beta) * sign * part + math.sqrt(1 - beta) * noise)
    return direction


def _loss_difference(problem: Problem, measured: Loss, direction: Tensors, epsilons: Sequence[float]) -> torch.Tensor:
    """Return L(theta + eps v) - L(theta - eps v); theta is put back from a copy, which does not drift."""
    before = [parameter.detach().clone() for parameter in problem.parameters]
    losses = []
    try:
        for side in (1, -1):
            for parameter, start, part, epsilon in zip(problem.parameters, before, direction, epsilons, strict=True):
                parameter.copy_(start + side * epsilon * part)
            losses.append(measured())
    finally:
        for parameter, start in zip(problem.parameters, before, strict=True):
            parameter.copy_(start)
    return losses[0] - losses[1]
