"""Rows of benchmarks that take long: each work's are kept, and a work that was measured is not measured again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Row
from bitproof.export.integer import IntegerModel
from bitproof.pipeline import Codes


def add_works(parser: argparse.ArgumentParser, works: Collection[str]) -> None:
    """Let the command line name some of *works*, or none of them to be measured."""
    parser.add_argument("--write", action="store_true", help="measure nothing: write the rows of what was measured")
    parser.add_argument("works", nargs="*", choices=[[], *works], metavar="WORK", help=", ".join(works))


def kept_rows(
    folder: Path, works: Collection[str], given: argparse.Namespace, measure: Callable[[str], list[Row]]
) -> list[Row]:
    """Return all rows there are, after measuring the works that are *given*, or those without rows in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in works:
        kept = folder / f"{folder_name(name)}.json"
        if not given.write and (name in given.works or (not given.works and not kept.is_file())):
            kept.write_text(json.dumps([asdict(row) for row in measure(name)], indent=1) + "\n")
        if kept.is_file():
            rows += [_row(entry) for entry in json.loads(kept.read_text())]
    return rows


def _row(entry: dict[str, Any]) -> Row:
    spread = entry["ours_spread"]
    return Row(**{**entry, "ours_spread": tuple(spread) if isinstance(spread, list) else spread})


def folder_name(work: str) -> str:
    """Return the name of the folder and of the file of *work*."""
    return work.replace(" ", "-")


def drawn_codes(model: IntegerModel, samples: int) -> Codes:
    """Return drawn input codes, shape (samples, inputs); the first has the least code, the second the greatest."""
    codes = model.allowed_codes
    drawn = np.random.default_rng(0).integers(0, len(codes) - 1, (samples, model.inputs), endpoint=True)
    drawn[0], drawn[1] = 0, len(codes) - 1
    return codes[0] + codes.step * drawn


def zero(name: str, metric: str, count: int, note: str) -> Row:
    """Return the row of a count whose goal is 0."""
    return Row(name, metric, "codes", float(count), goal="0", met=count == 0, note=note)


def line(work: str, rows: list[Row], metrics: Collection[str]) -> list[str]:
    """Return the line of *work* in a table whose columns are *metrics*: counts in full, the rest with four digits."""
    values = {row.metric: row.ours for row in rows if row.work == work}
    return [work, *("" if metric not in values else _shown(values[metric]) for metric in metrics)]


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
