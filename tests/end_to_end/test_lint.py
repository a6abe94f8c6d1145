"""``bitproof lint``: what keeps a network from being deployed is said before any training, with its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cases_of_graphs  # noqa: F401  it registers its cases
import numpy as np
import onnx
import pytest
from foreign_files import FILES
from qonnx_files import QonnxFile, random_mlp
from small_graphs import CASES

from bitproof.cli import run_command_line
from bitproof.export.integer import MatMul
from bitproof.export.lower import lower_file
from bitproof.export.proofs import near_boundaries

CONFIGS = Path(__file__).parent.parent.parent / "configs"

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporter warns about its own insides


def linted(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = run_command_line(["lint", *map(str, arguments), "--json"])
    content: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[0])
    return code, content


@pytest.mark.end_to_end
def test_a_perceptron_deploys_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = linted(capsys, CONFIGS / "digits_mlp.yaml")
    assert code == 0
    assert found["ok"] is True
    assert [target["takes"] for target in found["targets"]] == [True, True, True]
    assert [layer["name"] for layer in found["layers"]] == ["fc0", "act0", "fc1", "act1", "fc2"]
    assert [layer["shape"] for layer in found["layers"]] == [[32], [32], [32], [32], [10]]
    assert (found["proofs"] > 0, found["failing_proofs"]) == (True, [])


@pytest.mark.end_to_end
def test_the_targets_of_a_configuration_can_be_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "images.yaml"
    model = "{name: resnet8, width: 0.25, weight_bits: 2, act_bits: 2}"
    config.write_text(f"name: images\ndata: {{name: digits}}\nmodel: {model}\ntargets: [finn]\n")
    code, found = linted(capsys, config)
    assert code == 0
    assert [target["target"].partition("{")[0] for target in found["targets"]] == ["finn"]
    code, found = linted(capsys, config, "--target", "onnx-int8")
    assert code == 0
    assert [target["target"] for target in found["targets"]] == ["onnx-int8"]


@pytest.mark.end_to_end
def test_functions_of_the_user_are_built_and_their_faults_are_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text(
        "import numpy as np\n"
        "def data(root, seed):\n"
        "    codes = np.zeros((8, 5), dtype=np.uint8)\n"
        "    labels = np.arange(8) % 3\n"
        "    return {'train': (codes, labels), 'test': (codes, labels)}\n"
        "def network(model, inputs, classes):\n"
        "    from torch import nn\n"
        "    return nn.Linear(inputs, classes + 1)\n"
    )
    text = "name: own\ndata: {name: 'PATH/own.py:data'}\nmodel: {name: MODEL, hidden: [4]}\ntargets: [onnx-int8]\n"
    config = tmp_path / "own.yaml"
    config.write_text(text.replace("PATH", str(tmp_path)).replace("MODEL", "mlp"))
    code, found = linted(capsys, config)
    assert code == 0
    assert [layer["shape"] for layer in found["layers"]] == [[4], [4], [3]]
    config.write_text(text.replace("PATH", str(tmp_path)).replace("MODEL", f"'{tmp_path}/own.py:network'"))
    code, found = linted(capsys, config)
    assert code == 2
    assert "it must give logits of shape (2, 3)" in found["error"]


def test_a_file_tells_its_dead_channels_and_its_integers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = random_mlp(tmp_path / "model.onnx", 3)
    model = lower_file(path).model
    code, found = linted(capsys, path)
    assert code == 0
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["act0"]["dead_channels"] == [0], "its batch norm multiplies by 0"
    assert any(line.startswith("act0: 1 of 9 channels give one code") for line in found["advice"])
    for node, ranges in ((node, model.values[node.name].ranges) for node in model.nodes_of(MatMul)):
        assert isinstance(node, MatMul)
        low, high = min(r.low for r in ranges), max(r.high for r in ranges)
        assert (layers[node.name]["low"], layers[node.name]["high"]) == (low, high)
        bits = layers[node.name]["bits"]
        assert -(1 << (bits - 1)) <= low <= high < 1 << (bits - 1)
        assert not -(1 << (bits - 2)) <= low <= high < 1 << (bits - 2)


def free_scales(path: Path) -> Path:
    """One product and one quantized activation with scales that are no powers of two."""
    generator = np.random.default_rng(0)
    file = QonnxFile()
    tensor = file.quant("input", 0.1, 8, signed=0)
    weights = file.constant(generator.normal(size=(6, 40)).astype(np.float32))
    tensor = file.add("Gemm", [tensor, file.quant(weights, 0.3, 4, signed=1)], transB=1)
    tensor = file.quant(file.add("Relu", [tensor]), 0.7, 6, signed=0)
    return file.save(path, 40, tensor, 6)


def test_channels_that_the_order_of_a_sum_decides_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = free_scales(tmp_path / "model.onnx")
    lowered = lower_file(path)
    code, found = linted(capsys, path)
    assert code == 0
    layer = next(layer for layer in found["layers"] if layer["op"] == "threshold")
    reachable = lowered.model.values["fc0"].ranges
    largest = np.abs(lowered.model.nodes_of(MatMul)[0].weights).sum(axis=1) * 255
    expected = {}
    for channel, activation in enumerate(lowered.activations["act0"]):
        near = near_boundaries(activation, reachable[channel], int(largest[channel]), 40)
        if near:
            expected[str(channel)] = sum(interval.high - interval.low + 1 for interval in near)
    assert expected, "free scales have such accumulators"
    assert layer["order_dependent"] == expected
    (advice,) = (line for line in found["advice"] if line.startswith("act0: float32 may decide"))
    assert all(f"{channel} ({count})" in advice for channel, count in expected.items())
    assert "power-of-two" not in advice, "who imports a file has no configuration"


@pytest.mark.end_to_end
def test_who_owns_the_configuration_is_told_which_scales_avoid_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = linted(capsys, CONFIGS / "digits_mlp.yaml", "--set", "model.scale=free")
    assert code == 0
    advice = [line for line in found["advice"] if "float32 may decide" in line]
    assert advice
    assert all(line.endswith("model.scale: power-of-two and train.nudge: true avoid them") for line in advice)


def test_codes_that_never_occur_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Input codes in steps of 1 against activation codes in steps of 1/4: three of four codes cannot occur."""
    file = QonnxFile()
    weights = file.quant(file.constant(np.eye(2, dtype=np.float32)), 1.0, 2, signed=1)
    tensor = file.add("Gemm", [file.quant("input", 1.0, 2, signed=0), weights], transB=1)
    tensor = file.quant(tensor, 0.25, 4, signed=0)
    path = file.save(tmp_path / "model.onnx", 2, tensor, 2)
    code, found = linted(capsys, path)
    assert code == 0
    layer = next(layer for layer in found["layers"] if layer["op"] == "threshold")
    # codes 0, 4, 8, 12 alone occur; of the thresholds 1..15, those of 1-4, 5-8 and 9-12 coincide: three pairs each
    assert layer["skipped_codes"] == 2 * 9


