"""``bitproof report``: write ``report.html`` from the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import typer
from jinja2 import UndefinedError

from bitproof.commands.parity import judge, require_ledger
from bitproof.pipeline.errors import IntegrityError
from bitproof.pipeline.ledger import Ledger
from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import RunPlan
from bitproof.report import render


def write_report(run: RunFolder) -> None:
    """Write the report of *run* by a rename."""
    page = page_of(run, require_ledger(run))
    partial = run.report.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(run.report)


def page_of(run: RunFolder, ledger: Ledger) -> str:
    """Return the page that shows *ledger*, with the training curves of *run*.

    Raises:
        IntegrityError: it holds figures that no run wrote.
    """
    plan = RunPlan(run.config())
    executors, stated = plan.executors, [f"{stage}: {what}" for stage, what in plan.network.stated]
    reasons = judge(ledger, tuple(executor.name for executor in executors))
    try:
        return _page(run, ledger, reasons, {executor.name: executor.about for executor in executors}, stated)
    except (ValueError, LookupError, TypeError, UndefinedError) as error:
        raise IntegrityError(f"{run.path} holds figures that no run wrote: {error}; run it again") from error


def _page(run: RunFolder, ledger: Ledger, reasons: list[str], about: Mapping[str, str], stated: list[str]) -> str:
    metrics = {
        stage: json.loads((run.path / stage / "metrics.json").read_text())
        for stage in ("train-float", "train")
        if (run.path / stage / "metrics.json").is_file()
    }
    return render(ledger, reasons, metrics, about, stated)


def make_report(run_path: Path, *, as_json: bool) -> None:
    """Write the report of the run at *run_path* and say where it is."""
    run = RunFolder.open(run_path)
    write_report(run)
    typer.echo(json.dumps({"report": str(run.report)}) if as_json else str(run.report))
