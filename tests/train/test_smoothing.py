"""Surrogates, and the perturbations that they imply, against the closed forms of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from bitproof.train.smoothing import Smoothing, Staircase, implied_by
from bitproof.train.surrogates import SURROGATES, round_ste, sign_ste, slope_of_round

CLOSED_FORMS: dict[tuple[str, Staircase], float] = {
    ("identity", "round"): 1 / (2 * math.sqrt(3)),
    ("clipped", "round"): 1 / (2 * math.sqrt(3)),
    ("hardtanh", "sign"): 1 / math.sqrt(3),
    ("tanh", "sign"): math.pi / math.sqrt(12),
    ("approx-sign", "sign"): 1 / math.sqrt(6),
}


def closed_density(name: str, u: torch.Tensor) -> torch.Tensor:
    """Return p(u) as the paper states it: uniform, logistic, triangular."""
    if name == "tanh":
        eps_bar = math.pi / math.sqrt(12)
        return eps_bar * (1 - torch.tanh(eps_bar * u).square()) / 2
    if name == "approx-sign":
        half_width = math.sqrt(6)
        return (1 - u.abs() / half_width).clamp(min=0) / half_width
    return (u.abs() <= math.sqrt(3)).double() / (2 * math.sqrt(3))


@pytest.mark.parametrize(("name", "staircase"), CLOSED_FORMS)
def test_implied_smoothing_is_the_closed_form(name: str, staircase: Staircase) -> None:
    smoothing = implied_by(name, staircase)
    assert smoothing.eps_bar == pytest.approx(CLOSED_FORMS[name, staircase], rel=1e-9)
    u = torch.linspace(-3.05, 3.05, 401, dtype=torch.float64)
    torch.testing.assert_close(smoothing.density(u), closed_density(name, u), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["hardtanh", "tanh", "approx-sign"])
def test_inverse_undoes_the_surrogate_and_slope_is_its_derivative(name: str) -> None:
    surrogate = next(s for known, s in SURROGATES.items() if known == name)
    y = torch.linspace(-0.999, 0.999, 201, dtype=torch.float64)
    torch.testing.assert_close(surrogate.value(surrogate.inverse(y)), y)
    x = torch.linspace(-1.9, 1.9, 200, dtype=torch.float64).requires_grad_()
    (derivative,) = torch.autograd.grad(surrogate.value(x).sum(), x)
    torch.testing.assert_close(surrogate.slope(x.detach()), derivative)


@pytest.mark.parametrize(("name", "staircase"), CLOSED_FORMS)
def test_draws_have_mean_zero_variance_one_and_the_density(name: str, staircase: Staircase) -> None:
    smoothing: Smoothing = implied_by(name, staircase)
    draws = smoothing.draw([torch.zeros(200_000, dtype=torch.float64)], torch.Generator().manual_seed(0))[0]
    count = len(draws)
    assert abs(float(draws.mean())) <= 5 / math.sqrt(count)
    square_error = float(draws.square().std()) / math.sqrt(count)
    assert abs(float(draws.square().mean()) - 1) <= 5 * square_error
    below = (draws[:, None] <= torch.tensor([-1.0, -0.3, 0.4, 1.2], dtype=torch.float64)).double().mean(0)
    points = torch.linspace(-12, 12, 480_001, dtype=torch.float64)
    mass = smoothing.density(points) * float(points[1] - points[0])
    for found, at in zip(below.tolist(), (-1.0, -0.3, 0.4, 1.2), strict=True):
        expected = float(mass[points <= at].sum())
        assert abs(found - expected) <= 5 * math.sqrt(expected * (1 - expected) / count) + 1e-4


@pytest.mark.parametrize("name", ["hardtanh", "tanh", "approx-sign"])
def test_slope_of_the_smoothed_sign_is_the_surrogates(name: str) -> None:
    """E[sign(x + eps u)] = 1 - 2 P(u < -x / eps), so its derivative is 2 p(x / eps) / eps."""
    smoothing = implied_by(name, "sign")
    x = torch.linspace(-2, 2, 81, dtype=torch.float64)
    smoothed = 2 * smoothing.density(x / smoothing.eps_bar) / smoothing.eps_bar
    surrogate = next(s for known, s in SURROGATES.items() if known == name)
    torch.testing.assert_close(smoothed, surrogate.slope(x))


def test_unbounded_surrogate_of_sign_is_refused() -> None:
    with pytest.raises(ValueError, match="'identity' of sign is unbounded and implies no perturbation"):
        implied_by("identity", "sign")
    with pytest.raises(
        ValueError, match="surrogate = 'cubic'; allowed: identity, clipped, hardtanh, tanh, approx-sign"
    ):
        implied_by("cubic", "round")


@pytest.mark.parametrize("name", SURROGATES)
def test_forward_is_exact_and_backward_is_the_slope(name: str) -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, -0.25, 0.0, 0.5, 0.75, 1.5, 2.5, 7.3], requires_grad=True)
    rounded = round_ste(x, name)
    assert torch.equal(rounded, torch.round(x))
    rounded.sum().backward()
    assert x.grad is not None
    surrogate = next(s for known, s in SURROGATES.items() if known == name)
    expected = torch.ones_like(x) if name in ("identity", "clipped") else slope_of_round(surrogate, x.detach())
    assert torch.equal(x.grad, expected)
    x.grad = None
    signs = sign_ste(x, name)
    assert torch.equal(signs, torch.where(x >= 0, 1.0, -1.0))
    signs.sum().backward()
    assert torch.equal(x.grad, surrogate.slope(x.detach()))


@pytest.mark.parametrize("name", ["hardtanh", "tanh", "approx-sign"])
def test_slope_of_round_has_mean_one_over_a_cell(name: str) -> None:
    surrogate = next(s for known, s in SURROGATES.items() if known == name)
    x = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    assert float(slope_of_round(surrogate, x).mean()) == pytest.approx(1, abs=1e-4)
