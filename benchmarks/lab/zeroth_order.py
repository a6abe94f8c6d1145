"""The compute that pure n-SPSA needs for the loss that the guided estimator reaches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchmarks.lab.data import Images, load
from benchmarks.lab.networks import NetworkSpec, Trainee
from benchmarks.lab.stacked import stacked_losses, train
from benchmarks.lab.training import mean_loss, run
from bitproof.train.estimators import Estimator, Guided, Ramp, Schedule, StraightThrough
from bitproof.train.smoothing import implied_by

SPEC = NetworkSpec("mlp", 2)
SEEDS = tuple(range(8))
TUNING_SEED = 100
RATES = (0.01, 0.03, 0.1, 0.3)
DIRECTIONS = (64, 256)
BUDGET = {64: 200_000, 256: 600_000}
"""Forward passes over a batch that a run of n directions may spend."""
TUNING_BUDGET = 100_000
GUIDED_STEPS, GUIDED_COST = 600, 5.0
JUDGED = 2000
CURVE_POINTS = 60


def measure(note: Callable[[str], None]) -> dict[str, Any]:
    """Return loss over compute for every seed: guided, straight-through, and n-SPSA for several n.

    Compute counts forward passes over one batch, a backward pass as 2. The loss is that of the deployed network on the
    first 2,000 training images. Every method's rate is chosen on the validation loss of another seed.
    """
    images = load("mnist-5000")
    curves: dict[str, Any] = {}
    first_order: dict[str, tuple[Estimator, float]] = {
        "guided, beta to 0.9999": (Guided(1, Ramp(1.0, 0.9999)), GUIDED_COST),
        "ste": (StraightThrough(), 3.0),
    }
    for name, (estimator, cost) in first_order.items():
        lr = _choose(images, estimator, GUIDED_STEPS)
        curves[name] = _curves(images, estimator, GUIDED_STEPS, lr, cost)
        note(f"{name}: lr {lr}, loss {_mean_end(curves[name]):.3f}")
    delta = implied_by("identity", "round").eps_bar
    for directions in DIRECTIONS:
        steps, name = BUDGET[directions] // (2 * directions), f"spsa, n = {directions}"
        lr = _choose_zeroth(images, directions, delta, TUNING_BUDGET // (2 * directions))
        curves[name] = _zeroth_curves(images, directions, delta, steps, lr)
        note(f"{name}: lr {lr}, loss {_mean_end(curves[name]):.3f}")
    return {"seeds": list(SEEDS), "curves": curves, "guided": {"steps": GUIDED_STEPS, "cost": GUIDED_COST}}


def _choose_zeroth(images: Images, directions: int, delta: float, steps: int) -> float:
    losses = {}
    for lr in RATES:
        theta = train(images, directions, delta, steps=steps, lr=lr, seed=TUNING_SEED, watch=lambda _step, _theta: None)
        losses[lr] = float(stacked_losses(theta[None], *images.validation))
    return min(losses, key=lambda lr: losses[lr] if math.isfinite(losses[lr]) else math.inf)


def _zeroth_curves(images: Images, directions: int, delta: float, steps: int, lr: float) -> dict[str, Any]:
    kept = _kept(steps)
    judged = tuple(part[:JUDGED] for part in images.train)
    runs = []
    for seed in SEEDS:
        losses: list[float] = []

        def watch(step: int, theta: Tensor, losses: list[float] = losses) -> None:
            if step in kept:
                losses.append(float(stacked_losses(theta[None], judged[0], judged[1])))

        train(images, directions, delta, steps=steps, lr=lr, seed=seed, watch=watch)
        runs.append(losses)
    return {"lr": lr, "compute": [step * 2.0 * directions for step in kept], "losses": runs}


def _kept(steps: int) -> list[int]:
    """Return about CURVE_POINTS of the *steps* at which the loss is taken, closer together at first."""
    return sorted({round(steps ** (i / CURVE_POINTS)) for i in range(CURVE_POINTS + 1)} | {steps})


def _choose(images: Images, estimator: Estimator, steps: int) -> float:
    losses = {
        lr: run(SPEC, images, Schedule(estimator, 0.0), steps=steps, lr=lr, seed=TUNING_SEED).validation_loss
        for lr in RATES
    }
    return min(losses, key=lambda lr: losses[lr])


def _curves(images: Images, estimator: Estimator, steps: int, lr: float, cost: float) -> dict[str, Any]:
    """Return, for every seed, compute and loss over the steps."""
    kept = _kept(steps)
    judged = tuple(part[:JUDGED] for part in images.train)
    runs = []
    for seed in SEEDS:
        losses: list[float] = []

        def watch(step: int, trainee: Trainee, losses: list[float] = losses) -> bool:
            if step in kept:
                losses.append(mean_loss(trainee, (judged[0], judged[1])))
            return True

        run(SPEC, images, Schedule(estimator, 0.0), steps=steps, lr=lr, seed=seed, watch=watch)
        runs.append(losses)
    return {"lr": lr, "compute": [step * cost for step in kept], "losses": runs}


def _mean_end(curve: dict[str, Any]) -> float:
    ends: list[float] = [losses[-1] for losses in curve["losses"]]
    return sum(ends) / len(ends)


def compute_to_reach(compute: list[float], losses: list[float], target: float) -> float | None:
    """Return the compute at which the running minimum of *losses* first is at most *target*; None: never."""
    for spent, loss in zip(compute, losses, strict=True):
        if loss <= target:
            return spent
    return None
