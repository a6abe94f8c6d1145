"""The networks whose shape is given: their sizes, their bit widths, training, and what the export keeps of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import brevitas.nn as qnn
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import ValidationError
from torch import nn
from zoo_networks import REFERENCE_SHAPES, SMALL, Instance, full_size, initialized, mixed_bits, random_values, small

from bitproof.export.integer import run
from bitproof.export.lower import lower
from bitproof.export.qonnx import FILE, ExportQonnx
from bitproof.export.qonnx_executor import execute
from bitproof.pipeline import Artifact, InputError, StageContext
from bitproof.pipeline.config import FIXED_SHAPES, ModelConfig, TrainConfig, TrainFaults, TrainWrap
from bitproof.train.checkpoint import load_network, save_checkpoint
from bitproof.train.executor import TorchExecutor
from bitproof.train.extra_passes import ExtraPasses, traceless
from bitproof.train.frozen import FrozenForward, weight_step
from bitproof.train.layers import quantized_weights, require_fixed_steps, require_input_codes
from bitproof.train.models import build, build_float
from bitproof.train.models.ds_cnn import same_padding
from bitproof.train.models.parts import Residual
from bitproof.train.quantizers import residual_quantizer
from bitproof.train.robust import penalized, training_loss
from bitproof.train.task_kind import purpose_of
from bitproof.yaml_file import read_config

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")

NAMES = sorted(FIXED_SHAPES)
WEIGHTED = (nn.Conv2d, nn.Linear)
ACTIVATIONS = (qnn.QuantIdentity, qnn.QuantReLU)


def multiplications(network: nn.Module, inputs: int) -> int:
    """Return how often a weight is multiplied by an input in one sample."""
    counts: list[int] = []

    def count(layer: nn.Module, _: object, outputs: Any) -> None:  # noqa: ANN401  plain or a QuantTensor
        places = math.prod(getattr(outputs, "value", outputs).shape[2:])
        counts.append(layer.weight.numel() * places)

    for layer in network.modules():
        if isinstance(layer, WEIGHTED):
            layer.register_forward_hook(count)
    network.eval()(torch.zeros(1, inputs))
    return sum(counts)


# Weights; all parameters of the reference; multiplications of a sample. The references of MLPerf Tiny, defined in
# github.com/mlcommons/tiny, benchmark/training, have a bias in every layer and four numbers a normalized channel. CNV:
# FINN's has neither; 1.54 M weights.
SIZES = {
    "cnv": (1_542_848, None, 59_461_376),
    "resnet8": (77_360, 78_666, 12_501_632),
    "ds-cnn": (22_016, 24_908, 2_656_768),
    "mobilenet-v1": (208_112, 221_794, 7_489_664),
    "autoencoder": (264_192, 269_992, 264_192),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_full_size_networks_have_the_sizes_of_their_references(name: str) -> None:
    weights, reference, products = SIZES[name]
    instance = full_size(name)
    for network in (instance.build(), build_float(instance.model, instance.inputs, instance.classes, instance.shape)):
        layers = [module for module in network.modules() if isinstance(module, WEIGHTED)]
        norms = {path: module for path, module in network.named_modules() if hasattr(module, "running_mean")}
        assert sum(layer.weight.numel() for layer in layers) == weights
        assert multiplications(network, instance.inputs) == products
        if reference is not None:
            biases = sum(layer.weight.shape[0] for layer in layers)
            # the reference has no batch norm on a shortcut
            normalized = sum(norm.num_features for path, norm in norms.items() if "shortcut" not in path)
            assert weights + biases + 4 * normalized == reference


@pytest.mark.parametrize("name", NAMES)
def test_each_layer_has_bits_of_its_own_in_the_order_of_execution(name: str) -> None:
    bits = mixed_bits(name)
    instance = small(name, **bits)
    network = instance.build().eval()
    weights: list[int] = []
    activations: list[tuple[int, bool]] = []

    def note_weights(layer: nn.Module, *_: object) -> None:
        weights.append(int(layer.weight_quant.bit_width()))

    def note_activation(layer: nn.Module, *_: object) -> None:
        activations.append((int(layer.act_quant.bit_width()), bool(layer.act_quant.is_signed)))

    residuals = {id(module.quantizer) for module in network.modules() if isinstance(module, Residual)}
    for module in network.modules():
        if isinstance(module, (qnn.QuantConv2d, qnn.QuantLinear)):
            module.register_forward_hook(note_weights)
        elif isinstance(module, ACTIVATIONS):
            module.register_forward_hook(note_activation)
    network(torch.zeros(1, instance.inputs))
    assert weights == bits["weight_bits"]
    assert activations[0] == (8, False)
    expected: list[tuple[int, bool]] = []
    assert isinstance(bits["act_bits"], list)
    for number, count in enumerate(bits["act_bits"]):
        is_sum = bool(residuals) and number % 3 == 2 and number < 9  # behind each second convolution of a stack
        expected += [(min(count + 1, 8), True)] * 2 if is_sum else [(count, False)]
    assert activations[1:] == expected


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "granularity"), [("power-of-two", "channel"), ("free", "tensor")])
@pytest.mark.parametrize(("weight_bits", "act_bits"), [(1, 1), (2, 4), (8, 8)])
@pytest.mark.parametrize("name", NAMES)
def test_one_training_step_is_finite_and_reaches_every_weight(
    name: str, weight_bits: int, act_bits: int, scale: str, granularity: str
) -> None:
    options = {"weight_bits": weight_bits, "act_bits": act_bits, "granularity": granularity, "scale": scale}
    instance = small(name, **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = instance.build().train()
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        before = {key: value.detach().clone() for key, value in network.named_parameters()}
        outputs = network(random_values(instance, 16))
    assert outputs.shape == (16, instance.outputs)
    outputs.square().sum().backward()
    optimizer.step()
    for key, parameter in network.named_parameters():
        assert bool(torch.isfinite(parameter).all()), key
        if parameter.ndim > 1 and act_bits > 1:  # a few activations of 1 bit may all be 0, and pass nothing on
            assert not torch.equal(parameter, before[key]), key
    require_fixed_steps(network)
    require_input_codes(network.eval(), 8)
    assert bool(torch.isfinite(network(random_values(instance, 4))).all())


def run_file(model: onnx.ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run *model* whole, by qonnx, on *values* of shape (N, inputs)."""
    source, target = model.graph.input[0].name, model.graph.output[0].name
    return execute(model, {source: values}, [target])[target]


