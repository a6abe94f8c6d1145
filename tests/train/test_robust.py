"""Robust training: what is injected, what is penalized, and that nothing of it stays in the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import pytest
import torch
from brevitas.quant import SignedBinaryActPerTensorConst
from torch import Tensor, nn
from zoo_exports import lowered_network
from zoo_networks import initialized, random_values, small

from bitproof.export.integer import SumPool, trace
from bitproof.pipeline.config import DataConfig, ModelConfig, TrainConfig, TrainFaults, TrainWrap
from bitproof.pipeline.stage import execute
from bitproof.train.data import PrepareData
from bitproof.train.extra_passes import statistics_collected
from bitproof.train.layers import quantized_layers, quantized_weights
from bitproof.train.loop import cross_entropy
from bitproof.train.models import build
from bitproof.train.models.parts import Residual
from bitproof.train.robust import RobustLoss, injected, penalized, training_loss, warn_if_hardly_injected
from bitproof.train.stages import TrainQuantized

MODEL = ModelConfig(name="mlp", hidden=(24, 16), weight_bits=2, act_bits=2, input_bits=2)
GENERATOR = torch.Generator().manual_seed(0)
VALUES = torch.randint(0, 4, (64, 40), generator=GENERATOR).float() / 4
LABELS = torch.randint(0, 5, (64,), generator=GENERATOR)

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and brevitas warn about their own insides


@pytest.fixture
def network() -> nn.Module:
    """A network that has collected its statistics, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build(MODEL, 40, 5)
    while not statistics_collected(network):
        network(VALUES)
    return network.train()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@contextmanager
