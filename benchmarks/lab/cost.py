"""Processor time of a step of every estimator, as a ratio to a straight-through step of the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from bitproof.pipeline.config import ModelConfig
from bitproof.train.device_split import real_outputs
from bitproof.train.estimators import Estimator, Guided, Schedule, StraightThrough
from bitproof.train.layers import quantized_weights
from bitproof.train.models import build
from bitproof.train.network_problem import NetworkProblem

MODEL = ModelConfig(name="cnn", channels=(16, 32, 32), hidden=(), weight_bits=2, act_bits=2)
BATCH = 64
ROUNDS = 40
GOALS = {1: 1.45, 4: 2.7, 16: 8.0}
SCHEDULE_START, SCHEDULE_STEPS, SCHEDULE_GOAL = 0.8, 50, 1.15


def measure(note: Callable[[str], None]) -> dict[str, Any]:
    """Time steps in turn, on one thread; the median of the ratios, and the quartiles as their spread."""
    step = _stepper()
    chosen: dict[str, Estimator] = {f"guided, n = {n}": Guided(n) for n in GOALS}
    times: dict[str, list[float]] = {name: [] for name in ("ste", *chosen)}
    for estimator in (StraightThrough(), *chosen.values()):
        step(estimator)  # the first call of each pays for what is made once
    for _ in range(ROUNDS):
        times["ste"].append(step(StraightThrough()))
        for name, estimator in chosen.items():
            times[name].append(step(estimator))
    rows = {}
    for name in chosen:
        ratios = [a / b for a, b in zip(times[name], times["ste"], strict=True)]
        rows[name] = _spread(ratios)
        note(f"{name}: {rows[name]['median']:.2f} times a straight-through step")
    rows["guided, n = 1, last 20 %"] = _whole_training(step)
    note(f"last 20 %: {rows['guided, n = 1, last 20 %']['median']:.3f}")
    milliseconds = 1000 * statistics.median(times["ste"])
    return {"ste_ms": milliseconds, "ratios": rows, "goals": {f"guided, n = {n}": goal for n, goal in GOALS.items()}}


def _whole_training(step: Callable[[Estimator], float]) -> dict[str, float]:
    late = Schedule(Guided(1), SCHEDULE_START)
    ratios = []
    for _ in range(8):
        plain = mixed = 0.0
        for number in range(SCHEDULE_STEPS):
            plain += step(StraightThrough())
            mixed += step(late.at(number, SCHEDULE_STEPS, ready=True)[0])
        ratios.append(mixed / plain)
    return _spread(ratios)


def _spread(ratios: list[float]) -> dict[str, float]:
    quartiles = statistics.quantiles(ratios, n=4)
    return {"median": statistics.median(ratios), "low": quartiles[0], "high": quartiles[2]}


def _stepper() -> Callable[[Estimator], float]:
    """Return a function that makes one optimizer step and returns its processor time in seconds."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(MODEL, 784, 10, (1, 28, 28))
        for module in network.modules():
            if hasattr(module, "collect_stats_steps"):
                module.collect_stats_steps = 2
        images, labels = torch.rand(BATCH, 784), torch.randint(10, (BATCH,))
        for _ in range(4):
            network(images)
    problems = NetworkProblem(network, quantized_weights(network), lambda loss: loss.backward())
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)

    def loss(forward: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(real_outputs(forward, images), labels)

    def step(estimator: Estimator) -> float:
        start = time.process_time()
        optimizer.zero_grad()
        estimator(problems.of(partial(loss, network), loss), generator, 0.5, {})
        optimizer.step()
        return time.process_time() - start

    return step
