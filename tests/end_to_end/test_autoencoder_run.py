"""A network that names no class goes the whole way: its outputs are compared, and no accuracy is made up for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bitproof_command import bitproof, bitproof_without_scheduler

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("autoencoder_run")]

CONFIG = """
name: digits_autoencoder
data: { name: digits }
model: { name: autoencoder, width: 0.25, weight_bits: 4, act_bits: 4 }
train: { epochs: 3, batch_size: 64, lr: 0.01 }
targets: [onnx-int8]
gates: { float_vs_quantized: 100.0 }
"""


def test_autoencoder_is_compared_code_by_code_and_not_calibrated(tmp_path: Path) -> None:
    config = tmp_path / "autoencoder.yaml"
    config.write_text(CONFIG)
    outcome = bitproof_without_scheduler("run", config, "--runs", tmp_path / "runs", "--json")
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs" / "digits_autoencoder"
    ledger = json.loads((run / "ledger.json").read_text())
    assert sorted(check["actual"] for check in ledger["checks"]) == ["onnx-int8", "qonnx", "torch"]
    assert all(check["compared"] == 360 * 64 and check["differing"] == 0 for check in ledger["checks"])
    assert sorted(ledger["accuracy"]) == ["float", "quantized", "samples", "test_samples"]
    refused = bitproof("calibrate", run)
    assert refused.code == 2
    assert "names no class; calibration lowers the loss of a classifier" in refused.err
