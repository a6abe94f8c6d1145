"""The rows of ``benchmarks/results/estimators.json``, made from the raw figures of the parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.lab.statistics import Interval, interval, paired
from benchmarks.lab.zeroth_order import compute_to_reach
from benchmarks.results import Row

PAPER_RATIO = 796.0
"""Yang and Aamodt, NeurIPS 2025: compute of n-SPSA over that of FOGZO for the same loss."""
Raw = Mapping[str, Any]


def rows_of(parts: Raw) -> list[Row]:
    """Return the rows of all *parts* that were measured, by their names."""
    rows: list[Row] = []
    if "cost" in parts:
        rows.extend(_cost_rows(parts["cost"]))
    if "spsa" in parts:
        rows.extend(_spsa_rows(parts["spsa"]))
    if "default-config" in parts:
        rows.extend(_default_config_rows(parts["default-config"]))
    for name, part in parts.items():
        if "methods" in part:
            rows.extend(_comparison_rows(part))
        if name == "gradients":
            rows.extend(_gradient_rows(part))
    return rows


def default_config_difference(part: Raw) -> Interval:
    """Return how much accuracy guided steps in the last fifth add to the configuration that ships, in points."""
    return paired(part["accuracies"]["guided, last 20 %"], part["accuracies"]["ste"])


def default_config_time(part: Raw) -> Interval:
    """Return the processor time of the whole stage with guided steps over that without, seed by seed."""
    seconds = part["seconds"]
    return interval([a / b for a, b in zip(seconds["guided, last 20 %"], seconds["ste"], strict=True)])


def _default_config_rows(part: Raw) -> Iterator[Row]:
    difference = default_config_difference(part)
    ours, theirs = (interval(part["accuracies"][name]) for name in ("guided, last 20 %", "ste"))
    yield Row(
        work=f"configs/{part['config']}",
        metric="test accuracy with guided steps in the last fifth, paired difference",
        unit="percentage points",
        ours=ours.mean,
        ours_spread=difference.half,
        peer="the straight-through estimator at equal steps",
        peer_value=theirs.mean,
        ratio=difference.mean,
        goal="not below 0 beyond the interval",
        met=difference.high >= 0,
        note="ratio is the paired difference, ± its 95 % interval over 8 seeds",
    )
    times = default_config_time(part)
    yield Row(
        work=f"configs/{part['config']}",
        metric="processor time of the training with guided steps in the last fifth",
        unit="over the straight-through estimator's",
        ours=times.mean,
        ours_spread=times.half,
        peer="ste",
        peer_value=1.0,
        ratio=times.mean,
        note="mean of the paired ratios, ± its 95 % interval over 8 seeds",
    )


def _cost_rows(part: Raw) -> Iterator[Row]:
    for name, ratio in part["ratios"].items():
        goal = part["goals"].get(name, 1.15)
        yield Row(
            work="cnn, 16-32-32 channels, 2 bits, batch 64, one core",
            metric=f"processor time of {'a training' if 'last' in name else 'a step'}, {name}",
            unit="over the straight-through estimator's",
            ours=ratio["median"],
            ours_spread=(ratio["low"], ratio["high"]),
            peer="ste",
            peer_value=1.0,
            ratio=ratio["median"],
            goal=f"at most {goal}",
            met=ratio["median"] <= goal,
            note=f"median and quartiles of paired ratios; a straight-through step takes {part['ste_ms']:.1f} ms",
        )


@dataclass(frozen=True, slots=True)
class ComputeRatio:
    """Compute of n-SPSA over a rival's to reach *loss*; *bounded*: some seeds did not, so it is a lower bound."""

    loss: float
    ratio: float
    low: float
    high: float
    bounded: bool


def compute_ratios(part: Raw, rival: str = "guided, beta to 0.9999") -> list[ComputeRatio]:
    """Return the ratios at the losses 1.4, 1.2, ... that *rival* reaches for every seed, and at its final loss.

    n-SPSA may choose its n anew for every loss and seed: the cheapest counts. A seed that did not reach a loss counts
    with the largest budget, which makes the ratio a lower bound. Means and intervals are of the logarithms.
    """
    curves, seeds = part["curves"], range(len(part["seeds"]))
    ours = curves[rival]
    final = max(min(losses) for losses in ours["losses"])
    targets = [level for level in (1.4, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5) if level > final]
    results = []
    for target in [*targets, final]:
        logarithms, bounded = [], False
        for seed in seeds:
            spent = compute_to_reach(ours["compute"], ours["losses"][seed], target)
            assert spent is not None, "every seed reaches the largest of the final losses"
            rivals = [c for name, c in curves.items() if name.startswith("spsa")]
            reached = [compute_to_reach(c["compute"], c["losses"][seed], target) for c in rivals]
            found = [value for value in reached if value is not None]
            bounded |= not found
            most = max(c["compute"][-1] for c in rivals)
            logarithms.append(math.log((min(found) if found else most) / spent))
        mean = interval(logarithms)
        results.append(ComputeRatio(target, math.exp(mean.mean), math.exp(mean.low), math.exp(mean.high), bounded))
    return results


