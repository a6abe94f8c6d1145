"""Every estimator against closed forms: expectation, variance, the ends of its parameters, what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any
from weakref import finalize

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bitproof.pipeline.config import EstimatorConfig
from bitproof.train.estimators import (
    Adaptive,
    BiasCorrected,
    Estimator,
    Guided,
    Memory,
    Problem,
    Ramp,
    Ranks,
    Spsa,
    StraightThrough,
    Weighted,
    estimator_of,
)
from bitproof.train.estimators.directions import DistributionName, draw_noise
from bitproof.train.surrogates import round_ste, sign_ste

DISTRIBUTIONS: tuple[DistributionName, ...] = ("gaussian", "sphere", "uniform", "rademacher")


def spsa(directions: int = 1, delta: float = 0.5, distribution: DistributionName = "uniform") -> Spsa:
    return Spsa(directions, Ramp.constant(delta), distribution)


def gradients(estimator: Estimator, problem: Problem, seed: int, memory: Memory | None = None) -> list[Tensor]:
    for parameter in (*problem.parameters, *problem.others):
        parameter.grad = None
    estimator(problem, torch.Generator().manual_seed(seed), 1.0, {} if memory is None else memory)
    return [parameter.grad.clone() for parameter in problem.parameters if parameter.grad is not None]


def samples(estimator: Estimator, problem: Problem, draws: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(draws):
        for parameter in problem.parameters:
            parameter.grad = None
        estimator(problem, generator, 1.0, {})
        rows.append(torch.cat([p.grad.reshape(-1) for p in problem.parameters if p.grad is not None]))
    return torch.stack(rows)


def standard_errors(stacked: Tensor) -> Tensor:
    return stacked.std(0) / math.sqrt(len(stacked))


def problem_of(function: Callable[[Tensor], Tensor], values: Sequence[float], step: float = 1.0) -> Problem:
    parameter = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    steps = [torch.tensor(step, dtype=torch.float64)]
    return Problem(lambda: function(parameter), [parameter], steps=lambda: steps)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("delta", [0.3, 2.0])
def test_spsa_is_unbiased_on_a_quadratic_loss(distribution: DistributionName, delta: float) -> None:
    matrix = torch.tensor([[2.0, -1.0, 0.5], [-1.0, 1.0, 0.25], [0.5, 0.25, 3.0]], dtype=torch.float64)
    problem = problem_of(lambda w: w @ matrix @ w / 2 + w.sum(), [0.3, -0.7, 1.1], step=0.5)
    exact = matrix @ problem.parameters[0].detach() + 1
    stacked = samples(spsa(2, delta, distribution), problem, 2000)
    assert ((stacked.mean(0) - exact).abs() <= 5 * standard_errors(stacked)).all()
    assert ((stacked.mean(0) - 1.2 * exact).abs() > 5 * standard_errors(stacked)).any()  # negative control


EXTRA_VARIANCE = {"gaussian": 1.0, "sphere": -1.0, "rademacher": -1.0, "uniform": -0.2}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("directions", [1, 4])
def test_variance_of_spsa_on_a_linear_loss_is_the_closed_form(distribution: DistributionName, directions: int) -> None:
    slope = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    problem = problem_of(lambda w: w @ slope, [0.0] * 5)
    stacked = samples(spsa(directions, 1.0, distribution), problem, 2000)
    squares = (stacked - slope).square().sum(1)
    expected = float(slope.square().sum()) * (len(slope) + EXTRA_VARIANCE[distribution]) / directions
    error = float(squares.std()) / math.sqrt(len(squares))
    assert abs(float(squares.mean()) - expected) <= 5 * error


@pytest.mark.slow
def test_noise_is_uncorrelated_with_variance_one() -> None:
    like = [torch.zeros(2, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)]
    generator = torch.Generator().manual_seed(3)
    for distribution in DISTRIBUTIONS:
        draws = torch.stack([torch.cat(draw_noise(distribution, like, generator)) for _ in range(8_000)])
        products = draws[:, :, None] * draws[:, None, :]
        error = products.std(0) / math.sqrt(len(draws)) + 1e-12
        assert ((products.mean(0) - torch.eye(3, dtype=torch.float64)).abs() <= 5 * error).all(), distribution


def net_of_signs(w: Tensor) -> Tensor:
    """A loss of the signs alone, with an interaction: it has no derivative anywhere."""
    a, b, c = sign_ste(w).unbind()
    return a * b + 0.5 * c - 0.25 * a * b * c + 0.75 * b


WEIGHTS = [0.2, -0.35, 0.1]


@pytest.mark.slow
def test_gaussian_spsa_is_unbiased_for_the_enumerated_smoothed_loss_of_signs() -> None:
    """E L(sign(w + eps u)) is a sum over the 8 sign patterns, each with a product of normal probabilities."""
    eps = 0.5
    w = torch.tensor(WEIGHTS, dtype=torch.float64, requires_grad=True)
    above = torch.special.ndtr(w / eps)
    smoothed = torch.zeros((), dtype=torch.float64)
    for pattern in product((-1.0, 1.0), repeat=3):
        chances = [above[i] if s > 0 else 1 - above[i] for i, s in enumerate(pattern)]
        smoothed = smoothed + chances[0] * chances[1] * chances[2] * net_of_signs(torch.tensor(pattern))
    (exact,) = torch.autograd.grad(smoothed, w)
    stacked = samples(spsa(4, eps, "gaussian"), problem_of(net_of_signs, WEIGHTS), 2000)
    assert ((stacked.mean(0) - exact).abs() <= 5 * standard_errors(stacked)).all()
    straight = gradients(StraightThrough(), problem_of(net_of_signs, WEIGHTS), 0)[0]
    assert ((stacked.mean(0) - straight).abs() > 5 * standard_errors(stacked)).any()  # the STE is biased


def test_rademacher_spsa_on_signs_equals_its_enumeration() -> None:
    eps = 0.3
    w = torch.tensor(WEIGHTS, dtype=torch.float64)
    exact = torch.zeros(3, dtype=torch.float64)
    for pattern in product((-1.0, 1.0), repeat=3):
        u = torch.tensor(pattern, dtype=torch.float64)
        exact += (net_of_signs(w + eps * u) - net_of_signs(w - eps * u)) / (2 * eps) * u / 8
    stacked = samples(spsa(1, eps, "rademacher"), problem_of(net_of_signs, WEIGHTS), 2500)
    assert ((stacked.mean(0) - exact).abs() <= 5 * standard_errors(stacked)).all()


def test_rademacher_at_half_a_step_is_exactly_the_identity_surrogate_of_round() -> None:
    """Rounding one weight up or down: the two-sided difference over a whole step is 1, the identity's slope."""
    problem = problem_of(lambda w: round_ste(w / 0.25).sum(), [0.2, -0.35, 0.1], step=0.25)
    one = problem_of(lambda w: round_ste(w / 0.25).sum(), [0.2], step=0.25)
    straight = gradients(StraightThrough(), one, 0)[0]
    assert torch.equal(gradients(spsa(1, 0.5, "rademacher"), one, 0)[0], straight)
    stacked = samples(spsa(1, 0.5, "rademacher"), problem, 2000)
    assert ((stacked.mean(0) - 4.0).abs() <= 5 * standard_errors(stacked)).all()


