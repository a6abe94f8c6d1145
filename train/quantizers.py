"""The quantizers of the built-in networks, made from Brevitas' parts.

Every scale is a trained parameter: that of a weight tensor starts from its largest magnitude, that of an activation
from the percentiles of its first batches. Scales that follow the weights at every pass jump by octaves during training,
which costs about a point of accuracy, and a perturbation of the weights would move the whole grid.

With scales that are powers of two every accumulator is an exact multiple of a power of two, so that a float chain that
computes it is a function of the integer. Free scales fit the weights more closely; a float sum then depends on its
order.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from brevitas.core.quant import BinaryQuant
from brevitas.inject.enum import ScalingImplType
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int8WeightPerTensorFloat,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.fixed_point import Int8WeightPerChannelFixedPoint
from torch import nn

from bitproof.train.surrogates import SurrogateName, SurrogateRound, sign_ste

Scale = Literal["power-of-two", "free"]
Granularity = Literal["tensor", "channel"]
Injector = Any
"""A Brevitas injector class: what to build a quantizer from, not the quantizer itself. Brevitas is untyped."""

_WEIGHTS: dict[tuple[Scale, Granularity], Injector] = {
    ("power-of-two", "tensor"): Int8WeightPerTensorFixedPoint,
    ("power-of-two", "channel"): Int8WeightPerChannelFixedPoint,
    ("free", "tensor"): Int8WeightPerTensorFloat,
    ("free", "channel"): Int8WeightPerChannelFloat,
}
_ACTIVATIONS: dict[Scale, Injector] = {
    "power-of-two": Uint8ActPerTensorFixedPoint,
    "free": Uint8ActPerTensorFloat,
}
_SIGNED_ACTIVATIONS: dict[Scale, Injector] = {
    "power-of-two": Int8ActPerTensorFixedPoint,
    "free": Int8ActPerTensorFloat,
}
MAX_ACTIVATION_BITS = 8
"""Of any quantizer made here."""


class InputQuantizer(Uint8ActPerTensorFixedPoint):  # type: ignore[misc]  # brevitas is untyped
    """B bits at scale 2^-B: input codes divided by 2^B pass unchanged, so the host sends raw codes."""

    scaling_impl_type = ScalingImplType.CONST
    scaling_init = 255 / 256  # brevitas rounds it up to the power of two 1 and divides by 2^B


class BipolarQuant(BinaryQuant):  # type: ignore[misc]  # brevitas is untyped
    """One bit per weight: the sign, with 0 counted as positive, times the scale; codes are -1 and 1.

    The same codes as Brevitas' own, with a choice of what stands for the derivative of sign.
    """

    def __init__(self, scaling_impl: nn.Module, surrogate: SurrogateName) -> None:
        super().__init__(scaling_impl)
        self.surrogate = surrogate

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return quantized values of the shape of *values*, their scale, zero point 0 and bit width 1."""
        scale = self.scaling_impl(values)
        return sign_ste(values / scale, self.surrogate) * scale, scale, self.zero_point(), self.bit_width()


def weight_quantizer(
    bits: int, scale: Scale, granularity: Granularity, surrogate: SurrogateName | None = None
) -> Injector:
    """Return the quantizer of weights of *bits* bits.

    From 2 bits on codes are signed and narrow, -(2^(bits-1) - 1) to 2^(bits-1) - 1; 1 bit is bipolar, -1 and 1. The
    *surrogate* stands for the derivative of rounding, or of the sign, in units of the scale; it changes no code. None:
    ``identity``, for 1 bit ``hardtanh``. From 2 bits on a weight beyond the codes gets no gradient, whatever it is.
    """
    frozen = _WEIGHTS[scale, granularity].let(
        scaling_impl_type=ScalingImplType.PARAMETER_FROM_STATS,
        narrow_range=True,
        bit_width=bits,
        surrogate=surrogate or _default_surrogate(bits),
    )
    if bits == 1:
        return frozen.let(tensor_quant=BipolarQuant)
    # identity is Brevitas' own rounding, which costs less than an autograd function of ours
    return frozen if surrogate in (None, "identity") else frozen.let(float_to_int_impl=SurrogateRound)


def _default_surrogate(bits: int) -> SurrogateName:
    return "hardtanh" if bits == 1 else "identity"


def activation_quantizer(bits: int, scale: Scale) -> Injector:
    """Return the quantizer of activations behind a ReLU: codes 0 to 2^bits - 1, one scale per tensor."""
    return _ACTIVATIONS[scale].let(bit_width=bits)


def residual_quantizer(bits: int, scale: Scale) -> Injector:
    """Return the quantizer of what is added behind activations of *bits* bits, one scale per tensor.

    Codes are signed and have one bit more, at most 8, so that a shortcut that is an activation keeps all its codes if
    the scales agree: for 1 bit -2 to 1, for 4 bits -16 to 15, for 7 and 8 bits -128 to 127.
    """
    return _SIGNED_ACTIVATIONS[scale].let(bit_width=min(bits + 1, MAX_ACTIVATION_BITS))
