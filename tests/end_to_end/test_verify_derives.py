"""What a stranger's run states is derived again: each false field of its ledger, and each changed file, is named."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bitproof_command import Outcome, bitproof, bitproof_without_scheduler
from qonnx_files import random_mlp

from bitproof.commands.comparison import NEVER_DERIVED, OF_THE_MACHINE, compare_with_derivation
from bitproof.commands.derivation import Derivation, derivation_of
from bitproof.commands.parity import require_ledger
from bitproof.commands.verify import derive, results_beside
from bitproof.pipeline.artifact import MANIFEST, digest_of, sha256_of_bytes
from bitproof.pipeline.ledger import Ledger, canonical_sha256
from bitproof.pipeline.run_folder import RunFolder, config_to_json
from bitproof.plan import RunPlan

pytestmark = [pytest.mark.tool, pytest.mark.end_to_end, pytest.mark.xdist_group("verify_derives")]

Json = Any
Place = tuple[str | int, ...]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Import a small network with vectors and labels to C and onnx-int8; every test looks at it or at a copy."""
    folder = tmp_path_factory.mktemp("stranger")
    random_mlp(folder / "net.onnx", 3)
    inputs = onnx.load(folder / "net.onnx").graph.input[0].type.tensor_type.shape.dim[1].dim_value
    generator = np.random.default_rng(0)
    np.save(folder / "x.npy", generator.normal(size=(60, inputs)).astype(np.float32))
    np.save(folder / "y.npy", generator.integers(0, 3, size=60))
    given = ("--vectors", folder / "x.npy", "--labels", folder / "y.npy")
    targets = ("--target", "onnx-int8", "--target", "c{core=cortex-m0}")
    outcome = bitproof_without_scheduler("import", folder / "net.onnx", *given, *targets, "--runs", folder / "runs")
    assert outcome.code == 0, outcome.err
    return folder / "runs" / "net"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy, alone: the files that it was made from are where they were."""
    shutil.copytree(finished, tmp_path / "net")
    return tmp_path / "net"


@pytest.fixture(scope="module")
def derived(finished: Path) -> Iterator[Derivation]:
    with ExitStack() as stack:
        derivation = stack.enter_context(derivation_of(RunFolder(finished), trust_code=False))
        derive(derivation, trust_code=False)
        yield derivation


def leaves(value: Json, place: Place = ()) -> Iterator[tuple[Place, Json]]:
    """Yield every number, text, truth value, null and empty collection, with its place."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*place, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*place, index))
    else:
        yield place, value


def falsehoods(value: Json) -> list[Json]:
    """Return other values of the kind of *value*."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 0 if value else 7]
    if isinstance(value, float):
        return [value + 0.5, 99.9, float("nan")]
    if isinstance(value, str):
        digest = len(value) == 64
        return ["0" * 64 if digest else value + " more", *([] if digest else ["other"])]
    if value is None:
        return [{"sample": 0, "output": 0, "expected": 1, "actual": 2}, "0" * 64]
    return [{"invented": 1}] if isinstance(value, dict) else [["invented"]]


def put(content: Json, place: Place, value: Json) -> Json:
    changed = copy.deepcopy(content)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return changed


def name_of(place: Place, content: Json) -> str:
    """Return the beginning of the name by which a difference calls the field at *place*."""
    first = str(place[0])
    return f"{first}[" if isinstance(content[first], list) and len(place) > 1 else ".".join(map(str, place[:2]))


def readable(content: Json) -> Ledger | None:
    """Return the ledger of *content*; None: its schema refuses it, and so does every command."""
    try:
        return Ledger.model_validate({**content, "sha256": "0" * 64})
    except ValueError:
        return None


def test_each_field_of_the_ledger_that_is_false_is_named(derived: Derivation) -> None:
    """Made from the ledger's own fields, so that a new one without a check fails here."""
    content = json.loads(derived.run.ledger.read_text())
    clean = compare_with_derivation(derived, Ledger.model_validate(content), trust_code=False)
    assert (clean.files, clean.fields) == ((), ())
    tried = 0
    for place, value in leaves(content):
        if str(place[0]) in NEVER_DERIVED:
            continue
        for other in falsehoods(value):
            forged = readable(put(content, place, other))
            if forged is None:
                continue
            tried += 1
            found = compare_with_derivation(derived, forged, trust_code=False)
            named = [str(line) for line in found.fields]
            if str(place[0]).startswith(OF_THE_MACHINE[0]) or f"{place[0]}." in OF_THE_MACHINE:
                named = list(found.stated)
            assert any(line.startswith(name_of(place, content)) for line in named), (place, value, other)
    assert tried > 300


