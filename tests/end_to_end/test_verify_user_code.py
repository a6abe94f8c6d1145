"""A user's network in a run of others: it is executed by ``verify --trust-code`` alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bitproof_command import bitproof, bitproof_without_scheduler

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
QUICK = ("--set", "train.epochs=1", "--set", "gates.float_vs_quantized=100", "--set", "targets=[onnx-int8]")

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def test_code_that_a_run_names_is_executed_only_if_it_is_trusted(tmp_path: Path) -> None:
    for name in ("own_network.yaml", "own_network.py"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
    outcome = bitproof_without_scheduler("run", tmp_path / "own_network.yaml", "--runs", tmp_path / "runs", *QUICK)
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs" / "own_network"
    trusted = bitproof("verify", run, "--trust-code", "--json")
    assert trusted.code == 0, trusted.err
    assert [check["actual"] for check in json.loads(trusted.out)["checks"]] == ["torch", "qonnx", "onnx-int8"]
    marker = tmp_path / "executed"
    code = tmp_path / "own_network.py"
    code.write_text(f"{code.read_text()}\nopen({str(marker)!r}, 'w').close()\n")
    careful = bitproof("verify", run, "--json")
    assert careful.code == 0, careful.err
    assert not marker.exists()
    found = json.loads(careful.out)
    assert [check["actual"] for check in found["checks"]] == ["qonnx", "onnx-int8"]
    assert any(line.startswith("everything of torch: it is a user's code") for line in found["stated"])
    assert bitproof("verify", run, "--trust-code").code == 0
    assert marker.exists(), "the negative control: that code would have been executed"
