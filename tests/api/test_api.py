"""``import bitproof``: networks loaded, proven, asked, and deployed from Python."""

from __future__ import annotations

import subprocess  # noqa: TID251  what an import brings along is seen in a fresh process
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import notebook_net
import numpy as np
import pytest
import torch
from bitproof_command import bitproof_without_scheduler, scheduled_in_this_process
from notebook_net import Net
from qonnx_files import random_mlp
from torch import nn

import bitproof
from bitproof.pipeline import ConfigError, InputError
from bitproof.pipeline.errors import BitproofError
from bitproof.train.weights import load_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of torch and brevitas about their own insides
    pytest.mark.xdist_group("api"),
]


@pytest.fixture(scope="module")
def values() -> torch.Tensor:
    return torch.rand(64, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network(values: torch.Tensor) -> nn.Module:
    torch.manual_seed(3)
    net = Net()
    for _ in range(40):  # the scales of activations are statistics of their first passes
        net(values)
    return net.eval()


def test_importing_the_package_brings_nothing_heavy() -> None:
    code = (
        "import bitproof, sys; heavy = {'torch', 'onnx', 'numpy', 'pydantic'} & sys.modules.keys(); "
        "print(sorted(heavy), dir(bitproof))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] [")
    assert all(name in done.stdout for name in ("'Model'", "'Run'", "'deploy'", "'load'"))
    with pytest.raises(
        AttributeError, match="has no attribute 'lode'; it offers Model, OnnxSession, Run, deploy, load, onnx_session"
    ):
        getattr(bitproof, "lode")  # noqa: B009  a name that is not there


@pytest.mark.slow
def test_a_file_and_a_module_are_loaded_run_proven_and_asked(
    network: nn.Module, values: torch.Tensor, tmp_path: Path
) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    from_file = bitproof.load(tmp_path / "net.onnx")
    assert repr(from_file).startswith("Model(net: 12 uint8 codes to 4")
    model = bitproof.load(network, example=values[:1])
    scale = float(model.integer.input_scale)
    codes = np.clip(np.rint(values.numpy() / scale), 0, 63).astype(np.int64)
    expected = network(torch.from_numpy((codes * scale).astype(np.float32))).detach().double().numpy()
    made = model(codes)
    assert made.dtype == np.int64
    assert np.array_equal(made * float(model.integer.output_scale), expected), "powers of two: float32 is exact"
    proofs = model.proofs()
    assert proofs
    assert all(proof.holds for proof in proofs)
    assert model.lint("c{core=cortex-m4}").takes
    refused = model.lint("c{flash=2k}")
    assert (refused.takes, refused.too_large) == (False, True)
    assert "<td>fc0</td><td>matmul</td>" in from_file._repr_html_()


Arguments = Callable[[nn.Module, Path], tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda net, path: ((net,), {}), "a Net is exported by running it: give example="),
        (lambda net, path: ((net,), {"example": torch.zeros(12)}), r"example has shape \(12,\): give example="),
        (lambda net, path: ((net,), {"example": [1.0]}), "example has list: give example="),
        (lambda net, path: ((path,), {"example": torch.zeros(1, 12)}), "example has no effect on"),
        (
            lambda net, path: ((3,), {}),
            "a int is no network; give a QONNX file, the folder of a run, or",
        ),
        (lambda net, path: ((path.parent / "no.onnx",), {}), "there is no file"),
        (lambda net, path: ((path.parent,), {}), "is not a run"),
    ],
)
def test_what_is_no_network_is_refused(network: nn.Module, tmp_path: Path, arguments: Arguments, message: str) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    given, options = arguments(network, tmp_path / "net.onnx")
    with pytest.raises(BitproofError, match=message):
        bitproof.load(*given, **options)


def test_codes_that_are_none_are_refused(tmp_path: Path) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    model = bitproof.load(str(tmp_path / "net.onnx"))
    with pytest.raises(InputError):
        model(np.zeros((2, 5), dtype=np.int64))
    with pytest.raises(InputError):
        model(np.full((1, 12), 999, dtype=np.int64))
    with pytest.raises(InputError, match=r"takes integer codes of shape \(N, 12\), not float64 of shape \(1, 12\)"):
        model(np.ones((1, 12)))
    assert np.array_equal(model([[1] * 12]), model(np.ones((1, 12), dtype=np.uint8)))


def test_a_module_without_a_quantizer_is_named_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^the exported Sequential: the file holds no quantizer"):
        bitproof.load(nn.Sequential(nn.Linear(4, 2)), example=torch.zeros(1, 4))


