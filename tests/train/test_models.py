"""Networks by name and by path."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Literal

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import Uint8ActPerTensorFixedPoint
from pydantic import ValidationError
from torch import nn

from bitproof.pipeline import InputError
from bitproof.pipeline.config import ModelConfig
from bitproof.train.layers import quantized_layers, quantized_weights, require_fixed_steps, require_input_codes
from bitproof.train.models import build, build_float

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")

USER_FILE = """
from torch import nn

def network(model, inputs, classes):
    return nn.Linear(inputs, classes)

def number(model, inputs, classes):
    return 3

def broken(model, inputs, classes):
    return [][0]
"""


def trained_a_little(model: ModelConfig, shape: tuple[int, ...], classes: int = 3) -> nn.Module:
    """Return a network after one pass forward and backward, in evaluation mode."""
    inputs = math.prod(shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(model, inputs, classes, shape)
        outputs = network(torch.rand(16, inputs))
        assert outputs.shape == (16, classes)
        outputs.square().sum().backward()
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            assert parameter.grad is not None, name
            assert bool(torch.isfinite(parameter.grad).all()), name
            assert bool(parameter.grad.any()), name
    return network.eval()


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("weight_bits", range(1, 9))
@pytest.mark.parametrize("act_bits", [1, 2, 4, 8])
def test_scales_are_powers_of_two_and_codes_in_range(
    weight_bits: int, act_bits: int, granularity: Literal["tensor", "channel"]
) -> None:
    model = ModelConfig(name="mlp", hidden=(4,), weight_bits=weight_bits, act_bits=act_bits, granularity=granularity)
    network = trained_a_little(model, (8,))
    require_fixed_steps(network)
    hidden, last = quantized_layers(network)
    assert hidden.input_scale == 2.0**-8
    assert (hidden.input_levels, hidden.levels, last.input_levels) == (255, (1 << act_bits) - 1, (1 << act_bits) - 1)
    for scale in (*hidden.accumulator_scales, hidden.output_scale, last.accumulator_scale):
        assert math.frexp(scale)[0] == 0.5
    for layer in (hidden, last):
        assert int(layer.weight_codes.abs().max()) <= max(1, (1 << (weight_bits - 1)) - 1)


def test_each_layer_has_bits_of_its_own() -> None:
    model = ModelConfig(name="mlp", hidden=(4, 5), weight_bits=(1, 3, 8), act_bits=(2, 5), input_bits=3)
    layers = quantized_layers(trained_a_little(model, (8,)))
    assert [layer.input_levels for layer in layers] == [7, 3, 31]
    largest = [int(layer.weight_codes.abs().max()) for layer in layers]
    assert largest[0] == 1
    assert 1 < largest[1] <= 3
    assert 63 < largest[2] <= 127


def test_output_layer_has_one_scale_where_the_others_have_one_a_channel() -> None:
    model = ModelConfig(name="mlp", hidden=(6,), granularity="channel", scale="free")
    hidden, last = quantized_layers(trained_a_little(model, (8,)))
    assert len(set(hidden.accumulator_scales)) == 6
    assert len(set(last.accumulator_scales)) == 1
    with pytest.raises(InputError, match=r"^the output layer has 6 weight scales; give it one"):
        _ = hidden.accumulator_scale


@pytest.mark.parametrize("scale", ["power-of-two", "free"])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("weight_bits", [1, 2, 8])
def test_convolutional_network_runs_both_ways(
    weight_bits: int, granularity: Literal["tensor", "channel"], scale: Literal["power-of-two", "free"]
) -> None:
    model = ModelConfig(
        name="cnn", channels=(3, 4), hidden=(5,), weight_bits=weight_bits, granularity=granularity, scale=scale
    )
    network = trained_a_little(model, (2, 6, 6))
    require_fixed_steps(network)
    assert len(quantized_weights(network)) == 4
    largest = max(1, (1 << (weight_bits - 1)) - 1)
    for layer in quantized_weights(network):
        assert int(layer.quant_weight().int().abs().max()) <= largest


@pytest.mark.parametrize(
    ("shape", "features"),
    [((1, 28, 28), 4 * 7 * 7), ((3, 9, 7), 4 * 2 * 1), ((1, 1, 12), 4 * 1 * 12), ((1, 2, 2), 4)],
)
def test_float_twin_has_the_same_shapes_whatever_the_image(shape: tuple[int, ...], features: int) -> None:
    model = ModelConfig(name="cnn", channels=(2, 3, 4), hidden=(5,), weight_bits=3, dropout=0.5)
    quantized, real = (make(model, math.prod(shape), 7, shape) for make in (build, build_float))
    weights = [
        [tuple(p.shape) for n, p in net.named_parameters() if n.endswith(".weight")] for net in (quantized, real)
    ]
    assert weights[0] == weights[1]
    assert (5, features) in weights[0]
    kept = [
        [type(m).__name__ for m in net if isinstance(m, nn.MaxPool2d | nn.Dropout | nn.Flatten | nn.BatchNorm1d)]
        for net in (quantized, real)
    ]
    assert kept[0] == kept[1]
    values = torch.rand(2, math.prod(shape))
    assert quantized(values).shape == real(values).shape == (2, 7)


def test_convolution_of_known_codes_equals_integer_arithmetic() -> None:
    model = ModelConfig(name="cnn", channels=(3,), hidden=(), weight_bits=4, input_bits=4)
    network = trained_a_little(model, (2, 5, 4))
    codes = torch.randint(0, 16, (3, 40), generator=torch.Generator().manual_seed(1))
    convolution = quantized_weights(network)[0]
    quantized = convolution.quant_weight()
    expected = nn.functional.conv2d(codes.reshape(3, 2, 5, 4).double(), quantized.int().double(), padding=1)
    actual = convolution(network[1](network[0](codes.float() / 16)))
    assert torch.equal(actual.detach().double(), expected * (float(quantized.scale.detach()) / 16))


def test_convolutional_network_needs_images() -> None:
    with pytest.raises(InputError, match=r"^model\.name = 'cnn' needs images.*has shape \(8,\)\."):
        build(ModelConfig(name="cnn", channels=(2,)), 8, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cnn"}, r"channels = \[\] for name = 'cnn'; a 'cnn' needs one number a convolution"),
        ({"name": "mlp", "channels": [4]}, r"channels = \[4\] for name = 'mlp'"),
        (
            {"name": "mlp", "hidden": [4], "weight_bits": [2]},
            r"weight_bits has 1 entries for 2 layers; give one per layer",
        ),
        (
            {"name": "mlp", "hidden": [4], "act_bits": [2, 2]},
            r"act_bits has 2 entries for 1 layers; give one per layer",
        ),
        ({"name": "mlp", "weight_bits": 9}, r"must be a whole number from 1 to 8, or a list"),
        ({"name": "mlp", "weight_bits": True}, r"must be a whole number from 1 to 8, or a list"),
        ({"name": "mlp", "act_bits": [4, 0, 4]}, r"must be a whole number from 1 to 8, or a list"),
        ({"name": "mlp", "dropout": 1.0}, r"less than 1"),
        ({"name": "mlp", "surrogate": "sine"}, r"Input should be 'identity', 'clipped'"),
    ],
)
def test_options_that_do_not_fit_the_network_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(options)


def test_network_of_the_users_may_have_any_number_of_layers() -> None:
    assert ModelConfig(name="mine.py:network", weight_bits=(2, 3, 4, 5, 6), hidden=(3,)).weight_bits == (2, 3, 4, 5, 6)


@pytest.mark.parametrize("bits", range(1, 9))
def test_input_quantizer_fits_the_codes_and_another_is_refused(bits: int) -> None:
    network = build(ModelConfig(name="mlp", hidden=(4,), input_bits=bits), 8, 3)
    require_input_codes(network, bits)
    assert network.training
    other = 1 + bits % 8
    with pytest.raises(InputError, match=rf"is unsigned, has {bits} bits .* model\.input_bits = {other} bits, worth"):
        require_input_codes(network, other)
    with pytest.raises(InputError, match=r"^the network has no input quantizer; begin it with train\.models\.quant"):
        require_input_codes(nn.Linear(2, 2), bits)


def test_learned_or_signed_input_quantizer_of_another_width_is_refused() -> None:
    learned = nn.Sequential(qnn.QuantIdentity(act_quant=Uint8ActPerTensorFixedPoint, return_quant_tensor=True))
    before = copy.deepcopy(learned.state_dict())
    with pytest.raises(InputError, match=r"has 8 bits and scale 0\.00390625; .* model\.input_bits = 4 bits"):
        require_input_codes(learned, 4)
    assert before.keys() == learned.state_dict().keys()
    with pytest.raises(InputError, match=r"^the network's input quantizer is signed, has 8 bits"):
        require_input_codes(nn.Sequential(qnn.QuantIdentity(return_quant_tensor=True)), 8)


def test_dropout_acts_in_training_alone() -> None:
    network = trained_a_little(ModelConfig(name="mlp", hidden=(64,), dropout=0.5), (8,))
    values = torch.rand(4, 8)
    assert torch.equal(network(values), network(values))
    network.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(network(values), network(values))
    assert not any(isinstance(m, nn.Dropout) for m in build(ModelConfig(name="mlp"), 8, 3).modules())


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_input_code_passes_the_input_quantizer_unchanged(bits: int) -> None:
    levels = 1 << bits
    network = build(ModelConfig(name="mlp", hidden=(), input_bits=bits), levels, 2).eval()
    codes = torch.arange(levels)
    quantizer = next(module for module in network.modules() if isinstance(module, qnn.QuantIdentity))
    quantized = quantizer((codes.float() / levels)[None])
    assert torch.equal(quantized.value[0] * levels, codes.float())
    (layer,) = quantized_layers(network)
    assert (layer.input_scale, layer.input_levels) == (1 / levels, levels - 1)


def test_float_twin_has_the_same_widths() -> None:
    network = build_float(ModelConfig(name="mlp", hidden=(5, 6)), 8, 3)
    shapes = [tuple(m.weight.shape) for m in network.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(5, 8), (6, 5), (3, 6)]


def test_network_comes_from_a_file_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(USER_FILE)
    before = list(sys.path)
    network = build(ModelConfig(name=f"{file}:network"), 7, 2)
    assert isinstance(network, nn.Linear)
    assert network.weight.shape == (2, 7)
    assert sys.path == before


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("absent", r"has no function 'absent'; it has network, number, broken"),
        ("number", r"returned int; it must return"),
        ("broken", r"raised IndexError: list index out of range \(.*mine\.py, line 11\)$"),
    ],
)
def test_wrong_function_is_refused(tmp_path: Path, function: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(USER_FILE)
    with pytest.raises(InputError, match=message):
        build(ModelConfig(name=f"{tmp_path / 'mine.py'}:{function}"), 7, 2)


def test_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a Python file"):
        build(ModelConfig(name=f"{tmp_path / 'none.py'}:f"), 7, 2)
    (tmp_path / "bad.py").write_text("def f(:")
    with pytest.raises(InputError, match="cannot be imported"):
        build(ModelConfig(name=f"{tmp_path / 'bad.py'}:f"), 7, 2)


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [nn.Linear(2, 2)],
        [qnn.QuantIdentity(), qnn.QuantLinear(2, 2, bias=False), qnn.QuantReLU()],
        [qnn.QuantIdentity(), qnn.QuantLinear(2, 2, bias=False), nn.BatchNorm1d(2), qnn.QuantReLU()],
    ],
    ids=["empty", "float", "no batch norm", "no last layer"],
)
def test_chain_that_cannot_be_deployed_is_refused(layers: list[nn.Module]) -> None:
    with pytest.raises(InputError, match="; supported: QuantIdentity; then"):
        quantized_layers(nn.Sequential(*layers))
