"""n-SPSA on the perceptron with many directions in one matrix product: the same estimate, several times faster.

:class:`bitproof.train.estimators.Spsa` serves any network, one pass at a time; a test holds this one to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.lab.data import Images
from benchmarks.lab.networks import SCALES, perceptron, quantize
from benchmarks.lab.training import BATCH

AT_ONCE = 32
"""Directions of one matrix product."""
FIRST, SECOND = (10, 784), (10, 10)
WEIGHTS = math.prod(FIRST) + math.prod(SECOND)


def step_sizes() -> Tensor:
    """Return the quantization step of each of the 7,960 parameters: first weights, second weights, biases."""
    counts = (math.prod(FIRST), math.prod(SECOND), 10, 10)
    scales = (*SCALES, *SCALES)
    return torch.cat([torch.full((count,), scale) for count, scale in zip(counts, scales, strict=True)])


def stacked_logits(thetas: Tensor, images: Tensor) -> Tensor:
    """Return the logits of 2-bit perceptrons, shape (K, N, 10), for *thetas*, (K, 7960), and *images*, (N, 784)."""
    count = len(thetas)
    quantized = quantize(thetas[:, :WEIGHTS], step_sizes()[:WEIGHTS], 2)
    first = quantized[:, : math.prod(FIRST)].reshape(count * FIRST[0], FIRST[1])
    second = quantized[:, math.prod(FIRST) :].reshape(count, *SECOND)
    hidden = (images @ first.T).reshape(len(images), count, FIRST[0]).transpose(0, 1)
    hidden = (hidden + thetas[:, None, WEIGHTS : WEIGHTS + 10]).relu()
    return torch.baddbmm(thetas[:, None, WEIGHTS + 10 :], hidden, second.transpose(1, 2))


def stacked_losses(thetas: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of every perceptron, shape (K,)."""
    chances = nn.functional.log_softmax(stacked_logits(thetas, images), dim=2)
    return -chances[:, torch.arange(len(labels)), labels].mean(dim=1)


def estimate(theta: Tensor, directions: Tensor, eps: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return ``sum_i [L(theta + eps u_i) - L(theta - eps u_i)] / (2 eps) * u_i`` for *directions* u, shape (K, d)."""
    moved = directions * eps
    losses = stacked_losses(torch.cat([theta + moved, theta - moved]), images, labels)
    above, below = losses.split(len(directions))
    return (above - below) @ directions / (2 * eps)


@torch.no_grad()
def train(
    images: Images,
    directions: int,
    delta: float,
    *,
    steps: int,
    lr: float,
    seed: int,
    watch: Callable[[int, Tensor], None],
) -> Tensor:
    """Train the perceptron by n-SPSA, momentum 0.9 and a cosine to 0; return its parameters, shape (7960,).

    Initial weights and batches are those of :func:`benchmarks.lab.training.run` with the same *seed*.
    """
    theta = torch.cat([parameter.detach() for parameter in perceptron(2, seed).parameters])
    batches, perturbing = (torch.Generator().manual_seed(seed + offset) for offset in (1_000, 2_000))
    eps, velocity = delta * step_sizes(), torch.zeros_like(theta)
    pixels, labels = images.train
    for step in range(1, steps + 1):
        chosen = torch.randint(len(labels), (BATCH,), generator=batches)
        gradient = torch.zeros_like(theta)
        for start in range(0, directions, AT_ONCE):
            shape = (min(AT_ONCE, directions - start), len(theta))
            noise = torch.rand(shape, generator=perturbing).mul_(2 * math.sqrt(3)).sub_(math.sqrt(3))
            gradient += estimate(theta, noise, eps, pixels[chosen], labels[chosen]) / directions
        velocity = 0.9 * velocity + gradient
        theta = theta - lr * (1 + math.cos(math.pi * (step - 1) / steps)) / 2 * velocity
        watch(step, theta)
    return theta
