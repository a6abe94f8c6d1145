"""Bias, variance and cosine of every estimator against the gradient of the smoothed loss.

The reference is the box-smoothed (stochastically rounded) loss of the 2-bit perceptron. On a layer of 12 weights it is
enumerated over all 4,096 roundings. On the whole first layer of 7,840 weights each coordinate is differenced exactly,
its weight rounded down against up, and the mean over the roundings of the others is sampled twice, so that the two
halves tell how good the reference is.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.lab.data import load
from benchmarks.lab.networks import SCALES, NetworkSpec, quantize
from benchmarks.lab.training import run
from bitproof.train.estimators import (
    Adaptive,
    BiasCorrected,
    Estimator,
    Guided,
    Memory,
    Problem,
    Ramp,
    Schedule,
    Spsa,
    StraightThrough,
    Weighted,
)
from bitproof.train.smoothing import implied_by

SAMPLES = 256
SMALL_WEIGHTS = 12
DRAWS_SMALL, DRAWS_LARGE, LEAST_DRAWS = 4000, 256, 48
REFERENCE_DRAWS = 24
TRAINED = (60, 600)


def estimators() -> dict[str, Estimator]:
    """Return the estimators that are measured, at the perturbation that the identity surrogate implies."""
    eps = Ramp.constant(implied_by("identity", "round").eps_bar)
    half = Ramp.constant(0.5)

    def uniform(count: int) -> Spsa:
        return Spsa(count, eps, "uniform")

    return {
        "ste": StraightThrough(),
        "guided, beta 1": Guided(1, Ramp.constant(1.0)),
        "guided, beta 0.9999": Guided(1, Ramp.constant(0.9999)),
        "guided, beta 0.999": Guided(1, Ramp.constant(0.999)),
        "guided, beta 0.999, n = 16": Guided(16, Ramp.constant(0.999)),
        "weighted, alpha 0.999": Weighted(uniform(1), Ramp.constant(0.999)),
        "weighted, alpha 0.9": Weighted(uniform(1), Ramp.constant(0.9)),
        "bias-corrected, decay 0.999": BiasCorrected(uniform(1), 0.999),
        "adaptive": Adaptive(uniform(1), 0.99),
        "spsa, n = 1": uniform(1),
        "spsa, n = 16": uniform(16),
        "spsa, n = 256": uniform(256),
        "spsa, rademacher at half a step, n = 256": Spsa(256, half, "rademacher"),
    }


def measure(note: Callable[[str], None]) -> dict[str, Any]:
    """Return the figures at an early and at a late point of a training, small layer and whole layer."""
    images = load("mnist-5000")
    rows = []
    for steps in TRAINED:
        weights = _weights_after(images, steps)
        batch = (images.train[0][:SAMPLES], images.train[1][:SAMPLES])
        for layer in ("12 weights, enumerated", "7,840 weights, coordinate-wise"):
            small = layer.startswith("12")
            chosen, loss, reference, reliability = (_small if small else _large)(weights, *batch)
            for name, estimator in estimators().items():
                draws = _draws(estimator, DRAWS_SMALL if small else DRAWS_LARGE)
                figures = _quality(estimator, chosen, loss, reference, draws)
                rows.append({"steps": steps, "layer": layer, "estimator": name, "reliability": reliability, **figures})
                note(f"{steps} steps, {layer}, {name}: cosine {figures['cosine']:.3f}")
    return {"rows": rows, "draws": {"small": DRAWS_SMALL, "large": DRAWS_LARGE}}


def _draws(estimator: Estimator, most: int) -> int:
    """Return how often to draw: fewer draws of what is the mean of many directions already."""
    return max(LEAST_DRAWS, most // max(1, estimator.extra_forward_passes // 2))


def _weights_after(images: Any, steps: int) -> list[Tensor]:  # noqa: ANN401
    kept: list[Tensor] = []

    def watch(step: int, trainee: Any) -> bool:  # noqa: ANN401
        if step == steps:
            first, second = trainee.parameters[0].detach().clone().split((7840, 100))
            kept.extend((first.view(10, 784), second.view(10, 10), *trainee.parameters[1].detach().clone().split(10)))
        return step < steps

    run(
        NetworkSpec("mlp", 2),
        images,
        Schedule(StraightThrough(), 1.0),
        steps=max(TRAINED),
        lr=0.03,
        seed=0,
        watch=watch,
    )
    return kept


def _logits(weights: list[Tensor], images: Tensor, first: Tensor) -> Tensor:
    """Run the perceptron with the quantized first layer *first*."""
    hidden = nn.functional.linear(images, first, weights[2]).relu()
    return nn.functional.linear(hidden, quantize(weights[1], SCALES[1], 2), weights[3])


def _small(weights: list[Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, Any, Tensor, float]:
    """The 12 weights of the first hidden unit with most input; the reference is a sum over all roundings."""
    columns = images.sum(0).topk(SMALL_WEIGHTS).indices
    fixed = quantize(weights[0], SCALES[0], 2)
    chosen = weights[0][0, columns].clone().requires_grad_()

    def loss_of(quantized: Tensor) -> Tensor:
        first = fixed.clone()
        first[0, columns] = quantized
        return nn.functional.cross_entropy(_logits(weights, images, first), labels)

    lower, chance = _neighbours(chosen.detach())
    patterns = torch.tensor(list(product((0.0, 1.0), repeat=SMALL_WEIGHTS)))
    losses = torch.stack([loss_of(lower + SCALES[0] * pattern) for pattern in patterns]).double()
    chances = torch.where(patterns > 0, chance, 1 - chance).double()
    reference = torch.zeros(SMALL_WEIGHTS, dtype=torch.float64)
    for index in range(SMALL_WEIGHTS):
        others = torch.cat([chances[:, :index], chances[:, index + 1 :]], 1).prod(1)
        sign = 2 * patterns[:, index].double() - 1
        # a saturated weight rounds to one level from both sides: its smoothed slope is 0
        reference[index] = (others * sign * losses).sum() / SCALES[0] * float(_inside(chosen.detach())[index])
    return chosen, lambda: loss_of(quantize(chosen, SCALES[0], 2)), reference.float(), 1.0


def _large(weights: list[Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, Any, Tensor, float]:
    """The whole first layer; two halves of the reference draws tell how good it is."""
    chosen = weights[0].clone().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    halves = [
        torch.stack([_coordinate_wise(weights, images, labels, generator) for _ in range(REFERENCE_DRAWS)]).mean(0)
        for _ in range(2)
    ]
    reliability = float(nn.functional.cosine_similarity(halves[0].reshape(-1), halves[1].reshape(-1), dim=0))

    def loss() -> Tensor:
        return nn.functional.cross_entropy(_logits(weights, images, quantize(chosen, SCALES[0], 2)), labels)

    return chosen, loss, ((halves[0] + halves[1]) / 2).reshape(-1), reliability


@torch.no_grad()
def _coordinate_wise(weights: list[Tensor], images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Round all weights at random, then return (loss with weight i up - loss with it down) / step for every i."""
    lower, chance = _neighbours(weights[0])
    up = (torch.rand(chance.shape, generator=generator) < chance).float()
    first, second = lower + SCALES[0] * up, quantize(weights[1], SCALES[1], 2)
    before = nn.functional.linear(images, first, weights[2])
    logits = nn.functional.linear(before.relu(), second, weights[3])
    result = torch.zeros_like(first)
    targets = labels[:, None].expand(-1, images.shape[1])
    for unit in range(len(first)):
        without = logits - before[:, unit : unit + 1].relu() * second[:, unit]
        sides = []
        for level in (1.0, 0.0):
            moved = before[:, unit : unit + 1] + images * (SCALES[0] * (level - up[unit]))
            shifted = without[:, :, None] + moved.relu()[:, None, :] * second[:, unit][None, :, None]
            sides.append(nn.functional.cross_entropy(shifted, targets, reduction="none").mean(0))
        result[unit] = (sides[0] - sides[1]) / SCALES[0]
    return result * _inside(weights[0])


