"""The random perturbation that a surrogate gradient implies, derived by inverting the surrogate.

The mean of ``sign(x + eps u)`` over a symmetric density ``p(u)`` has the slope ``2 p(x / eps) / eps``. A bounded
surrogate ``s`` is therefore the exact derivative of a smoothed sign, with

    p(u) = eps_bar s'(eps_bar u) / 2,        eps_bar^2 = integral of x^2 s'(x) / 2 dx = integral of Q(v)^2 dv

where ``eps_bar`` gives u unit variance, ``Q(v) = s^-1(2v - 1)`` is the quantile function, and v runs from 0 to 1. Round
has jumps a unit apart, while sign's surrogate spans -1 to 1, so its eps_bar is half as large, in quantization steps.
Source: Yang and Aamodt, NeurIPS 2025, arXiv 2510.23926, section on the smoothing that an STE implies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from scipy import integrate
from torch import Tensor

from bitproof.train.surrogates import SURROGATES, Surrogate, surrogate_of

Staircase = Literal["sign", "round"]


@dataclass(frozen=True, slots=True)
class Smoothing:
    """The perturbation ``eps_bar * u`` that turns a staircase into its surrogate on average.

    Attributes:
        eps_bar: its standard deviation, in units of x for sign, in quantization steps for round.
        surrogate: the surrogate; the density of u is ``eps_sign s'(eps_sign u) / 2``.
        eps_sign: the standard deviation for sign.
    """

    eps_bar: float
    surrogate: Surrogate
    eps_sign: float

    def density(self, u: Tensor) -> Tensor:
        """Return p(u), any shape."""
        return self.eps_sign * self.surrogate.slope(self.eps_sign * u) / 2

    def quantile(self, v: Tensor) -> Tensor:
        """Return the u below which the probability is *v*, any shape, *v* in (0, 1)."""
        return self.surrogate.inverse(2 * v - 1) / self.eps_sign

    def draw(self, like: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Return one independent u an element of *like*, of mean 0 and variance 1; in place, for large tensors."""
        scattered = [_open_uniform(tensor, generator).mul_(2).sub_(1) for tensor in like]
        return [self.surrogate.inverse(part).div_(self.eps_sign) for part in scattered]


def _open_uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers in (0, 1), symmetric about 1/2: ``torch.rand`` gives multiples of 2^-24 from 0 on."""
    uniform = torch.rand(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return uniform.add_(2.0**-25).clamp_(max=1 - 2.0**-24)


@lru_cache
def implied_by(name: str, staircase: Staircase) -> Smoothing:
    """Return the smoothing that the surrogate *name* of *staircase* implies.

    Raises:
        ValueError: the surrogate is unknown, or unbounded on sign: its slope is no density.
    """
    surrogate = surrogate_of(name)
    if not surrogate.bounded:
        if staircase == "sign":
            raise ValueError(f"surrogate = {name!r} of sign is unbounded and implies no perturbation; use 'hardtanh'")
        surrogate = SURROGATES["hardtanh"]  # the same slope of round, by a bounded surrogate
    deviation = math.sqrt(_second_moment(surrogate))
    return Smoothing(deviation if staircase == "sign" else deviation / 2, surrogate, deviation)


def _second_moment(surrogate: Surrogate) -> float:
    """Return the integral of Q(v)^2 over v from 0 to 1, from half of it, since Q is odd about 1/2."""

    def square(y: float) -> float:
        return float(surrogate.inverse(torch.tensor(y, dtype=torch.float64))) ** 2

    value, _ = integrate.quad(square, 0, 1, epsabs=1e-12, epsrel=1e-12, limit=200)
    return float(value)