@pytest.mark.parametrize(
    "collection", ["artifacts", "checks", "proofs", "resources", "accuracy", "inputs", "gates", "layers"]
)
def test_an_entry_that_is_left_out_invented_or_moved_is_named(derived: Derivation, collection: str) -> None:
    content = json.loads(derived.run.ledger.read_text())
    entries = content[collection]
    if isinstance(entries, dict):
        keys = list(entries)
        variants: list[Json] = [{key: entries[key] for key in keys[1:]}, {**entries, "invented": entries[keys[0]]}]
    else:
        variants = [entries[1:], [*entries, entries[0]], [entries[1], entries[0], *entries[2:]]]
    for variant in variants:
        forged = readable({**content, collection: variant})
        assert forged is not None
        found = compare_with_derivation(derived, forged, trust_code=False)
        assert any(str(line).startswith(collection) for line in found.fields), variant


def test_what_nothing_shows_is_stated(derived: Derivation) -> None:
    ledger = Ledger.model_validate(json.loads(derived.run.ledger.read_text()))
    other = ledger.model_copy(update={"previous": "1" * 64, "created_by": "somebody", "tools": {"gcc": "99"}})
    found = compare_with_derivation(derived, other, trust_code=False)
    assert found.fields == ()
    for word in (
        "previous: that it replaced",
        "created_by: the ledger has 'somebody'",
        "tools.gcc: the ledger has '99'",
    ):
        assert any(line.startswith(word) for line in found.stated)


def seal_again(run: Path, stage: str) -> None:
    """Give the changed artifact of *stage* its new digest, in its manifest, those made of it, and the ledger."""
    old = json.loads((run / stage / MANIFEST).read_text())["sha256"]
    new = digest_of(run / stage)
    for path in (*run.glob(f"*/{MANIFEST}"), run / "ledger.json", *run.glob("checks/*.json")):
        path.write_text(path.read_text().replace(old, new))
    seal_ledger(run)


def seal_ledger(run: Path) -> None:
    content = json.loads((run / "ledger.json").read_text())
    content["sha256"] = canonical_sha256(content)
    (run / "ledger.json").write_text(json.dumps(content))


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


CHANGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a weight in the integer model": (
        "integer",
        lambda folder: flip_last_byte(next(folder.glob("*weights*.npy"))),
        "artifact integer: ",
    ),
    "a weight in the C that a user compiles": (
        "c-cortex-m0",
        lambda folder: (path := next(folder.rglob("*_weights.c"))).write_text(path.read_text().replace("0x", "0x0", 1)),
        "_weights.c is not what is made of its source",
    ),
    "the firmware": ("firmware-cortex-m0", lambda folder: flip_last_byte(folder / "firmware.elf"), "firmware.elf"),
    "the packed file": ("onnx-int8", lambda folder: flip_last_byte(folder / "model.onnx"), "artifact onnx-int8: "),
    "a file more": ("onnx-int8", lambda folder: (folder / "run.sh").write_text("x"), "run.sh"),
    "the normalized file": ("export", lambda folder: (folder / "note").write_text("x"), "artifact export: note"),
    "labels": (
        "data",
        lambda folder: np.save(path := next(folder.glob("*labels.npy")), np.roll(np.load(path), 1)),
        "artifact data: vectors_labels.npy",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_with_all_digests_made_right_is_named(name: str, run: Path) -> None:
    stage, change, said = CHANGES[name]
    change(run / stage)
    seal_again(run, stage)
    outcome = verified(run)
    assert outcome.code == 1, outcome.err
    assert said in outcome.err


def verified(run: Path, *options: str) -> Outcome:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    outcome = bitproof("verify", run, *options)
    assert "Traceback" not in outcome.err
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}, "a run is only read"
    return outcome