def _neighbours(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the level below every weight and the chance that stochastic rounding takes the one above."""
    cells = (weights / SCALES[0] - 0.5).clamp(-2, 1)
    lower = cells.floor().clamp(max=0)
    return SCALES[0] * (lower + 0.5), cells - lower


def _inside(weights: Tensor) -> Tensor:
    """Return 1 if a weight lies between the outermost levels, 0 if it is saturated."""
    cells = weights / SCALES[0] - 0.5
    return ((cells > -2) & (cells < 1)).float()


def _quality(
    estimator: Estimator, chosen: Tensor, loss: Callable[[], Tensor], reference: Tensor, draws: int
) -> dict[str, float]:
    """Return bias, variance and cosine over *draws*; squares are in units of the reference's square."""
    problem = Problem(loss, [chosen], steps=lambda: [torch.tensor(SCALES[0])])
    generator, memory = torch.Generator().manual_seed(1), Memory()
    total, squares, cosine = torch.zeros_like(reference), 0.0, 0.0
    for _ in range(draws):
        chosen.grad = None
        estimator(problem, generator, 1.0, memory)
        assert chosen.grad is not None
        sample = chosen.grad.reshape(-1)
        total += sample
        squares += float(sample.square().sum())
        cosine += float(nn.functional.cosine_similarity(sample, reference, dim=0))
    mean, unit = total / draws, float(reference.square().sum())
    variance = max(0.0, (squares - draws * float(mean.square().sum())) / (draws - 1))
    # the mean of the draws itself has variance / draws: it is taken off, so that noise does not pass for bias
    bias = float((mean - reference).square().sum()) - variance / draws
    return {
        "squared_bias": bias / unit,
        "variance": variance / unit,
        "cosine": cosine / draws,
        "cosine_of_mean": float(nn.functional.cosine_similarity(mean, reference, dim=0)),
    }
