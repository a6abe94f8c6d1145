"""The straight-through gradient minus a running estimate of its bias."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bitproof.train.estimators.problem import Memory, Problem
from bitproof.train.estimators.spsa import Spsa, gradients_of, write_gradients


@dataclass(frozen=True, slots=True)
class BiasCorrected:
    """``g_STE`` with its bias, measured by loss values and averaged over the steps, taken off.

    Formula: ``B <- decay B + (1 - decay)(g_STE - g_ZO)`` from B = 0, then ``G = g_STE - B``. It is computed as
    ``decay (g_STE - B_before) + (1 - decay) g_ZO``, the same number, so that decay = 0 is SPSA bit for bit and
    decay = 1 the straight-through estimator.
    Claim: at fixed parameters the bias against the smoothed gradient falls as ``decay^steps``; the variance of B is
    ``(1 - decay) / (1 + decay)`` times that of ``g_STE - g_ZO``. While the parameters move, B lags.
    Cost: 2n forward passes per step beyond the training pass.
    Source: a control variate in reverse: the biased, quiet estimate is corrected by the mean of an unbiased, noisy one
    (Asmussen and Glynn, "Stochastic Simulation", 2007, chapter V).

    Attributes:
        zeroth: gives g_ZO.
        decay: 0 to 1; the mean is over about ``1 / (1 - decay)`` steps.
    """

    zeroth: Spsa
    decay: float

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay = {self.decay}; allowed: 0 <= decay <= 1")

    @property
    def extra_forward_passes(self) -> int:
        """Forward passes per step beyond the training pass."""
        return self.zeroth.extra_forward_passes

    def __call__(self, problem: Problem, generator: torch.Generator, progress: float, memory: Memory) -> torch.Tensor:
        """Backpropagate, update the bias in *memory*, and correct the gradients of the perturbed parameters."""
        loss = problem.loss()
        problem.backward(loss)
        with problem.measuring() as measured:
            zeroth = self.zeroth.estimate(problem, measured, generator, progress)
            corrected = []
            for index, (first, z) in enumerate(zip(gradients_of(problem), zeroth, strict=True)):
                before = memory.get(f"bias.{index}", torch.zeros_like(first))
                corrected.append(self.decay * (first - before) + (1 - self.decay) * z)
                memory[f"bias.{index}"] = self.decay * before + (1 - self.decay) * (first - z)
        write_gradients(problem, corrected)
        return loss.detach()
