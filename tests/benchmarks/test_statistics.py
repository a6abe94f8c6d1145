"""Confidence intervals against their definition, and the reading of curves."""

from __future__ import annotations

import pytest
import torch

from benchmarks.lab.rows import compute_ratios
from benchmarks.lab.statistics import interval, paired
from benchmarks.lab.zeroth_order import compute_to_reach


def test_interval_covers_the_mean_of_normal_samples_in_95_of_100_cases() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(4000, 8, generator=generator, dtype=torch.float64) + 2
    covered = sum(found.low <= 2 <= found.high for found in map(interval, draws.tolist()))
    assert abs(covered / 4000 - 0.95) <= 5 * (0.95 * 0.05 / 4000) ** 0.5


def test_paired_differences_ignore_what_the_seeds_share() -> None:
    found = paired([1.0, 11.0, 101.0], [0.5, 10.5, 100.5])
    assert (found.mean, found.half) == (0.5, 0.0)


def test_compute_to_reach_is_where_the_loss_is_first_low_enough() -> None:
    assert compute_to_reach([1.0, 2.0, 3.0], [0.9, 0.4, 0.6], 0.5) == 2.0
    assert compute_to_reach([1.0, 2.0, 3.0], [0.9, 0.8, 0.6], 0.5) is None


def test_ratio_takes_the_cheaper_rival_and_says_when_it_is_a_bound() -> None:
    part = {
        "seeds": [0, 1],
        "curves": {
            "guided, beta to 0.9999": {"compute": [10.0, 20.0], "losses": [[1.0, 0.65], [1.0, 0.65]]},
            "spsa, n = 64": {"compute": [100.0, 1000.0], "losses": [[1.0, 0.9], [1.0, 0.9]]},
            "spsa, n = 256": {"compute": [300.0, 9000.0], "losses": [[0.95, 0.7], [0.95, 0.7]]},
        },
    }
    found = {round(ratio.loss, 2): ratio for ratio in compute_ratios(part)}
    assert found[1.0].ratio == pytest.approx(10)
    assert found[0.9].ratio == pytest.approx(50)
    assert found[0.7].ratio == pytest.approx(450)
    assert [found[loss].bounded for loss in (1.0, 0.9, 0.7, 0.65)] == [False, False, False, True]
