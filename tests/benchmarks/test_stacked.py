"""The stacked n-SPSA of the benchmark against the estimator of the library and the network that it stands for."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from benchmarks.lab.networks import perceptron
from benchmarks.lab.stacked import WEIGHTS, estimate, stacked_logits, stacked_losses, step_sizes
from bitproof.train.estimators import Problem
from bitproof.train.estimators.directions import estimate_along

IMAGES, LABELS = torch.rand(16, 784, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 10


def network() -> tuple[Tensor, Problem]:
    trainee = perceptron(2, 3)
    return torch.cat([p.detach() for p in trainee.parameters]), trainee.problem(IMAGES, LABELS)


def test_stacked_logits_and_losses_are_those_of_the_perceptron() -> None:
    theta, problem = network()
    other = theta + 0.2 * torch.randn(len(theta), generator=torch.Generator().manual_seed(1))
    stacked = torch.stack([theta, other])
    with torch.no_grad():
        expected = perceptron(2, 3).logits(IMAGES)
    torch.testing.assert_close(stacked_logits(stacked, IMAGES)[0], expected)
    assert not torch.equal(stacked_logits(stacked, IMAGES)[1], expected)
    torch.testing.assert_close(stacked_losses(stacked, IMAGES, LABELS)[0], problem.loss().detach())


def test_stacked_estimate_is_spsa_along_the_same_directions() -> None:
    theta, problem = network()
    weights, biases = problem.parameters[0], problem.others[0]
    count, delta = 6, 1 / (2 * math.sqrt(3))
    eps = delta * step_sizes()
    directions = torch.randn(count, len(theta), generator=torch.Generator().manual_seed(2))
    rows: Iterator[Tensor] = iter(directions)

    def draw() -> list[Tensor]:
        row = next(rows).clone()
        return [row[:WEIGHTS], row[WEIGHTS:]]

    whole = Problem(problem.loss, [weights, biases])
    epsilons = [eps[:WEIGHTS], eps[WEIGHTS:]]
    with torch.no_grad():
        expected = torch.cat(estimate_along(whole, problem.loss, epsilons, count, draw, torch.Generator()))
    found = estimate(theta, directions, eps, IMAGES, LABELS) / count
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * scale)
    with pytest.raises(AssertionError):  # negative control
        torch.testing.assert_close(-found, expected, rtol=1e-3, atol=1e-4 * scale)