def seen(module: nn.Module) -> Iterator[list[Any]]:
    """Yield what *module* returns, call by call."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda _module, _arguments, output: outputs.append(output))
    yield outputs
    handle.remove()


def linears(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, qnn.QuantLinear)]


def codes_in_a_pass(network: nn.Module, faults: TrainFaults, seed: int) -> Tensor:
    """Return the weight codes of the first layer in one faulty pass."""
    layer = linears(network)[0]
    with seen(layer.weight_quant) as outputs, injected(network, faults, generator(seed)):
        network(VALUES)
    codes: Tensor = torch.round(outputs[0].value / outputs[0].scale).detach()
    return codes


@pytest.mark.slow
def test_without_options_the_loss_is_the_plain_one(network: nn.Module) -> None:
    assert training_loss(network, TrainConfig()) is cross_entropy


@pytest.mark.slow
def test_a_faulty_pass_leaves_the_network_as_it_was(network: nn.Module) -> None:
    network.eval()
    before = network(VALUES)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loss = RobustLoss(network, TrainFaults(stuck=0.2, offset=1.0), TrainWrap(bits=7), generator())
    assert loss(network, VALUES, LABELS) != cross_entropy(network, VALUES, LABELS)
    assert torch.equal(network(VALUES), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in network.modules() if module is not network
    )


@pytest.mark.slow
def test_no_fault_and_a_wide_accumulator_give_the_plain_loss(network: nn.Module) -> None:
    network.eval()
    plain = cross_entropy(network, VALUES, LABELS)
    robust = RobustLoss(network, TrainFaults(), TrainWrap(bits=12), generator())
    assert torch.equal(robust(network, VALUES, LABELS), plain)


@pytest.mark.slow
def test_the_asked_fraction_is_stuck_at_both_ends_and_the_rest_is_untouched(network: nn.Module) -> None:
    healthy = codes_in_a_pass(network, TrainFaults(), 0)
    faulty = codes_in_a_pass(network, TrainFaults(stuck=0.3), 0)
    draw = torch.rand(healthy.shape, generator=generator(0))
    stuck = draw < 0.3
    # 960 fair draws at 0.3: the standard deviation of the fraction is 0.0148; five of them
    assert abs(float(stuck.float().mean()) - 0.3) < 0.074
    assert torch.equal(faulty[~stuck], healthy[~stuck])
    assert torch.equal(faulty[stuck], torch.where(draw[stuck] < 0.15, 1.0, -1.0))


@pytest.mark.slow
def test_every_pass_has_a_chip_of_its_own(network: nn.Module) -> None:
    layer = linears(network)[0]
    with seen(layer.weight_quant) as outputs, injected(network, TrainFaults(stuck=0.3), generator()):
        network(VALUES)
        network(VALUES)
    assert not torch.equal(outputs[0].value, outputs[1].value)


@pytest.mark.slow
def test_a_stuck_weight_gets_no_gradient_and_no_scale_blows_up(network: nn.Module) -> None:
    loss = RobustLoss(network, TrainFaults(stuck=0.4), None, generator(3))
    loss(network, VALUES, LABELS).backward()
    stuck = torch.rand((24, 40), generator=generator(3)) < 0.4
    gradient = linears(network)[0].weight.grad
    assert not gradient[stuck].any()
    assert gradient[~stuck].any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)


@pytest.mark.slow
def test_offsets_are_whole_channels_in_units_of_the_activation_step(network: nn.Module) -> None:
    network.eval()
    activation = next(module for module in network.modules() if isinstance(module, qnn.QuantReLU))
    given: list[Tensor] = []

    def note(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        given.append(arguments[0])

    network(VALUES)
    with injected(network, TrainFaults(offset=0.5), generator(4)):
        handle = activation.register_forward_pre_hook(note)  # runs behind the injector's
        network(VALUES)
        handle.remove()
    handle = activation.register_forward_pre_hook(note)
    network(VALUES)
    handle.remove()
    expected = 0.5 * activation.act_quant.scale() * torch.randn((1, 24), generator=generator(4))
    assert torch.equal(given[0], given[1] + expected)


CONVOLUTIONAL = {
    name: small(name, weight_bits=3, act_bits=3, granularity="channel") for name in ("cnn", "ds-cnn", "resnet8")
}
"""Convolutions, depthwise ones and residual sums; a weight scale per channel."""


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_filters_are_stuck_at_both_ends_of_their_channels_scale(name: str) -> None:
    network = initialized(CONVOLUTIONAL[name])
    values = random_values(CONVOLUTIONAL[name], 4)
    codes: dict[bool, list[Tensor]] = {}
    for faulty in (False, True):
        codes[faulty] = []
        with ExitStack() as stack:
            layers = quantized_weights(network)
            made = [stack.enter_context(seen(layer.weight_quant)) for layer in layers]
            stack.enter_context(injected(network, TrainFaults(stuck=0.3 if faulty else 0.0), generator()))
            network(values)
            codes[faulty] = [torch.round(output.value / output.scale).detach() for (output,) in made]
    stuck = torch.cat([(a != b).flatten() for a, b in zip(codes[True], codes[False], strict=True)])
    for faulty_codes, healthy in zip(codes[True], codes[False], strict=True):
        changed = faulty_codes[faulty_codes != healthy]
        assert set(changed.tolist()) <= {-3.0, 3.0}
    every = torch.cat([layer_codes.flatten() for layer_codes in codes[True]])
    assert (every[stuck] > 0).any()
    assert (every[stuck] < 0).any()
    # Some of the 0.3 are stuck where they were: at most all weights at an end, half of them at the same one.
    deviation = (0.3 * 0.7 / len(stuck)) ** 0.5
    assert 0.15 - 5 * deviation < float(stuck.float().mean()) < 0.3 + 5 * deviation


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_quantizer_but_that_of_the_input_has_an_offset_a_channel(name: str) -> None:
    """One number for all samples and positions, in units of the step; both ways of a sum have their own."""
    network = initialized(CONVOLUTIONAL[name])
    values = random_values(CONVOLUTIONAL[name], 4)
    quantizers = [module for module in network.modules() if isinstance(module, qnn.QuantIdentity | qnn.QuantReLU)]
    given: dict[int, list[Tensor]] = {id(module): [] for module in quantizers}

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        given[id(module)].append(getattr(arguments[0], "value", arguments[0]).detach())

    handles = [module.register_forward_pre_hook(note) for module in quantizers]  # in front of the injector's
    with injected(network, TrainFaults(offset=0.5), generator(4)):
        handles += [module.register_forward_pre_hook(note) for module in quantizers]  # and behind it
        network(values)
    for handle in handles:
        handle.remove()
    drawn = []
    for number, module in enumerate(quantizers):
        calls = given[id(module)]
        for before, after in zip(calls[::2], calls[1::2], strict=True):
            moved = (after - before) / module.act_quant.scale().detach() / 0.5
            assert (moved.amax((0, *range(2, moved.ndim))) - moved.amin((0, *range(2, moved.ndim)))).max() < 1e-3
            assert bool(moved.any()) is (number > 0)
            drawn.append(moved.flatten(2).mean((0, 2)) if moved.ndim > 2 else moved.mean(0))
    residuals = sum(isinstance(module, Residual) for module in network.modules())
    assert len(drawn) == len(quantizers) + residuals
    normal = torch.cat(drawn[1:])
    # the mean square of n normal numbers is 1 with a deviation of sqrt(2 / n); five of them
    assert abs(float((normal**2).mean()) - 1) < 5 * (2 / len(normal)) ** 0.5


def test_the_step_of_a_bipolar_quantizer_is_twice_its_scale() -> None:
    signs = qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst, scaling_init=0.25)
    network = nn.Sequential(qnn.QuantIdentity(), qnn.QuantConv2d(1, 2, 1, bias=False), signs).eval()
    zeros = torch.zeros(1, 1, 2, 2)
    network(zeros)
    given: list[Tensor] = []
    with injected(network, TrainFaults(offset=0.5), generator(2)):
        signs.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
        network(zeros)
    expected = 0.5 * 2 * 0.25 * torch.randn((1, 2, 1, 1), generator=generator(2))
    assert torch.equal(given[0], expected.expand(1, 2, 2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_penalties_are_those_of_every_sum_of_the_integer_model(name: str, tmp_path: Path) -> None:
    """The integer model's own accumulators: convolutions, products, sums of branches, sums that means are made of."""
    instance = CONVOLUTIONAL[name]
    network = initialized(instance)
    values = random_values(instance, 16)
    wrap = TrainWrap(bits=7, penalty=3.0, margin=0.05)
    with torch.no_grad(), penalized(network, wrap) as penalties:
        network(values)
    model = lowered_network(tmp_path, instance, network)[1].model
    made = trace(model, (values * 256).long().numpy())
    expected = []
    for node in model.nodes:
        if node.adds:
            filled = torch.from_numpy(made[node.name]).abs().double() / 64
            expected.append(3.0 * float(torch.relu(filled - 0.05).mean()))
    assert len(expected) == len(penalties)
    for ours, theirs in zip(sorted(expected), sorted(float(penalty) for penalty in penalties), strict=True):
        assert abs(ours - theirs) <= 1e-5 * (1 + ours)
    assert min(expected) > 0
    assert any(isinstance(node, SumPool) for node in model.nodes) is (name != "cnn")


