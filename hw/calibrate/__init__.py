"""The calibration of a deployed integer model by what the device gives back: a scalar loss or, better, output codes."""

from bitproof.hw.calibrate.device import Device, LogitProbe, LossProbe, Samples, cross_entropy
from bitproof.hw.calibrate.evolution import Evolution
from bitproof.hw.calibrate.parameters import Parameters, Scope
from bitproof.hw.calibrate.session import Access, Outcome, Settings, held_out_loss, original_of, run_session
from bitproof.hw.calibrate.straight_through import IMAGE_COST, StraightThrough

__all__ = [
    "IMAGE_COST",
    "Access",
    "Device",
    "Evolution",
    "LogitProbe",
    "LossProbe",
    "Outcome",
    "Parameters",
    "Samples",
    "Scope",
    "Settings",
    "StraightThrough",
    "cross_entropy",
    "held_out_loss",
    "original_of",
    "run_session",
]
