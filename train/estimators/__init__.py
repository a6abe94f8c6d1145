"""Gradient estimators for networks whose rounding has no useful derivative."""

from train.estimators.guided import Guided
from train.estimators.problem import Estimator, Memory, Problem, Ranks
from train.estimators.schedule import Schedule, schedule_of
from train.estimators.ste import StraightThrough

__all__ = ["Estimator", "Guided", "Memory", "Problem", "Ranks", "Schedule", "StraightThrough", "schedule_of"]
