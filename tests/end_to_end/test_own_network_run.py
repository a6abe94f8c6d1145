"""The example of a network of the user's, from every directory; a network that breaks a rule is not trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bitproof_command import bitproof

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
QUICK = ("--set", "train.epochs=2", "--set", "gates.float_vs_quantized=100", "--set", "targets=[onnx-int8]")

pytestmark = pytest.mark.end_to_end


def test_example_runs_through_every_stage(tmp_path: Path) -> None:
    outcome = bitproof("run", EXAMPLES / "own_network.yaml", "--runs", tmp_path, "--json", *QUICK)
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
    outcome = bitproof("run", tmp_path / "own_network.yaml", "--runs", runs, "--until", "train", *QUICK)
    assert outcome.code == 2
    assert "give the quantizer before it return_quant_tensor=True" in outcome.err
    assert not (runs / "own_network" / "train" / "artifact.json").exists()
    assert not (runs / "own_network" / "scratch" / "train" / "epochs.csv").exists()