def test_nothing_is_injected_before_the_statistics_are_collected() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        young = build(MODEL, 40, 5).train()
        torch.manual_seed(1)
        twin = build(MODEL, 40, 5).train()
    robust = RobustLoss(young, TrainFaults(stuck=0.5, offset=2.0), None, generator())
    assert torch.equal(robust(young, VALUES, LABELS), cross_entropy(twin, VALUES, LABELS))


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "margin"), [(7, 0.9), (7, 0.2), (12, 0.9)])
def test_the_penalty_is_that_of_the_integer_accumulators(network: nn.Module, bits: int, margin: float) -> None:
    network.eval()
    wrap = TrainWrap(bits=bits, penalty=3.0, margin=margin)
    with penalized(network, wrap) as penalties:
        network(VALUES)
    layers = quantized_layers(network)
    inputs = [VALUES * 4]
    for layer in layers[:-1]:
        assert layer.norm is not None
        assert layer.activation is not None
        values = (inputs[-1] @ layer.weight_codes.float().T) * layer.accumulator_scale
        inputs.append(torch.round(layer.activation(layer.norm(values)).value / layer.output_scale))
    for penalty, layer, codes in zip(penalties, layers, inputs, strict=True):
        accumulators = codes @ layer.weight_codes.float().T
        expected = 3.0 * torch.relu(accumulators.abs() / 2.0 ** (bits - 1) - margin).mean()
        assert abs(float(penalty) - float(expected)) <= 1e-5 * (1 + float(expected))
    if margin == 0.2:
        assert float(penalties[0]) > 0
    if bits == 12:
        assert not any(float(penalty) for penalty in penalties)


