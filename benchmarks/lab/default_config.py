"""Whether guided steps in the last fifth cost accuracy on the configuration that ships, by its whole training stage."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config import EstimatorConfig
from pipeline.stage import execute
from pipeline.yaml_file import read_config
from train.data import PrepareData
from train.stages import TrainQuantized

CONFIG = Path(__file__).parents[2] / "configs" / "fashion_mnist_mlp.yaml"
SEEDS = tuple(range(8))
ESTIMATORS = {"ste": EstimatorConfig(name="ste"), "guided, last 20 %": EstimatorConfig(name="guided", start=0.8)}


def measure(note: Callable[[str], None]) -> dict[str, Any]:
    """Return the test accuracy of every seed with each estimator, all else as the configuration says."""
    config = read_config(CONFIG)
    accuracies: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare = PrepareData(config.data, config.model.input_bits)
        dataset = execute(prepare, None, root / "data", seed=config.seed, versions={}, slot="data")
        for seed in SEEDS:
            for name, estimator in ESTIMATORS.items():
                train = config.train.model_copy(update={"estimator": estimator})
                stage = TrainQuantized(config.model, train)
                made = execute(stage, dataset, root / "train", seed=seed, versions={}, slot="train")
                accuracy = json.loads((made.path / "metrics.json").read_text())["test_accuracy"]
                accuracies[name].append(accuracy)
                note(f"seed {seed}, {name}: {accuracy:.2f} %")
    return {"config": CONFIG.name, "seeds": list(SEEDS), "accuracies": accuracies}
