"""A blend of straight-through and zeroth-order gradients whose weight follows what is measured of both."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bitproof.train.estimators.problem import Memory, Problem
from bitproof.train.estimators.ramp import Ramp
from bitproof.train.estimators.spsa import Spsa, gradients_of, write_gradients


@dataclass(frozen=True, slots=True)
class Adaptive:
    """``alpha g_STE + (1 - alpha) g_ZO`` with alpha from the bias of one, the variance of the other, and the phase.

    Formula, with D = g_STE - g_ZO, m and q the running means (decay, corrected for their start at 0) of D and of
    ``|D|^2``, and ``r = sum of squared weights of the running mean``::

        variance V = (q - |m|^2) / (1 - r)        squared bias b^2 = max(0, |m|^2 - r V)
        confidence alpha* = V / (V + b^2)         alpha = 1 - phase(progress) * (1 - alpha*)

    alpha* minimizes the mean squared error against the smoothed gradient if g_STE has bias b and no variance and g_ZO
    variance V and no bias. The phase rises from 0 to 1: early straight-through, later as the measurements say.
    Claim: V and b^2 are unbiased (but for the max) at fixed parameters with independent steps.
    Cost: 2n forward passes per step beyond the training pass.
    Source: linear shrinkage of an unbiased estimate towards a biased one (James and Stein, 1961; Green and Strawderman,
    "A James-Stein type estimator for combining unbiased and possibly biased estimators", JASA 1991).

    Attributes:
        zeroth: gives g_ZO.
        decay: of the running means, 0 up to (not including) 1.
        phase: weight of the measured alpha over the phase, 0 to 1.
    """

    zeroth: Spsa
    decay: float
    phase: Ramp = Ramp(0.0, 1.0)  # noqa: RUF009  frozen

    def __post_init__(self) -> None:
        low, high = sorted((self.phase.first, self.phase.last))
        if not 0 <= self.decay < 1 or not 0 <= low <= high <= 1:
            raise ValueError(
                f"decay = {self.decay}, phase = {self.phase.first}..{self.phase.last}; "
                "allowed: 0 <= decay < 1 and 0 <= phase <= 1"
            )

    @property
    def extra_forward_passes(self) -> int:
        """Forward passes per step beyond the training pass."""
        return self.zeroth.extra_forward_passes

    def __call__(self, problem: Problem, generator: torch.Generator, progress: float, memory: Memory) -> torch.Tensor:
        """Backpropagate, measure, update *memory* and blend the gradients of the perturbed parameters."""
        loss = problem.loss()
        problem.backward(loss)
        with problem.measuring() as measured:
            zeroth = self.zeroth.estimate(problem, measured, generator, progress)
            first = gradients_of(problem)
            confidence = self._update(memory, [g - z for g, z in zip(first, zeroth, strict=True)])
            alpha = 1 - self.phase.at(progress) * (1 - confidence)
            memory["alpha"] = alpha.detach().clone()
            blend = [alpha * g + (1 - alpha) * z for g, z in zip(first, zeroth, strict=True)]
        write_gradients(problem, blend)
        return loss.detach()

    def _update(self, memory: Memory, differences: list[torch.Tensor]) -> torch.Tensor:
        """Take one more difference into the running means and return alpha*, 0-dimensional."""
        new = 1 - self.decay
        zero = torch.zeros((), dtype=differences[0].dtype, device=differences[0].device)
        steps = memory.get("steps", zero) + 1
        square = torch.stack([d.square().sum() for d in differences]).sum()
        memory["square"] = self.decay * memory.get("square", zero) + new * square
        means = []
        for index, difference in enumerate(differences):
            mean = memory.get(f"mean.{index}", torch.zeros_like(difference))
            memory[f"mean.{index}"] = self.decay * mean + new * difference
            means.append(memory[f"mean.{index}"])
        memory["steps"] = steps
        weight = 1 - self.decay**steps  # the weights of a running mean that began at 0 sum up to this
        squared_mean = torch.stack([mean.square().sum() for mean in means]).sum() / weight.square()
        ratio = new**2 * (1 - self.decay ** (2 * steps)) / (1 - self.decay**2) / weight.square()
        spread = (memory["square"] / weight - squared_mean).clamp(min=0)
        variance = torch.where(ratio < 1, spread / (1 - ratio).clamp(min=torch.finfo(spread.dtype).tiny), spread)
        bias = (squared_mean - ratio * variance).clamp(min=0)
        total = variance + bias
        alpha: torch.Tensor = torch.where(
            (total > 0) & (steps > 1), variance / total.clamp(min=torch.finfo(total.dtype).tiny), torch.ones_like(total)
        )
        return alpha
