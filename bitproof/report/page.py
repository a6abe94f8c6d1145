"""The page of the report: its template, filled from the ledger and the training metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from bitproof.pipeline.ledger import CheckEntry, Ledger, warnings_of
from bitproof.report.curves import training_curves_svg


@dataclass(frozen=True, slots=True)
class ExecutorRow:
    """One executor of the chain, as the page shows it."""

    check: CheckEntry
    about: str
    accuracy: float | None
    proofs_holding: int
    proofs: int
    cases: int

    @property
    def equal(self) -> bool:
        """All codes equal and all proofs hold."""
        return self.check.ok and self.proofs_holding == self.proofs


def render(
    ledger: Ledger,
    reasons: list[str],
    metrics: dict[str, dict[str, Any]],
    about: Mapping[str, str],
    stated: list[str],
) -> str:
    """Return the page as HTML with no reference to anything outside it.

    Args:
        ledger: what is shown.
        reasons: why it fails; empty: it passes.
        metrics: of the trainings, by stage.
        about: what each executor is, by its name.
        stated: what the run says and does not show.
    """
    environment = Environment(
        loader=PackageLoader("bitproof.report"),
        autoescape=select_autoescape(["j2"], default=True),
        undefined=StrictUndefined,
    )
    rows = [_row(ledger, check, about.get(check.actual, "")) for check in ledger.checks]
    return environment.get_template("report.html.j2").render(
        ledger=ledger,
        rows=rows,
        reasons=reasons,
        stated=stated,
        rounded=[row.check.actual for row in rows if row.check.ok and row.check.rounded],
        warnings=warnings_of(ledger.proofs),
        curves=training_curves_svg(metrics),
        resources=_resources(ledger),
        model_proofs=[proof for proof in ledger.proofs if proof.actual == "integer"],
        metrics=metrics,
    )


def _resources(ledger: Ledger) -> list[tuple[str, dict[str, int | float | str]]]:
    """Return what executors cost, in the order of their checks, and then what artifacts say that none of them runs."""
    names = dict.fromkeys([*(check.actual for check in ledger.checks), *sorted(ledger.resources)])
    return [(name, ledger.resources[name]) for name in names if name in ledger.resources]


def _row(ledger: Ledger, check: CheckEntry, about: str) -> ExecutorRow:
    proofs = [proof for proof in ledger.proofs if proof.actual == check.actual]
    return ExecutorRow(
        check=check,
        about=about,
        accuracy=ledger.accuracy.get(check.actual),
        proofs_holding=sum(proof.holds for proof in proofs),
        proofs=len(proofs),
        cases=sum(proof.cases for proof in proofs),
    )
