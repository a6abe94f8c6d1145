"""Surrogates for the derivative of sign and round: exact forward, a chosen slope backward.

A surrogate ``s`` is a rising odd function that stands for ``sign`` in the backward pass alone. ``round`` is a staircase
of such jumps, one per unit cell, so its slope is ``sum over k of s'(2 (x - k - 1/2))``. :mod:`bitproof.train.smoothing`
derives which random perturbation of the input a surrogate implies.

    name          s(x)                        slope of sign       slope of round
    identity      x, unbounded                1                   1
    clipped       x, stopped at -1 and 1      1 where |x| <= 1    1; the quantizer's clipping stops it
    hardtanh      x, stopped at -1 and 1      1 where |x| <= 1    1
    tanh          tanh x                      1 - tanh(x)^2       the sum over the nearest jumps
    approx-sign   2x - x |x|, stopped         2 - 2 |x|           2 - 4 * distance to the nearest jump

Sources: identity and clipped: Bengio, Leonard and Courville, arXiv 1308.3432, 2013; hardtanh: Hubara et al., Binarized
Neural Networks, NeurIPS 2016; approx-sign: Liu et al., Bi-Real Net, ECCV 2018, arXiv 1808.00278.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

SurrogateName = Literal["identity", "clipped", "hardtanh", "tanh", "approx-sign"]


class Surrogate(Protocol):
    """A rising odd function that stands for sign; tensors of any shape, element by element."""

    @property
    def bounded(self) -> bool:
        """It goes from -1 to 1, so that its slope is a probability density times 2."""
        ...

    @property
    def neighbours(self) -> int:
        """How many jumps on either side of the nearest one reach into a cell of round."""
        ...

    def value(self, x: Tensor) -> Tensor:
        """Return s(x)."""
        ...

    def slope(self, x: Tensor) -> Tensor:
        """Return s'(x), not negative."""
        ...

    def inverse(self, y: Tensor) -> Tensor:
        """Return x with s(x) = y, for y in (-1, 1)."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """``s(x) = x``; *bounded* stops it at -1 and 1, which is hardtanh."""

    bounded: bool
    neighbours: int = 0

    def value(self, x: Tensor) -> Tensor:
        """Return x, or x stopped at -1 and 1."""
        return x.clamp(-1, 1) if self.bounded else x

    def slope(self, x: Tensor) -> Tensor:
        """Return 1, or 0 outside [-1, 1] if it is bounded."""
        return (x.abs() <= 1).to(x.dtype) if self.bounded else torch.ones_like(x)

    def inverse(self, y: Tensor) -> Tensor:
        """Return y."""
        return y


@dataclass(frozen=True, slots=True)
class Tanh:
    """``s(x) = tanh(x)``."""

    bounded: bool = True
    neighbours: int = 5  # the slope of the sixth jump is below the rounding of binary32

    def value(self, x: Tensor) -> Tensor:
        """Return tanh(x)."""
        return torch.tanh(x)

    def slope(self, x: Tensor) -> Tensor:
        """Return 1 - tanh(x)^2."""
        return 1 - torch.tanh(x).square()

    def inverse(self, y: Tensor) -> Tensor:
        """Return the inverse hyperbolic tangent of y."""
        return torch.atanh(y)


@dataclass(frozen=True, slots=True)
class ApproxSign:
    """``s(x) = 2x - x |x|`` within [-1, 1], the sign outside."""

    bounded: bool = True
    neighbours: int = 0

    def value(self, x: Tensor) -> Tensor:
        """Return 2x - x |x|, with x stopped at -1 and 1."""
        stopped = x.clamp(-1, 1)
        return 2 * stopped - stopped * stopped.abs()

    def slope(self, x: Tensor) -> Tensor:
        """Return 2 - 2 |x| within [-1, 1], 0 outside."""
        return (2 - 2 * x.abs()).clamp(min=0)

    def inverse(self, y: Tensor) -> Tensor:
        """Return sign(y) (1 - sqrt(1 - |y|))."""
        return y.sign() * (1 - (1 - y.abs()).sqrt())


SURROGATES: dict[SurrogateName, Surrogate] = {
    "identity": Identity(bounded=False),
    "clipped": Identity(bounded=True),
    "hardtanh": Identity(bounded=True),
    "tanh": Tanh(),
    "approx-sign": ApproxSign(),
}


def surrogate_of(name: str) -> Surrogate:
    """Return the surrogate called *name*.

    Raises:
        ValueError: there is none of that name.
    """
    for known, surrogate in SURROGATES.items():
        if known == name:
            return surrogate
    raise ValueError(f"surrogate = {name!r}; allowed: {', '.join(get_args(SurrogateName))}")


def slope_of_round(surrogate: Surrogate, x: Tensor) -> Tensor:
    """Return the derivative that stands for that of ``round`` at *x*: the slopes of all jumps, at every k + 1/2."""
    from_jump = x - x.floor() - 0.5
    jumps = range(-surrogate.neighbours, surrogate.neighbours + 1)
    return torch.stack([surrogate.slope(2 * (from_jump - jump)) for jump in jumps]).sum(0)


class _Round(torch.autograd.Function):  # type: ignore[misc]  # torch is skipped by mypy
    """Round half to even forward, the surrogate's slope backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, surrogate: Surrogate) -> Tensor:  # noqa: ARG004  torch's signature
        return torch.round(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:  # noqa: ANN401, ARG004
        ctx.save_for_backward(inputs[0])
        ctx.surrogate = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        if isinstance(ctx.surrogate, Identity):
            return gradient, None
        (x,) = ctx.saved_tensors
        return gradient * slope_of_round(ctx.surrogate, x), None


class _Sign(torch.autograd.Function):  # type: ignore[misc]  # torch is skipped by mypy
    """Sign with sign(0) = 1 forward, the surrogate's slope backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, surrogate: Surrogate) -> Tensor:  # noqa: ARG004  torch's signature
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:  # noqa: ANN401, ARG004
        ctx.save_for_backward(inputs[0])
        ctx.surrogate = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (x,) = ctx.saved_tensors
        return gradient * ctx.surrogate.slope(x), None


def round_ste(x: Tensor, surrogate: str = "identity") -> Tensor:
    """Return *x* rounded half to even, differentiable by *surrogate*; any shape, in units of the quantization step."""
    rounded: Tensor = _Round.apply(x, surrogate_of(surrogate))
    return rounded


def sign_ste(x: Tensor, surrogate: str = "hardtanh") -> Tensor:
    """Return -1 where *x* < 0 and 1 elsewhere, differentiable by *surrogate*; any shape."""
    signs: Tensor = _Sign.apply(x, surrogate_of(surrogate))
    return signs


class SurrogateRound(nn.Module):  # type: ignore[misc]  # torch is skipped by mypy
    """:func:`round_ste` as Brevitas' ``float_to_int_impl``; the injector fills in *surrogate*.

    ``class Mine(Int8WeightPerTensorFixedPoint): float_to_int_impl = SurrogateRound; surrogate = "tanh"``
    """

    def __init__(self, surrogate: SurrogateName) -> None:
        super().__init__()
        self.surrogate = surrogate

    def forward(self, x: Tensor) -> Tensor:
        """Return *x*, in quantization steps, rounded half to even."""
        return round_ste(x, self.surrogate)