def test_labels_of_a_run_whose_files_are_gone_are_held_against_its_accuracies(run: Path) -> None:
    """As for a stranger: what was taken over is stated, and held against what the ledger says of it."""
    config = json.loads((run / "config.json").read_text())
    for file in ("source", "vectors", "labels"):
        config[file]["path"] = f"/gone/{Path(config[file]['path']).name}"
    (run / "config.json").write_text(json.dumps(config))
    content = json.loads((run / "ledger.json").read_text())
    content["inputs"]["config"] = sha256_of_bytes(config_to_json(RunFolder(run).config()).encode())
    (run / "ledger.json").write_text(json.dumps(content))
    seal_ledger(run)
    assert bitproof("report", run).code == 0
    outcome = verified(run)
    assert outcome.code == 0, outcome.err
    assert "stated, not verified: export: it was made from net.onnx, SHA-256" in outcome.err
    labels = next((run / "data").glob("*labels.npy"))
    np.save(labels, np.roll(np.load(labels), 1))
    seal_again(run, "data")
    outcome = verified(run)
    assert outcome.code == 1
    assert "accuracy.integer: the ledger has " in outcome.err
    assert "accuracy.c:cortex-m0: the ledger has " in outcome.err, "all differences, not the first alone"


def test_bytes_that_other_tools_made_are_stated_and_what_is_made_here_is_run(run: Path) -> None:
    """A user with another compiler: the firmware cannot be the same, the codes are."""
    firmware = run / "firmware-cortex-m0"
    flip_last_byte(firmware / "firmware.elf")
    seal_again(run, "firmware-cortex-m0")
    assert verified(run).code == 1, "by the same compiler it is the same"
    manifest = json.loads((firmware / MANIFEST).read_text())
    manifest["tools"]["arm-none-eabi-gcc"] = "9.9"
    (firmware / MANIFEST).write_text(json.dumps(manifest))
    content = json.loads((run / "ledger.json").read_text())
    content["tools"]["arm-none-eabi-gcc"] = "9.9"
    content["resources"]["c:cortex-m0"]["flash_bytes"] += 4
    (run / "ledger.json").write_text(json.dumps(content))
    check = json.loads((run / "checks" / "c-cortex-m0.json").read_text())
    check["resources"]["flash_bytes"] += 4
    (run / "checks" / "c-cortex-m0.json").write_text(json.dumps(check))
    seal_ledger(run)
    assert bitproof("report", run).code == 0
    outcome = verified(run)
    assert outcome.code == 0, outcome.err
    said = "stated, not verified: artifact firmware-cortex-m0: made by arm-none-eabi-gcc 9.9 (here "
    assert said in outcome.err
    assert "with other bytes; the one made here was run" in outcome.err


def test_links_and_pipes_in_an_artifact_are_refused(run: Path) -> None:
    for make, kind in ((lambda path: path.symlink_to("/etc/hostname"), "link"), (os.mkfifo, "special file")):
        odd = run / "onnx-int8" / "odd"
        make(odd)
        outcome = bitproof("verify", run)
        assert outcome.code == 1
        assert f"holds the {kind} odd" in outcome.err
        odd.unlink()
    manifest = run / "onnx-int8" / MANIFEST
    text = manifest.read_text()
    manifest.unlink()
    os.mkfifo(manifest)
    outcome = bitproof("verify", run)
    assert outcome.code == 1
    assert "is not a plain file" in outcome.err
    manifest.unlink()
    manifest.write_text(text)
    assert bitproof("verify", run).code == 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace('"run": "net"', '"run": "net", "run": "net"'), "keys repeat: 'run'"),
        (lambda text: text.replace('"run": "net"', '"run": "\\ud800"'), "surrogates not allowed"),
        (lambda text: "[" * 100_000, "is not a readable ledger"),
    ],
)
def test_a_ledger_that_can_be_read_in_two_ways_or_in_none_is_refused(
    run: Path, damage: Callable[[str], str], said: str
) -> None:
    path = run / "ledger.json"
    path.write_text(damage(path.read_text()))
    outcome = bitproof("verify", run)
    assert outcome.code == 1
    assert said in outcome.err


