"""The estimators on closed forms, and on a real network: what they write, and that they leave no trace."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial

import brevitas.nn as qnn
import pytest
import torch
from torch import nn

from bitproof.pipeline import InputError
from bitproof.pipeline.config import EstimatorConfig, ModelConfig
from bitproof.train.device_split import real_outputs
from bitproof.train.estimators import Guided, Problem, Ramp, StraightThrough, schedule_of
from bitproof.train.extra_passes import statistics_collected, traceless
from bitproof.train.frozen import Forward
from bitproof.train.layers import quantized_weights, require_fixed_steps
from bitproof.train.models import build
from bitproof.train.network_problem import NetworkProblem

STEPS = (0.5, 0.125)
IDENTITY_SMOOTHING = 1 / (2 * math.sqrt(3))

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")


def quadratic(seed: int = 0) -> tuple[Problem, list[torch.Tensor]]:
    """Return the loss (a . x + b . y)^2 / 2 + c . x + d . y in double precision, and its exact gradient at (x, y)."""
    generator = torch.Generator().manual_seed(seed)
    x, y, a, b, c, d = (torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(6))
    parameters = [x.requires_grad_(), y.requires_grad_()]

    def loss() -> torch.Tensor:
        inner = (a * parameters[0]).sum() + (b * parameters[1]).sum()
        return inner**2 / 2 + (c * parameters[0]).sum() + (d * parameters[1]).sum()

    inner = float(((a * x).sum() + (b * y).sum()).detach())
    problem = Problem(loss, parameters, steps=lambda: [torch.tensor(step) for step in STEPS])
    return problem, [a * inner + c, b * inner + d]


def test_straight_through_writes_the_backpropagated_gradient() -> None:
    problem, exact = quadratic()
    value = StraightThrough()(problem, torch.Generator(), 0.5, {})
    assert not value.requires_grad
    for parameter, gradient in zip(problem.parameters, exact, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("directions", [1, 3])
def test_guided_with_beta_one_is_the_gradient_scaled_by_measured_over_predicted_slope(directions: int) -> None:
    problem, exact = quadratic()
    before = [parameter.detach().clone() for parameter in problem.parameters]
    Guided(directions, Ramp(1.0, 0.5))(problem, torch.Generator().manual_seed(1), 0.0, {})  # beta = 1
    # a quadratic has no odd terms beyond the first: the two-sided difference measures its slope exactly, so k = 1
    for parameter, gradient, start in zip(problem.parameters, exact, before, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)
        assert torch.equal(parameter.detach(), start)


@pytest.mark.slow
def test_guided_expectation_is_the_claimed_mixture_within_five_standard_errors() -> None:
    beta, draws = 0.6, 4000
    plain, exact = quadratic()

    def biased_backward(loss: torch.Tensor) -> None:
        loss.backward()
        plain.parameters[0].grad.mul_(-0.5)

    problem = replace(plain, backward=biased_backward)
    epsilons = [step * IDENTITY_SMOOTHING for step in STEPS]
    slopes = torch.cat([epsilon * gradient for epsilon, gradient in zip(epsilons, exact, strict=True)])
    guide = slopes * torch.tensor([-0.5] * 4 + [1.0] * 4, dtype=torch.float64)
    unit = guide / guide.norm()
    expected_phi = beta * unit * (unit @ slopes) + (1 - beta) * slopes
    generator = torch.Generator().manual_seed(2)
    samples = []
    for _ in range(draws):
        for parameter in problem.parameters:
            parameter.grad = None
        Guided(1, Ramp(1.0, beta))(problem, generator, 1.0, {})
        gradients = [parameter.grad for parameter in problem.parameters]
        samples.append(torch.cat([e * g for e, g in zip(epsilons, gradients, strict=True) if g is not None]))
    stacked = torch.stack(samples)
    standard_error = stacked.std(0) / math.sqrt(draws)
    assert ((stacked.mean(0) - expected_phi).abs() <= 5 * standard_error).all()
    # negative control: neither the gradient nor the guide is within the bounds
    for other in (slopes, unit * (unit @ slopes)):
        assert ((stacked.mean(0) - other).abs() > 5 * standard_error).any()


def test_zero_gradient_gives_a_finite_estimate() -> None:
    flat = torch.zeros(3, requires_grad=True)

    def loss() -> torch.Tensor:
        return (0 * flat).sum()

    problem = Problem(loss, [flat])
    Guided(1, Ramp(1.0, 0.9))(problem, torch.Generator().manual_seed(0), 1.0, {})
    assert flat.grad is not None
    assert torch.equal(flat.grad, torch.zeros(3))


@pytest.mark.parametrize(("directions", "beta_min"), [(0, 0.5), (1, 0.0), (1, 1.5)])
def test_options_out_of_range_are_refused(directions: int, beta_min: float) -> None:
    with pytest.raises(ValueError, match="allowed: directions >= 1 and 0 < beta <= 1"):
        Guided(directions, Ramp(1.0, beta_min))


def test_schedule_waits_for_its_start_and_for_the_statistics() -> None:
    schedule = schedule_of(EstimatorConfig(name="guided", start=0.8))
    assert isinstance(schedule.at(79, 100, ready=True)[0], StraightThrough)
    assert isinstance(schedule.at(90, 100, ready=False)[0], StraightThrough)
    assert schedule.at(80, 100, ready=True) == (Guided(noise=0.01), 0.0)
    assert schedule.at(90, 100, ready=True) == (Guided(noise=0.01), 0.5)
    by_beta = schedule_of(EstimatorConfig(name="guided", beta_min=0.999))
    assert by_beta.at(90, 100, ready=True) == (Guided(1, Ramp(1.0, 0.999), noise=0.0), 0.5)
    assert isinstance(schedule_of(EstimatorConfig(name="ste")).at(99, 100, ready=True)[0], StraightThrough)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Return a small network in training mode whose quantizers have collected their statistics."""
    torch.manual_seed(0)
    network = build(ModelConfig(name="mlp", hidden=(8, 8), weight_bits=2, act_bits=4), 16, 4)
    assert not statistics_collected(network)
    for module in network.modules():
        if hasattr(module, "collect_stats_steps"):
            module.collect_stats_steps = 3  # of 300, for a fast test
    for _ in range(5):
        network(torch.rand(32, 16))
    assert statistics_collected(network)
    return network


