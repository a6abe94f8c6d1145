"""Accuracy of one network on faulty chips, by every way to prepare for them or to calibrate on them.

All figures are raw: a calibration that does harm is counted, not thrown away as ``bitproof calibrate`` would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from benchmarks.lab.chip_networks import Split, lowered, new_network, trained
from bitproof.export.integer import IntegerModel
from bitproof.hw.calibrate import Evolution, LogitProbe, LossProbe, Parameters, Samples, StraightThrough
from bitproof.hw.faults import Chip, FaultSpec
from bitproof.pipeline import Executor
from bitproof.pipeline.config import TrainFaults, TrainWrap

UNIT_STEPS = 1000
"""E: 384,000 images forward or twice as much backward, that is 1,000 training steps of 128 images."""
CHIPS = 4
FIRST_CHIP = 10_000
FIRST_NETWORK = 200
"""Networks and chips of the figures; hyper-parameters were chosen on others, by the validation split."""
BASE_RATE = 0.01
WRAP_BITS, WRAP_WEIGHT_BITS = 9, 3


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of chip, and the learning rate of robust training for it."""

    name: str
    faults: FaultSpec
    robust_rate: float


MILD = Case("r=.05 s=.5", FaultSpec(stuck=0.05, offset=0.5), 0.02)
SEVERE = Case("r=.15 s=1", FaultSpec(stuck=0.15, offset=1.0), 0.01)
REFERENCE = "robust 2E"
METHODS = (
    "healthy, unaware",
    "unaware",
    REFERENCE,
    "robust E",
    "unaware + ES E",
    "robust E + ES E",
    "robust E + ES E, random signs",
    "robust E + ES E, output only",
    "robust E + STE E with logits, same parameters",
    "robust E + STE E with logits, all weights",
)


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """Training and test images; training images are also what a chip is calibrated with."""

    train: Split
    test: Split

    @property
    def calibration(self) -> Samples:
        """The training images as input of a chip."""
        return Samples(self.train.codes.astype(np.int64), self.train.labels, "train")

    def accuracy(self, executor: Executor) -> float:
        """Return how many percent of the test images *executor* classifies correctly."""
        outputs = executor(self.test.codes.astype(np.int64))
        return 100.0 * float((outputs.argmax(axis=1) == self.test.labels).mean())


def base_network(number: int, sets: Sets) -> nn.Module:
    """Return network *number*, trained for E without a thought of faults."""
    seed = FIRST_NETWORK + number
    return trained(new_network(seed), sets.train, steps=UNIT_STEPS, rate=BASE_RATE, seed=seed)


def accuracies(number: int, case: Case, base: nn.Module, sets: Sets) -> list[dict[str, float]]:
    """Return, for every chip of network *number*, the test accuracy in percent by method."""
    unaware = lowered(base)
    faults = TrainFaults(stuck=case.faults.stuck, offset=case.faults.offset)
    robust, longer = (
        lowered(
            trained(base, sets.train, steps=steps, rate=case.robust_rate, seed=FIRST_NETWORK + number, faults=faults)
        )
        for steps in (UNIT_STEPS, 2 * UNIT_STEPS)
    )
    calibration = sets.calibration
    rows = []
    for index in range(CHIPS):
        chip_number = FIRST_CHIP + CHIPS * number + index
        chip = case.faults.draw(unaware, chip_number)

        def calibrated(
            method: Callable[[IntegerModel, Chip, int, Samples], IntegerModel],
            model: IntegerModel,
            chip: Chip = chip,
            chip_number: int = chip_number,
        ) -> float:
            return sets.accuracy(chip.program(method(model, chip, chip_number, calibration)))

        row = {
            "healthy, unaware": sets.accuracy(FaultSpec().draw(unaware, 0).program(unaware)),
            "unaware": sets.accuracy(chip.program(unaware)),
            REFERENCE: sets.accuracy(chip.program(longer)),
            "robust E": sets.accuracy(chip.program(robust)),
            "unaware + ES E": calibrated(_evolved, unaware),
            "robust E + ES E": calibrated(_evolved, robust),
            "robust E + ES E, random signs": calibrated(_random, robust),
            "robust E + ES E, output only": calibrated(_output_only, robust),
            "robust E + STE E with logits, same parameters": calibrated(_straight_few, robust),
            "robust E + STE E with logits, all weights": calibrated(_straight_all, robust),
        }
        assert tuple(row) == METHODS, "every method is measured"
        rows.append(row)
    return rows


def wrapped_accuracies(number: int, sets: Sets) -> dict[str, float]:
    """Return test accuracies of one network with accumulators of 9 bits, trained with and without the penalty."""
    seed = FIRST_NETWORK + number
    steps = UNIT_STEPS
    start = new_network(seed, WRAP_WEIGHT_BITS)
    plain = lowered(trained(start, sets.train, steps=steps, rate=BASE_RATE, seed=seed))
    wrap = TrainWrap(bits=WRAP_BITS)
    penalized = lowered(trained(start, sets.train, steps=steps, rate=BASE_RATE, seed=seed, wrap=wrap))
    wide, narrow = FaultSpec(), FaultSpec(wrap=WRAP_BITS)
    return {
        "wide": sets.accuracy(wide.draw(plain, 0).program(plain)),
        "wraps, unaware": sets.accuracy(narrow.draw(plain, 0).program(plain)),
        "wraps, penalty": sets.accuracy(narrow.draw(penalized, 0).program(penalized)),
    }


def _evolved(model: IntegerModel, chip: Chip, seed: int, calibration: Samples) -> IntegerModel:
    return Evolution()(Parameters(model), LossProbe(chip, calibration), np.random.default_rng(seed))


def _random(model: IntegerModel, chip: Chip, seed: int, calibration: Samples) -> IntegerModel:
    control = Evolution(random_signs=True)
    return control(Parameters(model), LossProbe(chip, calibration), np.random.default_rng(seed))


def _output_only(model: IntegerModel, chip: Chip, seed: int, calibration: Samples) -> IntegerModel:
    return Evolution()(Parameters(model, "output"), LossProbe(chip, calibration), np.random.default_rng(seed))


def _straight_few(model: IntegerModel, chip: Chip, seed: int, calibration: Samples) -> IntegerModel:
    straight = StraightThrough(rate=0.03, weight_rate=None)
    return straight(Parameters(model), LogitProbe(chip, calibration), np.random.default_rng(seed))


def _straight_all(model: IntegerModel, chip: Chip, seed: int, calibration: Samples) -> IntegerModel:
    return StraightThrough()(Parameters(model), LogitProbe(chip, calibration), np.random.default_rng(seed))
