"""Two processes (gloo) against one process that sees the joint batch.

Bounds. All scales of the network are powers of two, so the logits of a sample are exact multiples of a power of two:
the same bits in any batch. The derivative of the loss by the logits is row by row, and dividing by 32 or by 16 and then
2 is exact. What is left is the order of sums. A sum of terms, of which each meets at most m roundings, is off by at
most gamma(m) times the sum of their absolute values, gamma(m) = m u / (1 - m u), u = 2^-24; two ways of summing differ
by at most twice that (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, chapter 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import joint_updates
import pytest
import torch
from joint_updates import BATCH
from torch import Tensor, nn
from training_tasks import CLASSES, ready_task

from bitproof.pipeline import ConfigError, InputError, StageError
from bitproof.pipeline.config import EstimatorConfig, TrainConfig
from bitproof.train.devices import launch, make_fabric
from bitproof.train.estimators.directions import draw_noise
from bitproof.train.smoothing import implied_by

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = [pytest.mark.filterwarnings("ignore:Named tensors:UserWarning"), pytest.mark.xdist_group("distributed")]

ONE = TrainConfig(epochs=3, batch_size=BATCH, lr=0.02, device="cpu", patience=2)
TWO = ONE.model_copy(update={"devices": 2})
N = 2
ESTIMATORS = {
    "ste": EstimatorConfig(name="ste"),
    "spsa": EstimatorConfig(name="spsa", directions=N),
    "sharded": EstimatorConfig(name="spsa", directions=N, shard_directions=True),
    "guided": EstimatorConfig(name="guided", directions=N, beta_min=0.5),
    "adaptive": EstimatorConfig(name="adaptive", directions=N),
}
WEIGHTS = ("1.weight", "3.weight")
Content = dict[str, dict[str, Tensor]]


def gamma(roundings: int) -> float:
    return roundings * 2**-24 / (1 - roundings * 2**-24)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int, int], Content]:
    """Do every work in one process and in two, and return what process *rank* of *world* left of a work."""
    root = tmp_path_factory.mktemp("results")
    for world, config in ((1, ONE), (2, TWO)):
        works = []
        for name, estimator in ESTIMATORS.items():
            folder = root / f"{name} {world}"
            folder.mkdir()
            works.append(partial(joint_updates.one_gradient, estimator, folder))
            whole = root / f"whole {name} {world}"
            whole.mkdir()
            works.append(
                partial(joint_updates.whole_training, config.model_copy(update={"estimator": estimator}), whole)
            )
        for cut in (None, 5):
            folder = root / f"cut at {cut} {world}"
            folder.mkdir()
            works.append(partial(joint_updates.cut_training, config, folder, cut))
        launch(config, partial(joint_updates.one_after_another, works))

    def read(name: str, rank: int, world: int) -> Content:
        content: Content = torch.load(root / f"{name} {world}" / f"{rank}.pt", weights_only=True)
        return content

    return read


def batch() -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network and the joint batch that the works use."""
    task = ready_task()
    chosen = torch.arange(BATCH, 2 * BATCH)
    return task.network, task.dataset.train.values(chosen), task.dataset.train.labels[chosen]


