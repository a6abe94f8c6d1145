"""What ``lint`` calls fine is carried out, and what stops an import or a run is what ``lint`` named first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cases_of_graphs  # noqa: F401  it registers its cases
import numpy as np
import onnx
import pytest
from bitproof_command import Outcome, bitproof_without_scheduler
from foreign_files import FILES, ForeignFile, weights
from qonnx_files import QonnxFile, random_mlp
from small_graphs import CASES as GRAPHS

from bitproof.cli import run_command_line
from bitproof.targets import require_target

pytestmark = [
    pytest.mark.tool,
    pytest.mark.end_to_end,
    pytest.mark.filterwarnings("ignore"),  # torch's exporter warns about its own insides
]

CASES = Path(__file__).parent.parent.parent.parent / "shared" / "cases"
"""Files that others gave; they are not part of the project."""
CONFIGS = Path(__file__).parent.parent.parent / "configs"
TARGETS = ("onnx-int8", "c{core=cortex-m4}")
SMALL = "c{core=cortex-m4, flash=2048}"
"""A target that no network of more than some weights fits."""


@dataclass(frozen=True)
class Generated:
    """A file that is made here, and what else is given to both commands."""

    write: Callable[[Path], None]
    targets: tuple[str, ...] = TARGETS
    options: tuple[str, ...] = ()


def foreign(name: str) -> Callable[[Path], None]:
    return lambda path: onnx.save_model(FILES[name](), path)


def one_product(path: Path) -> None:
    """A single layer whose sums are the outputs."""
    file = QonnxFile()
    matrix = file.quant(file.constant(np.eye(4, 6, dtype=np.float32)), 1.0, 3, signed=1)
    file.save(path, 6, file.add("Gemm", [file.quant("input", 0.5, 8, signed=0), matrix], transB=1), 4)


def signed_codes(path: Path) -> None:
    """Signed codes at the input and at the outputs."""
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4)
    tensor = file.add("Gemm", tensor, file.quant(file.constant(weights((3, 3), 1)), 0.5, 3), transB=1)
    onnx.save_model(file.model(file.quant(tensor, 0.25, 4), ["N", 3], ["N", 3]), path)


def branches(path: Path) -> None:
    """A sum of two branches, which C does not take."""
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4)
    tensor = file.add("Gemm", tensor, file.quant(file.constant(weights((3, 3), 1)), 0.5, 3), transB=1)
    tensor = file.add("Add", file.quant(tensor, 0.25, 4), file.quant(tensor, 0.25, 3))
    onnx.save_model(file.model(file.quant(tensor, 0.25, 4), ["N", 3], ["N", 3]), path)


def unknown_operations(path: Path) -> None:
    file = ForeignFile()
    tensor = file.add("Add", file.add("Exp", file.quant("input", 0.25, 4)), file.add("Erf", "Quant_t3"))
    onnx.save_model(file.model(file.quant(tensor, 0.25, 4), ["N", 12], ["N", 12]), path)


GENERATED = {
    **{name: Generated(foreign(name)) for name in FILES if name != "binary"},
    "binary": Generated(foreign("binary"), options=("--input", "uint4*1/15")),
    "binary, input not declared": Generated(foreign("binary")),
    "perceptron": Generated(lambda path: void(random_mlp(path, 3))),
    "perceptron, too little flash": Generated(lambda path: void(random_mlp(path, 3)), ("onnx-int8", SMALL)),
    "one product": Generated(one_product),
    "signed codes": Generated(signed_codes),
    "branches": Generated(branches),
    "no ONNX file": Generated(lambda path: void(path.write_bytes(b"this is no network"))),
    "more flash than there is": Generated(one_product, ("c{flash=8M}",)),
}


def void(_: object) -> None:
    """Drop what a writer returns."""


class Lint:
    """``bitproof lint`` in this process: its exit code and what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        self.code = run_command_line(["lint", *map(str, arguments), "--json"])
        self.said: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[0])


def both(
    capsys: pytest.CaptureFixture[str], path: Path, runs: Path, targets: tuple[str, ...], options: tuple[str, ...] = ()
) -> tuple[Lint, Outcome]:
    """Lint *path* and import it on few samples, with the same targets."""
    given = [*(part for target in targets for part in ("--target", target)), *options]
    imported = bitproof_without_scheduler("import", path, *given, "--samples", "20", "--runs", runs, "--name", "net")
    return Lint(capsys, path, *given), imported


def require_agreement(linted: Lint, imported: Outcome, runs: Path) -> None:
    """Fail unless the import did what lint said, for the reasons that lint gave."""
    said = linted.said
    if linted.code == 2:
        assert imported.code == 2, imported.err
        assert said["error"].splitlines()[0] in imported.err
        return
    if said["unsupported"]:
        assert (linted.code, imported.code) == (1, 2), imported.err
        assert all(line in imported.err for line in said["unsupported"])
        return
    refused = {require_target(entry["target"]): entry["why"] for entry in said["targets"] if not entry["takes"]}
    assert linted.code == (1 if refused or said["failing_proofs"] else 0)
    too_large = [why for why in refused.values() if "does not fit the memory" in why]
    if too_large:
        assert imported.code == 2, imported.err
        assert all(why in imported.err for why in too_large)
        assert not runs.exists(), "nothing was made"
        return
    assert imported.code == (4 if refused else linted.code), imported.err
    failures = json.loads((runs / "net" / "ledger.json").read_text())["failures"]
    assert {entry["stage"]: entry["message"] for entry in failures} == {
        target.name: why for target, why in refused.items()
    }


