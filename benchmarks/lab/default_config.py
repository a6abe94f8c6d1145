"""The accuracy that guided steps in the last fifth cost on the shipped configuration, by its whole training stage."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bitproof.pipeline.config import EstimatorConfig
from bitproof.pipeline.stage import execute
from bitproof.train.data import PrepareData
from bitproof.train.stages import TrainQuantized
from bitproof.yaml_file import read_config

CONFIG = Path(__file__).parents[2] / "configs" / "fashion_mnist_mlp.yaml"
SEEDS = tuple(range(8))
ESTIMATORS = {"ste": EstimatorConfig(name="ste"), "guided, last 20 %": EstimatorConfig(name="guided", start=0.8)}


def measure(note: Callable[[str], None]) -> dict[str, Any]:
    """Return test accuracy and processor seconds of every seed with each estimator, all else as configured."""
    config = read_config(CONFIG)
    accuracies: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    seconds: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare = PrepareData(config.data, config.model.input_bits)
        dataset = execute(prepare, None, root / "data", seed=config.seed, versions={}, name="data")
        for seed in SEEDS:
            for name, estimator in ESTIMATORS.items():
                train = config.train.model_copy(update={"estimator": estimator})
                stage = TrainQuantized(config.model, train)
                start = time.process_time()
                made = execute(stage, dataset, root / "train", seed=seed, versions={}, name="train")
                seconds[name].append(time.process_time() - start)
                accuracy = json.loads((made.path / "metrics.json").read_text())["test_accuracy"]
                accuracies[name].append(accuracy)
                note(f"seed {seed}, {name}: {accuracy:.2f} %, {seconds[name][-1]:.1f} s")
    return {
        "config": CONFIG.name,
        "epochs": config.train.epochs,
        "estimators": {name: estimator.model_dump(mode="json") for name, estimator in ESTIMATORS.items()},
        "seeds": list(SEEDS),
        "accuracies": accuracies,
        "seconds": seconds,
    }
