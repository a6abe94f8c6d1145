"""Gradient estimators for networks whose rounding has no useful derivative."""

from bitproof.train.estimators.adaptive import Adaptive
from bitproof.train.estimators.bias_corrected import BiasCorrected
from bitproof.train.estimators.guided import Guided
from bitproof.train.estimators.problem import Estimator, Loss, Memory, Problem, Ranks
from bitproof.train.estimators.ramp import Ramp
from bitproof.train.estimators.schedule import Schedule, estimator_of, schedule_of
from bitproof.train.estimators.spsa import Spsa
from bitproof.train.estimators.ste import StraightThrough
from bitproof.train.estimators.weighted import Weighted

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
