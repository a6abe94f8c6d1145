"""The straight-through estimator: backpropagation that treats rounding as the identity."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bitproof.train.estimators.problem import Memory, Problem


@dataclass(frozen=True, slots=True)
class StraightThrough:
    """Plain backpropagation; the quantizers pass gradients through their rounding.

    Formula: ``d round(x)/dx := 1`` inside the clipping range (the quantizers define it).
    Claim: biased, and without variance beyond the batch's.
    Cost: no forward pass beyond the training pass.
    Source: Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
    Computation", 2013, arXiv 1308.3432.
    """

    @property
    def extra_forward_passes(self) -> int:
        """Forward passes per step beyond the training pass."""
        return 0

    def __call__(
        self,
        problem: Problem,
        generator: torch.Generator,  # noqa: ARG002  the protocol's
        progress: float,  # noqa: ARG002
        memory: Memory,  # noqa: ARG002
    ) -> torch.Tensor:
        """Backpropagate; only *problem* is used."""
        loss = problem.loss()
        problem.backward(loss)
        return loss.detach()
