"""The end of a run on one screen: the chain of executors, accuracy, cost, where the report is."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table

from pipeline.ledger import Ledger
from pipeline.run_folder import RunFolder


def summarize(run: RunFolder, ledger: Ledger, reasons: list[str], *, as_json: bool) -> None:
    """Print the result of *run* to stdout: a table, or one JSON object."""
    if as_json:
        content = {
            "run": ledger.run,
            "ok": not reasons,
            "reasons": reasons,
            "report": str(run.report),
            "ledger": str(run.ledger),
            "accuracy": ledger.accuracy,
        }
        typer.echo(json.dumps(content, sort_keys=True))
        return
    table = Table(title=f"{ledger.run}: every executor against the integer model")
    for heading in ("executor", "images", "codes", "differing", "proofs (cases)", "accuracy"):
        table.add_column(heading, justify="left" if heading == "executor" else "right")
    for check in ledger.checks:
        proofs = [proof for proof in ledger.proofs if proof.actual == check.actual]
        holding = sum(proof.holds for proof in proofs)
        cases = sum(proof.cases for proof in proofs)
        accuracy = ledger.accuracy.get(check.actual)
        table.add_row(
            check.actual,
            str(check.samples),
            str(check.compared),
            "0, all equal" if check.ok else str(check.differing),
            f"{holding} of {len(proofs)} ({cases})" if proofs else "-",
            "-" if accuracy is None else f"{accuracy:.2f} %",
        )
    console = Console()
    console.print(table)
    if "float" in ledger.accuracy:
        float_, quantized = ledger.accuracy["float"], ledger.accuracy["quantized"]
        console.print(f"float {float_:.2f} %, quantized {quantized:.2f} % of the test split")
    console.print(f"ledger: {run.ledger}", soft_wrap=True)
    console.print(f"report: {run.report}", soft_wrap=True)
