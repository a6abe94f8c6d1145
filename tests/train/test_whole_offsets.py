"""Whole offsets: a quantized operator with an integer bias decides every accumulator as the nudged batch norm does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import graph_codes
from written_onnx import Written
from zoo_exports import lowered_network
from zoo_networks import initialized, small

from bitproof.export.integer import Threshold
from bitproof.export.proofs import prove_requantization
from bitproof.pipeline import Codes
from bitproof.train.nudge import nudge, nudge_metrics
from bitproof.train.nudged_channel import NudgedChannel
from bitproof.train.whole_offsets import has_whole_offset, with_whole_offset


@st.composite
def channels(draw: st.DrawFn) -> NudgedChannel:
    """A chain whose codes skip none: its boundaries are 2 accumulators apart at least."""
    levels = draw(st.sampled_from([3, 15, 255]))
    scale = 2.0 ** draw(st.integers(-16, 0))
    spacing = draw(st.floats(2, 300, width=32))
    lowest = draw(st.sampled_from([0, -(levels + 1) // 2]))
    step = 2.0 ** draw(st.integers(-6, 2))
    deviation = draw(st.floats(0.5, 2))
    gamma = float(np.float32(step * deviation / spacing / scale)) * draw(st.sampled_from([1, -1]))
    beta = float(np.float32(draw(st.floats(-20, 20)) * step))
    mean = float(np.float32(draw(st.floats(-100, 100)) * scale))
    reals = (np.arange(lowest + 1, lowest + levels + 1, dtype=np.float64) - 0.5) * step
    end = int(spacing * levels)
    return NudgedChannel(mean, gamma, beta, deviation, scale, reals, step, -end, end, end, 14, exact=True)


def codes_of(channel: NudgedChannel, accumulators: Codes) -> Codes:
    """Return the codes of *channel*, counted from the lowest, of accumulators that are negated if they fall."""
    return np.searchsorted(channel.rising, accumulators, side="right")


def operator_equals(channel: NudgedChannel) -> bool:
    """Tell whether some integer B near the line gives what *channel* does, in the float32 arithmetic of QLinearConv."""
    accumulators = np.arange(channel.low, channel.high + 1)
    expected, m = codes_of(channel, accumulators), np.float32(1 / channel.spacing)
    middle = round(float(channel.spacing * 0.5 - channel.rising[0]))
    return any(
        np.array_equal(np.clip(np.rint((accumulators + bias).astype(np.float32) * m), 0, len(channel.reals)), expected)
        for bias in range(middle - 2, middle + 3)
    )


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(channels())
def test_an_operator_with_a_whole_bias_equals_what_was_moved(channel: NudgedChannel) -> None:
    moved = with_whole_offset(channel)
    if has_whole_offset(moved):
        assert operator_equals(moved)
    else:
        assert moved is channel
        assert channel.spacing < 300 / 64, "only crowded boundaries have no place"
    assert np.abs(moved.rising - channel.rising).max() < channel.spacing
    for number in (moved.gamma, moved.beta):
        assert float(np.float32(number)) == number


def test_half_an_accumulator_aside_there_is_no_whole_bias() -> None:
    reals = np.arange(0.5, 255, dtype=np.float64) * 41.0
    whole = NudgedChannel(0.0, 1.0, 0.0, 1.0, 1.0, reals, 41.0, -12_000, 12_000, 12_000, 14, exact=True)
    assert has_whole_offset(whole)
    assert with_whole_offset(whole) is whole
    assert operator_equals(whole)
    aside = dataclasses.replace(whole, gamma=41.0 / 41.4, beta=0.3)
    assert not has_whole_offset(aside)
    assert not operator_equals(aside)
    assert operator_equals(with_whole_offset(aside))


def test_a_single_boundary_is_left_to_the_nudge_of_the_bias() -> None:
    one = NudgedChannel(0.0, 1.0, 5.0, 1.0, 1.0, np.zeros(1), 2.0, -50, 50, 50, 14, exact=True)
    assert not one.is_clear()
    assert has_whole_offset(one)
    assert with_whole_offset(one) is one


def test_a_sum_that_needs_more_than_32_bits_has_no_whole_offset() -> None:
    reals = np.arange(0.5, 255, dtype=np.float64) * 41.0
    whole = NudgedChannel(0.0, 1.0, 0.0, 1.0, 1.0, reals, 41.0, -12_000, 1 << 31, 1 << 31, 14, exact=True)
    assert not has_whole_offset(whole)
    assert has_whole_offset(dataclasses.replace(whole, high=(1 << 31) - 1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")
@pytest.mark.parametrize(
    ("name", "scale", "as_it_is", "nudged"),
    [
        ("cnn", "power-of-two", ["carried", "carried", "carried in float64"], ["carried", "quantized", "quantized"]),
        ("mlp", "free", ["carried in float64"] * 2, ["quantized"] * 2),
    ],
)
def test_eight_bits_by_eight_bits_are_quantized_operators_after_nudging(
    name: str, scale: str, as_it_is: list[str], nudged: list[str], tmp_path: Path
) -> None:
    instance = small(name, weight_bits=8, act_bits=8, scale=scale)
    network = initialized(instance)
    nudge(network, instance.inputs)
    before = Written.of(lowered_network(tmp_path / "before", instance, network)[1].model)
    assert [entry["construction"] for entry in before.layers["activations"]] == as_it_is
    metrics = nudge_metrics(network, instance.inputs, whole_offsets=True)
    assert metrics["without_whole_offset"] == 0
    assert metrics["nudged_channels"] != 0
    model = lowered_network(tmp_path / "after", instance, network)[1].model
    written = Written.of(model)
    assert [entry["construction"] for entry in written.layers["activations"]] == nudged
    assert all(entry["factor"] == 1 for entry in written.layers["activations"] if entry["construction"] == "quantized")
    codes = graph_codes(model, 200)
    assert written.unequal(model, codes) == []
    executor = written.executor(tmp_path)
    proofs = [*prove_requantization(model, executor), *executor.prove_sums(model)]
    assert all(proof.holds and proof.cases for proof in proofs)
    wrong = written.with_flipped_threshold(model.nodes_of(Threshold)[-1], 0, 0)
    assert wrong.unequal(model, codes), "one boundary of one channel is seen"
    assert nudge(network, instance.inputs, whole_offsets=True).moved == 0
