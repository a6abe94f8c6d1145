"""The fast forward pass against Brevitas' own, bit for bit, and what both leave behind: nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import brevitas.nn as qnn
import pytest
import torch
from brevitas.inject.enum import ScalingImplType
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int8WeightPerTensorFloat,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from torch import Tensor, nn

from bitproof.train.extra_passes import ExtraPasses
from bitproof.train.frozen import FrozenForward, weight_step

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")


class PerChannel(Int8WeightPerChannelFloat):  # type: ignore[misc]  # brevitas is untyped
    """A free scale per channel, kept as a parameter."""

    scaling_impl_type = ScalingImplType.PARAMETER_FROM_STATS


class Learned(Int8WeightPerTensorFixedPoint):  # type: ignore[misc]  # brevitas is untyped
    """A power-of-two scale, kept as a parameter."""

    scaling_impl_type = ScalingImplType.PARAMETER_FROM_STATS


WEIGHTS = {
    "power of two": Learned,
    "channel": PerChannel,
    "statistics": Int8WeightPerTensorFloat,
    "binary": SignedBinaryWeightPerTensorConst,
}
ACTIVATIONS = {"power of two": Uint8ActPerTensorFixedPoint, "free": Uint8ActPerTensorFloat}


@pytest.fixture(autouse=True)
def _own_random_stream() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def convolutional(weights: str, activations: str, bits: int, dropout: float = 0.0) -> nn.Module:
    """Return a trained-looking network: negative slopes, statistics collected, training mode."""
    width = {} if weights == "binary" else {"weight_bit_width": bits}

    def activation() -> nn.Module:
        layer: nn.Module = qnn.QuantReLU(act_quant=ACTIVATIONS[activations], bit_width=bits, return_quant_tensor=True)
        return layer

    network = nn.Sequential(
        nn.Unflatten(1, (1, 9, 10)),
        qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=True),
        nn.Sequential(
            qnn.QuantConv2d(1, 4, 3, padding=1, bias=False, weight_quant=WEIGHTS[weights], **width),
            nn.BatchNorm2d(4),
            activation(),
            nn.MaxPool2d(2),
        ),
        qnn.QuantConv2d(4, 6, 2, stride=2, bias=True, weight_quant=WEIGHTS[weights], **width),
        nn.BatchNorm2d(6),
        activation(),
        nn.Flatten(),
        nn.Dropout(dropout),
        qnn.QuantLinear(24, 5, bias=False, weight_quant=WEIGHTS[weights], **width),
    )
    for module in network.modules():
        if hasattr(module, "collect_stats_steps"):
            module.collect_stats_steps = 2
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    for _ in range(4):
        network(torch.randn(16, 90))
    return network


def plain(outputs: object) -> Tensor:
    tensor: Tensor = getattr(outputs, "value", outputs)
    return tensor.detach()


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_outputs_are_those_of_brevitas_bit_for_bit(weights: str, activations: str, bits: int) -> None:
    network = convolutional(weights, activations, bits)
    for training in (True, False):
        compare(network.train(training))


def compare(network: nn.Module) -> None:
    frozen, values = FrozenForward(network), torch.randn(16, 90)
    before = values.clone()
    frozen.freeze()
    with torch.no_grad():
        fast, cached = frozen(values), frozen.for_one_batch()
        assert torch.equal(cached(values), fast)
        assert torch.equal(cached(values), fast)
    assert torch.equal(values, before)
    assert torch.equal(fast, plain(network(values)))
    with torch.no_grad():  # negative control: another weight gives another output
        network[8].weight *= -1
        assert not torch.equal(frozen(values), fast)


def test_scales_that_follow_the_weights_stay_while_frozen() -> None:
    network = convolutional("statistics", "free", 4)
    frozen, values = FrozenForward(network), torch.randn(16, 90)
    frozen.freeze()
    scale = weight_step(network[8])
    with torch.no_grad():
        network[8].weight[0, 0] *= 64
        assert not torch.equal(weight_step(network[8]), scale)
        clipped = frozen(values)
        network[8].weight[0, 0] *= 64  # beyond the frozen range: saturated either way
        assert torch.equal(frozen(values), clipped)
        assert not torch.equal(plain(network(values)), clipped)


@pytest.mark.parametrize("size", [8, 9])
def test_pooling_by_halves_is_pooling(size: int) -> None:
    network = nn.Sequential(
        nn.Unflatten(1, (1, size, size)), nn.MaxPool2d(2), qnn.QuantLinear(size // 2, 3, bias=False)
    )
    frozen, values = FrozenForward(network), torch.randn(4, size * size)
    frozen.freeze()
    with torch.no_grad():
        assert torch.equal(frozen(values), plain(network(values)))


class Branching(nn.Module):  # type: ignore[misc]  # torch is skipped by mypy
    """A network that is no Sequential."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, values: Tensor) -> Tensor:
        return plain_or_graph(self.network(values))


