"""Calibration: what its parameters mean, what its estimators compute, and what it cannot see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from integer_networks import random_codes, random_network

from bitproof.export.integer import Affine, IntegerModel, IntegerType, MatMul, Threshold, run
from bitproof.hw.calibrate import Evolution, LogitProbe, LossProbe, Parameters, Samples, StraightThrough, cross_entropy
from bitproof.hw.calibrate.adam import Adam
from bitproof.hw.calibrate.backpropagation import backpropagate
from bitproof.hw.calibrate.straight_through import _error
from bitproof.hw.faults import FaultSpec, FaultyExecutor
from bitproof.pipeline import Codes, Executor, InputError

MODEL = random_network((20, 12, 8, 4), act_bits=(2,), spacing="even", weight_range=(-1, 1), input_bits=2, seed=1)
CODES = random_codes(MODEL, 600, seed=2)


@dataclass(frozen=True)
class Ideal:
    """A device without faults."""

    def program(self, model: IntegerModel) -> Executor:
        return FaultyExecutor(model, None)


def samples_of(model: IntegerModel) -> Samples:
    """Labels that the healthy *model* gets right: its own decisions."""
    return Samples(CODES, run(model, CODES).argmax(axis=1), "random")


def scaled(model: IntegerModel) -> IntegerModel:
    return replace(model, output_scale=Fraction(1, 4))


@pytest.mark.parametrize("scope", ["output", "thresholds", "all"])
def test_theta_zero_is_the_original(scope: str) -> None:
    parameters = Parameters(MODEL, scope)  # type: ignore[arg-type]  # one of the three
    model = parameters.model_of(np.zeros(parameters.size))
    assert parameters.size == {"output": 5, "thresholds": 41, "all": 45}[scope]
    for before, after in zip(MODEL.nodes_of(Threshold), model.nodes_of(Threshold), strict=True):
        assert (before.thresholds == after.thresholds).all()
    assert (run(model, CODES) == run(MODEL, CODES)).all()
    assert isinstance(model.nodes[-1], MatMul if scope == "thresholds" else Affine)


def test_every_parameter_moves_what_it_names_and_nothing_else() -> None:
    parameters = Parameters(scaled(MODEL))
    for index in range(parameters.size):
        theta = np.zeros(parameters.size)
        theta[index] = 2.0
        model = parameters.model_of(theta)
        moved = {
            node.name
            for before, node in zip(MODEL.nodes_of(Threshold), model.nodes_of(Threshold), strict=True)
            if (before.thresholds != node.thresholds).any()
        }
        bias = model.nodes[-1]
        assert isinstance(bias, Affine)
        assert (model.output_scale != Fraction(1, 4)) is (index == 0)
        assert bias.offsets.tolist() == [8 if index == 1 + c else 0 for c in range(4)]
        # a channel whose weights are all 0 has no threshold that can move within what is reachable
        assert moved <= {"act0"} if 5 <= index < 29 else moved <= {"act1"}
        if index < 5:
            assert not moved


def test_thresholds_stay_ascending_integers_within_the_reachable() -> None:
    parameters = Parameters(MODEL)
    generator = np.random.default_rng(0)
    for _ in range(50):
        model = parameters.model_of(generator.normal(0, 5, parameters.size))  # its nodes check the order themselves
        for node in model.nodes_of(Threshold):
            low, high = parameters._bounds[node.name]
            assert (low <= node.thresholds).all()
            assert (node.thresholds <= high).all()


def test_a_shift_of_one_lowers_the_code_by_one_and_extrapolates_what_was_cut_off() -> None:
    product = MatMul("fc0", np.ones((1, 10), dtype=np.int64), IntegerType(2, signed=True))  # reaches 0..30
    thresholds = np.array([[0, 6, 16, 26, 31]], dtype=np.int64)  # the last one was cut off; its place would be 36
    activation = Threshold("act0", thresholds, IntegerType(3, signed=False), 0, np.zeros(1, dtype=np.bool_))
    last = MatMul("fc1", np.ones((2, 1), dtype=np.int64), IntegerType(2, signed=True))
    model = IntegerModel(
        "n", IntegerType(2, signed=False), Fraction(1), (10,), (product, activation, last), Fraction(1)
    )
    parameters = Parameters(model, "thresholds")
    up, down = (
        parameters.model_of(np.array([0.0, 0.0, b])).nodes_of(Threshold)[0].thresholds.tolist() for b in (1.0, -1.0)
    )
    assert up == [[6, 16, 26, 31, 31]]  # the first one was cut off, too, at -4
    assert down == [[0, 0, 6, 16, 26]]


def test_an_existing_bias_is_moved_on() -> None:
    model = replace(scaled(MODEL), nodes=(*MODEL.nodes, Affine.bias("bias0", np.array([1, 2, 3, 4], dtype=np.int64))))
    parameters = Parameters(model, "output")
    bias = parameters.model_of(np.array([0.0, 1.0, 0.0, 0.0, -1.0])).nodes[-1]
    assert isinstance(bias, Affine)
    assert bias.offsets.tolist() == [5, 2, 3, 0]


def test_what_cannot_be_calibrated_is_refused() -> None:
    ending = replace(MODEL, nodes=MODEL.nodes[:-1])
    with pytest.raises(InputError, match=r"the last layer 'act1' .* is an activation; calibration needs output"):
        Parameters(ending)
    with pytest.raises(InputError, match="no parameters 'some'; allowed: output, thresholds, all"):
        Parameters(MODEL, "some")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="calibration: pairs = 0 is not possible; it must be positive"):
        Evolution(pairs=0)
    with pytest.raises(InputError, match="calibration: rate = nan is not possible"):
        StraightThrough(rate=float("nan"))
    with pytest.raises(InputError, match=r"validation\[0:0\] holds 0 samples and 0 labels"):
        Samples(CODES[:0], np.zeros(0, dtype=np.int64), "validation[0:0]")


def test_cross_entropy_of_two_classes_is_that_of_the_logistic_function() -> None:
    codes = np.array([[3, 1], [-4, 8]], dtype=np.int64)
    expected = (np.log1p(np.exp(-1.0)) + np.log1p(np.exp(6.0))) / 2
    assert abs(cross_entropy(codes, np.array([0, 0]), 0.5) - expected) < 1e-12
    assert cross_entropy(np.array([[10**9, 0]]), np.array([1]), 1.0) == 1e9  # no overflow


def test_adam_follows_its_definition_for_two_steps() -> None:
    adam = Adam((1,), rate=0.5, steps=2)
    first = adam.step(np.array([1.0]), np.array([2.0]))
    second = adam.step(first, np.array([-1.0]))
    mean = (0.9 * 0.2 + 0.1 * -1.0) / (1 - 0.81)
    square = (0.999 * 0.004 + 0.001) / (1 - 0.999**2)
    assert abs(first[0] - 0.5) < 1e-8
    assert abs(second[0] - (first[0] - 0.25 * mean / square**0.5)) < 1e-8


class Quadratic:
    """A stand-in for a probe whose loss is quadratic in the bias of class 0, minimal at 40 codes."""

    samples = samples_of(MODEL)

    def __init__(self) -> None:
        self.programmed = 0

    def on(self, rows: object) -> Quadratic:
        return self

    def __call__(self, model: IntegerModel) -> float:
        self.programmed += 1
        bias = model.nodes[-1]
        assert isinstance(bias, Affine)
        return float((bias.offsets[0] / 16 - 2.5) ** 2)


def test_evolution_finds_the_minimum_of_a_quadratic_and_its_control_does_not() -> None:
    model = replace(MODEL, output_scale=Fraction(1, 16))
    found = {}
    for control in (False, True):
        probe = Quadratic()
        evolution = Evolution(steps=150, pairs=4, rate=0.1, random_signs=control)
        calibrated = evolution(Parameters(model, "output"), probe, np.random.default_rng(0))  # type: ignore[arg-type]
        bias = calibrated.nodes[-1]
        assert isinstance(bias, Affine)
        found[control] = int(bias.offsets[0])
        assert probe.programmed == evolution.evaluations == 1200
    assert abs(found[False] - 40) <= 4
    assert abs(found[True] - 40) > 8


@pytest.mark.slow
def test_calibration_repairs_a_faulty_chip_by_its_loss_alone() -> None:
    model = scaled(MODEL)
    samples = samples_of(MODEL)
    chip = FaultSpec(stuck=0.1, offset=1.0).draw(model, 1)
    probe = LossProbe(chip, samples)
    parameters = Parameters(model)
    evolution = Evolution(steps=60, batch=128)
    before = probe(model)
    after = probe(evolution(parameters, probe, np.random.default_rng(0)))
    control = probe(replace(evolution, random_signs=True)(parameters, probe, np.random.default_rng(0)))
    assert after < 0.8 * before
    assert control > after
    again = probe(evolution(parameters, probe, np.random.default_rng(0)))
    assert again == after


@pytest.mark.parametrize("weight_rate", [None, 0.02])
def test_readable_outputs_do_better(weight_rate: float | None) -> None:
    model = scaled(MODEL)
    samples = samples_of(MODEL)
    chip = FaultSpec(stuck=0.1, offset=1.0).draw(model, 1)
    loss = LossProbe(chip, samples)
    straight = StraightThrough(steps=200, batch=128, rate=0.03, weight_rate=weight_rate)
    calibrated = straight(Parameters(model), LogitProbe(chip, samples), np.random.default_rng(0))
    assert loss(calibrated) < 0.8 * loss(model)
    changed = any(
        (a.weights != b.weights).any() for a, b in zip(calibrated.nodes_of(MatMul), model.nodes_of(MatMul), strict=True)
    )
    assert changed is (weight_rate is not None)


def test_output_gradients_are_exact() -> None:
    """Behind the last matrix product everything is smooth: central differences must agree to their own error."""
    model = scaled(MODEL)
    parameters = Parameters(model, "output")
    labels = samples_of(MODEL).labels
    outputs = run(model, CODES)
    _, error = _error(outputs, labels, 0.25)
    gradient, weights = backpropagate(parameters, model, CODES, outputs, error)
    step = 1e-4

    def loss_at(scale: float, offset: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        logits = outputs * scale + offset
        peak = logits.max(axis=1, keepdims=True)
        logarithm = np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0] - logits[np.arange(len(labels)), labels]
        return float(logarithm.mean())

    zero = np.zeros(4)
    by_scale = (loss_at(0.25 * np.exp(0.3 * step), zero) - loss_at(0.25 * np.exp(-0.3 * step), zero)) / (2 * step)
    assert abs(by_scale - gradient[0]) < 1e-6
    for c in range(4):
        unit = np.eye(4)[c] * step
        assert abs((loss_at(0.25, unit) - loss_at(0.25, -unit)) / (2 * step) - gradient[1 + c]) < 1e-6
    assert {name: w.shape for name, w in weights.items()} == {
        node.name: node.weights.shape for node in model.nodes_of(MatMul)
    }


def test_the_loss_probe_gives_back_one_number() -> None:
    probe = LossProbe(Ideal(), samples_of(MODEL))
    loss = probe.on(np.arange(5))(MODEL)
    assert type(loss) is float
    codes: Codes = LogitProbe(Ideal(), samples_of(MODEL)).on(np.arange(5))(MODEL)
    assert loss == cross_entropy(codes, samples_of(MODEL).labels[:5], 1.0)
