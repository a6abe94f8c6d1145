"""One training run of the benchmark, and the choice of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.lab.data import Images
from benchmarks.lab.networks import NetworkSpec, Trainee
from bitproof.train.estimators import Memory, Schedule

BATCH = 64
AT_ONCE = 500
JUDGED = 2000
"""Training images that the final training loss is taken over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run ends with: mean losses of the deployed (quantized) network, and accuracy in percent."""

    seed: int
    lr: float
    steps: int
    train_loss: float
    validation_loss: float
    test_accuracy: float

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


Watch = Callable[[int, Trainee], bool]
"""Called after every step with its number, from 1, and the network; returns whether to continue."""


def run(
    spec: NetworkSpec,
    images: Images,
    schedule: Schedule,
    *,
    steps: int,
    lr: float,
    seed: int,
    watch: Watch = lambda _step, _trainee: True,
) -> Outcome:
    """Train *spec* on *images* and return how it ends.

    Initial weights and the order of the batches depend on *seed* alone: runs of one seed are paired. SGD with momentum
    0.9 for the perceptron, Adam for the convolutional network; the rate follows a cosine to 0.
    """
    trainee = spec.make(seed)
    optimizer = _optimizer(spec, trainee, lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batches, perturbing = (torch.Generator().manual_seed(seed + offset) for offset in (1_000, 2_000))
    pixels, labels = images.train
    memory: Memory = {}
    trainee.train(True)
    for step in range(1, steps + 1):
        chosen = torch.randint(len(labels), (BATCH,), generator=batches)
        estimator, progress = schedule.at(step - 1, steps, ready=trainee.ready())
        optimizer.zero_grad()
        loss = estimator(trainee.problem(pixels[chosen], labels[chosen]), perturbing, progress, memory)
        if not math.isfinite(float(loss)):
            return Outcome(seed, lr, steps, math.inf, math.inf, 0.0)
        optimizer.step()
        scheduler.step()
        if not watch(step, trainee):
            break
    trainee.train(False)
    return Outcome(
        seed,
        lr,
        steps,
        mean_loss(trainee, (pixels[:JUDGED], labels[:JUDGED])),
        mean_loss(trainee, images.validation),
        accuracy(trainee, images.test),
    )


def _optimizer(spec: NetworkSpec, trainee: Trainee, lr: float) -> torch.optim.Optimizer:
    if spec.kind == "mlp":
        return torch.optim.SGD(trainee.parameters, lr, momentum=0.9)
    return torch.optim.Adam(trainee.parameters, lr)


@torch.no_grad()
def mean_loss(trainee: Trainee, split: tuple[Tensor, Tensor]) -> float:
    """Return the mean cross entropy over *split*."""
    total = 0.0
    for pixels, labels in zip(split[0].split(AT_ONCE), split[1].split(AT_ONCE), strict=True):
        total += float(nn.functional.cross_entropy(trainee.logits(pixels), labels, reduction="sum"))
    return total / len(split[1])


@torch.no_grad()
def accuracy(trainee: Trainee, split: tuple[Tensor, Tensor]) -> float:
    """Return how many percent of *split* are classified correctly."""
    correct = 0
    for pixels, labels in zip(split[0].split(AT_ONCE), split[1].split(AT_ONCE), strict=True):
        correct += int((trainee.logits(pixels).argmax(1) == labels).sum())
    return 100 * correct / len(split[1])
