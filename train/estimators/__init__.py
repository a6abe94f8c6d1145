"""Gradient estimators for networks whose rounding has no useful derivative."""

from train.estimators.adaptive import Adaptive
from train.estimators.bias_corrected import BiasCorrected
from train.estimators.guided import Guided
from train.estimators.problem import Estimator, Loss, Memory, Problem, Ranks
from train.estimators.ramp import Ramp
from train.estimators.schedule import Schedule, estimator_of, schedule_of
from train.estimators.spsa import Spsa
from train.estimators.ste import StraightThrough
from train.estimators.weighted import Weighted

__all__ = [
    "Adaptive",
    "BiasCorrected",
    "Estimator",
    "Guided",
    "Loss",
    "Memory",
    "Problem",
    "Ramp",
    "Ranks",
    "Schedule",
    "Spsa",
    "StraightThrough",
    "Weighted",
    "estimator_of",
    "schedule_of",
]
