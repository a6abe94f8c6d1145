"""Random directions, and the loss differences along them.

Everything zeroth-order is measured here, once: an estimator says how a direction is drawn and what it does with the
result. Coordinates are ``phi = theta / eps`` with ``eps = delta * (quantization step)``, so that one number perturbs
every layer by the same fraction of its step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch

from bitproof.train.estimators.problem import Loss, Problem

Tensors = Sequence[torch.Tensor]
Draw = Callable[[], list[torch.Tensor]]
"""Draws one direction in phi; the tensors are the caller's to overwrite."""
DistributionName = Literal["gaussian", "sphere", "uniform", "rademacher"]


def draw_noise(name: DistributionName, like: Tensors, generator: torch.Generator) -> list[torch.Tensor]:
    """Return noise of mean 0 and variance 1 an element, uncorrelated between elements, in the shapes of *like*.

    ``sphere`` is uniform on the sphere of radius sqrt(d) over all d elements together (the unit sphere times sqrt(d),
    which makes the variance 1); ``uniform`` is on (-sqrt 3, sqrt 3); ``rademacher`` is -1 or 1.
    """
    if name in ("gaussian", "sphere"):
        noise = [torch.randn(t.shape, generator=generator, device=generator.device, dtype=t.dtype) for t in like]
        if name == "sphere":
            elements = sum(part.numel() for part in noise)
            radius = torch.stack([part.square().sum() for part in noise]).sum().sqrt()
            noise = [part.mul_(math.sqrt(elements) / radius) for part in noise]
        return noise
    uniform = [torch.rand(t.shape, generator=generator, device=generator.device, dtype=t.dtype) for t in like]
    if name == "rademacher":
        return [part.ge_(0.5).mul_(2).sub_(1) for part in uniform]
    return [part.mul_(2 * math.sqrt(3)).sub_(math.sqrt(3)) for part in uniform]


def estimate_along(
    problem: Problem,
    measured: Loss,
    epsilons: Tensors,
    count: int,
    draw: Draw,
    generator: torch.Generator,
) -> list[torch.Tensor]:
    """Return ``1/n sum_i [L(theta + eps v_i) - L(theta - eps v_i)] / 2 * v_i / eps``, one tensor per parameter.

    Between the processes of ``problem.ranks`` only the n differences are exchanged: all draw the same directions,
    because their generators are in the same state. If the directions are sharded, process r measures directions r,
    r + world, ... on its own part of the batch, and the directions are drawn once more to be summed up.

    Args:
        problem: gives the parameters, which are put back bit for bit, and the processes.
        measured: the loss, free of side effects.
        epsilons: of each parameter, broadcasting to it.
        count: n.
        draw: draws a direction from *generator*.
        generator: the source of randomness of *draw*.
    """
    ranks = problem.ranks
    estimates = [torch.zeros_like(parameter) for parameter in problem.parameters]
    if not ranks.shard:
        for _ in range(count):
            direction = draw()
            difference = ranks.total(_difference(problem, measured, direction, epsilons)) / ranks.world
            _accumulate(estimates, direction, epsilons, difference / (2 * count))
        return estimates
    start = generator.get_state()
    differences = []
    for index in range(count):
        direction = draw()
        mine = index % ranks.world == ranks.rank
        zero = torch.zeros((), dtype=estimates[0].dtype, device=estimates[0].device)
        differences.append(_difference(problem, measured, direction, epsilons) if mine else zero)
    total = ranks.total(torch.stack(differences))
    generator.set_state(start)
    for difference in total:
        _accumulate(estimates, draw(), epsilons, difference / (2 * count))
    return estimates


def _accumulate(estimates: Tensors, direction: Tensors, epsilons: Tensors, weight: torch.Tensor) -> None:
    for estimate, part, epsilon in zip(estimates, direction, epsilons, strict=True):
        estimate.addcmul_(part, weight / epsilon)


def _difference(problem: Problem, measured: Loss, direction: Tensors, epsilons: Tensors) -> torch.Tensor:
    """Return L(theta + eps v) - L(theta - eps v); theta is put back from a copy, which does not drift."""
    before = [parameter.detach().clone() for parameter in problem.parameters]
    losses = []
    try:
        for side in (1, -1):
            for parameter, start, part, epsilon in zip(problem.parameters, before, direction, epsilons, strict=True):
                parameter.copy_(start).addcmul_(part, epsilon, value=side)
            losses.append(measured())
    finally:
        for parameter, start in zip(problem.parameters, before, strict=True):
            parameter.copy_(start)
    return losses[0] - losses[1]
