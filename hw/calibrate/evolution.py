"""The calibrator by a scalar loss alone: antithetic evolution strategies on the few parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bitproof.export.integer import IntegerModel
from bitproof.hw.calibrate.adam import Adam
from bitproof.hw.calibrate.device import LossProbe
from bitproof.hw.calibrate.parameters import Parameters, Reals
from bitproof.pipeline import InputError

Progress = Callable[[int, int, float], None]
"""Is told the steps done, all steps, and the latest loss on a batch."""


def silent(done: int, total: int, loss: float) -> None:
    """Show nothing."""
    del done, total, loss


@dataclass(frozen=True, slots=True)
class Evolution:
    """Antithetic evolution strategies, also known as SPSA with Gaussian directions.

    Formula: ``g = 1 / (2 n sigma) * sum_i [L(theta + sigma u_i) - L(theta - sigma u_i)] u_i``, ``u_i ~ N(0, 1)``; both
    losses of a pair, and all pairs of a step, are taken on one batch. Adam follows g.
    Claim: unbiased for the gradient of the loss smoothed by a Gaussian of width sigma, which exists although the loss
    is a step function of the rounded thresholds. No model of the device is used.
    Cost: ``2 * pairs * batch`` device images and ``2 * pairs`` programmings per step.
    Source: Salimans et al., "Evolution Strategies as a Scalable Alternative to Reinforcement Learning", 2017; Spall,
    "Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient Approximation", 1992.

    Attributes:
        steps: number of updates.
        pairs: n, antithetic pairs per step.
        batch: images of a batch, at most those that there are.
        sigma: width of the smoothing, in units of the parameters.
        rate: learning rate at the first step.
        random_signs: the control: each difference keeps its size and is given a random sign, so that all of the method
            is left but the information.
    """

    steps: int = 94
    pairs: int = 8
    batch: int = 256
    sigma: float = 0.1
    rate: float = 0.05
    random_signs: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "pairs", "batch", "sigma", "rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"calibration: {name} = {getattr(self, name)} is not possible; it must be positive")

    @property
    def evaluations(self) -> int:
        """Programmings of the device, each followed by one batch."""
        return 2 * self.pairs * self.steps

    def __call__(
        self, parameters: Parameters, probe: LossProbe, generator: np.random.Generator, progress: Progress = silent
    ) -> IntegerModel:
        """Return the calibrated model; *probe* is all that is known of the device.

        Directions, batches and (for the control) signs come from *generator*, each from a stream of its own: the
        control sees the directions and batches of the method that it controls.
        """
        directions, batches, signs = generator.spawn(3)
        theta: Reals = np.zeros(parameters.size)
        adam = Adam(theta.shape, rate=self.rate, steps=self.steps)
        samples = len(probe.samples)
        for step in range(self.steps):
            batch = probe.on(batches.choice(samples, size=min(self.batch, samples), replace=False))
            gradient, loss = self.estimate(parameters, batch, theta, directions, signs)
            theta = adam.step(theta, gradient)
            progress(step + 1, self.steps, loss)
        return parameters.model_of(theta)

    def estimate(
        self,
        parameters: Parameters,
        batch: Callable[[IntegerModel], float],
        theta: Reals,
        directions: np.random.Generator,
        signs: np.random.Generator,
    ) -> tuple[Reals, float]:
        """Return g at *theta*, shape (size,), and the mean of the losses that it is made of.

        *batch* gives the loss of a model; *signs* is used by the control alone.
        """
        gradient = np.zeros_like(theta)
        loss = 0.0
        for _ in range(self.pairs):
            shift = self.sigma * directions.standard_normal(theta.shape)
            above = batch(parameters.model_of(theta + shift))
            below = batch(parameters.model_of(theta - shift))
            sign = signs.choice((-1.0, 1.0)) if self.random_signs else 1.0
            gradient += sign * (above - below) * shift
            loss += (above + below) / (2 * self.pairs)
        return gradient / (2 * self.pairs * self.sigma**2), loss
