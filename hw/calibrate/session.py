"""One calibration from beginning to end: measure, calibrate, measure again; only what is better is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from bitproof.export.integer import IntegerModel
from bitproof.hw.calibrate.device import Device, LogitProbe, LossProbe, Samples
from bitproof.hw.calibrate.evolution import Evolution, Progress, silent
from bitproof.hw.calibrate.parameters import Parameters, Scope
from bitproof.hw.calibrate.straight_through import StraightThrough
from bitproof.pipeline import InputError

Access = Literal["scalar", "logits"]
"""What can be read from the device: the loss of a batch alone, or the output codes of every image."""
LOSS_DECIMALS = 9
"""A loss is recorded with so many decimals, so that the last bit of a logarithm does not decide a comparison."""
EVOLUTION_RATE, THETA_RATE, WEIGHT_RATE = 0.05, 0.01, 0.01


@dataclass(frozen=True, slots=True)
class Settings:
    """How to calibrate.

    Attributes:
        access: what can be read from the device.
        scope: which parameters are calibrated.
        weights: calibrate all weights as well; with access to outputs only.
        evaluations: programmings of the device, each followed by one batch.
        pairs: antithetic pairs per step, with access to a scalar.
        images: images of a batch.
        seed: of batches and directions.
    """

    access: Access = "scalar"
    scope: Scope = "all"
    weights: bool = False
    evaluations: int = 1504
    pairs: int = 8
    images: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.access not in get_args(Access):
            raise InputError(f"access {self.access!r} is not known; allowed: {', '.join(get_args(Access))}")
        for name in ("evaluations", "pairs", "images"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)} is not possible; it must be at least 1")
        if self.weights and self.access == "scalar":
            raise InputError("weights are calibrated with --access logits only: a scalar loss tells too little of them")
        if self.steps < 1:
            raise InputError(
                f"{self.evaluations} evaluations are less than one step of {2 * self.pairs} ({self.pairs} pairs); "
                "allow more evaluations or fewer pairs"
            )

    @property
    def steps(self) -> int:
        """Number of updates."""
        return self.evaluations // (2 * self.pairs) if self.access == "scalar" else self.evaluations


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came out.

    Attributes:
        model: the calibrated model.
        before: loss of the original on the held-out images, in nats.
        after: that of the calibrated model.
        evaluations: programmings used by the calibration itself, without those that measured before and after.
        images: device images that these cost.
    """

    model: IntegerModel
    before: float
    after: float
    evaluations: int
    images: int

    @property
    def kept(self) -> bool:
        """The loss on held-out images fell."""
        return self.after < self.before


Announce = Callable[[float, int, int], None]
"""Is told, before anything is changed, the loss of the original, the evaluations to come and the images of each."""


def silent_start(before: float, evaluations: int, images: int) -> None:
    """Announce nothing."""
    del before, evaluations, images


def run_session(
    device: Device,
    model: IntegerModel,
    calibration: Samples,
    held_out: Samples,
    settings: Settings,
    *,
    announce: Announce = silent_start,
    progress: Progress = silent,
) -> Outcome:
    """Calibrate *model* on *device* with the images *calibration* and judge it by the loss on *held_out*.

    Raises:
        StageError: the device's target cannot take the calibrated parameters; it is asked before anything is measured.
        InputError: the model has no output accumulators, or a setting is not possible.
    """
    parameters = Parameters(model, settings.scope)
    original = original_of(model, settings.scope)
    before = held_out_loss(device, original, held_out)
    batch = min(settings.images, len(calibration))
    evolution = Evolution(settings.steps, settings.pairs, batch, rate=EVOLUTION_RATE)
    straight = StraightThrough(settings.steps, batch, THETA_RATE, WEIGHT_RATE if settings.weights else None)
    generator = np.random.default_rng(settings.seed)
    if settings.access == "scalar":
        announce(before, evolution.evaluations, batch)
        calibrated = evolution(parameters, LossProbe(device, calibration), generator, progress)
        evaluations = evolution.evaluations
    else:
        announce(before, straight.evaluations, batch)
        calibrated = straight(parameters, LogitProbe(device, calibration), generator, progress)
        evaluations = straight.evaluations
    after = held_out_loss(device, calibrated, held_out)
    return Outcome(calibrated, before, after, evaluations, evaluations * batch)


def original_of(model: IntegerModel, scope: Scope) -> IntegerModel:
    """Return *model* in the form that calibration starts from: the same outputs, an output bias of 0 if it has one.

    A device that cannot take the calibrated form refuses this one, too.
    """
    parameters = Parameters(model, scope)
    return parameters.model_of(np.zeros(parameters.size))


def held_out_loss(device: Device, model: IntegerModel, held_out: Samples) -> float:
    """Return the loss of *model* on *device* over all of *held_out*, as it is recorded."""
    return round(LossProbe(device, held_out)(model), LOSS_DECIMALS)
