"""The figures of ``docs/zo-ste.md``: its tables, written between markers, and its plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.lab.rows import compute_ratios, default_config_difference, default_config_time, verdicts
from benchmarks.lab.statistics import Interval, interval

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "zo-ste.md"
PLOTS = DOCS / "zo-ste"
Parts = Mapping[str, Any]
STYLE = {"svg.hashsalt": "bitproof", "svg.fonttype": "none", "font.family": "sans-serif"}
GREEN, GREY, RED = "#0b6e4f", "#888888", "#b3401f"


def write_page(parts: Parts) -> None:
    """Fill every table of the page whose part was measured, and draw the plots again."""
    text = PAGE.read_text(encoding="utf-8")
    tables: dict[str, Callable[[], str]] = {}
    if "cost" in parts:
        tables["cost"] = lambda: _cost_table(parts["cost"])
    if "spsa" in parts:
        tables["compute"] = lambda: _compute_table(parts["spsa"])
        _draw_curves(parts["spsa"], PLOTS / "compute.svg")
    compared = [part for part in parts.values() if "methods" in part]
    if compared:
        tables["accuracy"] = lambda: _accuracy_table(compared)
        _draw_verdicts(compared, PLOTS / "accuracy.svg")
    if "default-config" in parts:
        tables["default"] = lambda: _default_table(parts["default-config"])
    if "gradients" in parts:
        tables["gradients"] = lambda: _gradient_table(parts["gradients"])
    for name, table in tables.items():
        begin = f"<!-- {name}: written by make bench-estimators -->\n"
        before, marker, rest = text.partition(begin)
        assert marker, f"{PAGE} has no place for the table {name!r}"
        text = f"{before}{marker}{table()}\n{rest[rest.index('<!-- end -->') :]}"
    partial = PAGE.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(PAGE)


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cost_table(part: Mapping[str, Any]) -> str:
    rows = []
    for name, ratio in part["ratios"].items():
        goal = part["goals"].get(name, 1.15)
        rows.append([name, f"{ratio['median']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}", f"{goal:.2f}"])
    return _table(["estimator", "processor time over STE's", "quartiles", "goal"], rows)


def _compute_table(part: Mapping[str, Any]) -> str:
    rows = []
    for found in compute_ratios(part):
        ratio = f"{'at least ' if found.bounded else ''}{found.ratio:,.0f}"
        rows.append([f"{found.loss:.2f}", ratio, f"{found.low:,.0f} to {found.high:,.0f}"])
    return _table(["training loss", "compute of n-SPSA over guided's", "95 % interval"], rows)


def _accuracy_table(compared: list[Mapping[str, Any]]) -> str:
    headings = [
        "network, bits, data",
        "method",
        "accuracy",
        "minus STE, equal compute",
        "minus STE, equal steps",
        "minus its control",
    ]
    rows = []
    for part in compared:
        straight = next(row for row in part["methods"] if row["name"] == "ste")
        mean = interval([outcome["test_accuracy"] for outcome in straight["outcomes"]])
        work = f"{part['network']}, {part['bits']}, {part['dataset']}"
        rows.append([work, "ste", f"{mean.mean:.2f}", "", "", ""])
        for verdict in verdicts(part):
            control = "" if verdict.over_control is None else str(verdict.over_control)
            rows.append(
                [
                    "",
                    verdict.method,
                    f"{verdict.accuracy:.2f}",
                    str(verdict.equal_compute),
                    str(verdict.equal_steps),
                    control,
                ]
            )
    return _table(headings, rows)


def _default_table(part: Mapping[str, Any]) -> str:
    ours, theirs = (interval(part["accuracies"][name]) for name in ("guided, last 20 %", "ste"))
    difference, times = default_config_difference(part), default_config_time(part)
    name = f"`configs/{part['config']}`, {part['epochs']} epochs"
    took = f"{times.mean:.2f} ± {times.half:.2f}"
    row = [name, f"{theirs.mean:.2f}", f"{ours.mean:.2f}", str(difference), took]
    return _table(["configuration", "ste", "guided, last 20 %", "difference, equal steps", "time over ste's"], [row])


def _gradient_table(part: Mapping[str, Any]) -> str:
    late = [row for row in part["rows"] if row["steps"] == max(r["steps"] for r in part["rows"])]
    rows = []
    for name in dict.fromkeys(row["estimator"] for row in late):
        cells = [name]
        for layer in ("12", "7,840"):
            (row,) = [r for r in late if r["estimator"] == name and r["layer"].startswith(layer)]
            cells += [f"{row['cosine']:.3f}", f"{row['squared_bias']:.2f}", f"{row['variance']:.3g}"]
        rows.append(cells)
    return _table(
        [
            "estimator",
            "cosine, 12 weights",
            "squared bias",
            "variance",
            "cosine, 7,840 weights",
            "squared bias",
            "variance",
        ],
        rows,
    )


def _draw_curves(part: Mapping[str, Any], path: Path) -> None:
    """Draw the mean loss over compute of every method, both logarithmic."""
    colours = {"ste": GREY, "guided, beta to 0.9999": GREEN}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, curve in part["curves"].items():
            means = [
                math.exp(sum(math.log(losses[i]) for losses in curve["losses"]) / len(curve["losses"]))
                for i in range(len(curve["compute"]))
            ]
            axes.plot(curve["compute"], means, color=colours.get(name, RED), label=name, lw=1.5)
            axes.annotate(
                name, (curve["compute"][-1], means[-1]), xytext=(5, 0), textcoords="offset points", fontsize=8
            )
        axes.set(xscale="log", yscale="log", xlabel="compute, forward passes over one batch", ylabel="training loss")
        axes.set_xlim(right=4e7)
        _finish(figure, axes, path)


def _draw_verdicts(compared: list[Mapping[str, Any]], path: Path) -> None:
    """Draw the differences from the straight-through estimator at equal compute, with their intervals."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 0.9 + 2.2 * math.ceil(len(compared) / 2)), layout="constrained")
        grid = figure.subplots(math.ceil(len(compared) / 2), 2, squeeze=False)
        for axes, part in zip(grid.flat, compared, strict=False):
            found = verdicts(part)
            for position, verdict in enumerate(found):
                _draw_interval(axes, len(found) - position, verdict.equal_compute)
            axes.axvline(0, color="black", lw=0.8)
            axes.set_yticks(range(len(found), 0, -1), [verdict.method for verdict in found], fontsize=7)
            bits = "1 bit" if part["bits"] == 1 else f"{part['bits']} bits"
            axes.set_title(f"{part['network']}, {bits}, {part['dataset']}", fontsize=9)
            axes.set_xlabel("accuracy minus STE's at equal compute, points", fontsize=8)
            axes.spines[["top", "right"]].set_visible(False)
        for axes in list(grid.flat)[len(compared) :]:
            axes.set_visible(False)
        figure.savefig(_ready(path), format="svg", metadata={"Date": None})


def _draw_interval(axes: Any, position: int, difference: Interval) -> None:  # noqa: ANN401
    colour = GREY if difference.low <= 0 <= difference.high else GREEN if difference.low > 0 else RED
    axes.plot([difference.low, difference.high], [position, position], color=colour, lw=2)
    axes.plot([difference.mean], [position], "o", color=colour, ms=4)


def _finish(figure: Figure, axes: Any, path: Path) -> None:  # noqa: ANN401
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(_ready(path), format="svg", metadata={"Date": None})


def _ready(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