def logits_and_slopes(network: nn.Module, values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = network(values)
    loss = nn.functional.cross_entropy(logits, labels)
    (slopes,) = torch.autograd.grad(loss, logits)
    return logits.detach(), slopes


def test_premise_of_the_bounds_logits_and_their_slopes_are_the_same_bits_in_half_a_batch() -> None:
    network, values, labels = batch()
    logits, slopes = logits_and_slopes(network, values, labels)
    for half in (slice(0, BATCH // 2), slice(BATCH // 2, BATCH)):
        half_logits, half_slopes = logits_and_slopes(network, values[half], labels[half])
        assert torch.equal(half_logits, logits[half])
        assert torch.equal(half_slopes / 2, slopes[half])


def gradient_bounds() -> dict[str, Tensor]:
    """Return how far the gradients of two orders of summation can be apart.

    Last layer: sum over the batch of slope times activation: a product and at most BATCH - 1 additions. First layer:
    the slope is itself a sum over the classes. Rounding of weights and activations passes gradients as they are or not
    at all, and multiplies and divides them by powers of two.
    """
    network, values, labels = batch()
    _, slopes = logits_and_slopes(network, values, labels)
    with torch.no_grad():
        hidden = network[:3](values).value.double()
        second = network[3].quant_weight().value.double().abs()
    slopes, inputs = slopes.double().abs(), values.double().abs()
    return {
        "1.weight": 2 * gamma(BATCH + CLASSES + 1) * (slopes @ second).T @ inputs,
        "3.weight": 2 * gamma(BATCH) * slopes.T @ hidden,
    }


@pytest.mark.slow
def test_straight_through_gradient_of_two_processes_is_that_of_the_joint_batch(
    results: Callable[[str, int, int], Content],
) -> None:
    joint, first, second = results("ste", 0, 1), results("ste", 0, 2), results("ste", 1, 2)
    bounds = gradient_bounds()
    for name in WEIGHTS:
        assert torch.equal(first["gradients"][name], second["gradients"][name])
        apart = (first["gradients"][name] - joint["gradients"][name]).abs()
        assert (apart <= bounds[name]).all()
    # negative control: the gradient of one half is out of the bounds, and so is a hundredth of a percent
    network, values, labels = batch()
    nn.functional.cross_entropy(network(values[: BATCH // 2]), labels[: BATCH // 2]).backward()
    expected, bound = joint["gradients"]["3.weight"], bounds["3.weight"]
    alive = bound > 0  # units that are 0 for every sample have no gradient in any half
    assert alive.any()
    assert ((network[3].weight.grad - expected).abs() > bound)[alive].all()
    assert ((expected * 1e-4).abs() > bound).any()


Direction = tuple[list[Tensor], list[Tensor]]
"""One tensor a weight, and how far those of the network may be from it."""


def plain_directions() -> list[Direction]:
    """Return what ``spsa`` draws: the same bits everywhere."""
    network, _, _ = batch()
    weights = [network[1].weight, network[3].weight]
    generator = torch.Generator().manual_seed(3)
    drawn = [draw_noise("uniform", weights, generator) for _ in range(N)]
    return [(parts, [torch.zeros_like(part) for part in parts]) for parts in drawn]


def leaning_directions(gradients: dict[str, Tensor]) -> list[Direction]:
    """Return what ``guided`` draws around the joint batch's *gradients*, at beta = 0.75.

    The guide h / |h| moves by at most |dh| / |h| + |h_k| |dh| / |h|^2, where dh is the bound of the gradients in units
    of epsilon; a hundredth is put on top for the second order. Its length is a sum of d squares.
    """
    network, _, _ = batch()
    bounds = gradient_bounds()
    generator = torch.Generator().manual_seed(3)
    smoothing = implied_by("identity", "round")
    with torch.no_grad():
        epsilons = [smoothing.eps_bar * float(layer.quant_weight().scale) for layer in (network[1], network[3])]
    guide = [epsilon * gradients[name].double() for name, epsilon in zip(WEIGHTS, epsilons, strict=True)]
    moves = [1.01 * epsilon * bounds[name] for name, epsilon in zip(WEIGHTS, epsilons, strict=True)]
    length = math.sqrt(sum(float(part.square().sum()) for part in guide))
    moved = math.sqrt(sum(float(part.square().sum()) for part in moves))
    roundings = gamma(sum(part.numel() for part in guide) + 12)
    directions = []
    for _ in range(N):
        noise = smoothing.draw([network[1].weight, network[3].weight], generator)
        sign = 2 * int(torch.randint(2, (), generator=generator)) - 1
        parts = [
            0.5 * u.double() + math.sqrt(0.75) * sign * part / length for u, part in zip(noise, guide, strict=True)
        ]
        slack = [
            math.sqrt(0.75) * (move / length + part.abs() * (moved / length**2 + roundings / length))
            + roundings * u.abs()
            for move, part, u in zip(moves, guide, noise, strict=True)
        ]
        directions.append((parts, slack))
    return directions


def estimate_by_hand(
    directions: list[Direction], halves: list[list[slice]]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the estimate in which direction i is measured on the mean over *halves[i]*, and a bound on its rounding.

    The loss of a sample from its logits, log sum exp, is off by at most gamma(10) (1 + loss), the mean over a batch by
    gamma(BATCH) more; a difference of two losses by the sum of both. Products with direction and epsilon and the sum
    over directions add at most n + 6 roundings of each term. No perturbed weight is so near to a boundary of its codes
    that a rounding moves it to the other side.
    """
    network, values, labels = batch()
    weights = [network[1].weight, network[3].weight]
    delta = implied_by("identity", "round").eps_bar
    estimates = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]
    bounds = [torch.zeros_like(estimate) for estimate in estimates]
    with torch.no_grad():
        epsilons = [delta * float(layer.quant_weight().scale) for layer in (network[1], network[3])]
        start = [weight.clone() for weight in weights]
        for (direction, slack), parts in zip(directions, halves, strict=True):
            losses = []
            for side in (1, -1):
                for weight, before, part, epsilon in zip(weights, start, direction, epsilons, strict=True):
                    weight.copy_(before + side * epsilon * part)
                logits = network(values).double()
                losses.append(sum(float(nn.functional.cross_entropy(logits[p], labels[p])) for p in parts) / len(parts))
            difference = losses[0] - losses[1]
            error = gamma(BATCH + 10) * (2 + sum(losses)) + gamma(N + 6) * abs(difference)
            for index, epsilon in enumerate(epsilons):
                estimates[index] += difference * direction[index] / (2 * N * epsilon)
                off = error * direction[index].abs() + abs(difference) * slack[index]
                bounds[index] += off / (2 * N * epsilon)
    return dict(zip(WEIGHTS, estimates, strict=True)), dict(zip(WEIGHTS, bounds, strict=True))


FIRST, SECOND = slice(0, BATCH // 2), slice(BATCH // 2, BATCH)
JOINT = [[FIRST, SECOND], [FIRST, SECOND]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "world", "halves"),
    [
        ("spsa", 1, JOINT),
        ("spsa", 2, JOINT),
        ("sharded", 2, [[FIRST], [SECOND]]),
        ("guided", 1, JOINT),
        ("guided", 2, JOINT),
    ],
)
def test_zeroth_order_gradient_is_the_one_computed_by_hand(
    results: Callable[[str, int, int], Content], name: str, world: int, halves: list[list[slice]]
) -> None:
    directions = leaning_directions(results("ste", 0, 1)["gradients"]) if name == "guided" else plain_directions()
    expected, bounds = estimate_by_hand(directions, halves)
    other, _ = estimate_by_hand(directions, [[SECOND], [FIRST]])
    for rank in range(world):
        gradients = results(name, rank, world)["gradients"]
        for key in WEIGHTS:
            assert ((gradients[key] - expected[key]).abs() <= bounds[key]).all()
            assert ((gradients[key] - other[key]).abs() > bounds[key]).any()  # negative control
            assert (bounds[key] < 1e-2 * expected[key].abs().max()).all()  # the bounds say something


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_all_processes_hold_the_same_bits(results: Callable[[str, int, int], Content], name: str) -> None:
    first, second = results(name, 0, 2), results(name, 1, 2)
    for key in WEIGHTS:
        assert torch.equal(first["gradients"][key], second["gradients"][key])
    assert torch.equal(torch.as_tensor(first["stream"]), torch.as_tensor(second["stream"]))
    whole, other = results(f"whole {name}", 0, 2), results(f"whole {name}", 1, 2)
    assert whole["history"] == other["history"]
    for key, tensor in whole["state"].items():
        assert torch.equal(tensor, other["state"][key]), key


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_training_that_was_cut_goes_on_to_the_same_bits(
    results: Callable[[str, int, int], Content], world: int
) -> None:
    """With batch norm and dropout: every process has its own stream of masks."""
    for rank in range(world):
        whole, cut = results("cut at None", rank, world), results("cut at 5", rank, world)
        assert torch.as_tensor(cut["resumed"]).item() == 3
        assert whole["history"] == cut["history"]
        for key, tensor in whole["state"].items():
            assert torch.equal(tensor, cut["state"][key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spsa", "guided", "adaptive"])
def test_directions_do_not_depend_on_the_number_of_processes(
    results: Callable[[str, int, int], Content], name: str
) -> None:
    alone = results(name, 0, 1)["stream"]
    assert torch.equal(torch.as_tensor(alone), torch.as_tensor(results(name, 0, 2)["stream"]))


@pytest.mark.slow
def test_parameter_without_effect_is_refused_on_several_devices() -> None:
    with pytest.raises(InputError, match=r"^train\.devices = 2: a parameter of the network has no effect on the loss"):
        launch(TWO, partial(joint_updates.train_with_spare, TWO))


@pytest.mark.slow
def test_killed_process_fails_the_stage() -> None:
    with pytest.raises(StageError, match=r"^one of the 2 training processes was killed .*SIGKILL"):
        launch(TWO, joint_updates.die)


@pytest.mark.skipif(torch.cuda.device_count() == 0, reason="needs a CUDA device")
def test_more_cuda_devices_than_there_are_are_refused() -> None:
    there = torch.cuda.device_count()
    config = TrainConfig(device="cuda", devices=there + 1, batch_size=2 * (there + 1))
    with pytest.raises(ConfigError, match=rf"there are {there} CUDA devices here; use at most {there}"):
        make_fabric(config)
