"""The two networks of the estimator benchmark.

The perceptron is plain torch, without Brevitas: an estimator needs no more than a closure. Its scales are fixed, so its
quantization is the same for all methods. The convolutional one is the project's own Brevitas network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bitproof.pipeline.config import ModelConfig
from bitproof.train.device_split import real_outputs
from bitproof.train.estimators import Problem
from bitproof.train.extra_passes import statistics_collected
from bitproof.train.frozen import FrozenForward
from bitproof.train.layers import quantized_weights
from bitproof.train.models import build
from bitproof.train.network_problem import NetworkProblem
from bitproof.train.surrogates import SurrogateName, round_ste, sign_ste

SCALES = (0.1, 0.35)
"""Weight scale of each layer of the perceptron."""


@dataclass(frozen=True, slots=True, eq=False)
class Trainee:
    """A network as the benchmark trains it.

    Attributes:
        parameters: all trainable parameters.
        logits: its forward pass, from images (N, 784) to (N, 10), as in deployment.
        problem: a batch of images and labels as an estimator sees it.
        ready: tells whether its quantizers have collected their statistics.
        train: puts it into training mode, or out of it.
    """

    parameters: Sequence[Tensor]
    logits: Callable[[Tensor], Tensor]
    problem: Callable[[Tensor, Tensor], Problem]
    ready: Callable[[], bool]
    train: Callable[[bool], object]


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What is trained: ``mlp`` or ``cnn``, and the bits of its weights."""

    kind: str
    bits: int

    @property
    def surrogate(self) -> SurrogateName:
        """Their surrogate."""
        return "hardtanh" if self.bits == 1 else "identity"

    def make(self, seed: int) -> Trainee:
        """Return it with the initial weights of *seed*, the same for every method."""
        return perceptron(self.bits, seed) if self.kind == "mlp" else convolutional(self.bits, seed)


def quantize(weights: Tensor, scale: float | Tensor, bits: int) -> Tensor:
    """Return weights on the symmetric levels ``scale * {-1, 1}`` or ``scale * {-1.5, -0.5, 0.5, 1.5}``."""
    if bits == 1:
        return scale * sign_ste(weights / scale)
    half = 1 << (bits - 1)
    cells = round_ste(weights / scale - 0.5)
    # saturated in the forward pass, passed through in the backward pass
    if not torch.is_grad_enabled():
        return cells.clamp_(-half, half - 1).add_(0.5).mul_(scale)
    return scale * (cells + (cells.clamp(-half, half - 1) - cells).detach() + 0.5)


def perceptron(bits: int, seed: int) -> Trainee:
    """Return the 784-10-10 perceptron of the paper: d = 7960 parameters, 7940 of them quantized weights.

    The weights of both layers are one vector and the biases another.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = ((10, 784), (10, 10))
    drawn = [scale * (torch.rand(s, generator=generator) - 0.5) for scale, s in zip(SCALES, shapes, strict=True)]
    sizes = [part.numel() for part in drawn]
    scales = torch.cat([torch.full((size,), scale) for size, scale in zip(sizes, SCALES, strict=True)])
    weights = torch.cat([part.reshape(-1) for part in drawn]).requires_grad_()
    biases = torch.zeros(20, requires_grad=True)
    step = scales * (2 if bits == 1 else 1)

    def logits(images: Tensor) -> Tensor:
        first, second = quantize(weights, scales, bits).split(sizes)
        hidden = nn.functional.linear(images, first.view(shapes[0]), biases[:10]).relu()
        return nn.functional.linear(hidden, second.view(shapes[1]), biases[10:])

    def problem(images: Tensor, labels: Tensor) -> Problem:
        def loss() -> Tensor:
            return nn.functional.cross_entropy(logits(images), labels)

        return Problem(loss, [weights], [biases], steps=lambda: [step])

    return Trainee([weights, biases], logits, problem, lambda: True, lambda _: None)


def convolutional(bits: int, seed: int) -> Trainee:
    """Return the small Brevitas network: convolutions of 8, 16 and 16 channels, 2-bit activations, then 10 classes."""
    model = ModelConfig(name="cnn", channels=(8, 16, 16), hidden=(), weight_bits=bits, act_bits=2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(model, 784, 10, (1, 28, 28))
    for module in network.modules():
        if hasattr(module, "collect_stats_steps"):
            module.collect_stats_steps = 30
    problems = NetworkProblem(network, quantized_weights(network), lambda loss: loss.backward())

    def problem(images: Tensor, labels: Tensor) -> Problem:
        def loss(forward: Callable[[Tensor], Tensor]) -> Tensor:
            return nn.functional.cross_entropy(real_outputs(forward, images), labels)

        return problems.of(partial(loss, network), loss)

    frozen = FrozenForward(network)  # the same bits as the network itself, faster

    def logits(pixels: Tensor) -> Tensor:
        frozen.freeze()
        return frozen(pixels)

    return Trainee(
        list(network.parameters()),
        logits,
        problem,
        partial(statistics_collected, network),
        network.train,
    )
