"""Gradient estimators for networks whose rounding has no useful derivative."""

from train.estimators.guided import Guided
from train.estimators.problem import Estimator, Problem
from train.estimators.schedule import Schedule, schedule_of
from train.estimators.ste import StraightThrough

__all__ = ["Estimator", "Guided", "Problem", "Schedule", "StraightThrough", "schedule_of"]