def exported(folder: Path, instance: Instance) -> tuple[Artifact, nn.Module, onnx.ModelProto]:
    """Return the checkpoint of an initialized network, the network read from it, and the file that the stage writes."""
    checkpoint = Artifact("train", "checkpoint", folder / "train", "0" * 64)
    for name in ("train", "export", "scratch"):
        (folder / name).mkdir()
    save_checkpoint(initialized(instance), instance.model, instance.shape, instance.classes, checkpoint.path)
    ExportQonnx(load_network).run(checkpoint, StageContext(folder / "export", folder / "scratch", 0))
    network, inputs = load_network(checkpoint)
    assert inputs == instance.inputs
    return checkpoint, network, onnx.load(folder / "export" / FILE)


def with_one_row_negated(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose first output has the opposite weights."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    last = next(node for node in reversed(changed.graph.node) if node.op_type == "Gemm")
    quantizer = next(node for node in changed.graph.node if node.output[0] == last.input[1])
    weights = next(tensor for tensor in changed.graph.initializer if tensor.name == quantizer.input[0])
    values = numpy_helper.to_array(weights).copy()
    values[0] *= -1
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    return changed


OPERATIONS = {
    "cnv": {"Reshape", "Quant", "Conv", "BatchNormalization", "Relu", "MaxPool", "Gemm"},
    "resnet8": {"Reshape", "Quant", "Conv", "BatchNormalization", "Relu", "Add", "ReduceMean", "Gemm"},
    "ds-cnn": {"Reshape", "Quant", "Conv", "BatchNormalization", "Relu", "ReduceMean", "Gemm"},
    "mobilenet-v1": {"Reshape", "Quant", "Conv", "BatchNormalization", "Relu", "ReduceMean", "Gemm"},
    "autoencoder": {"Quant", "Gemm", "BatchNormalization", "Relu"},
}


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True], ids=["w4a4", "mixed"])
@pytest.mark.parametrize("name", NAMES)
def test_exported_file_gives_the_outputs_of_torch_exactly(tmp_path: Path, name: str, *, mixed: bool) -> None:
    options = {"granularity": "channel", **mixed_bits(name)} if mixed else {"weight_bits": 4, "act_bits": 4}
    instance = small(name, **options)
    checkpoint, network, model = exported(tmp_path, instance)
    found = {node.op_type for node in model.graph.node}
    # 1-bit weights are BipolarQuant nodes
    assert found - {"BipolarQuant"} == OPERATIONS[name]
    values = random_values(instance, 7)
    expected = network(values).detach().numpy()
    for count in (1, 7):
        assert np.array_equal(run_file(model, values[:count].numpy()), expected[:count])
    assert len(np.unique(expected)) > 3
    assert not np.array_equal(run_file(model, values.flip(1).numpy()), expected)
    assert not np.array_equal(run_file(with_one_row_negated(model), values.numpy()), expected)
    executor = TorchExecutor(checkpoint)
    inputs = (values * 256).long().numpy()
    codes = executor(inputs)
    assert codes.dtype == np.int64
    assert np.array_equal(codes * executor.output_scale, expected)
    integer, proofs = lower(tmp_path / "export" / FILE)
    assert proofs
    assert all(proof.holds for proof in proofs)
    assert float(integer.output_scale) == executor.output_scale
    assert np.array_equal(run(integer, inputs), codes)
    assert not np.array_equal(run(integer, inputs[:, ::-1]), codes)


