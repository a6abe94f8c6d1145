"""Networks by name and by path."""

from __future__ import annotations

import sys
from pathlib import Path

import brevitas.nn as qnn
import pytest
import torch
from torch import nn

from pipeline import InputError
from pipeline.config import ModelConfig
from train.layers import quantized_layers
from train.models import build, build_float

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")

USER_FILE = """
from torch import nn

def network(model, inputs, classes):
    return nn.Linear(inputs, classes)

def number(model, inputs, classes):
    return 3
"""


@pytest.mark.parametrize("weight_bits", range(2, 9))
@pytest.mark.parametrize("act_bits", [2, 4, 8])
def test_scales_are_powers_of_two_and_weights_narrow(weight_bits: int, act_bits: int) -> None:
    model = ModelConfig(name="mlp", hidden=(4,), weight_bits=weight_bits, act_bits=act_bits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(model, 8, 3)
        network(torch.rand(16, 8))
    network.eval()
    hidden, last = quantized_layers(network)
    assert hidden.input_scale == 2.0**-8
    assert (hidden.input_levels, hidden.levels, last.input_levels) == (255, (1 << act_bits) - 1, (1 << act_bits) - 1)
    for scale in (hidden.accumulator_scale, hidden.output_scale, last.accumulator_scale):
        assert float(torch.frexp(torch.tensor(scale)).mantissa) == 0.5
    for layer in (hidden, last):
        assert int(layer.weight_codes.abs().max()) <= (1 << (weight_bits - 1)) - 1


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
    [("absent", r"has no function 'absent'; it has network, number"), ("number", r"returned int; it must return")],
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
