"""Cost and gain of the zeroth-order estimators, against the straight-through estimator and against controls.

``python -m benchmarks.estimators [PART...|report]`` measures what is missing (or the parts named) and writes
``benchmarks/results/estimators.json`` and the tables and plots of ``docs/zo-ste.md``. Every part leaves its raw
figures, seed by seed, in ``benchmarks/results/estimators/PART.json``: a long run that was stopped resumes where it was.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.lab.comparison import compare, compared
from benchmarks.lab.data import DatasetName
from benchmarks.lab.networks import NetworkSpec
from benchmarks.lab.page import write_page
from benchmarks.lab.rows import rows_of
from benchmarks.results import RESULTS, write_results

RAW = RESULTS / "estimators"
REPORT = "report"


def note(text: str) -> None:
    """Show progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def _cost() -> dict[str, Any]:
    from benchmarks.lab.cost import measure

    return measure(note)


def _gradients() -> dict[str, Any]:
    from benchmarks.lab.gradients import measure

    return measure(note)


def _spsa() -> dict[str, Any]:
    from benchmarks.lab.zeroth_order import measure

    return measure(note)


def _default_config() -> dict[str, Any]:
    from benchmarks.lab.default_config import measure

    return measure(note)


COMPARISONS: dict[str, tuple[DatasetName, NetworkSpec]] = {
    "mlp-mnist-2": ("mnist-5000", NetworkSpec("mlp", 2)),
    "mlp-mnist-1": ("mnist-5000", NetworkSpec("mlp", 1)),
    "mlp-fashion-2": ("fashion-mnist", NetworkSpec("mlp", 2)),
    "mlp-fashion-1": ("fashion-mnist", NetworkSpec("mlp", 1)),
    "cnn-fashion-2": ("fashion-mnist", NetworkSpec("cnn", 2)),
    "cnn-fashion-1": ("fashion-mnist", NetworkSpec("cnn", 1)),
}


def _comparison(name: str) -> dict[str, Any]:
    measured = json.loads(_path(name).read_text())["methods"] if _path(name).is_file() else ()
    return compare(*COMPARISONS[name], note, measured)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "cost": _cost,
    "gradients": _gradients,
    **{name: partial(_comparison, name) for name in COMPARISONS},
    "spsa": _spsa,
    "default-config": _default_config,
}


def _is_complete(name: str) -> bool:
    if not _path(name).is_file():
        return False
    if name not in COMPARISONS:
        return True
    held = {row["name"] for row in json.loads(_path(name).read_text())["methods"]}
    return held >= {method.name for method in compared(COMPARISONS[name][1])}


def main(arguments: list[str]) -> None:
    """Measure the parts named in *arguments*, or all that are missing; then write the rows of all that are there.

    ``report`` measures nothing.
    """
    if arguments == [REPORT]:
        write_down()
        return
    unknown = [name for name in arguments if name not in PARTS]
    if unknown:
        sys.exit(f"unknown part {unknown[0]!r}; known: {', '.join((*PARTS, REPORT))}")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    RAW.mkdir(parents=True, exist_ok=True)
    for name in arguments or [part for part in PARTS if not _is_complete(part)]:
        content = PARTS[name]()
        unfinished = _path(name).with_suffix(".partial")
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        unfinished.replace(_path(name))
    write_down()


def write_down() -> None:
    """Write rows, page and plots of what was measured."""
    found = {name: json.loads(_path(name).read_text()) for name in PARTS if _path(name).is_file()}
    write_page(found)
    write_results(
        "estimators",
        rows_of(found),
        command="make bench-estimators",
        distributions=("torch", "brevitas", "numpy", "scipy"),
    )


def _path(part: str) -> Path:
    return RAW / f"{part}.json"


if __name__ == "__main__":
    main(sys.argv[1:])