def test_every_node_that_cannot_be_lowered_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = QonnxFile()
    tensor = file.quant("input", 0.5, 4, signed=0)
    branches = [file.add(op, [tensor]) for op in ("Sin", "Exp")]
    path = file.save(tmp_path / "model.onnx", 3, file.add("Mul", branches), 3)
    code, found = linted(capsys, path)
    assert code == 1
    assert [line.split(":")[0] for line in found["unsupported"]] == [f"{branches[0]} (Sin)", f"{branches[1]} (Exp)"]
    assert not any(target["takes"] for target in found["targets"])


@pytest.mark.end_to_end
def test_depthwise_convolutions_deploy_as_rtl(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = linted(capsys, CONFIGS / "speech_commands_ds_cnn.yaml", "--target", "finn")
    assert code == 0
    assert (found["targets"][0]["takes"], found["unsupported"]) == (True, [])


@pytest.mark.end_to_end
def test_codes_that_change_places_are_refused_by_name_where_a_target_does_not_move_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = CASES["Transpose of the spatial axes"]()
    path = moved.file.save(tmp_path / "moved" / "m.onnx", moved.inputs, moved.output, moved.outputs)
    code, found = linted(capsys, path, "--target", "finn")
    assert code == 1
    assert "(transpose), which moves codes on the way" in found["targets"][0]["why"]
    assert found["unsupported"] == []


@pytest.mark.parametrize("name", sorted(set(FILES) - {"binary"}))
def test_files_of_other_tools_are_normalized_first(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign.onnx"
    onnx.save_model(FILES[name](), path)
    code, found = linted(capsys, path)
    assert (found["unsupported"], found["failing_proofs"]) == ([], [])
    assert code == (0 if any(target["takes"] for target in found["targets"]) else 1)
    assert found["name"] == "foreign"


def test_an_input_that_is_not_quantized_is_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "binary.onnx"
    onnx.save_model(FILES["binary"](), path)
    code, found = linted(capsys, path)
    assert code == 2
    assert "by --input TYPE" in found["error"]
    code, found = linted(capsys, path, "--input", "bipolar")
    assert code in (0, 1)
    assert [layer["op"] for layer in found["layers"]].count("matmul") == 2
    assert linted(capsys, CONFIGS / "digits_mlp.yaml", "--input", "bipolar")[0] == 2


def test_bad_input_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no network")
    for arguments in (
        [broken],
        [tmp_path / "missing.onnx"],
        [tmp_path / "missing.yaml"],
        [tmp_path / "network.txt"],
        [random_mlp(tmp_path / "model.onnx", 0), "--target", "tpu"],
    ):
        assert linted(capsys, *arguments)[0] == 2


def test_the_table_names_layers_targets_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["lint", str(free_scales(tmp_path / "model.onnx"))]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("fc0", "matmul", "by order", "takes it", "- act0: float32 may decide"))
    moved = CASES["Transpose of the spatial axes"]()
    path = moved.file.save(tmp_path / "moved" / "m.onnx", moved.inputs, moved.output, moved.outputs)
    assert run_command_line(["lint", str(path)]) == 0
    assert "refuses" in capsys.readouterr().out


@pytest.mark.end_to_end
def test_values_of_a_configuration_can_be_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = ("--set", "model.name=cnn", "--set", "model.channels=[4]", "--set", "targets=[finn]")
    code, found = linted(capsys, CONFIGS / "digits_mlp.yaml", *changed)
    assert code == 0
    assert found["layers"][0]["name"] == "conv0"
    random_mlp(tmp_path / "net.onnx", 3)
    code, found = linted(capsys, tmp_path / "net.onnx", "--set", "model.act_bits=1")
    assert code == 2
    assert found["error"].startswith("--set model.act_bits=1 has no effect on ")


@pytest.mark.parametrize("text", ["uint99", "int0", "uint8*1/0", "bipolar*-1", ""])
def test_a_type_that_is_none_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    assert run_command_line(["lint", str(tmp_path / "net.onnx"), "--input", text]) == 2
    assert f"--input {text!r}" in capsys.readouterr().err


def test_names_with_brackets_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = FILES["wordy"]()
    for node in model.graph.node:
        if node.op_type == "Clip":
            node.op_type, node.name = "Erf", "[/red][bold]odd"
            del node.input[1:]
    onnx.save_model(model, tmp_path / "[bold]net.onnx")
    assert run_command_line(["lint", str(tmp_path / "[bold]net.onnx")]) == 1
    shown = capsys.readouterr().out
    assert "[/red][bold]odd (Erf)" in shown
    assert "[bold]net: nodes" in shown


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("{name: mlp, hidden: [8192, 8192, 8192]}", "has 134,873,088 weights; lint looks at 2,097,152 at most"),
        (
            "{name: cnn, channels: [256, 256], hidden: [2]}",
            "multiplications a sample; lint looks at 67,108,864 at most",
        ),
        (
            "{name: cnn, channels: [1024], hidden: [2]}",
            "has 802,816 outputs a sample in one layer; lint looks at 131,072",
        ),
    ],
)
def test_a_network_that_takes_more_than_seconds_is_refused_before_it_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, said: str
) -> None:
    monkeypatch.setattr("bitproof.commands.lint.export_untrained", None)
    config = tmp_path / "large.yaml"
    pixels = "mnist" if "cnn" in model else "digits"
    config.write_text(f"name: large\ndata: {{name: {pixels}}}\nmodel: {model}\ntargets: [onnx-int8]\n")
    code, found = linted(capsys, config)
    assert code == 2
    assert said in found["error"]
    assert "'bitproof run' asks the same before it trains, and has no such limit" in found["error"]


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_network_of_too_many_thresholds_is_refused_before_they_are_calculated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "large.yaml"
    model = "{name: mlp, hidden: [2048], act_bits: 8}"
    config.write_text(f"name: large\ndata: {{name: digits}}\nmodel: {model}\ntargets: [onnx-int8]\n")
    code, found = linted(capsys, config)
    assert code == 2
    assert "255 thresholds for 2048 channels bring the exact arithmetic" in found["error"]
    assert "at most 262144 are spent" in found["error"]
    assert "has no such limit" in found["error"]