@pytest.mark.parametrize("name", GENERATED)
def test_an_import_does_what_lint_says(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = GENERATED[name]
    path = tmp_path / "net.onnx"
    case.write(path)
    linted, imported = both(capsys, path, tmp_path / "runs", case.targets, case.options)
    require_agreement(linted, imported, tmp_path / "runs")


def shared_cases() -> list[Any]:
    if not CASES.is_dir():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{CASES} is not there"))]
    return sorted(path.stem for path in CASES.glob("*.onnx"))


@pytest.mark.parametrize("name", shared_cases())
def test_an_import_of_a_case_does_what_lint_says(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes((CASES / f"{name}.onnx").read_bytes())
    linted, imported = both(capsys, path, tmp_path / "runs", TARGETS)
    require_agreement(linted, imported, tmp_path / "runs")
    require_right(name, imported, tmp_path / "runs")


REFUSED = {
    "preprocessing_without_quantizer": "put a quantizer behind the normalization",
    "relu_as_input_quantizer": "is not a readable ONNX file",  # some copies of it are damaged
}
"""Cases that may be refused, and why; all others are taken."""


def require_right(name: str, imported: Outcome, runs: Path) -> None:
    """Fail unless every integer form that the case *name* has is equal, and its float32 is explained."""
    if imported.code == 2:
        assert REFUSED[name] in imported.err
        assert "e-11" not in imported.err, "no scale that the user never wrote"
        return
    ledger = json.loads((runs / "net" / "ledger.json").read_text())
    assert {entry["stage"] for entry in ledger["failures"]} <= {"c-cortex-m4"}
    checks = {check["actual"]: check for check in ledger["checks"]}
    qonnx = checks.pop("qonnx")
    assert (qonnx["differing"], qonnx["unexplained"]) == (qonnx["explained"], None)
    assert checks.keys() >= {"qonnx-f64", "onnx-int8"}
    assert {executor: check["differing"] for executor, check in checks.items()} == dict.fromkeys(checks, 0)
    assert (name == "one_bit_relu") == ("constant" in imported.out + imported.err)


def test_agreement_fails_where_lint_and_import_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The negative control: what lint says of a file that FINN takes, against the import of one that it refuses."""
    random_mlp(tmp_path / "takes.onnx", 3)
    moved = GRAPHS["Transpose of the spatial axes"]()
    refuses = moved.file.save(tmp_path / "moved" / "m.onnx", moved.inputs, moved.output, moved.outputs)
    fine = Lint(capsys, tmp_path / "takes.onnx", "--target", "finn")
    refused, imported = both(capsys, refuses, tmp_path / "runs", ("finn",))
    require_agreement(refused, imported, tmp_path / "runs")
    with pytest.raises(AssertionError):
        require_agreement(fine, imported, tmp_path / "runs")


RULES = {
    "sums": (["model={name: cnn, channels: [160, 4], weight_bits: 8, act_bits: 8}", "targets=[finn]"], 4),
    "flash": (["targets=['c{flash=2k}']"], 2),
    "more flash than there is": (["targets=['c{flash=8M}']"], 2),
}


@pytest.mark.parametrize("name", RULES)
def test_a_run_is_refused_in_the_words_of_lint_before_any_training(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assignments, code = RULES[name]
    given = [CONFIGS / "digits_mlp.yaml", *(part for text in assignments for part in ("--set", text))]
    linted = Lint(capsys, *given)
    ran = bitproof_without_scheduler("run", *given, "--runs", tmp_path / "runs")
    assert ran.code == code, ran.err
    said = linted.said
    if linted.code == 2:
        assert said["error"] in ran.err
    else:
        assert linted.code == 1
        assert [target["takes"] for target in said["targets"]] == [False]
        assert said["targets"][0]["why"] in ran.err
    assert not (tmp_path / "runs").exists(), "nothing was trained"


def test_a_run_that_stops_before_a_target_does_not_ask_it(tmp_path: Path) -> None:
    options = ("--set", "targets=['c{flash=2k}', onnx-int8]", "--set", "train.epochs=1", "--runs", tmp_path)
    outcome = bitproof_without_scheduler("run", CONFIGS / "digits_mlp.yaml", *options, "--until", "onnx-int8")
    assert outcome.code == 0, outcome.err
    refused = bitproof_without_scheduler("run", CONFIGS / "digits_mlp.yaml", *options, "--until", "c-cortex-m4")
    assert refused.code == 2, refused.err
    assert "these stages failed: c-cortex-m4 (exit code 2)" in refused.err
