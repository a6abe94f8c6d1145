"""Deployments in the ledger: one for each board, kept while the RTL stays, and no entry that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bitproof.commands.deployment_entry import deployment_contradictions
from bitproof.commands.parity import judge
from bitproof.pipeline import IntegrityError
from bitproof.pipeline.ledger import (
    ArtifactEntry,
    CheckEntry,
    DeploymentEntry,
    Ledger,
    ProofEntry,
    read_ledger,
    record_deployment,
    recorded_deployments,
    write_ledger,
)

RTL, OTHER, OUTPUTS, CHANGED = "ab" * 32, "cd" * 32, "ef" * 32, "01" * 32
FIRST = {"sample": 2, "output": 3, "expected": 5, "actual": -5}


def entry(**changes: Any) -> DeploymentEntry:  # noqa: ANN401  any field
    base: dict[str, Any] = {
        "executor": "pynq:pynq-z1",
        "vectors": "test[0:5]",
        "samples": 5,
        "compared": 50,
        "differing": 0,
        "first": None,
        "outputs_sha256": OUTPUTS,
        "design_id": "0123456789abcdef",
        "bundle_sha256": RTL,
        "made_from": RTL,
        "timing": {"latency_us": 31.5},
        "tools": {"pynq": "3.0.1"},
    }
    return DeploymentEntry(**{**base, **changes})


def ledger_with(path: Path, *deployments: DeploymentEntry) -> Ledger:
    kept = {"samples": 5, "compared": 50, "differing": 0, "first": None, "outputs_sha256": OUTPUTS}
    check = CheckEntry(expected="integer", actual="rtl", vectors="test[0:5]", **kept)
    content: dict[str, Any] = {
        "run": "tiny",
        "created_by": "bitproof 0.1.0",
        "tools": {},
        "inputs": {},
        "artifacts": [ArtifactEntry(stage="rtl", kind="rtl", path="rtl", sha256=RTL, made_from=())],
        "checks": [check],
        "proofs": [ProofEntry(layer="act0", claim="equal", method="all", cases=3, holds=True)],
        "accuracy": {},
        "resources": {},
        "deployments": deployments,
    }
    return write_ledger(content, path)


def test_a_board_has_one_entry(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger_with(path, entry(), entry(executor="pynq:pynq-z2"))
    record_deployment(path, entry(timing={}))
    assert read_ledger(path).deployments == (entry(executor="pynq:pynq-z2"), entry(timing={}))
    with pytest.raises(IntegrityError):
        record_deployment(tmp_path / "none.json", entry())


def test_entries_are_kept_while_the_rtl_stays(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger_with(path, entry())
    assert recorded_deployments(path, RTL) == (entry(),)
    assert recorded_deployments(path, OTHER) == recorded_deployments(path, None) == ()
    assert recorded_deployments(tmp_path / "none.json", RTL) == ()


def test_a_board_that_differs_fails_the_run(tmp_path: Path) -> None:
    assert judge(ledger_with(tmp_path / "equal.json", entry()), ()) == []
    broken = ledger_with(tmp_path / "ledger.json", entry(differing=3, first=FIRST, outputs_sha256=CHANGED))
    (reason,) = judge(broken, ())
    assert reason.endswith("3 of 50 codes differ, first at image 2, class 3: expected code 5, got -5")
    assert deployment_contradictions(broken) == []


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "executor": ({"executor": "pynq:pynq-z9"}, "there is no such executor; known: pynq:pynq-z1, pynq:pynq-z2"),
    "first": ({"differing": 1, "outputs_sha256": CHANGED}, "differing = 1, and first = None"),
    "count": ({"differing": 51, "first": FIRST, "outputs_sha256": CHANGED}, "51 of 50 codes of 5 samples cannot"),
    "other RTL": ({"made_from": OTHER}, "is not the run's RTL"),
    "fewer codes": ({"compared": 40}, "compared = 40, and the check of rtl has 50; deploy it again"),
    "other outputs": ({"outputs_sha256": CHANGED}, "contradict the check of rtl"),
    "same outputs": ({"differing": 1, "first": FIRST}, "contradict the check of rtl"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_an_entry_that_cannot_be_is_named(name: str, tmp_path: Path) -> None:
    changes, message = CONTRADICTIONS[name]
    assert deployment_contradictions(ledger_with(tmp_path / "good.json", entry())) == []
    (line,) = deployment_contradictions(ledger_with(tmp_path / "ledger.json", entry(**changes)))
    assert line.startswith("deployment on pynq:")
    assert message in line


def test_an_entry_without_a_check_and_one_that_is_there_twice_are_named(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path / "ledger.json", entry(), entry())
    assert deployment_contradictions(ledger) == [
        "deployment on pynq:pynq-z1: it is recorded twice; a board has one deployment"
    ]
    alone = ledger.model_copy(update={"checks": (), "deployments": (entry(),)})
    assert deployment_contradictions(alone) == [
        "deployment on pynq:pynq-z1: the ledger has no check of rtl that it could agree with"
    ]


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "empty first": {"first": {}},
    "first of no sample": {"first": {**FIRST, "sample": 5}},
    "first of no output": {"first": {**FIRST, "output": 10}},
    "first that is equal": {"first": {**FIRST, "actual": 5}},
    "NaN": {"timing": {"latency_us": float("nan")}},
    "infinity": {"timing": {"latency_us": float("inf")}},
    "negative": {"timing": {"latency_us": -1.0}},
    "truth": {"timing": {"latency_us": True}},
    "huge": {"timing": {"latency_us": 10**400}},
    "key": {"timing": {"\x1b[2J": 1.0}},
    "many": {"timing": {f"k{i}": i for i in range(33)}},
    "surrogate": {"tools": {"pynq": "\ud800"}},
    "control character": {"tools": {"pynq": "\x1b[2J"}},
    "control character in executor": {"executor": "\x1b[2J"},
    "text as a count": {"samples": "5"},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_entry_out_of_bounds_is_none(name: str) -> None:
    changes = {"differing": 1, "first": FIRST, **IMPOSSIBLE[name]}
    assert entry(differing=1, first=FIRST).summary().endswith("expected code 5, got -5")
    with pytest.raises(ValidationError):
        entry(**changes)


def test_a_summary_is_one_plain_line() -> None:
    assert entry(vectors="\x1b[2J").summary().isprintable()
