"""Calibrate a deployed integer model by what the device gives back: a scalar loss or, better, its output codes."""

from hw.calibrate.device import Device, LogitProbe, LossProbe, Samples, cross_entropy
from hw.calibrate.evolution import Evolution
from hw.calibrate.parameters import Parameters, Scope
from hw.calibrate.straight_through import IMAGE_COST, StraightThrough

__all__ = [
    "IMAGE_COST",
    "Device",
    "Evolution",
    "LogitProbe",
    "LossProbe",
    "Parameters",
    "Samples",
    "Scope",
    "StraightThrough",
    "cross_entropy",
]
