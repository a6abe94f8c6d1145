"""A run with a table of times of one's own: the table is kept with the run, decides, and is verified as an input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bitproof_command import Outcome, bitproof, bitproof_without_scheduler
from cost_tables import made_up
from qonnx_files import random_mlp

from bitproof.export.integer import load
from bitproof.export.onnx_int8 import OnnxInt8Executor
from bitproof.export.onnx_int8.costs import Way
from bitproof.pipeline.artifact import MANIFEST, digest_of, sha256_of_bytes
from bitproof.pipeline.ledger import canonical_sha256, read_ledger
from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import RunPlan
from bitproof.target_device import TargetDevice

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("own_table")]


def imported(folder: Path, table: Path) -> Outcome:
    """Import a small network with *table* into *folder*."""
    if not (folder / "net.onnx").exists():
        random_mlp(folder / "net.onnx", 3)
    target = ("--target", f"onnx-int8{{table={table}}}")
    return bitproof_without_scheduler(
        "import", folder / "net.onnx", "--samples", 40, *target, "--runs", folder / "runs"
    )


def written_table(folder: Path, cheapest: Way, name: str = "tuned.json") -> Path:
    path = folder / name
    path.write_text(made_up(cheapest).to_json())
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    outcome = imported(folder, written_table(folder, "quantized-uint8"))
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run elsewhere."""
    shutil.copytree(finished / "runs" / "net", tmp_path / "net")
    return tmp_path / "net"


def test_the_ledger_has_a_line_for_each_layer(finished: Path) -> None:
    ledger = read_ledger(finished / "runs" / "net" / "ledger.json")
    activations = {proof.layer for proof in ledger.proofs if proof.actual == "onnx-int8" and "act" in proof.layer}
    lines = {entry.layer: entry for entry in ledger.layers}
    assert lines
    assert activations <= set(lines)
    for entry in ledger.layers:
        assert (entry.executor, entry.construction) == ("onnx-int8", "quantized")
        assert entry.method.startswith("QGemm, uint8 weights times ")
        assert entry.proof
        assert entry.time_ps is not None
    page = (finished / "runs" / "net" / "report.html").read_text()
    assert all(entry.method in page and entry.proof in page for entry in ledger.layers)
    assert ledger.resources["onnx-int8"]["times_of_layers"] == (
        "estimated by a table of made up, onnxruntime 0, 2000-01-01"
    )


def test_the_run_is_verified_with_the_table_that_it_keeps(finished: Path, run: Path) -> None:
    table = finished / "tuned.json"
    digest = sha256_of_bytes(table.read_bytes())
    assert read_ledger(run / "ledger.json").inputs["onnx-int8.table"] == digest
    assert (run / "inputs" / digest).read_bytes() == table.read_bytes()
    table.rename(finished / "elsewhere.json")
    try:
        outcome = bitproof("verify", run)
    finally:
        (finished / "elsewhere.json").rename(table)
    assert outcome.code == 0, outcome.err
    assert f"stated, not verified: inputs.onnx-int8.table: it is what tuned.json held, SHA-256 {digest}" in outcome.err


def test_a_device_is_programmed_by_the_table_of_the_run(finished: Path, tmp_path: Path) -> None:
    run = RunFolder.open(finished / "runs" / "net")
    model = load(run.artifact("integer").path)
    plan = RunPlan(run.config()).executor("onnx-int8")
    assert plan is not None
    executor = TargetDevice(run, plan, tmp_path, model).program(model)
    assert isinstance(executor, OnnxInt8Executor)
    assert all(entry.method.startswith("QGemm, uint8 weights times ") for entry in executor.layers)
    assert executor.layers


@pytest.mark.parametrize("change", ["another table", "gone"])
def test_a_table_that_was_changed_after_the_run_is_named(run: Path, change: str) -> None:
    (kept,) = (run / "inputs").iterdir()
    if change == "gone":
        kept.unlink()
    else:
        kept.write_text(made_up("single-steps").to_json())
    outcome = bitproof("verify", run)
    assert outcome.code == 1
    assert "the input onnx-int8.table was changed after the run kept it: " in outcome.err
    assert kept.name in outcome.err


def test_another_table_with_all_digests_made_right_gives_another_file(run: Path) -> None:
    """As a forger would: the configuration, the ledger and the checks name the other table."""
    (kept,) = (run / "inputs").iterdir()
    other = made_up("quantized-int8").to_json()
    digest = sha256_of_bytes(other.encode())
    kept.unlink()
    (run / "inputs" / digest).write_text(other)
    config = (run / "config.json").read_text().replace(kept.name, digest)
    (run / "config.json").write_text(config)
    content = json.loads((run / "ledger.json").read_text())
    content["inputs"] |= {"onnx-int8.table": digest, "config": sha256_of_bytes(config.encode())}
    content["sha256"] = canonical_sha256(content)
    (run / "ledger.json").write_text(json.dumps(content))
    outcome = bitproof("verify", run)
    assert outcome.code == 1
    assert "artifact onnx-int8: model.onnx is not what is made of its source" in outcome.err
    assert "layers[onnx-int8 " in outcome.err


def test_another_table_makes_another_file_of_the_same_run(tmp_path: Path) -> None:
    table = written_table(tmp_path, "quantized-uint8")
    assert imported(tmp_path, table).code == 0
    folder = tmp_path / "runs" / "net" / "onnx-int8"
    first = json.loads((folder / MANIFEST).read_text())["sha256"]
    written_table(tmp_path, "quantized-int8")
    outcome = imported(tmp_path, table)
    assert outcome.code == 0, outcome.err
    assert digest_of(folder) != first
    assert bitproof("verify", tmp_path / "runs" / "net").code == 0


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("onnx-int8{table=none.json}", "the table of times "),
        ("onnx-int8{table_sha256=" + "0" * 64 + "}", "a digest without a table; write table=FILE"),
        ("onnx-int8{table=net.onnx}", "is not a table of times: "),
    ],
)
def test_a_spec_without_a_valid_table_is_refused(spec: str, said: str, tmp_path: Path) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        outcome = bitproof("lint", "net.onnx", "--target", spec)
    assert outcome.code == 2, outcome.err
    assert said in outcome.err


def test_a_table_beside_a_configuration_is_found_from_everywhere(tmp_path: Path) -> None:
    written_table(tmp_path, "carried", "beside.json")
    shipped = Path(__file__).parent.parent.parent / "configs" / "digits_mlp.yaml"
    lines = [line for line in shipped.read_text().splitlines() if not line.strip().startswith("- ")]
    text = "\n".join(lines).replace("targets:", 'targets: ["onnx-int8{table=beside.json}"]')
    (tmp_path / "net.yaml").write_text(text + "\n")
    from bitproof.yaml_file import read_config

    (spec,) = read_config(tmp_path / "net.yaml", ()).targets
    assert dict(spec.options)["table"] == str(tmp_path / "beside.json")
