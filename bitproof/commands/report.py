"""``bitproof report``: write ``report.html``, and the costs of all parts as ``report.json``, from the ledger."""

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

COSTS_SCHEMA = 1
"""Version of the format of ``report.json``."""


def write_report(run: RunFolder) -> None:
    """Write the report of *run* and its costs, each by a rename."""
    ledger = require_ledger(run)
    for path, text in ((run.costs, costs_of(ledger)), (run.report, page_of(run, ledger))):
        partial = path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def costs_of(ledger: Ledger) -> str:
    """Return as JSON what the parts of each executor of *ledger* cost, with their totals; see ``docs/c.md``."""
    names = dict.fromkeys(entry.executor for entry in ledger.costs)
    executors = {
        name: {
            "parts": [entry.model_dump(exclude={"executor"}) for entry in ledger.costs if entry.executor == name],
            "total": ledger.resources.get(name, {}),
        }
        for name in names
    }
    content = {"schema": COSTS_SCHEMA, "run": ledger.run, "ledger": ledger.sha256, "executors": executors}
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


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
