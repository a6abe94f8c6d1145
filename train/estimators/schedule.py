"""Straight-through until a fraction of the steps, another estimator from there on."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import EstimatorConfig
from train.estimators.guided import Guided
from train.estimators.problem import Estimator
from train.estimators.ste import StraightThrough


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which estimator a step uses.

    Attributes:
        late: the estimator from *start* on.
        start: fraction of all steps at which it takes over, 0 to 1.
    """

    late: Estimator
    start: float
    early: Estimator = StraightThrough()  # noqa: RUF009  frozen, without state

    def at(self, step: int, total: int, *, ready: bool) -> tuple[Estimator, float]:
        """Return the estimator of *step* (from 0) of *total*, and its progress from 0 to 1.

        Until the network is *ready* (its quantizers have collected their statistics) the early one stays.
        """
        first = min(round(self.start * total), total)
        if step < first or not ready:
            return self.early, step / max(1, total)
        return self.late, (step - first) / max(1, total - first)


def schedule_of(config: EstimatorConfig) -> Schedule:
    """Return the schedule that *config* asks for."""
    late: Estimator = StraightThrough() if config.name == "ste" else Guided(config.directions, config.beta_min)
    return Schedule(late, config.start)