@pytest.mark.slow
def test_shortcut_and_branch_share_a_scale_that_is_free(tmp_path: Path) -> None:
    instance = small("resnet8", weight_bits=3, act_bits=3, scale="free", granularity="channel")
    checkpoint, _, model = exported(tmp_path, instance)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made_by = {node.output[0]: node for node in model.graph.node}
    sums = [node for node in model.graph.node if node.op_type == "Add"]
    assert len(sums) == 3
    scales = []
    for node in sums:
        first, second = (made_by[name] for name in node.input)
        assert (first.op_type, second.op_type) == ("Quant", "Quant")
        assert np.array_equal(constants[first.input[1]], constants[second.input[1]])
        scales.append(float(constants[first.input[1]]))
    assert all(math.frexp(scale)[0] != 0.5 for scale in scales)
    assert len(set(scales)) == 3
    inputs = (random_values(instance, 3) * 256).long().numpy()
    integer, _ = lower(tmp_path / "export" / FILE)
    assert np.array_equal(TorchExecutor(checkpoint)(inputs), run(integer, inputs))


def test_sum_of_both_ways_is_a_sum_of_integers() -> None:
    instance = small("resnet8", weight_bits=4, act_bits=4)
    network = initialized(instance)
    sums: list[tuple[float, torch.Tensor]] = []

    def note(layer: nn.Module, _: object, outputs: torch.Tensor) -> None:
        sums.append((float(layer.quantizer.act_quant.scale().detach()), outputs.detach()))

    for module in network.modules():
        if isinstance(module, Residual):
            module.register_forward_hook(note)
    network(random_values(instance, 5))
    assert len(sums) == 3
    for scale, outputs in sums:
        codes = outputs / scale
        assert torch.equal(codes, codes.round())
        assert int(codes.min()) >= -32
        assert int(codes.max()) <= 30
        assert len(codes.unique()) > 8


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("scale", ["power-of-two", "free"])
def test_quantizer_of_a_sum_is_signed_and_has_one_bit_more(bits: int, scale: Literal["power-of-two", "free"]) -> None:
    layer = qnn.QuantIdentity(act_quant=residual_quantizer(bits, scale), return_quant_tensor=True).train()
    layer(torch.linspace(-1, 1, 1001))
    quantized = layer.eval()(torch.linspace(-9, 9, 10_001))
    codes = (quantized.value / quantized.scale).round().detach()
    most = 1 << min(bits, 7)
    assert codes.unique().tolist() == list(range(-most, most))


@pytest.mark.parametrize("name", NAMES)
def test_extra_passes_are_fast_and_the_same_as_those_of_brevitas(name: str) -> None:
    instance = small(name, weight_bits=2, act_bits=4)
    network = initialized(instance).train()
    passes = ExtraPasses(network)
    assert passes.fast
    values = random_values(instance, 8)
    with traceless(network):
        outputs = network(values)
    with passes.measuring(lambda forward: forward(values), passes.stream()) as measured:
        assert torch.equal(measured(), getattr(outputs, "value", outputs))
        steps = passes.weight_steps(quantized_weights(network))
    assert len(steps) == FIXED_SHAPES[name][0]
    for layer, step in zip(quantized_weights(network), steps, strict=True):
        assert torch.equal(step, weight_step(layer))


@pytest.mark.parametrize("name", NAMES)
def test_faults_and_narrow_accumulators_reach_every_layer(name: str) -> None:
    instance = small(name, weight_bits=4, act_bits=4)
    network = initialized(instance).train()
    config = TrainConfig(faults=TrainFaults(stuck=0.1, offset=0.5), wrap=TrainWrap(bits=7, margin=0.01))
    purpose = purpose_of(instance.model)
    values, labels = random_values(instance, 8), torch.zeros(8, dtype=torch.int64)
    robust = training_loss(network, config, purpose.loss)(network, values, labels)
    assert float(robust.detach()) > float(purpose.loss(network, values, labels).detach())
    with penalized(network, TrainWrap(bits=7, margin=0.01)) as penalties:
        network(values)
    sums = sum(isinstance(module, Residual | nn.AdaptiveAvgPool2d) for module in network.modules())
    assert len(penalties) == FIXED_SHAPES[name][0] + sums
    assert all(float(penalty.detach()) > 0 for penalty in penalties)


