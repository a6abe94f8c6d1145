"""The end of a run on one screen: the chain of executors, accuracy, where the report is; or what a part of it made."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from bitproof.commands.parity import METRICS
from bitproof.pipeline.ledger import Ledger, warnings_of
from bitproof.pipeline.run_folder import RunFolder


def summarize_part(run: RunFolder, file: Path, *, made: bool, as_json: bool) -> None:
    """Print to stdout the accuracy of the network if *file*, of *run*, is one's, and whether it was *made*.

    Otherwise it was there and up to date.
    """
    metrics = file.parent / METRICS
    content = json.loads(metrics.read_text()) if metrics.is_file() else None
    if as_json:
        names = ("test_accuracy", "test_samples", "validation_accuracy")
        accuracy = {} if content is None else {"accuracy": {name: content[name] for name in names}}
        made_file = str(file.relative_to(run.path))
        typer.echo(json.dumps({"run": str(run.path), "made": made_file, "up_to_date": not made, **accuracy}))
        return
    typer.echo(f"made {file}" if made else f"up to date: {file}")
    if content is not None:
        typer.echo(
            f"accuracy {content['test_accuracy']:.2f} % of {content['test_samples']} test images, "
            f"{content['validation_accuracy']:.2f} % of the validation split"
        )


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
            "warnings": warnings_of(ledger.proofs),
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
            check.verdict,
            f"{holding} of {len(proofs)} ({cases})" if proofs else "-",
            "-" if accuracy is None else f"{accuracy:.2f} %",
        )
    console = Console()
    console.print(table)
    for check in ledger.checks:
        if check.ok and check.rounded:
            layers = ", ".join(f"{count} of {layer}" for layer, count in check.explained_layers.items())
            console.print(
                f"{check.actual}: float rounding decides {layers} the other way, and with them {check.explained} "
                f"output codes; bitproof explain {run.path} --executor {check.actual}",
                soft_wrap=True,
                highlight=False,
            )
    if "float" in ledger.accuracy:
        float_, quantized = ledger.accuracy["float"], ledger.accuracy["quantized"]
        console.print(f"float {float_:.2f} %, quantized {quantized:.2f} % of the test split")
    if ledger.heads:
        places = (f"{name} {first}..{stop - 1}" for name, (first, stop) in ledger.heads.items())
        console.print(f"outputs of the network: {', '.join(places)}", soft_wrap=True, highlight=False, markup=False)
    for warning in warnings_of(ledger.proofs):
        console.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"ledger: {run.ledger}", soft_wrap=True)
    console.print(f"report: {run.report}", soft_wrap=True)
