"""The results of a benchmark: ``benchmarks/results/NAME.json`` and the same rows as a table on standard output."""

from __future__ import annotations

import datetime as dt
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bitproof.pipeline.toolchain import cpu_count, distribution_version

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.

    Attributes:
        work: what was done, for example ``mlp 784-10-10, 2 bits, fashion-mnist``.
        metric: what was measured.
        unit: its unit.
        ours: our value.
        ours_spread: half-width of its 95 % confidence interval, or its [low, high]; None if it has no spread.
        peer: what it is compared with.
        peer_value: the peer's value in the same run; None if the peer was not run.
        ratio: ours over the peer's, or the paired difference if *metric* says so.
        goal: the goal as text; None if there is none.
        met: whether the goal is met; None if there is none.
        note: how to read the row.
    """

    work: str
    metric: str
    unit: str
    ours: float | None
    ours_spread: float | tuple[float, float] | None = None
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    goal: str | None = None
    met: bool | None = None
    note: str = ""


def write_results(name: str, rows: Sequence[Row], *, command: str, distributions: Sequence[str]) -> Path:
    """Write *rows* to ``benchmarks/results/NAME.json`` by a rename, print them, and return the path."""
    content = {
        "machine": {"processor": _processor(), "cores": cpu_count(), "system": platform.platform()},
        "versions": {d: distribution_version(d) or "not installed" for d in distributions},
        "command": command,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)
    print_rows(rows)
    return path


def print_rows(rows: Sequence[Row]) -> None:
    """Print *rows* as a table on standard output."""
    table = Table()
    for heading in ("work", "metric", "ours", "±", "peer", "its value", "ratio", "goal"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal}: {'met' if row.met else 'NOT met'}"
        values = (row.ours, row.ours_spread, row.peer, row.peer_value, row.ratio)
        ours, spread, peer, peer_value, ratio = (_text(value) for value in values)
        table.add_row(row.work, f"{row.metric} ({row.unit})", ours, spread, peer, peer_value, ratio, goal)
    Console().print(table)


def _text(value: float | tuple[float, float] | str | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return f"[{value[0]:.4g}, {value[1]:.4g}]"
    return value if isinstance(value, str) else f"{value:.4g}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