def test_a_sum_of_unknown_layers_is_left_to_brevitas() -> None:
    network = nn.Sequential(
        Residual([nn.Linear(2, 2)], [], qnn.QuantIdentity(return_quant_tensor=False)), qnn.QuantLinear(2, 2, bias=False)
    )
    with pytest.raises(TypeError, match=r"^layer Linear$"):
        FrozenForward(network)
    assert not ExtraPasses(network).fast
    with pytest.raises(TypeError, match=r"^quantizer without a grid: Identity$"):
        FrozenForward(nn.Sequential(Residual([], [], nn.Identity())))


def test_same_padding_gives_the_sizes_of_tensorflow() -> None:
    for size in range(1, 30):
        for kernel in range(1, 12):
            for stride in range(1, 4):
                before, behind = same_padding(size, kernel, stride)
                padded = size + before + behind
                assert behind - before in (0, 1)
                if before + behind:
                    assert (padded - kernel) // stride + 1 == -(-size // stride)
                    assert (padded - kernel) % stride == 0, "not one zero more than needed"


def test_words_of_another_number_of_bands_fit() -> None:
    network = build(ModelConfig(name="ds-cnn", width=0.125), 980, 4, (1, 49, 20))
    assert network(torch.zeros(2, 980)).shape == (2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet-8"}, r"must be one of mlp, cnn, cnv, .*function; did you mean 'resnet8'\?"),
        ({"name": "resnet8", "hidden": [10]}, r"hidden = \[10\] has no effect on 'resnet8'"),
        ({"name": "cnv", "channels": [10]}, r"channels = \[10\] for name = 'cnv'; a 'cnn' needs"),
        ({"name": "mlp", "width": 0.5}, r"width = 0.5 has no effect on 'mlp'; it is a factor for cnv, resnet8"),
        ({"name": "cnv", "width": 0}, r"greater than 0"),
        ({"name": "ds-cnn", "weight_bits": [4] * 9}, r"weight_bits has 9 entries for 10 layers"),
        ({"name": "autoencoder", "act_bits": [4] * 10}, r"act_bits has 10 entries for 9 layers"),
        ({"name": "mobilenet-v1", "act_bits": 9}, r"must be a whole number from 1 to 8"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(options)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"autoencoder"}))
def test_samples_that_are_no_images_are_refused(name: str) -> None:
    message = rf"^model.name = '{name}' needs images, .* shape \(64,\)"
    for make in (build, build_float):
        with pytest.raises(InputError, match=message):
            make(ModelConfig.model_validate({"name": name}), 64, 10)


def test_images_that_vanish_are_refused() -> None:
    with pytest.raises(InputError, match=r"^model.name = 'cnv' needs images of 32 x 32 or more; .* \(3, 31, 32\)"):
        build(ModelConfig(name="cnv"), 3 * 31 * 32, 10, (3, 31, 32))


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_in_front_of_the_output_layer_and_behind_hidden_linear_layers(name: str) -> None:
    expected = {"cnv": 2, "autoencoder": 9}.get(name, 1)
    instance = small(name, dropout=0.25)
    for network in (instance.build(), build_float(instance.model, instance.inputs, instance.classes, instance.shape)):
        layers = list(network)
        assert sum(isinstance(layer, nn.Dropout) for layer in layers) == expected
        assert isinstance(layers[-2], nn.Dropout)
        assert isinstance(layers[-1], nn.Linear)


@pytest.mark.parametrize("name", NAMES)
def test_width_is_a_factor_on_every_layer(name: str) -> None:
    shape, classes, _ = SMALL[name]
    usual = FIXED_SHAPES[name][2]
    assert name in REFERENCE_SHAPES
    widths = []
    for width in (usual, usual / 2):
        model = ModelConfig.model_validate({"name": name, "width": width})
        network = build_float(model, math.prod(shape), classes, shape)
        widths.append([m.weight.shape[0] for m in network.modules() if isinstance(m, WEIGHTED)][:-1])
    assert [2 * count for count in widths[1]] == widths[0]


@pytest.mark.parametrize("name", ["cifar10_resnet8", "speech_commands_ds_cnn", "toyadmos_autoencoder"])
def test_configurations_of_these_networks_are_valid(name: str) -> None:
    path = Path(__file__).parent.parent.parent / "configs" / f"{name}.yaml"
    config = read_config(path)
    assert config.name == name
    assert config.model.name in FIXED_SHAPES