def test_a_manifest_that_says_something_else_is_named(run: Path) -> None:
    path = run / "integer" / MANIFEST
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "kind": "checkpoint", "made_from": ["0" * 64]}))
    outcome = verified(run)
    assert outcome.code == 1
    assert "artifact integer: its manifest has kind 'checkpoint', derived is 'integer-model'" in outcome.err
    assert "artifact integer: its manifest has made_from" in outcome.err


def test_a_report_that_says_something_else_is_named(run: Path) -> None:
    report = run / "report.html"
    report.write_text(report.read_text().replace("Equal.", "Proven equal by others."))
    outcome = verified(run)
    assert outcome.code == 1
    assert "report.html is not the page that the ledger gives" in outcome.err
    assert "report.json" not in outcome.err


def test_costs_that_say_something_else_are_named(run: Path) -> None:
    costs = run / "report.json"
    content = json.loads(costs.read_text())
    parts = content["executors"]["c:cortex-m0"]["parts"]
    total = content["executors"]["c:cortex-m0"]["total"]
    assert content["schema"] == 1
    assert sum(part["flash_bytes"] for part in parts) == total["flash_bytes"]
    assert sum(part["instructions"] for part in parts) == total["instructions_per_inference"]
    parts[0]["instructions"] -= 1
    costs.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    outcome = verified(run)
    assert outcome.code == 1
    assert "report.json is not the page that the ledger gives: bitproof report RUN writes it again" in outcome.err


@pytest.mark.parametrize("field", ["check", "proofs", "accuracy", "resources", "tools", "costs"])
def test_a_result_beside_the_ledger_that_says_something_else_is_named(run: Path, field: str) -> None:
    path = run / "checks" / "c-cortex-m0.json"
    content = json.loads(path.read_text())
    place, value = next((p, v) for p, v in leaves(content) if p[0] == field and isinstance(v, int | float | str))
    path.write_text(json.dumps(put(content, place, falsehoods(value)[0])))
    folder = RunFolder(run)
    (reason,) = results_beside(folder, RunPlan(folder.config()), require_ledger(folder))
    assert reason == f"checks/c-cortex-m0.json: its {field} is not in the ledger"


def test_quick_hashes_alone_and_says_so(run: Path) -> None:
    outcome = verified(run, "--quick")
    assert outcome.code == 0, outcome.err
    assert "artifacts hashed; nothing was made or run again (--quick)" in outcome.out
    as_json = json.loads(verified(run, "--quick", "--json").out)
    assert as_json["quick"] is True
    flip_last_byte(run / "onnx-int8" / "model.onnx")
    assert verified(run, "--quick").code == 1
    assert bitproof("verify", run, "--quick", "--flip-bit", "onnx-int8").code == 2


def test_everything_is_in_the_json(run: Path) -> None:
    content = json.loads((run / "ledger.json").read_text())
    content["checks"][0]["compared"] += 1
    content["accuracy"]["integer"] = 99.9
    (run / "ledger.json").write_text(json.dumps(content))
    seal_ledger(run)
    outcome = verified(run, "--json")
    assert outcome.code == 1
    found = json.loads(outcome.out.splitlines()[0])
    assert found["ok"] is False
    fields = {difference["field"]: difference for difference in found["differences"]}
    assert fields["accuracy.integer"]["recorded"] == 99.9
    assert fields["checks[qonnx].compared"]["recorded"] == fields["checks[qonnx].compared"]["derived"] + 1
    assert found["stated"] == []


def test_a_kernel_that_cannot_confine_is_told_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitproof.commands.verify.landlock_version", lambda: -1)
    outcome = verified(run)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("warning: this kernel has no Landlock") == 1
