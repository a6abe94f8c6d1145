"""The schedule of estimators: straight-through until a fraction of the steps, another one from there on."""

from __future__ import annotations

from dataclasses import dataclass

from bitproof.pipeline.config import EstimatorConfig
from bitproof.train.estimators.adaptive import Adaptive
from bitproof.train.estimators.bias_corrected import BiasCorrected
from bitproof.train.estimators.guided import Guided
from bitproof.train.estimators.problem import Estimator
from bitproof.train.estimators.ramp import Ramp
from bitproof.train.estimators.spsa import Spsa
from bitproof.train.estimators.ste import StraightThrough
from bitproof.train.estimators.weighted import Weighted
from bitproof.train.smoothing import implied_by
from bitproof.train.surrogates import SurrogateName


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


def schedule_of(config: EstimatorConfig, surrogate: SurrogateName = "identity") -> Schedule:
    """Return the schedule that *config* asks for, for quantizers with this *surrogate*."""
    return Schedule(estimator_of(config, surrogate), config.start)


def estimator_of(config: EstimatorConfig, surrogate: SurrogateName = "identity") -> Estimator:
    """Return the estimator that *config* asks for."""
    if config.name == "ste":
        return StraightThrough()
    if config.name == "guided":
        beta = None if config.beta_min is None else Ramp(1.0, config.beta_min)
        noise = 0.0 if config.noise is None else config.noise
        return Guided(config.directions, beta, surrogate, config.delta, config.distribution, noise)
    delta = implied_by("identity", "round").eps_bar
    first = delta if config.delta is None else config.delta
    last = first if config.delta_end is None else config.delta_end
    zeroth = Spsa(config.directions, Ramp(first, last, "geometric"), config.distribution or "uniform")
    if config.name == "weighted":
        return Weighted(zeroth, Ramp(config.alpha, config.alpha if config.alpha_end is None else config.alpha_end))
    if config.name == "bias-corrected":
        return BiasCorrected(zeroth, config.decay)
    if config.name == "adaptive":
        return Adaptive(zeroth, config.decay)
    return zeroth
