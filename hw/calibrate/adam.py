"""The optimizer of both calibrators: Adam with a learning rate that falls by a half cosine."""

from __future__ import annotations

from math import cos, pi

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
FIRST, SECOND, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam (Kingma & Ba 2015) over *steps* steps; the rate falls from *rate* to 0 as ``(1 + cos(pi t / steps)) / 2``.

    Its state is the number of steps taken and the running moments, shape that of the parameters.
    """

    def __init__(self, shape: tuple[int, ...], *, rate: float, steps: int) -> None:
        self._rate, self._steps, self._taken = rate, steps, 0
        self._mean, self._square = np.zeros(shape), np.zeros(shape)

    def step(self, parameters: Reals, gradient: Reals) -> Reals:
        """Return *parameters* after one step against *gradient*; neither is edited."""
        rate = self._rate * (1 + cos(pi * self._taken / self._steps)) / 2
        self._taken += 1
        self._mean = FIRST * self._mean + (1 - FIRST) * gradient
        self._square = SECOND * self._square + (1 - SECOND) * gradient**2
        mean = self._mean / (1 - FIRST**self._taken)
        square = self._square / (1 - SECOND**self._taken)
        moved: Reals = parameters - rate * mean / (np.sqrt(square) + EPSILON)
        return moved
