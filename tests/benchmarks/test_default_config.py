"""What README and page say of guided steps in the default configuration is what was measured, on it as it is."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.estimators import RAW
from benchmarks.lab.default_config import CONFIG, ESTIMATORS, SEEDS
from benchmarks.lab.rows import default_config_difference, default_config_time
from bitproof.yaml_file import read_config

ROOT = Path(__file__).parents[2]
MEASURED = json.loads((RAW / "default-config.json").read_text())


def test_what_was_measured_is_the_configuration_that_ships() -> None:
    config = read_config(CONFIG)
    measured = MEASURED["estimators"]["guided, last 20 %"]
    assert config.train.estimator.model_dump(mode="json") == measured
    assert {name: estimator.model_dump(mode="json") for name, estimator in ESTIMATORS.items()} == MEASURED["estimators"]
    assert config.train.epochs == MEASURED["epochs"]
    assert MEASURED["seeds"] == list(SEEDS)


def test_guided_steps_cost_no_accuracy_beyond_the_interval() -> None:
    assert default_config_difference(MEASURED).high >= 0


def test_readme_and_page_have_the_figures() -> None:
    difference, times = default_config_difference(MEASURED), default_config_time(MEASURED)
    readme, page = (ROOT / "README.md").read_text(), (ROOT / "docs" / "zo-ste.md").read_text()
    assert f"{difference} points over `ste`" in readme
    assert f"for {100 * (times.mean - 1):.0f} ± {100 * times.half:.0f} % more time" in readme
    assert f"| {difference} | {times.mean:.2f} ± {times.half:.2f} |" in page