@pytest.mark.slow
def test_the_penalty_drives_accumulators_into_range(network: nn.Module) -> None:
    wrap = TrainWrap(bits=7, penalty=10.0, margin=0.3)

    def outside() -> float:
        network.eval()
        with torch.no_grad(), penalized(network, wrap) as penalties:
            network(VALUES)
        network.train()
        return float(torch.stack(penalties).sum())

    before = outside()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    loss = RobustLoss(network, None, wrap, generator())
    for _ in range(60):
        optimizer.zero_grad()
        loss(network, VALUES, LABELS).backward()
        optimizer.step()
    assert before > 0
    assert outside() < before / 4


@pytest.mark.parametrize("option", [{"faults": {"stuck": 0.1}}, {"wrap": {"bits": 9}}])
def test_robust_training_is_refused_with_an_estimator_that_measures_losses(option: dict[str, object]) -> None:
    (key,) = option
    with pytest.raises(ValueError, match=f"{key} goes with estimator.name = 'ste', not 'guided'"):
        TrainConfig.model_validate({**option, "estimator": {"name": "guided"}})
    TrainConfig.model_validate({**option, "estimator": {"name": "ste"}})
    with pytest.raises(ValueError, match="greater than or equal to"):
        TrainConfig.model_validate({"wrap": {"bits": 6}, "estimator": {"name": "ste"}})


@pytest.mark.parametrize(("epochs", "said"), [(1, "0 of 82"), (5, "109 of 410"), (7, "273 of 574"), (8, None)])
def test_a_training_that_is_too_short_for_its_faults_says_so(
    epochs: int, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Brevitas takes scales from 301 batches; 1,312 images in batches of 16 are 82."""
    options: dict[str, object] = {"batch_size": 16, "epochs": epochs, "estimator": {"name": "ste"}}
    config = TrainConfig.model_validate({**options, "faults": {"stuck": 0.1}})
    untrained = build(MODEL, 40, 5)
    warn_if_hardly_injected(untrained, TrainConfig.model_validate(options), 1312)
    assert not caplog.records
    warn_if_hardly_injected(untrained, config, 1312)
    said_now = [record.message.partition(" training")[0] for record in caplog.records]
    assert said_now == ([] if said is None else [f"train.faults: faults are injected in {said}"])


@pytest.mark.slow
def test_the_training_stage_takes_both_options_and_its_seed_decides_the_faults(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = execute(PrepareData(DataConfig(name="digits"), 2), None, tmp_path / "data", seed=0, versions={}, name="data")
    plain: dict[str, object] = {"epochs": 4, "batch_size": 16, "device": "cpu", "estimator": {"name": "ste"}}

    def weights(name: str, **options: object) -> str:
        config = TrainConfig.model_validate({**plain, **options})
        model = MODEL.model_copy(update={"hidden": (8,)})
        stage = TrainQuantized(model, config)
        return execute(stage, data, tmp_path / name, seed=0, versions={}, name=name).sha256

    faults: dict[str, object] = {"faults": {"stuck": 0.1, "offset": 0.5}, "wrap": {"bits": 7}}
    assert weights("first", **faults) == weights("second", **faults) != weights("plain")
    assert sum("faults are injected in" in record.message for record in caplog.records) == 2
