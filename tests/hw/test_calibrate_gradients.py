"""What the calibrators descend on is the gradient that they claim: in sign, in size and, where it is drawn, in mean."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from integer_networks import random_network
from numpy.typing import NDArray

from bitproof.export.integer import Affine, IntegerModel, IntegerType, MatMul, Threshold, run, trace
from bitproof.hw.calibrate import Evolution, Parameters
from bitproof.hw.calibrate.backpropagation import backpropagate
from bitproof.pipeline import Codes

Reals = NDArray[np.float64]
Theta = list[Fraction]
UNIT = Fraction(3, 10)
"""By how much one unit of a parameter a stretches the thresholds."""
STEP = Fraction(1, 1000)
ROUNDING = 1e-12
"""Sums of at most 2000 float64 products, each below 4 in size: 2000 * 4 * 2^-53 is 8.9e-13."""


def network(widths: tuple[int, ...], first: int, spacing: int) -> IntegerModel:
    """Weights of plus and minus 1; thresholds *spacing* apart in channel 0, 2 more in every further one."""
    generator = np.random.default_rng(0)
    ternary, two_bits = IntegerType(2, signed=True), IntegerType(2, signed=False)
    nodes: list[MatMul | Threshold] = []
    for layer, (before, after) in enumerate(pairwise(widths)):
        weights = generator.choice(np.array([-1, 1]), (after, before))
        weights[:, 0] = 1
        nodes.append(MatMul(f"fc{layer}", weights, ternary))
        steps = spacing + 2 * np.arange(after)[:, None]
        thresholds = first - np.arange(after)[:, None] + steps * np.arange(3)
        nodes.append(Threshold(f"act{layer}", thresholds, two_bits, 0, np.zeros(after, dtype=np.bool_)))
    return IntegerModel("n", two_bits, Fraction(1), (widths[0],), tuple(nodes[:-1]), Fraction(1, 4))


def errors(samples: int, outputs: int) -> Reals:
    """Some gradient by the logits; with a fixed one the loss is linear in the logits."""
    return np.random.default_rng(4).integers(-8, 9, (samples, outputs)) / 8


def smoothed(accumulator: Fraction, thresholds: Theta, spacing: Fraction) -> Fraction:
    """Return the mean code over accumulators spread evenly over one *spacing* around *accumulator*."""
    shares = ((accumulator - threshold) / spacing + Fraction(1, 2) for threshold in thresholds)
    return sum((min(max(share, Fraction(0)), Fraction(1)) for share in shares), Fraction(0))


def moved(node: Threshold, values: list[Fraction], nominal: Codes, codes: Codes, theta: Theta) -> list[Fraction]:
    """Return *codes*, each moved by as much as its smoothed staircase moves from *nominal* to *values* and *theta*."""
    results = []
    for c in range(node.channels):
        a, b = theta[c], theta[node.channels + c]
        row = [Fraction(int(t)) for t in node.thresholds[c]]
        spacing, centre = row[1] - row[0], sum(row, Fraction(0)) / len(row)
        stretched = [centre + (t - centre) * (1 + UNIT * a) + b * spacing for t in row]
        after = smoothed(values[c], stretched, spacing * (1 + UNIT * a))
        results.append(int(codes[c]) + after - smoothed(Fraction(int(nominal[c])), row, spacing))
    return results


def linear_loss(model: IntegerModel, inputs: Codes, error: Reals, theta: Theta) -> Fraction:
    """Return ``sum(error * logits)``, exactly; *theta* holds a and b of every activation, as in Parameters."""
    values = trace(model, inputs)
    total = Fraction(0)
    for sample in range(len(inputs)):
        current = [Fraction(int(code)) for code in inputs[sample]]
        start, before = 1, ""
        for node in model.nodes:
            if isinstance(node, MatMul):
                rows = node.weights.tolist()
                current = [sum((w * c for w, c in zip(row, current, strict=True)), Fraction(0)) for row in rows]
            elif isinstance(node, Threshold):
                part = theta[start : start + 2 * node.channels]
                current = moved(node, current, values[before][sample], values[node.name][sample], part)
                start += 2 * node.channels
            before = node.name
        logits = (model.output_scale * c for c in current)
        total += sum(
            (Fraction(e) * logit for e, logit in zip(error[sample].tolist(), logits, strict=True)), Fraction(0)
        )
    return total


def test_gradients_of_stretch_and_shift_are_exactly_those_of_the_smoothed_staircases() -> None:
    """The spacings are odd, so that no accumulator lies on an edge, where a smoothed staircase has two slopes."""
    model = network((5, 4, 3, 3), first=-2, spacing=3)
    inputs = np.random.default_rng(3).integers(0, 4, (40, 5))
    error = errors(40, 3)
    parameters = Parameters(model, "thresholds")
    gradient, _ = backpropagate(parameters, model, inputs, run(model, inputs), error)
    stretches = {*range(1, 5), *range(9, 12)}  # the scale, then a and b of four channels, then of three
    for index in range(1, parameters.size):
        above, below = ([STEP * sign * (i == index) for i in range(parameters.size)] for sign in (1, -1))
        slope = (linear_loss(model, inputs, error, above) - linear_loss(model, inputs, error, below)) / (2 * STEP)
        if index in stretches:  # the loss is linear in 1 / (1 + 0.3 a): its central difference is known exactly
            slope *= 1 - (UNIT * STEP) ** 2
        assert slope != 0, "a parameter without influence checks nothing"
        assert abs(gradient[index] - float(slope)) <= ROUNDING, index


def test_the_gradient_of_a_shift_is_that_of_the_integer_models_on_both_sides() -> None:
    """The mean loss over shifts within 1/2 of b has the slope loss(b + 1/2) - loss(b - 1/2), edges included."""
    model = network((5, 3, 4), first=-1, spacing=2)
    inputs = np.array(list(product(range(4), repeat=5)))
    error = errors(len(inputs), 4)
    parameters = Parameters(model, "thresholds")
    gradient, _ = backpropagate(parameters, model, inputs, run(model, inputs), error)
    for channel in range(3):
        half = np.zeros(parameters.size)
        half[1 + 3 + channel] = 0.5
        above, below = (run(parameters.model_of(theta), inputs) for theta in (half, -half))
        assert gradient[1 + 3 + channel] == (error * (above - below)).sum() / 4 != 0


def test_a_stretch_of_one_moves_thresholds_by_three_tenths_of_their_distance_from_the_centre() -> None:
    weights = np.ones((1, 40), dtype=np.int64)  # reaches 0..120
    activation = Threshold(
        "act0", np.array([[40, 60, 80]]), IntegerType(2, signed=False), 0, np.zeros(1, dtype=np.bool_)
    )
    last = MatMul("fc1", np.ones((2, 1), dtype=np.int64), IntegerType(2, signed=True))
    nodes = (MatMul("fc0", weights, IntegerType(2, signed=True)), activation, last)
    parameters = Parameters(
        IntegerModel("n", IntegerType(2, signed=False), Fraction(1), (40,), nodes, Fraction(1)), "thresholds"
    )
    wider, narrower = (parameters.model_of(np.array([0.0, a, 0.0])).nodes_of(Threshold)[0] for a in (1.0, -1.0))
    assert (wider.thresholds.tolist(), narrower.thresholds.tolist()) == ([[34, 60, 86]], [[46, 60, 74]])


CURVATURE = np.array([1.0, 2.0, 0.5, 4.0])
MINIMUM = np.array([1.0, -2.0, 3.0, 0.5])
FINE = replace(
    random_network((20, 12, 8, 4), act_bits=(2,), weight_range=(-1, 1), input_bits=2), output_scale=Fraction(1, 1 << 30)
)
"""Its biases move in steps of 2^-30, so that their rounding is far below every bound."""
PARAMETERS = Parameters(FINE, "output")
THETA = np.array([0.0, 0.5, 0.0, -1.0, 0.25])
SLOPE = np.array([0.0, *(CURVATURE * (THETA[1:] - MINIMUM))])
SIGMA = 0.1
GRID = 1e-6
"""Rounding moves a loss by at most 4 * 6 * 2^-31 = 1.2e-8, so a difference over 2 sigma by 1.2e-7, times |u| < 6."""


def quadratic(model: IntegerModel) -> float:
    """``sum(curvature / 2 * (bias - minimum)^2)``; the scale, theta[0], has no influence."""
    bias = model.nodes[-1]
    assert isinstance(bias, Affine)
    return float((CURVATURE / 2 * (bias.offsets / (1 << 30) - MINIMUM) ** 2).sum())


def estimate(pairs: int, seed: int, *, random_signs: bool = False) -> Reals:
    directions, signs = np.random.default_rng(seed).spawn(2)
    evolution = Evolution(pairs=pairs, sigma=SIGMA, random_signs=random_signs)
    return evolution.estimate(PARAMETERS, quadratic, THETA, directions, signs)[0]


@pytest.mark.parametrize("seed", range(5))
def test_one_pair_gives_the_slope_along_its_direction_exactly(seed: int) -> None:
    """A quadratic has no third derivative: g = (u . grad L) u, whatever sigma."""
    direction = np.random.default_rng(seed).spawn(2)[0].standard_normal(5)
    assert np.abs(estimate(1, seed) - direction @ SLOPE * direction).max() <= GRID


@pytest.mark.slow
def test_the_mean_of_evolution_is_the_gradient_and_that_of_its_control_is_zero() -> None:
    """One pair's g_j has variance |grad L|^2 + (grad L)_j^2; five standard errors hold but once in 1.7 million draws.

    The control's sign is fair: its g_j has mean 0 and variance |grad L|^2 + 2 (grad L)_j^2.
    """
    pairs = 8000
    square = float(SLOPE @ SLOPE)
    bound = 5 * np.sqrt((square + SLOPE**2) / pairs) + GRID
    assert bound.max() < np.abs(SLOPE[1:]).max() / 4, "a gradient of half or twice the size must be seen"
    assert (np.abs(estimate(pairs, 0) - SLOPE) <= bound).all()
    control = estimate(pairs, 0, random_signs=True)
    assert (np.abs(control) <= 5 * np.sqrt((square + 2 * SLOPE**2) / pairs) + GRID).all()


@dataclass
class Recorder:
    """In the place of Adam: keeps what it is given and moves nothing."""

    seen: list[Reals] = field(default_factory=list)

    def step(self, parameters: Reals, gradient: Reals) -> Reals:
        self.seen.append(gradient)
        return parameters


class Probe:
    """In the place of a probe: the quadratic, whatever the batch."""

    samples = range(10)

    def on(self, rows: object) -> Probe:
        return self

    def __call__(self, model: IntegerModel) -> float:
        return quadratic(model)


def test_the_optimizer_is_given_the_estimate_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr("bitproof.hw.calibrate.evolution.Adam", lambda *_, **__: recorder)
    evolution = Evolution(steps=3, pairs=1, sigma=SIGMA)
    evolution(PARAMETERS, Probe(), np.random.default_rng(7))  # type: ignore[arg-type]  # stands for a LossProbe
    directions = np.random.default_rng(7).spawn(3)[0].standard_normal((3, 5))
    slope = np.array([0.0, *(-CURVATURE * MINIMUM)])
    for direction, gradient in zip(directions, recorder.seen, strict=True):
        assert np.abs(gradient - direction @ slope * direction).max() <= GRID