def full_state(network: nn.Module) -> dict[str, object]:
    """Return everything that a pass could change: tensors, modes, Python counters, momenta, random streams."""
    state: dict[str, object] = {f"parameter {name}": p.detach().clone() for name, p in network.named_parameters()}
    state |= {f"buffer {name}": buffer.clone() for name, buffer in network.named_buffers()}
    for name, module in network.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, int | float | bool | None):
                state[f"attribute {name}.{key}"] = value
    state["random stream"] = torch.get_rng_state()
    return state


def differing(before: dict[str, object], after: dict[str, object]) -> list[str]:
    assert before.keys() == after.keys()
    return [
        key
        for key, value in before.items()
        if (not torch.equal(value, after[key]) if isinstance(value, torch.Tensor) else value != after[key])
    ]


def problem_of(network: nn.Module) -> Problem:
    generator = torch.Generator().manual_seed(4)
    values, labels = torch.rand(32, 16, generator=generator), torch.randint(4, (32,), generator=generator)

    def loss(forward: Forward) -> torch.Tensor:
        return nn.functional.cross_entropy(real_outputs(forward, values), labels)

    return NetworkProblem(network, quantized_weights(network), lambda loss: loss.backward()).of(
        partial(loss, network), loss
    )


def test_guided_leaves_the_network_as_plain_backpropagation_leaves_it(network: nn.Module) -> None:
    plain, guided = copy.deepcopy(network).train(), copy.deepcopy(network).train()
    StraightThrough()(problem_of(plain), torch.Generator(), 0.0, {})
    Guided(4, Ramp(1.0, 0.9))(problem_of(guided), torch.Generator().manual_seed(5), 1.0, {})
    assert differing(full_state(plain), full_state(guided)) == []


def test_extra_passes_change_nothing_and_plain_passes_would(network: nn.Module) -> None:
    network.train()
    problem = problem_of(network)
    before = full_state(network)
    with problem.measuring() as measured:
        inside = measured()
    assert differing(before, full_state(network)) == []
    outside = problem.loss()
    assert torch.equal(inside, outside.detach())  # the same loss as the training pass
    changed = differing(before, full_state(network))  # negative control
    assert any("running_mean" in key for key in changed)
    assert any("num_batches_tracked" in key for key in changed)


def test_extra_passes_do_not_advance_the_counters_of_statistics() -> None:
    torch.manual_seed(0)
    young = build(ModelConfig(name="mlp", hidden=(8,), weight_bits=2, act_bits=4), 16, 4)
    young(torch.rand(32, 16))
    before = full_state(young)
    with traceless(young):
        young(torch.rand(32, 16, generator=torch.Generator().manual_seed(0)))
    assert differing(before, full_state(young)) == []
    young(torch.rand(32, 16, generator=torch.Generator().manual_seed(0)))
    assert any(key.endswith(".counter") for key in differing(before, full_state(young)))


def test_only_quantized_weights_get_the_estimate(network: nn.Module) -> None:
    gradients = []
    for estimator in (StraightThrough(), Guided(1, Ramp(1.0, 0.9))):
        fresh = copy.deepcopy(network).train()
        estimator(problem_of(fresh), torch.Generator().manual_seed(6), 1.0, {})
        gradients.append({name: p.grad for name, p in fresh.named_parameters() if p.grad is not None})
    plain, guided = gradients
    estimated = [name for name in plain if not torch.equal(plain[name], guided[name])]
    assert estimated == ["1.weight", "4.weight", "7.weight"]
    assert {"2.weight", "2.bias", "1.weight_quant.tensor_quant.scaling_impl.value"} <= plain.keys()


def test_scales_that_follow_the_weights_are_refused(network: nn.Module) -> None:
    require_fixed_steps(network)
    with pytest.raises(InputError, match="computes its scale from the weights at every pass"):
        require_fixed_steps(nn.Sequential(qnn.QuantLinear(4, 4, bias=False)))


def test_network_without_quantized_weights_is_refused() -> None:
    with pytest.raises(InputError, match="has no quantized weights"):
        quantized_weights(nn.Sequential(nn.Linear(2, 2)))
