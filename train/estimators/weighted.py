"""The straight-through and the zeroth-order gradient in a weighted average."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bitproof.train.estimators.problem import Memory, Problem
from bitproof.train.estimators.ramp import Ramp
from bitproof.train.estimators.spsa import Spsa, gradients_of, write_gradients


@dataclass(frozen=True, slots=True)
class Weighted:
    """A fixed blend of two estimates.

    Formula: ``G = alpha g_STE + (1 - alpha) g_ZO``.
    Claim: bias ``alpha`` times the straight-through estimator's against the smoothed gradient, variance
    ``(1 - alpha)^2`` times SPSA's. alpha = 1 is the straight-through estimator, without extra passes; 0 is SPSA.
    Cost: 2n forward passes per step beyond the training pass while alpha < 1.
    Source: the convex combination of two estimators, one biased and one noisy (Maheswaranathan et al., "Guided
    evolutionary strategies", ICML 2019, discusses the trade-off).

    Attributes:
        zeroth: gives g_ZO.
        alpha: over the phase, 0 to 1.
    """

    zeroth: Spsa
    alpha: Ramp

    def __post_init__(self) -> None:
        if not 0 <= min(self.alpha.first, self.alpha.last) <= max(self.alpha.first, self.alpha.last) <= 1:
            raise ValueError(f"alpha = {self.alpha.first}..{self.alpha.last}; allowed: 0 <= alpha <= 1")

    @property
    def extra_forward_passes(self) -> int:
        """Forward passes per step beyond the training pass."""
        return self.zeroth.extra_forward_passes

    def __call__(
        self,
        problem: Problem,
        generator: torch.Generator,
        progress: float,
        memory: Memory,  # noqa: ARG002  nothing to remember
    ) -> torch.Tensor:
        """Backpropagate, then blend the gradients of the perturbed parameters with their zeroth-order estimates."""
        loss = problem.loss()
        problem.backward(loss)
        alpha = self.alpha.at(progress)
        if alpha < 1:
            with problem.measuring() as measured:
                zeroth = self.zeroth.estimate(problem, measured, generator, progress)
                first = gradients_of(problem)
                blend = [alpha * g + (1 - alpha) * z for g, z in zip(first, zeroth, strict=True)]
            write_gradients(problem, blend)
        return loss.detach()
