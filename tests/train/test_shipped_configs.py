"""The configurations that ship: the ZO-STE estimator takes over in the last fifth of the steps, and can."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bitproof.pipeline.config import RunConfig
from bitproof.train.estimators import Guided, StraightThrough, schedule_of
from bitproof.train.extra_passes import ExtraPasses
from bitproof.train.layers import quantized_weights, require_fixed_steps
from bitproof.train.models import build
from bitproof.yaml_file import read_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
SHAPES = {
    "fashion-mnist": (1, 28, 28),
    "digits": (1, 8, 8),
    "cifar-10": (3, 32, 32),
    "speech-commands": (1, 49, 20),
    "toyadmos": (1, 5, 128),
}

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")


def test_there_are_configurations() -> None:
    assert len(CONFIGS) >= 6


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_guided_takes_over_in_the_last_fifth_of_the_steps(path: Path) -> None:
    config = read_config(path)
    assert isinstance(config, RunConfig)
    schedule, total = schedule_of(config.train.estimator, config.model.surrogate or "identity"), 1000
    for step in (0, 799):
        assert isinstance(schedule.at(step, total, ready=True)[0], StraightThrough)
    for step in (800, 999):
        assert schedule.at(step, total, ready=True)[0] == Guided()
    named = [line for line in path.read_text().splitlines() if "name: guided" in line]
    assert len(named) == 1
    assert "ste" in named[0].partition("#")[2], "the comment beside it names the other choice"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_guided_can_measure_the_network_of_the_configuration(path: Path) -> None:
    config = read_config(path)
    shape = SHAPES[config.data.name]
    network = build(config.model, math.prod(shape), 10, shape)
    assert quantized_weights(network)
    if not ExtraPasses(network).fast:
        require_fixed_steps(network)
