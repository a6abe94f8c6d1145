"""A number that changes over the steps of an estimator's phase: beta, delta, alpha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RampShape = Literal["linear", "geometric"]


@dataclass(frozen=True, slots=True)
class Ramp:
    """From *first* at progress 0 to *last* at progress 1, by equal differences or (*geometric*) by equal ratios."""

    first: float
    last: float
    shape: RampShape = "linear"

    def __post_init__(self) -> None:
        if self.shape == "geometric" and min(self.first, self.last) <= 0:
            raise ValueError(f"a geometric ramp from {self.first} to {self.last}; allowed: both above 0")

    @classmethod
    def constant(cls, value: float) -> Ramp:
        """Return a ramp that does not rise."""
        return cls(value, value)

    def at(self, progress: float) -> float:
        """Return the value at *progress*, 0 to 1; the ends are exact."""
        if self.first == self.last or progress <= 0:
            return self.first
        if progress >= 1:
            return self.last
        if self.shape == "geometric":
            return float(self.first * (self.last / self.first) ** progress)
        return self.first + (self.last - self.first) * progress
