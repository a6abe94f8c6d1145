"""The rules for a network of the user's: the example keeps them, each way to break one is refused before a training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import Int8ActPerTensorFloat, Uint8ActPerTensorFixedPoint
from torch import Tensor, nn

from bitproof.pipeline import InputError
from bitproof.pipeline.config import ModelConfig
from bitproof.train.models import build, quantized_input, require_own_network, weight_quantizer
from bitproof.yaml_file import read_config

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "own_network.yaml"
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")

MODEL = ModelConfig(name="mine.py:network", input_bits=4)


def activation(*, tells: bool = True) -> nn.Module:
    layer: nn.Module = qnn.QuantReLU(bit_width=4, return_quant_tensor=tells)
    return layer


def linear(**options: object) -> nn.Module:
    quantizer = weight_quantizer(4, "power-of-two", "tensor")
    layer: nn.Module = qnn.QuantLinear(6, 6, **{"bias": False, "weight_quant": quantizer, **options})
    return layer


class Unused(nn.Module):  # type: ignore[misc]  # torch is skipped
    """Has a quantized layer, and does not run it."""

    def __init__(self) -> None:
        super().__init__()
        self.input = quantized_input(MODEL)
        self.layer = linear()

    def forward(self, values: Tensor) -> Tensor:
        return values + 0


FAULTY: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no input quantizer": (
        lambda: nn.Sequential(linear(), activation(), linear()),
        r"the network has no input quantizer; begin it with train\.models\.quantized_input\(model\), or a Quant",
    ),
    "signed input": (
        lambda: nn.Sequential(qnn.QuantIdentity(return_quant_tensor=True), linear()),
        r"the network's input quantizer is signed, has 8 bits .* worth 0\.0625 each; begin it with train",
    ),
    "input of other bits": (
        lambda: nn.Sequential(quantized_input(ModelConfig(name="mlp", input_bits=5)), linear()),
        r"is unsigned, has 5 bits and scale 0\.03125; .* model\.input_bits = 4 bits",
    ),
    "input scale that is learned": (
        lambda: nn.Sequential(
            qnn.QuantIdentity(act_quant=Uint8ActPerTensorFixedPoint, bit_width=4, return_quant_tensor=True), linear()
        ),
        r"the network's input quantizer is unsigned, has 4 bits and scale .* and the constant scale 2\^-bits",
    ),
    "bias": (
        lambda: nn.Sequential(quantized_input(MODEL), linear(), activation(), linear(bias=True)),
        r"the output layer, a QuantLinear, has a bias, .* give it bias=False",
    ),
    "no known scale": (
        lambda: nn.Sequential(quantized_input(MODEL), linear(), activation(tells=False), linear()),
        r"takes values that do not tell their scale; give the quantizer before it return_quant_tensor=True",
    ),
    "quantized outputs": (
        lambda: nn.Sequential(quantized_input(MODEL), linear(output_quant=Int8ActPerTensorFloat)),
        r"quantizes its outputs; leave out output_quant",
    ),
    "many weight scales": (
        lambda: nn.Sequential(
            quantized_input(MODEL), linear(weight_quant=weight_quantizer(4, "power-of-two", "channel"))
        ),
        r"the output layer has \d weight scales; give it one",
    ),
    "activation at the end": (
        lambda: nn.Sequential(quantized_input(MODEL), linear(), nn.ReLU()),
        r"the outputs of the network are not those of its last layer with quantized weights; return what that gives",
    ),
    "layer that is not run": (Unused, r"the outputs of the network are not those of its last layer"),
    "no quantized weights": (
        lambda: nn.Sequential(quantized_input(MODEL), nn.Linear(6, 6)),
        r"the network has no quantized weights; build it from brevitas layers",
    ),
    "other classes": (
        lambda: nn.Sequential(quantized_input(MODEL), nn.Linear(6, 5)),
        r"it must give logits of shape \(2, 6\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_network_whose_codes_no_stage_could_read_is_refused(fault: str) -> None:
    make, message = FAULTY[fault]
    torch.manual_seed(0)
    with pytest.raises(InputError, match=rf"^model\.name = 'mine\.py:network'.*{message}"):
        require_own_network(MODEL, make(), 6, 6)


class Runs(nn.Module):  # type: ignore[misc]  # torch is skipped
    """Runs one layer on sequences of two steps, or leaves it unused."""

    def __init__(self, layer: nn.Module, *, used: bool = True) -> None:
        super().__init__()
        self.input, self.inner, self.out, self.used = quantized_input(MODEL), nn.Sequential(layer), linear(), used
        self.again = activation()

    def forward(self, values: Tensor) -> object:
        quantized = self.input(values)
        if not self.used:
            return self.out(self.again(quantized))
        steps = quantized.value.reshape(-1, 2, 3)
        layer = self.inner[0]
        outputs = layer(steps, steps, steps) if isinstance(layer, ATTENTIVE) else layer(steps)
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        return self.out(self.again(outputs.reshape(-1, 6)))


ATTENTIVE = (nn.MultiheadAttention, qnn.QuantMultiheadAttention)
NOT_INTEGERS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: nn.LSTM(3, 3, batch_first=True),
    "GRU": lambda: nn.GRU(3, 3, batch_first=True),
    "QuantLSTM": lambda: qnn.QuantLSTM(3, 3, batch_first=True),
    "QuantRNN": lambda: qnn.QuantRNN(3, 3, batch_first=True),
    "MultiheadAttention": lambda: nn.MultiheadAttention(3, 1, batch_first=True),
    "QuantMultiheadAttention": lambda: qnn.QuantMultiheadAttention(3, 1, packed_in_proj=False, batch_first=True),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(3, 1, batch_first=True),
}


@pytest.mark.parametrize("kind", NOT_INTEGERS)
def test_layer_without_a_form_in_integers_is_named_by_its_module(kind: str) -> None:
    message = rf"^model\.name = 'mine\.py:network': its layer inner\.0 is a {kind}, a .* has no form in integers here"
    with pytest.raises(InputError, match=message):
        require_own_network(MODEL, Runs(NOT_INTEGERS[kind]()), 6, 6)
    require_own_network(MODEL, Runs(NOT_INTEGERS[kind](), used=False), 6, 6)  # negative control: it is not run


def test_network_that_keeps_the_rules_passes_and_stays_as_it_is() -> None:
    network = nn.Sequential(quantized_input(MODEL), linear(), nn.BatchNorm1d(6), activation(), linear())
    before = copy.deepcopy(network.state_dict())
    require_own_network(MODEL, network, 6, 6)
    assert network.training
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_example_keeps_the_rules_and_has_one_bit_in_its_middle_layer() -> None:
    model = read_config(EXAMPLE).model
    network = build(model, 64, 10)
    require_own_network(model, network, 64, 10)
    layers = [layer for layer in network.modules() if isinstance(layer, qnn.QuantLinear)]
    assert [int(layer.quant_weight().bit_width) for layer in layers] == [4, 1, 4, 4]
    assert set(layers[1].quant_weight().int().unique().tolist()) == {-1, 1}
