"""Calibration of networks with windows, branches and bipolar codes, and what of a network it refuses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from integer_graphs import UINT3, Builder, every_operation, graph_codes, residual_network, window
from integer_networks import random_network

from bitproof.export.integer import INPUT, Affine, Coding, IntegerModel, Reshape, SumPool, Threshold, TopK, run
from bitproof.hw.calibrate import Evolution, LogitProbe, LossProbe, Parameters, Samples, StraightThrough, original_of
from bitproof.hw.faults import Chip, FaultSpec
from bitproof.pipeline import InputError

MODEL = residual_network()
CODES = graph_codes(MODEL, 600, seed=2)
LABELS = run(MODEL, CODES).argmax(axis=1)
CALIBRATION, HELD_OUT = Samples(CODES[:400], LABELS[:400], "train"), Samples(CODES[400:], LABELS[400:], "validation")
CHIP = FaultSpec(stuck=0.1, offset=1.0, wrap=7).draw(MODEL, 1)


@pytest.mark.parametrize("scope", ["output", "thresholds", "all"])
@pytest.mark.parametrize("model", [MODEL, every_operation()], ids=["residual", "all"])
def test_theta_zero_is_the_original_graph(model: IntegerModel, scope: str) -> None:
    original = original_of(model, scope)  # type: ignore[arg-type]  # one of the three
    codes = graph_codes(model, 100)
    assert (run(original, codes) == run(model, codes)).all()
    assert original.output_scale == model.output_scale
    for before, after in zip(model.nodes_of(Threshold), original.nodes_of(Threshold), strict=True):
        assert (before.thresholds == after.thresholds).all()


def test_a_graph_has_two_parameters_a_channel_and_a_bias_a_class() -> None:
    channels = sum(node.channels for node in MODEL.nodes_of(Threshold))
    assert Parameters(MODEL).size == 1 + 4 + 2 * channels
    assert Parameters(MODEL, "output").size == 5
    assert Parameters(MODEL, "thresholds").size == 1 + 2 * channels


def test_the_bias_goes_behind_the_output_or_into_what_adds_there_already() -> None:
    theta = np.array([0.0, 1.0, 0.0, 0.0, -2.0])
    for model in (MODEL, every_operation()):
        moved = Parameters(model, "output").model_of(theta)
        codes = graph_codes(model, 50)
        assert (run(moved, codes) - run(model, codes) == [4, 0, 0, -8]).all()
        assert len(moved.nodes) == len(model.nodes) + (not isinstance(model.nodes[-1], Affine))
    last = Affine("scaled", np.array([2, -1, 3, 1]), np.array([1, 0, 0, 5]))
    model = replace(MODEL, nodes=(*MODEL.nodes[:-1], last))
    moved_last = Parameters(model, "output").model_of(theta).nodes[-1]
    assert isinstance(moved_last, Affine)
    assert (moved_last.factors.tolist(), moved_last.offsets.tolist()) == ([2, -1, 3, 1], [5, 0, 0, -3])


def test_a_layer_that_is_called_output_bias_already_keeps_its_name() -> None:
    plain = random_network((6, 4, 3))
    model = replace(plain, nodes=(*plain.nodes[:-1], replace(plain.nodes[-1], name="output_bias")))
    assert [node.name for node in original_of(model, "output").nodes[-2:]] == ["output_bias", "output_bias_1"]


def test_the_only_threshold_of_a_channel_moves_by_the_root_of_what_it_may_be() -> None:
    model = every_operation()
    (signs,) = (node for node in model.nodes_of(Threshold) if node.step == 2)
    parameters = Parameters(model, "thresholds")
    low, high = parameters._bounds[signs.name]
    start = 1 + 2 * sum(n.channels for n in model.nodes_of(Threshold)[: model.nodes_of(Threshold).index(signs)])
    theta = np.zeros(parameters.size)
    theta[start + signs.channels :][: signs.channels] = 1.0
    moved = next(node for node in parameters.model_of(theta).nodes_of(Threshold) if node.name == signs.name)
    expected = np.rint(signs.thresholds + np.sqrt(high - low))
    assert (moved.thresholds == np.clip(expected, low, high)).all()
    assert (moved.thresholds > signs.thresholds).all()


def test_thresholds_stay_within_what_a_padded_graph_reaches() -> None:
    parameters, generator = Parameters(MODEL), np.random.default_rng(0)
    for _ in range(20):
        for node in parameters.model_of(generator.normal(0, 5, parameters.size)).nodes_of(Threshold):
            low, high = parameters._bounds[node.name]
            assert (low <= node.thresholds).all()
            assert (node.thresholds <= high).all()


@pytest.mark.slow
def test_a_graph_on_a_faulty_chip_is_repaired_by_its_loss_and_not_by_random_signs() -> None:
    probe = LossProbe(CHIP, CALIBRATION)
    evolution = Evolution(steps=30, batch=128)
    parameters = Parameters(MODEL)
    before = probe(MODEL)
    after = probe(evolution(parameters, probe, np.random.default_rng(0)))
    control = probe(replace(evolution, random_signs=True)(parameters, probe, np.random.default_rng(0)))
    assert after < 0.8 * before
    assert control > after


def calibrated_by(chip: Chip, weight_rate: float | None) -> IntegerModel:
    straight = StraightThrough(steps=150, batch=128, rate=0.03, weight_rate=weight_rate)
    return straight(Parameters(MODEL), LogitProbe(chip, CALIBRATION), np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize("weight_rate", [None, 0.02])
def test_readable_outputs_repair_a_graph_and_those_of_another_chip_do_less(weight_rate: float | None) -> None:
    loss = LossProbe(CHIP, HELD_OUT)
    calibrated = calibrated_by(CHIP, weight_rate)
    before, after = loss(MODEL), loss(calibrated)
    control = loss(calibrated_by(FaultSpec(stuck=0.1, offset=1.0, wrap=7).draw(MODEL, 2), weight_rate))
    assert after < 0.8 * before
    assert after < control
    pairs = zip(calibrated.products, MODEL.products, strict=True)
    changed = [bool((after.weights != before.weights).any()) for after, before in pairs]
    assert any(changed) is (weight_rate is not None)


def test_weights_stay_within_their_type() -> None:
    """A layer whose largest weight is -2 may not be given 2, which needs a bit more."""
    first = MODEL.products[0]
    weights = np.where(first.weights == -1, -2, first.weights)
    model = replace(MODEL, nodes=(replace(first, weights=weights), *MODEL.nodes[1:]))
    straight = StraightThrough(steps=60, batch=64, weight_rate=0.1)
    node = straight(Parameters(model), LogitProbe(CHIP, CALIBRATION), np.random.default_rng(0)).products[0]
    assert node.weight_type == first.weight_type
    assert set(np.unique(node.weights)) == {-2, -1, 0, 1}


def ending(build: Builder, output: str) -> IntegerModel:
    assert build.nodes[-1].name == output
    return build.model()


def activation_behind_a_reshape() -> IntegerModel:
    build = Builder((2, 2, 2))
    code = build.threshold(build.conv(INPUT, 4, window(2)))
    return ending(build, build.add(Reshape("flat", (4, 1, 1), (4,)), code))


def indices() -> IntegerModel:
    build = Builder((4,))
    return ending(build, build.add(TopK("top", 3, 1), build.matmul(INPUT, 3)))


def an_image() -> IntegerModel:
    build = Builder((2, 3, 3))
    return ending(build, build.conv(INPUT, 4, window(2)))


def one_class() -> IntegerModel:
    build = Builder((4,))
    return ending(build, build.matmul(INPUT, 1))


def scales_of_their_own() -> IntegerModel:
    coding = Coding(Fraction(1), Fraction(1, 3))
    return replace(random_network((4, 3)), output_codings=(coding, Coding(Fraction(1)), coding))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            activation_behind_a_reshape(),
            "the last layer 'act1' of 'graph' is an activation; calibration needs output acc",
        ),
        (indices(), "layer 'top' of 'graph' gives indices of classes, from which no loss can be computed"),
        (an_image(), r"'graph' gives outputs of shape \(4, 2, 2\); calibration needs one output a class, at least 2"),
        (one_class(), r"'graph' gives outputs of shape \(1,\); calibration needs one output a class, at least 2"),
        (
            scales_of_their_own(),
            "the outputs of 'mlp' have scales or offsets of their own; calibration needs one scale",
        ),
    ],
)
def test_outputs_that_are_no_logits_are_refused(model: IntegerModel, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Parameters(model)


def test_a_mean_over_the_codes_of_an_activation_can_be_calibrated() -> None:
    build = Builder((2, 4, 4), input=UINT3)
    codes = build.threshold(build.conv(INPUT, 3, window(3, padding=1)), 7)
    mean = build.add(SumPool("mean", window(4)), codes)
    build.add(Reshape("flat", (3, 1, 1), (3,)), mean)
    model = build.model()
    moved = Parameters(model).model_of(np.array([0.0, 1.0, 0.0, 0.0, *np.zeros(6)]))
    inputs = graph_codes(model, 50)
    assert (run(moved, inputs) - run(model, inputs) == [4, 0, 0]).all()
    assert isinstance(model.nodes_of(Threshold)[0], Threshold)