def smooth(w: Tensor) -> Tensor:
    return (w**2).sum() / 2 + torch.sin(3 * w).sum()


def test_guided_goes_to_spsa_bit_for_bit_as_beta_goes_to_zero() -> None:
    problem = problem_of(smooth, WEIGHTS, step=0.5)
    nearly_none = Guided(1, Ramp.constant(1e-300), delta=0.4, distribution="gaussian")
    assert torch.equal(gradients(nearly_none, problem, 7)[0], gradients(spsa(1, 0.4, "gaussian"), problem, 7)[0])
    some = Guided(1, Ramp.constant(0.1), delta=0.4, distribution="gaussian")
    assert not torch.equal(gradients(some, problem, 7)[0], gradients(spsa(1, 0.4, "gaussian"), problem, 7)[0])


def test_guided_with_beta_one_is_the_straight_through_gradient_where_the_arithmetic_is_exact() -> None:
    problem = problem_of(lambda w: (4 * w).sum(), [2.0], step=0.5)
    guided = Guided(3, Ramp.constant(1.0), delta=0.25)
    assert torch.equal(gradients(guided, problem, 1)[0], gradients(StraightThrough(), problem, 1)[0])


@pytest.mark.parametrize(("noise", "progress"), [(0.01, 1.0), (0.01, 0.25), (1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("elements", [4, 100])
def test_noise_of_guided_is_the_power_of_its_noise_over_that_of_its_signal(
    elements: int, noise: float, progress: float
) -> None:
    """Rademacher u has the square d, so that the parts of one estimate are known, whichever signs were drawn.

    With the guide along the first weight, G is c (sqrt(beta) s + sqrt(1 - beta) u_1, sqrt(1 - beta) u_2, ...).
    """
    problem = problem_of(lambda w: 3 * w[0], [0.0] * elements, step=0.25)
    estimator = Guided(noise=noise, distribution="rademacher")
    estimator(problem, torch.Generator().manual_seed(1), progress, {})
    (parameter,) = problem.parameters
    assert parameter.grad is not None
    first, rest = parameter.grad[0], parameter.grad[1:]
    power = noise * progress  # grows linearly from 0
    along = {math.sqrt(1 - power / elements) + sign * math.sqrt(power / elements) for sign in (1, -1)}
    ratios = [power * (elements - 1) / elements / part**2 for part in along]
    found = float(rest.square().sum() / first.square())
    assert any(abs(found - ratio) <= 1e-6 * ratio for ratio in ratios)  # one root is taken in float32
    if noise:  # negative control: the noise of the same beta in a network twice as large
        assert not any(abs(found - 2 * ratio) <= 1e-2 * ratio for ratio in ratios)


def test_noise_and_beta_of_guided_say_the_same_for_one_size() -> None:
    problem = problem_of(smooth, WEIGHTS, step=0.5)
    by_noise, by_beta = Guided(noise=0.3), Guided(beta=Ramp(1.0, 1.0 - 0.3 / len(WEIGHTS)))
    assert torch.equal(gradients(by_noise, problem, 7)[0], gradients(by_beta, problem, 7)[0])
    assert not torch.equal(gradients(Guided(noise=0.2), problem, 7)[0], gradients(by_beta, problem, 7)[0])
    assert Guided(noise=0.01).beta_at(1.0, 59_008) == 1 - 0.01 / 59_008


@pytest.mark.parametrize(
    ("estimator", "end"),
    [
        (Weighted(spsa(3), Ramp.constant(1.0)), StraightThrough()),
        (Weighted(spsa(3), Ramp.constant(0.0)), spsa(3)),
        (BiasCorrected(spsa(3), decay=1.0), StraightThrough()),
        (BiasCorrected(spsa(3), decay=0.0), spsa(3)),
        (Adaptive(spsa(3), 0.9, phase=Ramp.constant(0.0)), StraightThrough()),
        (Adaptive(spsa(3), 0.0, phase=Ramp.constant(1.0)), spsa(3)),
    ],
    ids=["alpha 1", "alpha 0", "decay 1", "decay 0", "phase 0", "no memory"],
)
def test_ends_of_the_parameters_are_ste_or_spsa_bit_for_bit(estimator: Estimator, end: Estimator) -> None:
    problem = problem_of(smooth, WEIGHTS)
    memory: Memory = {}
    gradients(estimator, problem, 1, memory)  # an adaptive estimator needs two steps to measure a variance
    found, expected = gradients(estimator, problem, 2, memory)[0], gradients(end, problem, 2)[0]
    assert torch.equal(found, expected)
    other = spsa(3) if isinstance(end, StraightThrough) else StraightThrough()
    assert not torch.equal(found, gradients(other, problem, 2)[0])


def test_weighted_is_the_average_of_the_two() -> None:
    problem = problem_of(smooth, WEIGHTS)
    blend = gradients(Weighted(spsa(2), Ramp.constant(0.25)), problem, 5)[0]
    first, zeroth = gradients(StraightThrough(), problem, 5)[0], gradients(spsa(2), problem, 5)[0]
    torch.testing.assert_close(blend, 0.25 * first + 0.75 * zeroth)


def biased(problem: Problem, factor: float) -> Problem:
    """Return the problem with a first-order gradient that is *factor* times too large."""

    def backward(loss: Tensor) -> None:
        loss.backward()
        for parameter in problem.parameters:
            assert parameter.grad is not None
            parameter.grad.mul_(factor)

    return Problem(problem.loss, problem.parameters, backward=backward, steps=problem.steps)


def test_bias_correction_removes_the_bias_at_fixed_parameters() -> None:
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    problem = biased(problem_of(lambda w: w @ slope, WEIGHTS), 3.0)
    memory: Memory = {}
    estimator, steps, decay = BiasCorrected(spsa(4, 1.0, "rademacher"), 0.98), 600, 0.98
    for seed in range(steps):
        found = gradients(estimator, problem, seed, memory)[0]
    # rademacher, linear loss: coordinate i has variance (|g|^2 - g_i^2) / n; a running mean (1 - d) / (1 + d) times it
    variance = (slope.square().sum() - slope.square()) / 4 * (1 - decay) / (1 + decay)
    assert ((found - slope).abs() <= 5 * variance.sqrt() + 3 * slope.abs() * decay**steps).all()
    assert ((gradients(StraightThrough(), problem, 0)[0] - slope).abs() > 5 * variance.sqrt()).any()


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "directions"), [(1.0, 1), (1.5, 4), (3.0, 16)])
def test_adaptive_weight_is_the_best_one_for_the_measured_bias_and_variance(factor: float, directions: int) -> None:
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    problem = biased(problem_of(lambda w: w @ slope, WEIGHTS), factor)
    memory: Memory = {}
    estimator = Adaptive(spsa(directions, 1.0, "rademacher"), 0.995)
    for seed in range(1500):
        gradients(estimator, problem, seed, memory)
    square = float(slope.square().sum())
    variance, bias = square * (len(slope) - 1) / directions, (factor - 1) ** 2 * square
    assert float(memory["alpha"]) == pytest.approx(variance / (variance + bias), abs=0.08)


@pytest.mark.parametrize("directions", [1, 5])
def test_cost_is_the_claimed_number_of_passes(directions: int) -> None:
    passes = 0

    def counted(w: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        return smooth(w)

    problem = problem_of(counted, WEIGHTS)
    zeroth = spsa(directions)
    for estimator in (
        StraightThrough(),
        Guided(directions),
        Weighted(zeroth, Ramp.constant(0.5)),
        BiasCorrected(zeroth, 0.9),
        Adaptive(zeroth, 0.9),
    ):
        passes = 0
        gradients(estimator, problem, 0)
        assert passes == 1 + estimator.extra_forward_passes


ESTIMATORS: tuple[Estimator, ...] = (
    spsa(3),
    Guided(3),
    Weighted(spsa(3), Ramp.constant(0.5)),
    BiasCorrected(spsa(3), 0.9),
    Adaptive(spsa(3), 0.9),
)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_parameters_come_back_bit_for_bit_and_others_keep_backpropagation(estimator: Estimator) -> None:
    weights = torch.randn(50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    bias = torch.tensor(0.25, requires_grad=True)
    before = weights.detach().clone()
    problem = Problem(lambda: (round_ste(3 * weights) * (1 + bias)).square().sum(), [weights], [bias])
    estimator(problem, torch.Generator().manual_seed(1), 0.5, {})
    assert torch.equal(weights.detach(), before)
    assert weights.grad is not None
    assert bias.grad is not None
    expected = torch.autograd.grad((round_ste(3 * weights) * (1 + bias)).square().sum(), bias)[0]
    assert torch.equal(bias.grad, expected)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_parameters_come_back_when_a_pass_fails(estimator: Estimator) -> None:
    weights = torch.ones(3, requires_grad=True)

    def fail() -> Tensor:
        if not torch.equal(weights.detach(), torch.ones(3)):
            raise InterruptedError
        return weights.sum()

    with pytest.raises(InterruptedError):
        estimator(Problem(fail, [weights]), torch.Generator().manual_seed(1), 0.5, {})
    assert torch.equal(weights.detach(), torch.ones(3))


@pytest.mark.parametrize("shard", [False, True])
def test_processes_with_parts_of_the_batch_agree_with_the_joint_loss(shard: bool) -> None:
    """Two processes, played in turn: each total() of one meets that of the other."""
    parts = [torch.tensor([1.0, -2.0]), torch.tensor([0.5, 4.0])]
    count = 4

    def differences(part: Tensor) -> list[Tensor]:
        seen: list[Tensor] = []

        def record(tensor: Tensor) -> Tensor:
            seen.append(tensor.clone())
            return tensor

        weights = torch.tensor([0.3, -0.7], requires_grad=True)
        ranks = Ranks(0 if part is parts[0] else 1, 2, record, shard)
        gradients(spsa(count), Problem(lambda: (part * weights).square().sum(), [weights], ranks=ranks), 0)
        return seen

    first, second = (differences(part) for part in parts)
    assert sum(tensor.numel() for tensor in first) == count  # scalars only
    totals = iter([a + b for a, b in zip(first, second, strict=True)])
    weights = torch.tensor([0.3, -0.7], requires_grad=True)
    ranks = Ranks(0, 2, lambda _: next(totals), shard)
    found = gradients(spsa(count), Problem(lambda: (parts[0] * weights).square().sum(), [weights], ranks=ranks), 0)[0]

    def loss(part: Tensor, at: Tensor) -> Tensor:
        return (part * at).square().sum()

    if not shard:
        joint = Problem(lambda: (loss(parts[0], weights) + loss(parts[1], weights)) / 2, [weights])
        torch.testing.assert_close(found, gradients(spsa(count), joint, 0)[0])
        return
    generator, expected, eps = torch.Generator().manual_seed(0), torch.zeros(2), 0.5
    for index in range(count):  # each direction saw one process' part alone
        (u,) = draw_noise("uniform", [weights], generator)
        part, at = parts[index % 2], weights.detach()
        expected += (loss(part, at + eps * u) - loss(part, at - eps * u)) / (2 * eps * count) * u
    torch.testing.assert_close(found, expected)


class Watch(TorchDispatchMode):  # type: ignore[misc]  # torch is skipped by mypy
    """Counts the bytes of all storages that operations under it make and that are alive together; *old* are not new."""

    def __init__(self, old: Sequence[Tensor]) -> None:
        super().__init__()
        self._old = {tensor.untyped_storage().data_ptr() for tensor in old}
        self._alive: dict[int, int] = {}
        self.peak_bytes = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            storage = result.untyped_storage()
            key = storage.data_ptr()
            if key not in self._old and key not in self._alive:
                self._alive[key] = storage.nbytes()
                finalize(storage, self._alive.pop, key, None)
            self.peak_bytes = max(self.peak_bytes, sum(self._alive.values()))
        return result


def test_memory_at_one_direction_is_three_times_the_parameters() -> None:
    weights = torch.randn(100_000, requires_grad=True)
    weights.grad = torch.randn(100_000)
    problem = Problem(lambda: torch.dot(weights, weights), [weights], backward=lambda _: None)
    watch = Watch([weights, weights.grad])
    with watch:
        Guided(1, Ramp.constant(0.9))(problem, torch.Generator(), 1.0, {})
    assert 2 * 400_000 < watch.peak_bytes <= 3 * 400_000 + 1000  # and a few scalars


def test_ramps_have_exact_ends() -> None:
    assert [Ramp(1.0, 0.9999).at(p) for p in (0.0, 1.0)] == [1.0, 0.9999]
    assert Ramp(1.0, 0.01, "geometric").at(0.5) == pytest.approx(0.1)
    assert Ramp.constant(0.3).at(0.7) == 0.3
    with pytest.raises(ValueError, match=r"a geometric ramp from 0\.0 to 1\.0; allowed: both above 0"):
        Ramp(0.0, 1.0, "geometric")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spsa(0), "allowed: directions >= 1 and delta > 0"),
        (lambda: spsa(1, 0.0), "allowed: directions >= 1 and delta > 0"),
        (lambda: Weighted(spsa(), Ramp(0.5, 1.5)), "allowed: 0 <= alpha <= 1"),
        (lambda: BiasCorrected(spsa(), -0.1), "allowed: 0 <= decay <= 1"),
        (lambda: Adaptive(spsa(), 1.0), "allowed: 0 <= decay < 1"),
        (lambda: Guided(delta=-1.0), "allowed: delta > 0"),
        (lambda: Guided(delta=math.nan), "allowed: delta > 0"),
        (lambda: Guided(noise=-0.1), "noise = -0.1; allowed: 0 <= noise <= 1"),
        (lambda: Guided(noise=math.nan), "allowed: 0 <= noise <= 1"),
        (lambda: spsa(1, math.nan), "allowed: directions >= 1 and delta > 0"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], Estimator], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_config_names_every_estimator_and_refuses_options_without_effect() -> None:
    kinds = {"ste": StraightThrough, "spsa": Spsa, "weighted": Weighted, "guided": Guided}
    for name, kind in {**kinds, "bias-corrected": BiasCorrected, "adaptive": Adaptive}.items():
        config = EstimatorConfig.model_validate({"name": name})
        assert isinstance(estimator_of(config), kind)
    chosen = estimator_of(EstimatorConfig(name="spsa", directions=7, delta=0.5, delta_end=0.1, distribution="sphere"))
    assert chosen == Spsa(7, Ramp(0.5, 0.1, "geometric"), "sphere")
    with pytest.raises(ValueError, match=r"beta_min = 0\.5 has no effect on the estimator 'spsa'; its options: delta"):
        EstimatorConfig(name="spsa", beta_min=0.5)
    with pytest.raises(
        ValueError, match=r"noise = 0\.5 has no effect on the estimator 'ste'; its options: name, start"
    ):
        EstimatorConfig(noise=0.5)


@pytest.mark.parametrize(("noise", "beta_min"), [(0.01, 0.9999), (0.5, 0.9999), (None, None)])
def test_noise_of_guided_is_said_once(noise: float | None, beta_min: float | None) -> None:
    with pytest.raises(ValueError, match=rf"noise = {noise}, beta_min = {beta_min}: each says how much noise"):
        EstimatorConfig(name="guided", noise=noise, beta_min=beta_min)


@pytest.mark.parametrize("options", [{}, {"noise": 0.5}, {"beta_min": 0.9999}])
def test_configuration_of_guided_survives_being_written_and_read(options: dict[str, float]) -> None:
    config = EstimatorConfig.model_validate({"name": "guided", **options})
    assert EstimatorConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.noise == (None if "beta_min" in options else options.get("noise", 0.01))