def plain_or_graph(outputs: object) -> Tensor:
    tensor: Tensor = getattr(outputs, "value", outputs)
    return tensor


def state(network: nn.Module) -> dict[str, object]:
    found: dict[str, object] = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, module in network.named_modules():
        found |= {f"{name}.{k}": v for k, v in vars(module).items() if isinstance(v, int | float | None)}
    return found | {"random stream": torch.get_rng_state()}


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [
        key
        for key, value in before.items()
        if not (torch.equal(value, after[key]) if isinstance(value, Tensor) else value == after[key])
    ]


@pytest.mark.parametrize("wrap", [False, True], ids=["fast", "plain"])
def test_passes_share_the_dropout_mask_of_the_training_pass_and_leave_no_trace(wrap: bool) -> None:
    bare = convolutional("power of two", "power of two", 4, dropout=0.5)
    network: nn.Module = Branching(bare) if wrap else bare
    passes, values = ExtraPasses(network), torch.randn(16, 90)
    assert passes.fast is not wrap

    def loss_with(forward: object) -> Tensor:
        return plain_or_graph(forward(values)).square().mean()  # type: ignore[operator]

    for _ in range(3):
        stream = passes.stream()
        trained = loss_with(network).detach()
        before = state(network)
        with torch.no_grad(), passes.measuring(loss_with, stream) as loss:
            assert torch.equal(loss(), trained)
            assert torch.equal(loss(), trained)
        assert changed(before, state(network)) == []
    assert not torch.equal(loss_with(network).detach(), trained)  # negative control: the next mask is another
    assert changed(before, state(network)) != []


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Softmax(dim=1), "layer Softmax"),
        (qnn.QuantLinear(4, 4, bias=False, output_quant=Int8ActPerTensorFloat), "with a quantizer beside that of its"),
        (qnn.QuantLinear(4, 4, bias=False, weight_quant=None), "quantizer"),
    ],
)
def test_network_that_the_fast_pass_does_not_know_runs_itself(layer: nn.Module, message: str) -> None:
    network = nn.Sequential(qnn.QuantLinear(4, 4, bias=False), copy.deepcopy(layer))
    with pytest.raises(TypeError, match=message):
        FrozenForward(network)
    passes, values = ExtraPasses(network), torch.randn(3, 4)
    assert not passes.fast
    with torch.no_grad(), passes.measuring(lambda forward: plain_or_graph(forward(values)).sum(), None) as loss:
        assert torch.equal(loss(), plain(network.eval()(values)).sum())


def test_layer_with_a_hook_is_left_to_itself() -> None:
    network = nn.Sequential(qnn.QuantLinear(4, 4, bias=False))
    network[0].register_forward_hook(lambda *_: None)
    with pytest.raises(TypeError, match="layer QuantLinear with hooks"):
        FrozenForward(network)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_are_whole_steps_apart(weights: str) -> None:
    layer = convolutional(weights, "free", 2)[3]
    values = plain(layer.quant_weight())
    distances = (values[:, :1] - values) / weight_step(layer)
    assert float(distances.abs().max()) >= 1
    torch.testing.assert_close(distances, distances.round())


@pytest.mark.tool
@pytest.mark.filterwarnings("ignore")  # the compiler warns about its own insides
def test_compiled_pass_gives_the_same_bits() -> None:
    network, values = nn.Sequential(qnn.QuantLinear(8, 4, bias=False, weight_quant=Learned)), torch.randn(4, 8)
    plain_pass, compiled = FrozenForward(network), FrozenForward(network, compiled=True)
    for _ in range(2):
        plain_pass.freeze()
        compiled.freeze()
        with torch.no_grad():
            assert torch.equal(compiled(values), plain_pass(values))
            network[0].weight += 0.3


def test_binary_weight_of_zero_counts_as_positive_in_both() -> None:
    layer = qnn.QuantLinear(3, 2, bias=False, weight_quant=SignedBinaryWeightPerTensorConst)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, -0.1, 0.1], [-0.0, 0.2, 0.0]]))
        frozen, values = FrozenForward(nn.Sequential(layer)), torch.eye(3)
        frozen.freeze()
        assert torch.equal(frozen(values), plain(layer(values)))
        assert float(frozen(values)[0, 0]) > 0
