"""The torch executor: its activations against the exact thresholds, and the codes that it reads from float sums."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from torch import nn
from zoo_exports import lowered_network
from zoo_networks import FREE_SHAPES, SMALL, initialized, mixed_bits, random_values, small

from bitproof.export.integer import Threshold, run, trace
from bitproof.export.proofs import prove_requantization, requantization
from bitproof.export.proofs.requantization import PartialRequantizer
from bitproof.pipeline import PointRequantizer, Requantizer, StageError
from bitproof.pipeline.config import FIXED_SHAPES, ModelConfig
from bitproof.train.activations import activations_of
from bitproof.train.executor import TorchExecutor
from bitproof.train.models import build

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")

NAMES = sorted({*SMALL, *FREE_SHAPES})
ACTIVATIONS = {"autoencoder": 9, "cnn": 3, "cnv": 8, "ds-cnn": 10, "mlp": 2, "mobilenet-v1": 28, "resnet8": 14}
"""ResNet-8: 4 outside its sums, and in 3 of them the sum's own and the two ways' behind one quantizer."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_activation_equals_the_exact_thresholds_on_every_accumulator(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = mixed_bits(name) if name in FIXED_SHAPES else {"weight_bits": 3, "act_bits": 3}
    if name in FIXED_SHAPES:  # sweeping 8-bit codes takes minutes; other widths stay as they are
        options = {key: [min(bits, 4) for bits in counts] for key, counts in options.items()}
    instance = small(name, granularity="channel", **options)
    checkpoint, lowered = lowered_network(tmp_path, instance, initialized(instance))
    executor = TorchExecutor(checkpoint)
    assert isinstance(executor, Requantizer)
    assert isinstance(executor, PartialRequantizer)
    count = len(lowered.model.nodes_of(Threshold))
    assert count == ACTIVATIONS[name]
    assert [executor.requantizes(f"act{layer}") for layer in range(count + 1)] == [True] * count + [False]
    proofs = prove_requantization(lowered.model, executor)
    assert all(proof.holds for proof in proofs)
    methods = ("every reachable accumulator", "decided at the boundaries")
    assert all(proof.method.startswith(methods) and proof.cases for proof in proofs)
    assert sum(proof.failing for proof in proofs) <= 2, "float32 decides a boundary or two otherwise"
    assert any(node.flipped.any() for node in lowered.model.nodes_of(Threshold))
    inputs = (random_values(instance, 5) * 256).long().numpy()
    inside = trace(lowered.model, inputs)
    for key, codes in executor.trace(inputs).items():
        assert np.array_equal(codes, inside[key]), key
        assert codes.shape == inside[key].shape
    # negative control: a bias moved by two output steps, in the middle of the network
    position = [number for number, layer in enumerate(executor._layers) if layer and layer.norm][count // 3]
    layer = executor._layers[position]
    assert layer is not None
    assert layer.norm is not None
    with torch.no_grad():
        layer.norm.bias += 2 * layer.output.scale
    broken = prove_requantization(lowered.model, executor)
    assert [number for number, proof in enumerate(broken) if not proof.holds] == [position]
    moved = executor.trace(inputs)
    assert list(moved) == [f"act{layer}" for layer in range(count)]
    assert not np.array_equal(moved[f"act{position}"], inside[f"act{position}"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_boundaries_of_the_trained_chain_say_what_all_its_accumulators_say(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = small(name, weight_bits=3, act_bits=5, scale="free", granularity="channel")
    checkpoint, lowered = lowered_network(tmp_path, instance, initialized(instance))
    executor = TorchExecutor(checkpoint)
    assert isinstance(executor, PointRequantizer)
    run = prove_requantization(lowered.model, executor, lambda: lowered.activations)
    monkeypatch.setattr(requantization, "ALWAYS_RUN", 0)
    decided = prove_requantization(lowered.model, executor, lambda: lowered.activations)
    assert all(proof.method.startswith("every reachable accumulator") for proof in run)
    assert all("each float32 step is monotone and rounded to nearest" in proof.method for proof in decided)
    assert [proof.model_copy(update={"method": ""}) for proof in decided] == [
        proof.model_copy(update={"method": ""}) for proof in run
    ]


@pytest.mark.slow
def test_codes_of_free_scales_are_those_of_the_integers(tmp_path: Path) -> None:
    instance = small("cnn", weight_bits=3, act_bits=3, scale="free", granularity="channel")
    checkpoint, lowered = lowered_network(tmp_path, instance, initialized(instance))
    executor = TorchExecutor(checkpoint)
    inputs = (random_values(instance, 40) * 256).long().numpy()
    codes = executor(inputs)
    assert np.array_equal(codes, run(lowered.model, inputs))
    assert len(np.unique(codes)) > 20
    # negative control: of a scale that is off by a thousandth no code can be read
    executor._outputs = dataclasses.replace(executor._outputs, scales=executor._outputs.scales * 1.001)
    with pytest.raises(StageError, match=r"^torch: sample \d+, output \d+: .* is further than the float error"):
        executor(inputs)


@pytest.mark.slow
def test_sums_that_float32_cannot_tell_apart_are_the_nearest_codes(tmp_path: Path) -> None:
    instance = small("mlp", weight_bits=8, act_bits=8, scale="free")
    instance = dataclasses.replace(instance, model=instance.model.model_copy(update={"hidden": (600,)}))
    checkpoint, lowered = lowered_network(tmp_path, instance, initialized(instance))
    executor = TorchExecutor(checkpoint)
    assert (2 * executor._outputs.errors >= executor._outputs.scales).all(), "the bound says nothing here"
    inputs = (random_values(instance, 40) * 256).long().numpy()
    assert np.abs(executor(inputs) - run(lowered.model, inputs)).max() <= 2
    executor._outputs = dataclasses.replace(executor._outputs, scales=executor._outputs.scales * 1.001)
    assert np.abs(executor(inputs) - run(lowered.model, inputs)).max() > 2


@pytest.mark.slow
def test_observed_layers_are_those_of_the_trace_and_of_the_integers(tmp_path: Path) -> None:
    instance = small("resnet8", weight_bits=2, act_bits=3)
    checkpoint, lowered = lowered_network(tmp_path, instance, initialized(instance))
    inputs = (random_values(instance, 5) * 256).long().numpy()
    executor = TorchExecutor(checkpoint)
    seen, exact = executor.observe(inputs), trace(lowered.model, inputs)
    assert list(seen.layers) == [node.name for node in lowered.model.nodes_of(Threshold)]
    for name, codes in seen.layers.items():
        np.testing.assert_array_equal(codes, exact[name], strict=True)
    np.testing.assert_array_equal(seen.codes, run(lowered.model, inputs), strict=True)
    named = TorchExecutor(checkpoint, activations=("act0",))
    assert named.observe(inputs).layers == {}, "another number of quantizers cannot be named"
    assert not any(module._forward_hooks for module in executor._network.modules()), "no hook is left behind"


class Doubling(nn.Module):  # type: ignore[misc]  # torch is not followed
    """A network of the user's that does arithmetic between two layers."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, values: Any) -> Any:  # noqa: ANN401  plain or a QuantTensor
        for layer in self.layers:
            values = layer(values)
            if isinstance(layer, nn.BatchNorm1d):
                values = 2 * values
        return values


def test_activation_that_takes_something_else_is_left_out() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = list(build(ModelConfig(name="mlp", hidden=(4, 4)), 8, 3))
    alone = activations_of(nn.Sequential(*layers).eval(), 8)
    assert [layer is not None for layer in alone] == [True, True]
    assert activations_of(Doubling(layers).eval(), 8) == [None, None]
    biased = [qnn.QuantLinear(8, 4, bias=True) if layer is layers[1] else layer for layer in layers]
    assert [layer is not None for layer in activations_of(nn.Sequential(*biased).eval(), 8)] == [False, True]


@pytest.mark.slow
def test_behind_an_activation_that_cannot_be_run_no_other_is(tmp_path: Path) -> None:
    instance = small("mlp", weight_bits=2, act_bits=2)
    checkpoint, lowered = lowered_network(tmp_path, instance, initialized(instance))
    executor = TorchExecutor(checkpoint)
    executor._layers[0] = None
    assert [executor.requantizes(f"act{layer}") for layer in (0, 1)] == [False, False]
    proofs = prove_requantization(lowered.model, executor)
    assert [(proof.cases, proof.method) for proof in proofs] == [(0, "none"), (0, "none")]
