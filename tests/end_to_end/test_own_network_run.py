"""Networks and data sets of the user's: the example, modules beside a file, and every kind of error in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bitproof_command import Outcome, bitproof, bitproof_without_scheduler

from bitproof.cli import run_command_line

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
QUICK = ("--set", "train.epochs=2", "--set", "gates.float_vs_quantized=100", "--set", "targets=[onnx-int8]")
NETWORK = """
import brevitas.nn as qnn
import torch
from torch import nn
from bitproof.train.models import activation_quantizer, quantized_input, weight_quantizer
from parts import output

class Net(nn.Module):
    def __init__(self, model, inputs, classes):
        super().__init__()
        self.input = quantized_input(model)
        weights = weight_quantizer(4, model.scale, "tensor")
        self.first = qnn.QuantLinear(inputs, 16, bias=False, weight_quant=weights)
        self.middle = qnn.QuantReLU(act_quant=activation_quantizer(4, model.scale), return_quant_tensor=True)
        self.last = output(16, classes, weights)
        self.calls = 0
        EXTRA

    def forward(self, values):
        values = self.input(values)
        CHANGE
        return self.last(self.middle(self.first(values)))

def network(model, inputs, classes):
    return Net(model, inputs, classes)
"""
PARTS = """
import brevitas.nn as qnn

def output(inputs, classes, weights):
    return qnn.QuantLinear(inputs, classes, bias=False, weight_quant=weights)
"""

pytestmark = pytest.mark.end_to_end


def test_example_runs_through_every_stage(tmp_path: Path) -> None:
    outcome = bitproof_without_scheduler("run", EXAMPLES / "own_network.yaml", "--runs", tmp_path, "--json", *QUICK)
    assert outcome.code == 0, outcome.err
    ledger = json.loads((tmp_path / "own_network" / "ledger.json").read_text())
    assert [check["actual"] for check in ledger["checks"]] == ["torch", "qonnx", "onnx-int8"]
    assert all(check["differing"] == 0 and check["compared"] == 3600 for check in ledger["checks"])


def test_network_that_breaks_a_rule_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    for name in ("own_network.yaml", "own_network.py"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
    code = tmp_path / "own_network.py"
    code.write_text(code.read_text().replace("return_quant_tensor=True),", "return_quant_tensor=False),"))
    runs = tmp_path / "runs"
    outcome = bitproof_without_scheduler(
        "run", tmp_path / "own_network.yaml", "--runs", runs, "--until", "train", *QUICK
    )
    assert outcome.code == 2
    assert "give the quantizer before it return_quant_tensor=True" in outcome.err
    assert not (runs / "own_network").exists()


def write(folder: Path, change: str = "pass", extra: str = "pass", data: str = "digits") -> Path:
    """Write a network with a module beside it and files that nothing needs, and return its configuration."""
    for name in ("pipeline", "train", "export", "hw"):
        (folder / f"{name}.py").write_text("raise RuntimeError('a file of the user, which nothing imports')\n")
    (folder / "net.py").write_text(NETWORK.replace("EXTRA", extra).replace("CHANGE", change))
    (folder / "parts.py").write_text(PARTS)
    config = folder / "mine.yaml"
    config.write_text(
        f"name: mine\ndata: {{name: '{data}'}}\nmodel: {{name: 'net.py:network', hidden: [8]}}\n"
        "train: {epochs: 2, batch_size: 64}\ntargets: [onnx-int8]\ngates: {float_vs_quantized: 100}\n"
    )
    return config


def run(config: Path, *options: str) -> Outcome:
    return bitproof("run", config, "--runs", config.parent / "runs", *options)


def test_module_beside_the_network_is_imported_by_every_stage_and_makes_it_stale(tmp_path: Path) -> None:
    config = write(tmp_path)
    outcome = run(config)
    assert outcome.code == 0, outcome.err
    manifest = tmp_path / "runs" / "mine" / "train" / "artifact.json"
    before = manifest.stat().st_mtime_ns
    assert run(config).code == 0
    assert manifest.stat().st_mtime_ns == before
    (tmp_path / "parts.py").write_text(PARTS + "\n# edited\n")
    assert run(config, "--until", "train").code == 0
    assert manifest.stat().st_mtime_ns != before


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "value of a plain tensor": (
        {"change": "values = values.value"},
        "pass raised AttributeError: 'FakeTensor' object has no attribute 'value' ({folder}/net.py, line 21)",
    ),
    "recurrent layer": (
        {"extra": "self.inner = nn.LSTM(64, 64)", "change": "values = self.inner(values.value)[0]"},
        "its layer inner is a LSTM, a recurrent layer, which has no form in integers here",
    ),
    "error in the module beside it": (
        {"extra": "from parts import missing"},
        "raised ImportError: cannot import name 'missing' from 'parts' ({folder}/parts.py) ({folder}/net.py, line 17)",
    ),
}


@pytest.mark.filterwarnings("ignore")  # of torch and brevitas about their own insides
@pytest.mark.parametrize("kind", REFUSED)
def test_network_that_no_stage_could_use_is_refused_before_anything_is_trained(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, message = REFUSED[kind]
    config = write(tmp_path, **changes)
    assert run_command_line(["run", str(config), "--runs", str(tmp_path / "runs")]) == 2
    err = capsys.readouterr().err
    assert message.format(folder=tmp_path) in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_error_in_a_data_set_is_told_by_the_line_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "mydata.py").write_text("import parts\ndef load(root, seed):\n    return parts.nothing(seed)\n")
    outcome = run(write(tmp_path, data="mydata.py:load"), "--until", "data")
    assert outcome.code == 2, outcome.err
    line = f"module 'parts' has no attribute 'nothing' ({tmp_path}/mydata.py, line 3)"
    assert f"mydata.py:load' raised AttributeError: {line}" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL (something killed it: is the memory full?)"),
        ("import ctypes; ctypes.string_at(0)", "ended by SIGSEGV (native code crashed)"),
    ],
)
def test_death_of_a_stage_is_reported_with_its_last_lines(tmp_path: Path, how: str, said: str) -> None:
    (tmp_path / "mydata.py").write_text(f"def load(root, seed):\n    {how}\n")
    outcome = run(write(tmp_path, data="mydata.py:load"), "--until", "data")
    assert outcome.code == 4, outcome.err
    folder = tmp_path / "runs" / "mine"
    assert f"data: its process ended without a result: {said}. Its log is {folder / 'logs' / 'data.log'}" in outcome.err
    last = f'File "{tmp_path}/mydata.py", line 2 in load' if "SIGSEGV" in said else "stage data begins, process"
    assert last in outcome.err
    assert "these stages failed: data (exit code 4)" in outcome.err
    assert json.loads((folder / "failures" / "data.json").read_text())["exit_code"] == 4
