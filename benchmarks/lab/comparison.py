"""Every method, its control, and the straight-through estimator of equal compute, tuned alike, on paired seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.lab.data import DatasetName, load
from benchmarks.lab.methods import Method, methods
from benchmarks.lab.networks import NetworkSpec
from benchmarks.lab.training import run

SEEDS = tuple(range(8))
RATES = {"mlp": (0.01, 0.03, 0.1, 0.3), "cnn": (0.01, 0.03)}
STEPS = {"mlp": 600, "cnn": 150}
LEFT_OUT = {"mlp": (), "cnn": ("to 0.999:", "beta 1:")}
"""Parts of names: what the slower network does not run, to keep the benchmark within hours."""


def compared(spec: NetworkSpec) -> list[Method]:
    """Return the methods that *spec* is trained with."""
    return [m for m in methods(spec) if not any(part in f"{m.name}:" for part in LEFT_OUT[spec.kind])]


def compare(
    dataset: DatasetName, spec: NetworkSpec, note: Callable[[str], None], measured: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return, for every method, its cost, its learning rate and the outcome of each seed at that rate.

    Every method runs at every rate of the grid; the rate with the least mean validation loss is its own. The test split
    is looked at for that rate alone. Methods that *measured* holds are taken from there.
    """
    images = load(dataset)
    known = {row["name"]: row for row in measured}
    rows = []
    for method in compared(spec):
        if method.name in known:
            rows.append(known[method.name])
            continue
        steps = round(method.steps * STEPS[spec.kind])
        grid = {
            lr: [run(spec, images, method.schedule, steps=steps, lr=lr, seed=seed) for seed in SEEDS]
            for lr in RATES[spec.kind]
        }
        tuning = {lr: sum(outcome.validation_loss for outcome in grid[lr]) / len(SEEDS) for lr in grid}
        lr = min(tuning, key=lambda rate: tuning[rate])
        mean = sum(outcome.test_accuracy for outcome in grid[lr]) / len(SEEDS)
        note(f"{dataset}, {spec.kind}, {spec.bits} bits: {method.name}: lr {lr}, {mean:.2f} %")
        rows.append(
            {
                "name": method.name,
                "control_of": method.control_of,
                "reference": method.reference,
                "cost": method.cost,
                "lr": lr,
                "tuning": {str(rate): loss for rate, loss in tuning.items()},
                "outcomes": [outcome.to_json() for outcome in grid[lr]],
            }
        )
    return {"dataset": dataset, "network": spec.kind, "bits": spec.bits, "steps": STEPS[spec.kind], "methods": rows}
