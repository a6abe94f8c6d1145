"""The report of a first run on a board: versions, timing, resources and the self-test, of what a run's folder holds.

``.venv/bin/python -m benchmarks.board_report runs/NAME`` prints it as Markdown for an issue. What is missing is
said, and the exit code is then 1. Paths, users and hosts are not in it.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import asdict
from pathlib import Path

from bitproof.hw.pynq.bitstream import Built, what_is_built
from bitproof.pipeline.errors import IntegrityError
from bitproof.pipeline.ledger import DeploymentEntry, read_ledger

RESOURCES = ("Slice LUTs", "LUT as Memory", "Slice Registers", "Block RAM Tile", "DSPs")
"""Rows of Vivado's report of utilization."""


def resources_of(report: str) -> dict[str, tuple[str, str]]:
    """Return how many of each resource the *report* says are used, and available."""
    found = {}
    for name in RESOURCES:
        row = re.search(rf"^\| +{name}\*? +\|(.*)\|$", report, re.MULTILINE)
        cells = [] if row is None else [cell.strip() for cell in row.group(1).split("|")]
        if len(cells) >= 3:
            found[name] = (cells[0], cells[-2])  # used, fixed, (prohibited,) available, percent
    return found


def report_of(run: Path, board: str) -> tuple[list[str], list[str]]:
    """Return the lines of the report of the run in the folder *run*, and what is missing."""
    folder = run / "vivado" / board
    built, missing = what_is_built(folder), []
    lines = [f"### {run.name} on {board}", "", "| what | value |", "|---|---|"]
    if built is None:
        missing.append(f"no bitstream: bitproof bitstream {run}")
    else:
        lines += _table(built)
    utilization = folder / "utilization.rpt"
    used = resources_of(utilization.read_text(errors="replace")) if utilization.is_file() else {}
    missing += [f"{name} is not in {utilization.name}" for name in RESOURCES if name not in used]
    lines += [f"| {name} | {count} of {available} |" for name, (count, available) in used.items()]
    entry = _deployment(run, board)
    if entry is None:
        missing.append(f"no self-test: bitproof deploy {run} --to USER@HOST")
    else:
        lines += _results(entry)
        if entry.tools.get("pynq") == "simulated":
            missing.append("the self-test ran on the simulated board, not on silicon")
    return lines, missing


def _table(built: Built) -> list[str]:
    return [f"| {name} | {value} |" for name, value in asdict(built).items()]


def _deployment(run: Path, board: str) -> DeploymentEntry | None:
    try:
        ledger = read_ledger(run / "ledger.json")
    except IntegrityError:
        return None
    return next((entry for entry in ledger.deployments if entry.executor == f"pynq:{board}"), None)


def _results(entry: DeploymentEntry) -> list[str]:
    rows = {
        "self-test": entry.summary(),
        "outputs_sha256": entry.outputs_sha256,
        "design of the self-test": entry.design_id,
    }
    return [f"| {name} | {value} |" for name, value in {**rows, **entry.timing, **entry.tools}.items()]


def main() -> int:
    """Print the report of the run on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--board", default="pynq-z1")
    arguments = parser.parse_args()
    lines, missing = report_of(arguments.run, arguments.board)
    print("\n".join(lines))
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
