"""``bitproof report``: write ``report.html`` from the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from jinja2 import UndefinedError

from bitproof.pipeline.commands.parity import judge, require_ledger
from bitproof.pipeline.errors import IntegrityError
from bitproof.pipeline.ledger import Ledger
from bitproof.pipeline.plan import Plan
from bitproof.pipeline.report import render
from bitproof.pipeline.run_folder import RunFolder


def write_report(run: RunFolder) -> None:
    """Write the report of *run* by a rename."""
    ledger = require_ledger(run)
    reasons = judge(ledger, tuple(step.name for step in Plan(run.config()).executors))
    try:
        page = _page(run, ledger, reasons)
    except (ValueError, LookupError, TypeError, UndefinedError) as error:
        raise IntegrityError(f"{run.path} holds figures that no run wrote: {error}; run it again") from error
    partial = run.report.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(run.report)


def _page(run: RunFolder, ledger: Ledger, reasons: list[str]) -> str:
    metrics = {
        slot: json.loads((run.path / slot / "metrics.json").read_text())
        for slot in ("train-float", "train")
        if (run.path / slot / "metrics.json").is_file()
    }
    return render(ledger, reasons, metrics)


def make_report(run_path: Path, *, as_json: bool) -> None:
    """Write the report of the run at *run_path* and say where it is."""
    run = RunFolder.open(run_path)
    write_report(run)
    typer.echo(json.dumps({"report": str(run.report)}) if as_json else str(run.report))
