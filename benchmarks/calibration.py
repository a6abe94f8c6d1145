"""Calibration on the chip against more robust training: eight networks, four fresh chips each, equal budgets.

    make bench-calibration

The budget E is 384,000 device images: 1,000 training steps of 128 images (forward 1, backward 2), or 94 steps of the
evolution strategies (16 evaluations of 256 images), or 750 steps of 128 images if logits are read (device forward 1,
model forward 1, backward 2). *robust* is straight-through training with random faults of the same kind in every step. A
result is written after every network, so an interrupted benchmark resumes where it stopped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.lab.chip_networks import INPUT_BITS, Split
from benchmarks.lab.chips import (
    MILD,
    REFERENCE,
    SEVERE,
    Case,
    Sets,
    accuracies,
    base_network,
    wrapped_accuracies,
)
from benchmarks.lab.statistics import Interval, interval
from benchmarks.results import RESULTS, Row, write_results
from bitproof.train.data.fashion_mnist import read_fashion_mnist

COMMAND = "make bench-calibration"
NETWORKS = 8
HELD_OUT = 5000
"""The last training images: the validation split, on which hyper-parameters were chosen; no figure here uses it."""
GOALS = {MILD.name: 1.0, SEVERE.name: 3.0}
WITHIN = 0.5
WORK = "mlp 784-32-32-10, 2-bit weights, activations and inputs, fashion-mnist, 32 simulated chips"
WRAP_WORK = "mlp 784-32-32-10, 3-bit weights, 2-bit activations and inputs, fashion-mnist, accumulators of 9 bits"
CHOSEN = (
    "raw, without the rule that keeps a result only if it helps; hyper-parameters chosen on the validation split, "
    "other networks and other chips; second interval over the 8 network means: "
)
OURS = "robust E + ES E"
CONTROL = "robust E + ES E, random signs"


def main() -> None:
    """Measure what is missing, write ``results/calibration.json`` and print its table."""
    torch.set_num_threads(1)
    progress = RESULTS / "calibration.progress.tmp"
    RESULTS.mkdir(exist_ok=True)
    measured: list[dict[str, Any]] = json.loads(progress.read_text()) if progress.is_file() else []
    sets = _read()
    for number in range(len(measured), NETWORKS):
        started = time.monotonic()
        measured.append(_measure(number, sets))
        partial = progress.with_suffix(".partial")
        partial.write_text(json.dumps(measured))
        partial.replace(progress)
        print(f"network {number + 1} of {NETWORKS}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    rows = [row for case in (MILD, SEVERE) for row in rows_of(case, [entry[case.name] for entry in measured])]
    rows += wrap_rows([entry["wrap"] for entry in measured])
    write_results("calibration", rows, command=COMMAND, distributions=("torch", "brevitas", "numpy"))
    progress.unlink()


def _read() -> Sets:
    source = read_fashion_mnist(None, RESULTS)
    shift = np.uint8(8 - INPUT_BITS)
    (pixels, labels), (test_pixels, test_labels) = source.train, source.test
    return Sets(
        Split(pixels[:-HELD_OUT].reshape(-1, 784) >> shift, labels[:-HELD_OUT]),
        Split(test_pixels.reshape(-1, 784) >> shift, test_labels),
    )


def _measure(number: int, sets: Sets) -> dict[str, Any]:
    base = base_network(number, sets)
    entry: dict[str, Any] = {case.name: accuracies(number, case, base, sets) for case in (MILD, SEVERE)}
    entry["wrap"] = wrapped_accuracies(number, sets)
    return entry


def rows_of(case: Case, networks: Sequence[Sequence[dict[str, float]]]) -> list[Row]:
    """Return the rows of *case*: accuracy of every method, and its paired difference from robust training for 2E.

    *networks* holds, for every network, the accuracies of its chips by method.
    """
    rows = []
    for method in networks[0][0]:
        values = [chip[method] for chips in networks for chip in chips]
        differences = [[chip[method] - chip[REFERENCE] for chip in chips] for chips in networks]
        over_chips = interval([value for chips in differences for value in chips])
        over_networks = interval([float(np.mean(chips)) for chips in differences])
        goal, met = _goal(case, method, over_chips, over_networks)
        worst = min(values)
        rows.append(
            Row(
                work=f"{WORK}, {case.name}",
                metric=f"{method}: accuracy minus {REFERENCE}",
                unit="points",
                ours=over_chips.mean,
                ours_spread=over_chips.half,
                peer=f"accuracy, %: {method}",
                peer_value=float(np.mean(values)),
                goal=goal,
                met=met,
                note=f"{CHOSEN}{over_networks.mean:+.2f} ± {over_networks.half:.2f}; worst chip {worst:.2f} %",
            )
        )
    return rows


def _goal(case: Case, method: str, chips: Interval, networks: Interval) -> tuple[str | None, bool | None]:
    if method == OURS:
        least = GOALS[case.name]
        above = chips.low > 0 and networks.low > 0
        return f"at least +{least:g}, both intervals above 0", chips.mean >= least and above
    if method == CONTROL:
        return "below 0", chips.high < 0
    return None, None


def wrap_rows(networks: Sequence[dict[str, float]]) -> list[Row]:
    """Return the rows of the accumulators of 9 bits; *networks* holds the accuracies of each by method."""
    rows = []
    for method in ("wraps, unaware", "wraps, penalty"):
        difference = interval([network[method] - network["wide"] for network in networks])
        has_goal = method == "wraps, penalty"
        rows.append(
            Row(
                work=WRAP_WORK,
                metric=f"{method}: accuracy minus that of accumulators that never wrap",
                unit="points",
                ours=difference.mean,
                ours_spread=difference.half,
                peer=f"accuracy, %: {method}",
                peer_value=float(np.mean([network[method] for network in networks])),
                goal=f"within {WITHIN} of unwrapped" if has_goal else None,
                met=difference.mean >= -WITHIN if has_goal else None,
                note="equal steps; penalty 10, margin 0.9, chosen on the validation split of other networks",
            )
        )
    return rows


if __name__ == "__main__":
    main()