def _spsa_rows(part: Raw) -> Iterator[Row]:
    for rival in ("guided, beta to 0.9999", "ste"):
        for found in compute_ratios(part, rival):
            # a bound that the budget holds down tells nothing of the goal
            judged = rival != "ste" and found.loss <= 0.65 and (found.low >= PAPER_RATIO or not found.bounded)
            yield Row(
                work=f"mlp 784-10-10, 2 bits, mnist-5000, training loss {found.loss:.3f}",
                metric=f"compute of n-SPSA over that of {rival}",
                unit="ratio" + (", lower bound" if found.bounded else ""),
                ours=found.ratio,
                ours_spread=(found.low, found.high),
                peer="the paper's ratio (another data set, its own settings)",
                peer_value=PAPER_RATIO,
                ratio=found.ratio / PAPER_RATIO,
                goal=f"at least {PAPER_RATIO:.0f}" if judged else None,
                met=found.low >= PAPER_RATIO if judged else None,
                note="geometric mean over 8 seeds; n-SPSA takes the best of n = 64 and 256 at every loss",
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """One method against the straight-through estimator and against its control; accuracies in percentage points."""

    method: str
    lr: float
    accuracy: float
    equal_compute: Interval
    equal_steps: Interval
    over_control: Interval | None


def verdicts(part: Raw) -> list[Verdict]:
    """Return the verdict on every method of one comparison, the straight-through rows left out."""
    by_name = {row["name"]: row for row in part["methods"]}

    def accuracies(name: str) -> list[float]:
        return [outcome["test_accuracy"] for outcome in by_name[name]["outcomes"]]

    found = []
    for name, row in by_name.items():
        if row["control_of"] is not None or name.startswith("ste"):
            continue
        ours, control = accuracies(name), f"{name}: control"
        found.append(
            Verdict(
                name,
                row["lr"],
                sum(ours) / len(ours),
                paired(ours, accuracies(row["reference"])),
                paired(ours, accuracies("ste")),
                paired(ours, accuracies(control)) if control in by_name else None,
            )
        )
    return found


def _comparison_rows(part: Raw) -> Iterator[Row]:
    network = "mlp 784-10-10" if part["network"] == "mlp" else "cnn 8-16-16"
    work = f"{network}, {part['bits']} bit{'s' if part['bits'] > 1 else ''}, {part['dataset']}"
    straight = next(row for row in part["methods"] if row["name"] == "ste")
    accuracy = interval([outcome["test_accuracy"] for outcome in straight["outcomes"]])
    yield Row(work, "test accuracy of ste", "%", accuracy.mean, accuracy.half, note=f"lr {straight['lr']}")
    for verdict in verdicts(part):
        comparisons = (
            ("the straight-through estimator at equal compute", verdict.equal_compute),
            ("the straight-through estimator at equal steps", verdict.equal_steps),
            ("its control without loss values, at equal steps", verdict.over_control),
        )
        for peer, difference in comparisons:
            if difference is None:
                continue
            yield Row(
                work=work,
                metric=f"test accuracy of {verdict.method}, paired difference",
                unit="percentage points",
                ours=verdict.accuracy,
                ours_spread=difference.half,
                peer=peer,
                peer_value=verdict.accuracy - difference.mean,
                ratio=difference.mean,
                note=f"ratio is the paired difference, ± its 95 % interval over 8 seeds; lr {verdict.lr}",
            )


def _gradient_rows(part: Raw) -> Iterator[Row]:
    for row in part["rows"]:
        for metric in ("cosine", "cosine_of_mean", "squared_bias", "variance"):
            yield Row(
                work=f"gradient of the smoothed loss, {row['layer']}, after {row['steps']} steps",
                metric=f"{metric.replace('_', ' ')} of {row['estimator']}",
                unit="1" if metric.startswith("cosine") else "over the square of the smoothed gradient",
                ours=row[metric],
                note=f"two halves of the reference agree to cosine {row['reliability']:.3f}",
            )
