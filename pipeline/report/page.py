"""Fill the report's template from the ledger and the training metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from bitproof.pipeline.ledger import CheckEntry, Ledger, warnings_of
from bitproof.pipeline.report.curves import training_curves_svg

ABOUT = {
    "torch": "the trained Brevitas network in PyTorch",
    "qonnx": "the exported QONNX file, run by qonnx",
    "qonnx-f64": "the same file in binary64, weights and biases as integers",
    "onnx-int8": "packed-int8 ONNX in onnxruntime, integer arithmetic",
    "finn-hw": "FINN's hardware layers, executed in Python",
    "rtl": "FINN's RTL stitched into one top, simulated by Verilator",
}


@dataclass(frozen=True, slots=True)
class ExecutorRow:
    """One executor of the chain, as the page shows it."""

    check: CheckEntry
    about: str
    accuracy: float | None
    proofs_holding: int
    proofs: int
    cases: int
    resources: dict[str, int | float | str]

    @property
    def equal(self) -> bool:
        """All codes equal and all proofs hold."""
        return self.check.ok and self.proofs_holding == self.proofs


def render(ledger: Ledger, reasons: list[str], metrics: dict[str, dict[str, Any]]) -> str:
    """Return the page as HTML with no reference to anything outside it."""
    environment = Environment(
        loader=PackageLoader("bitproof.pipeline.report"),
        autoescape=select_autoescape(["j2"], default=True),
        undefined=StrictUndefined,
    )
    rows = [_row(ledger, check) for check in ledger.checks]
    return environment.get_template("report.html.j2").render(
        ledger=ledger,
        rows=rows,
        reasons=reasons,
        rounded=[row.check.actual for row in rows if row.check.ok and row.check.rounded],
        warnings=warnings_of(ledger.proofs),
        curves=training_curves_svg(metrics),
        model_proofs=[proof for proof in ledger.proofs if proof.actual == "integer"],
        metrics=metrics,
    )


def _row(ledger: Ledger, check: CheckEntry) -> ExecutorRow:
    proofs = [proof for proof in ledger.proofs if proof.actual == check.actual]
    core = check.actual.removeprefix("c:")
    return ExecutorRow(
        check=check,
        about=ABOUT.get(check.actual, f"generated C on a {core}, run in QEMU"),
        accuracy=ledger.accuracy.get(check.actual),
        proofs_holding=sum(proof.holds for proof in proofs),
        proofs=len(proofs),
        cases=sum(proof.cases for proof in proofs),
        resources=ledger.resources.get(check.actual, {}),
    )
