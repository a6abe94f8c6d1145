"""The ledger: a contract that other programs read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bitproof.commands.parity import judge
from bitproof.pipeline import IntegrityError, ledger
from bitproof.pipeline.ledger import CheckEntry, ProofEntry, json_schema, read_ledger, write_ledger

SCHEMA_FILE = Path(ledger.__file__).parent / "ledger.schema.json"
HASH = "ab" * 32


def content(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  any field of the ledger
    check = CheckEntry(
        expected="integer",
        actual="rtl",
        vectors="test[0:5]",
        samples=5,
        compared=50,
        differing=0,
        first=None,
        outputs_sha256=HASH,
    )
    proof = ProofEntry(layer="act0", claim="equal", method="all", cases=3, holds=True, actual="rtl")
    base: dict[str, Any] = {
        "run": "tiny",
        "created_by": "bitproof 0.1.0",
        "tools": {"verilator": "5.48"},
        "inputs": {"config": HASH, "data": HASH},
        "artifacts": [],
        "checks": [check],
        "proofs": [proof],
        "accuracy": {"float": 90.0, "quantized": 89.0, "integer": 89.0, "rtl": 89.0, "samples": 5},
        "resources": {"rtl": {"cycles": 392}},
        "gates": {"float_vs_quantized": 2.0, "quantized_vs_target": 0.0},
    }
    return {**base, **changes}


def test_shipped_schema_is_current_and_accepts_a_ledger(tmp_path: Path) -> None:
    shipped = json.loads(SCHEMA_FILE.read_text())
    assert shipped == json_schema(), "write pipeline/ledger.schema.json again from pipeline.ledger.json_schema()"
    write_ledger(content(), tmp_path / "ledger.json")
    written = json.loads((tmp_path / "ledger.json").read_text())
    jsonschema.validate(written, shipped)
    assert written["schema"] == 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written, "checks": [{"expected": "integer"}]}, shipped)


def test_a_ledger_names_the_one_that_it_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    first = write_ledger(content(), path)
    second = write_ledger(content(run="other"), path)
    assert first.previous is None
    assert second.previous == first.sha256
    assert read_ledger(path) == second


def test_an_unchanged_run_leaves_its_ledger_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    write_ledger(content(), path)
    write_ledger(content(run="other"), path)
    before = path.read_bytes()
    write_ledger(content(run="other"), path)
    assert path.read_bytes() == before


def test_digest_is_that_of_the_canonical_json_without_itself(tmp_path: Path) -> None:
    from hashlib import sha256

    write_ledger(content(), tmp_path / "ledger.json")
    written = json.loads((tmp_path / "ledger.json").read_text())
    recorded = written.pop("sha256")
    canonical = json.dumps(written, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sha256(canonical.encode()).hexdigest() == recorded


def test_an_edited_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    write_ledger(content(), path)
    path.write_text(path.read_text().replace('"rtl": 89.0', '"rtl": 99.0'))
    with pytest.raises(IntegrityError, match="was edited"):
        read_ledger(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        (
            {"accuracy": {"float": 92.0, "quantized": 89.0, "samples": 5}},
            "loses 3.00 points (92.00 % to 89.00 %); allowed 2.00",
        ),
        (
            {"accuracy": {"float": 89.0, "quantized": 89.0, "integer": 89.0, "rtl": 88.9, "samples": 5}},
            "gate quantized_vs_target: rtl loses 0.10 points",
        ),
        (
            {
                "proofs": [
                    ProofEntry(
                        layer="act1", claim="c", method="m", cases=9, holds=False, failing=2, first={"channel": 4}
                    )
                ]
            },
            "proof fails: layer act1, integer: c: 2 of 9 cases contradict it, first at {'channel': 4}",
        ),
    ],
)
def test_gates_say_by_how_much_they_are_missed(tmp_path: Path, changes: dict[str, Any], words: str | None) -> None:
    reasons = judge(write_ledger(content(**changes), tmp_path / "ledger.json"), ("rtl",))
    if words is None:
        assert reasons == []
    else:
        assert len(reasons) == 1
        assert words in reasons[0]


def test_a_check_that_compared_nothing_fails_the_run(tmp_path: Path) -> None:
    good = content()["checks"][0]
    ledger = write_ledger(content(checks=[good.model_copy(update={"compared": 0})]), tmp_path / "ledger.json")
    assert judge(ledger, ("rtl",)) == ["rtl against integer on test[0:5]: nothing was compared"]


@pytest.mark.parametrize("missing", ["quantized", "samples", "gate"])
def test_a_ledger_without_a_figure_that_its_gates_need_does_not_pass(tmp_path: Path, missing: str) -> None:
    edited = content()
    edited["gates" if missing == "gate" else "accuracy"].pop("quantized_vs_target" if missing == "gate" else missing)
    (reason,) = judge(write_ledger(edited, tmp_path / "ledger.json"), ("rtl",))
    assert reason.startswith("the ledger cannot be judged")