@pytest.mark.tool
def test_a_module_is_deployed_and_compared_with_what_is_made_of_it(
    network: nn.Module, values: torch.Tensor, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    labels = network(values).argmax(1)
    network.train()
    with scheduled_in_this_process():
        run = bitproof.deploy(
            network,
            example=values[:2],
            vectors=values,
            labels=labels,
            targets=["onnx-int8", "c{core=cortex-m4}"],
            runs=tmp_path,
        )
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert run.equal, run
    assert [check.actual for check in run.checks] == ["torch", "qonnx", "qonnx-f64", "onnx-int8", "c:cortex-m4"]
    assert all(check.compared == 64 * 3 for check in run.checks)
    assert run.ledger.accuracy["c:cortex-m4"] == 100.0
    assert run.report.is_file()
    assert run.path == tmp_path / "Net"
    assert run._repr_html_().count("<tr>") == 6
    again = bitproof.load(run.path)
    assert len(again(np.zeros((1, 12), dtype=np.int64))) == 1

    flipped = Net()
    flipped.load_state_dict(before)
    with torch.no_grad():  # the negative control: a module with another weight is not the one that was deployed
        flipped.last.weight[0, 0] += 4 * flipped.last.quant_weight().scale
    from bitproof.api.run import _compared
    from bitproof.pipeline.run_folder import RunFolder

    assert not _compared(flipped.eval(), RunFolder.open(run.path)).ok
    network.eval()


@pytest.mark.slow
def test_a_target_that_refuses_is_an_error_and_bad_arguments_are_named(network: nn.Module, tmp_path: Path) -> None:
    example = torch.zeros(1, 12)
    with pytest.raises(ConfigError, match=r"targets = 'c' is text; give a list, for example \['c'\]"):
        bitproof.deploy(network, example=example, targets="c", runs=tmp_path)
    with pytest.raises(ConfigError, match="unknown target 'tpu'"):
        bitproof.deploy(network, example=example, targets=["tpu"], runs=tmp_path)
    with pytest.raises(ConfigError, match=r"the run cannot be called '\.\./x'"):
        bitproof.deploy(network, example=example, targets=["c"], name="../x", runs=tmp_path / "runs")
    assert not (tmp_path / "x.inputs").exists()
    with pytest.raises(ConfigError, match="the run cannot be called ''"):
        bitproof.deploy(network, example=example, targets=["c"], name="", runs=tmp_path)
    with pytest.raises(ConfigError, match="a list is no network"):
        bitproof.deploy([], targets=["c"], runs=tmp_path)
    with pytest.raises(ConfigError, match="vectors hold object; give integers or real numbers"):
        bitproof.deploy(network, example=example, vectors=np.array([None]), targets=["c"], runs=tmp_path)
    with pytest.raises(InputError, match="real inputs of this network have the shape"):
        bitproof.deploy(network, example=example, vectors=np.zeros((3, 5), np.float32), targets=["c"], runs=tmp_path)
    assert not (tmp_path / "Net").exists()


def weights_file(folder: Path, content: object) -> Path:
    torch.save(content, folder / "trained.pth")
    return folder / "trained.pth"


@pytest.mark.tool
def test_a_state_dict_is_imported_by_the_command(network: nn.Module, tmp_path: Path) -> None:
    file = notebook_net.__file__
    weights = weights_file(tmp_path, network.state_dict())
    options = ["--samples", "20", "--runs", tmp_path / "runs"]
    given = ["import", f"{file}:small", "--weights", weights, *options]
    done = bitproof_without_scheduler(*given, "--input-shape", "12", "--target", "onnx-int8")
    assert done.code == 0, done.err
    assert bitproof.load(tmp_path / "runs" / "small").integer.inputs == 12
    for arguments, message in (
        (given, "--input-shape is missing; give the sizes of one input without the batch"),
        ([*given, "--input-shape", "0"], "--input-shape '0' is no shape"),
        ([*given, "--input-shape", "12", "--name", "../x"], "the run cannot be called '../x'"),
        (["import", f"{file}:number", "--input-shape", "12"], "gave int; it must return a torch module"),
        (["import", f"{file}:none", "--input-shape", "12"], "has no function 'none'"),
        (["import", "net.onnx", "--input-shape", "12"], "--input-shape 12 has no effect on net.onnx"),
    ):
        refused = bitproof_without_scheduler(*arguments)
        assert refused.code == 2, refused.err
        assert message in refused.err


def test_weights_that_do_not_fit_are_named(network: nn.Module, tmp_path: Path) -> None:
    state = dict(network.state_dict())
    first = state.pop("first.weight")
    with pytest.raises(InputError, match=r"missing: first\.weight\n  unexpected: other$"):
        load_weights(Net(), weights_file(tmp_path, {**state, "other": first}))
    with pytest.raises(InputError, match=r"first\.weight has the shape \(8, 11\), the network \(8, 12\)$"):
        load_weights(Net(), weights_file(tmp_path, {**state, "first.weight": first[:, 1:]}))
    with pytest.raises(InputError, match=r"first\.weight holds numbers that are not finite"):
        load_weights(Net(), weights_file(tmp_path, {**state, "first.weight": first / 0}))
    with pytest.raises(InputError, match="holds epoch, which is no tensor"):
        load_weights(Net(), weights_file(tmp_path, {**state, "epoch": 3}))
    with pytest.raises(InputError, match="a whole module is not read, since reading one runs code of the file"):
        load_weights(Net(), weights_file(tmp_path, nn.Linear(2, 2)))
    with pytest.raises(InputError, match="is not a file; a state dict of 1 to"):
        load_weights(Net(), tmp_path / "none.pth")
    (tmp_path / "trained.pth").write_bytes(b"no archive")
    with pytest.raises(InputError, match="is not a state dict"):
        load_weights(Net(), tmp_path / "trained.pth")


@pytest.mark.parametrize(
    "odd",
    [
        lambda value: value.to_sparse(),
        lambda value: value.to("meta"),
        lambda value: value.to(torch.complex64),
        lambda value: torch.zeros(1).expand(1 << 40),
        lambda value: torch.nested.nested_tensor([value[0], value[1, :3]]),
        lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "complex", "spread", "nested", "quantized"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_that_are_no_plain_numbers_are_named(
    network: nn.Module, tmp_path: Path, odd: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    state = dict(network.state_dict())
    changed = {**state, "first.weight": odd(state["first.weight"].detach())}
    with pytest.raises(InputError, match=r"first\.weight is not a dense tensor of real numbers|is not a state dict"):
        load_weights(Net(), weights_file(tmp_path, changed))


def test_arguments_of_another_kind_are_named(network: nn.Module, tmp_path: Path) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    for input_type in ("uint9000", "uint8*1/0", 8):
        with pytest.raises(ConfigError, match="input_type = "):
            bitproof.load(tmp_path / "net.onnx", input_type=input_type)  # type: ignore[arg-type]
    model = bitproof.load(tmp_path / "net.onnx")
    assert model(np.zeros((0, 12), dtype=np.int64)).shape == (0, model.integer.outputs)
    with pytest.raises(InputError, match="codes cannot be read as an array of numbers"):
        model([[1, 2], [3]])
    assert model(torch.ones(1, 12, dtype=torch.int64)).shape == (1, model.integer.outputs)
    example = torch.zeros(1, 12)
    for options, message in (
        ({"targets": None}, "targets = None is no list of texts"),
        ({"targets": [3]}, r"targets = \[3\] is no list of texts"),
        ({"targets": ["c"], "name": 3}, "name = 3"),
        ({"targets": ["c"], "runs": None}, "runs = None"),
        ({"targets": ["c"], "runs": tmp_path / "net.onnx"}, "is a file; runs need a folder"),
        ({"targets": ["c"], "runs": "a\0"}, "runs cannot be kept in"),
        ({"targets": ["c"], "vectors": [[1], [1, 2]]}, "vectors cannot be read as an array of numbers"),
        ({"targets": ["c"], "example": example / 0}, "example holds numbers that are not finite"),
        ({"targets": ["c"], "example": example.to("meta")}, "example is a .* on meta"),
    ):
        with pytest.raises(BitproofError, match=message):
            bitproof.deploy(network, **{"example": example, "runs": tmp_path / "runs", **options})


@pytest.mark.tool
def test_a_refused_deployment_leaves_what_an_earlier_one_was_made_of(network: nn.Module, tmp_path: Path) -> None:
    example, vectors = torch.zeros(1, 12), np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32)
    options: dict[str, Any] = {"example": example, "targets": ["onnx-int8"], "runs": tmp_path}
    run = bitproof.deploy(network, vectors=vectors, **options)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and ".inputs" in str(path)}
    assert {path.name for path in kept} == {"Net.onnx", "vectors.npy"}
    with pytest.raises(InputError, match=r"vectors.npy has the shape \(3, 7\); real inputs .* shape \('N', 12\)$"):
        bitproof.deploy(network, vectors=np.zeros((3, 7), np.float32), **options)
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert bitproof_without_scheduler("verify", run.path).code == 0
    other = bitproof.deploy(network, vectors=vectors[:10], **options)
    assert other.checks[0].samples == 10
    folders = list((tmp_path / "Net.inputs").iterdir())
    assert len(folders) == 2, "the inputs of the last run, and those of the one before until the next"
