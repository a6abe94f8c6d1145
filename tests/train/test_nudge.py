"""The nudge: no boundary is left near an integer, and the proofs of the lowered network show it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from zoo_exports import lowered_network
from zoo_networks import Instance, initialized, small

from bitproof.export.proofs import prove_lowering
from bitproof.train.activations import ActivationLayer, activations_of
from bitproof.train.nudge import channels_of, nudge, nudge_metrics
from bitproof.train.nudged_channel import NudgedChannel

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")


def layers_of(network: nn.Module, inputs: int) -> list[ActivationLayer]:
    return [layer for layer in activations_of(network, inputs) if layer is not None]


def chains_of(network: nn.Module, inputs: int) -> list[NudgedChannel]:
    """Return the chains of all channels behind a batch norm."""
    layers = [layer for layer in layers_of(network, inputs) if layer.norm is not None]
    return [channel for layer in layers for channel in channels_of(layer) if channel is not None]


def order_dependent(folder: Path, instance: Instance, network: nn.Module) -> list[int]:
    """Lower *network* and return what its proofs count, activation by activation."""
    _, lowered = lowered_network(folder, instance, network)
    proofs = prove_lowering(lowered)
    assert all(proof.holds for proof in proofs)
    return [proof.order_dependent for proof in proofs if proof.claim.startswith("float32 sums decide at most")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_nothing_depends_on_the_order_of_float_sums_after_nudging(tmp_path: Path, name: str) -> None:
    instance = small(name, weight_bits=4, act_bits=4, scale="free", granularity="channel")
    network = initialized(instance)
    before = order_dependent(tmp_path / "before", instance, network)
    assert sum(before) > 5, "there is something to remove"
    old = chains_of(network, instance.inputs)
    assert sum(channel.order_dependent for channel in old) >= sum(before)
    report = nudge(network, instance.inputs)
    assert report.moved > 5
    assert (report.left, report.order_dependent, report.unknown) == (0, {}, ())
    after = order_dependent(tmp_path / "after", instance, network)
    assert len(after) == len(before)
    assert sum(after) == 0
    for one, other in zip(old, chains_of(network, instance.inputs), strict=True):
        assert other.is_clear()
        for reals in (one.reals[0], one.reals[-1]):  # no boundary has moved by an output step
            ends = (dataclasses.replace(channel, reals=np.array([reals])) for channel in (one, other))
            places = [channel.boundaries for channel in ends]
            if len(places[0]) == len(places[1]) == 1:
                assert abs(places[0][0] - places[1][0]) < one.spacing
    assert nudge(network, instance.inputs).moved == 0


def test_boundaries_of_power_of_two_scales_and_of_shortcuts_are_cleared() -> None:
    instance = small("resnet8", weight_bits=4, act_bits=4)
    network = initialized(instance)
    layer = layers_of(network, instance.inputs)[2]
    assert layer.output.low == -16, "it is the end of a branch"
    assert layer.norm is not None
    channel = channels_of(layer)[1]
    assert channel is not None
    assert channel.exact
    inside = channel.boundaries[len(channel.boundaries) // 2]
    with torch.no_grad():  # put a boundary on an integer
        shift = float(np.rint(inside) - inside) * channel.accumulator_scale * channel.gamma / channel.deviation
        layer.norm.bias[1] -= shift
    planted = channels_of(layer)[1]
    assert planted is not None
    assert planted.near >= 1
    metrics = nudge_metrics(network, instance.inputs)
    assert metrics["nudged_channels"] != 0
    assert {key: value for key, value in metrics.items() if key != "nudged_channels"} == {
        "near_boundaries": 0,
        "order_dependent_left": 0,
    }
    assert all(channel.is_clear() for channel in chains_of(network, instance.inputs))
    assert nudge(network, instance.inputs).moved == 0


@pytest.mark.slow
def test_what_no_place_is_far_enough_for_is_left_and_counted(tmp_path: Path) -> None:
    instance = small("mlp", weight_bits=8, act_bits=8, scale="free", granularity="channel")
    network = initialized(instance)
    before = [norm.bias.detach().clone() for norm in network.modules() if isinstance(norm, nn.BatchNorm1d)]
    metrics = nudge_metrics(network, instance.inputs)
    left, by_layer = metrics["order_dependent_left"], metrics["order_dependent_layers"]
    assert isinstance(left, int)
    assert isinstance(by_layer, dict)
    assert sum(by_layer.values()) == left
    counted = order_dependent(tmp_path, instance, network)
    for number, count in enumerate(counted):  # the proofs know which accumulators occur, the nudge their types only
        assert 0 < count <= by_layer[f"act{number}"]
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm1d))
    assert torch.equal(norm.bias, before[0]), "of the first layer every error is above half a unit"


CLEAR = NudgedChannel(
    mean=0.0,
    gamma=1.0,
    beta=0.0,
    deviation=1.0,
    accumulator_scale=1.0,
    reals=7.3 * np.arange(0.5, 15, dtype=np.float64),
    step=7.3,
    low=-500,
    high=500,
    magnitude=500,
    roundings=20,
    exact=False,
)


def brute_force(channel: NudgedChannel) -> int:
    """Count the accumulators within the error of a boundary, one by one."""
    boundaries, errors = channel.boundaries, channel.float_errors
    accumulators = np.arange(channel.low, channel.high + 1)[:, None]
    return int((np.abs(accumulators - boundaries) <= errors).any(axis=1).sum())


@pytest.mark.parametrize("error", [0.001, 0.02, 0.3, 0.7, 3.0, 9.0, 600.0])
@pytest.mark.parametrize("gamma", [1.0, -0.37])
def test_order_dependent_accumulators_are_counted_once(error: float, gamma: float) -> None:
    channel = dataclasses.replace(CLEAR, gamma=gamma, magnitude=int(error / 20 * 2**24))
    assert abs(channel.float_errors.max() / error - 1) < 0.01
    assert channel.order_dependent == brute_force(channel)
    assert dataclasses.replace(channel, exact=True).order_dependent == 0


@pytest.mark.parametrize("error", [0.02, 0.1, 0.2, 0.35])
def test_shifting_alone_is_tried_first_then_the_distance_of_the_boundaries(error: float) -> None:
    channel = dataclasses.replace(CLEAR, beta=0.05, magnitude=int(error / 20 * 2**24))
    assert not channel.is_clear()
    moved = channel.nudged()
    assert moved.is_clear()
    assert brute_force(moved) == 0
    # the fractions are all multiples of 0.1 and hold every one: an error of 0.02 fits between them, one of 0.1 does not
    assert (moved.gamma == channel.gamma) is (error == 0.02)
    assert np.abs(moved.boundaries - channel.boundaries).max() < channel.spacing
    for number in (moved.gamma, moved.beta):
        assert float(np.float32(number)) == number


def test_channel_without_a_free_place_gets_most_room_or_stays() -> None:
    crowded = dataclasses.replace(
        CLEAR, reals=np.arange(0.5, 63, dtype=np.float64) / 8, step=1 / 8, magnitude=int(0.2 / 20 * 2**24)
    )
    best = crowded.nudged()
    assert not best.is_clear()
    assert best.room >= crowded.room
    assert abs(best.beta - crowded.beta) <= 1 / 8
    hopeless = dataclasses.replace(CLEAR, magnitude=int(0.45 / 20 * 2**24))
    assert hopeless.nudged() is hopeless
    assert hopeless.order_dependent == brute_force(hopeless) > 0


def test_a_channel_of_slope_0_has_no_boundary() -> None:
    instance = small("mlp", weight_bits=2, act_bits=2)
    network = initialized(instance)
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm1d))
    with torch.no_grad():
        norm.weight[3] = 0
    first = channels_of(layers_of(network, instance.inputs)[0])
    assert [channel is None for channel in first] == [number == 3 for number in range(16)]
    assert nudge(network, instance.inputs).order_dependent == {}


def test_scale_of_a_mean_is_divided_by_its_places() -> None:
    instance = small("resnet8", weight_bits=4, act_bits=4, scale="free")
    layers = layers_of(initialized(instance), instance.inputs)
    mean = layers[-1]
    assert mean.pool is not None
    channel = channels_of(mean)[0]
    assert channel is not None
    source, target = layers[-2].output.scale, mean.output.scale
    assert mean.accumulators.sizes == (2, 2)
    assert channel.high == 15 * 4
    assert channel.boundaries[0] == 0.5 * target / (source / 4)
