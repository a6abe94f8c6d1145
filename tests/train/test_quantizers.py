"""The quantizers of the built-in networks: every width, both kinds of scale, both granularities."""

from __future__ import annotations

import itertools

import brevitas.nn as qnn
import pytest
import torch
from torch import nn

from bitproof.train.layers import require_fixed_steps
from bitproof.train.quantizers import (
    Granularity,
    Scale,
    activation_quantizer,
    weight_quantizer,
)
from bitproof.train.surrogates import SURROGATES, SurrogateName

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")

SCALES: tuple[Scale, ...] = ("power-of-two", "free")
GRANULARITIES: tuple[Granularity, ...] = ("tensor", "channel")
KINDS = list(itertools.product(SCALES, GRANULARITIES))


def linear(bits: int, scale: Scale, granularity: Granularity, surrogate: SurrogateName | None = None) -> nn.Module:
    """A layer of 5 outputs whose rows have magnitudes that differ by octaves."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layer: nn.Module = qnn.QuantLinear(
            40, 5, bias=False, weight_quant=weight_quantizer(bits, scale, granularity, surrogate)
        )
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([[1.0], [2.0], [4.0], [8.0], [16.0]]))
    return layer


def convolution(bits: int, scale: Scale, granularity: Granularity) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        layer: nn.Module = qnn.QuantConv2d(3, 5, 3, bias=False, weight_quant=weight_quantizer(bits, scale, granularity))
    return layer


def is_power_of_two(scales: torch.Tensor) -> bool:
    return bool((torch.frexp(scales).mantissa == 0.5).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("make", [linear, convolution])
def test_weight_codes_are_in_range_and_scales_are_what_was_asked_for(
    make: object, bits: int, kind: tuple[Scale, Granularity]
) -> None:
    scale, granularity = kind
    layer = linear(bits, *kind) if make is linear else convolution(bits, *kind)
    quantized = layer.quant_weight()
    codes, scales = quantized.int(), quantized.scale.detach().reshape(-1)
    largest = max(1, (1 << (bits - 1)) - 1)
    assert -largest <= int(codes.min()) < 0 < int(codes.max()) <= largest
    if bits == 1:
        assert sorted(codes.unique().tolist()) == [-1, 1]
    assert len(scales) == (5 if granularity == "channel" else 1)
    assert bool((scales > 0).all())
    assert is_power_of_two(scales) is (scale == "power-of-two")
    shaped = quantized.scale.detach()
    assert torch.equal(quantized.value.detach(), codes * shaped)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [1, 2, 5])
def test_scale_is_a_parameter_that_does_not_follow_the_weights(bits: int, kind: tuple[Scale, Granularity]) -> None:
    layer = linear(bits, *kind)
    before = layer.quant_weight().scale.detach().clone()
    assert [name for name, _ in layer.named_parameters() if name != "weight"] == [
        "weight_quant.tensor_quant.scaling_impl.value"
    ]
    with torch.no_grad():
        layer.weight.mul_(0.25)
    assert torch.equal(layer.quant_weight().scale.detach(), before)
    require_fixed_steps(layer)


@pytest.mark.parametrize("bits", range(2, 9))
def test_channel_scales_make_use_of_every_code_in_every_row(bits: int) -> None:
    rows = linear(bits, "free", "channel").quant_weight().int().abs().amax(dim=1)
    assert rows.tolist() == [(1 << (bits - 1)) - 1] * 5
    coarse = linear(bits, "free", "tensor").quant_weight().int().abs().amax(dim=1)
    assert int(coarse[0]) < int(coarse[4])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("bits", range(1, 9))
def test_activation_codes_span_zero_to_the_largest(bits: int, scale: Scale) -> None:
    relu = qnn.QuantReLU(act_quant=activation_quantizer(bits, scale), return_quant_tensor=True)
    values = torch.linspace(-1.3, 1.3, 4096)[:, None]
    relu(values)
    relu.eval()
    quantized = relu(values)
    codes = quantized.int()
    assert int(codes.min()) == 0
    assert (1 << bits) // 2 <= int(codes.max()) <= (1 << bits) - 1
    assert is_power_of_two(quantized.scale) is (scale == "power-of-two")
    assert torch.equal(codes[values <= 0], torch.zeros_like(codes[values <= 0]))
    saturated = relu(values * 100).int()
    assert int(saturated.max()) == (1 << bits) - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_surrogate_changes_gradients_and_no_code(bits: int, kind: tuple[Scale, Granularity]) -> None:
    plain = linear(bits, *kind)
    expected = plain.quant_weight().value.detach()
    inputs = torch.linspace(-1, 1, 3 * 40).reshape(3, 40)
    gradients: dict[str, torch.Tensor] = {}
    for name in SURROGATES:
        layer = linear(bits, *kind, surrogate=name)
        assert torch.equal(layer.quant_weight().value.detach(), expected)
        layer(inputs).square().sum().backward()
        assert layer.weight.grad is not None
        gradients[name] = layer.weight.grad.clone()
    plain(inputs).square().sum().backward()
    assert plain.weight.grad is not None
    assert torch.equal(gradients["hardtanh" if bits == 1 else "identity"], plain.weight.grad)
    assert not torch.equal(gradients["approx-sign"], gradients["identity"])
    assert not torch.equal(gradients["tanh"], gradients["identity"])


def test_sign_of_zero_is_positive() -> None:
    layer = linear(1, "power-of-two", "tensor")
    layer.quant_weight()
    with torch.no_grad():
        layer.weight[0, 0] = 0.0
        layer.weight[0, 1] = -0.0
    assert layer.quant_weight().int()[0, :2].tolist() == [1, 1]
