"""The cost of lowering, proofs, interpreter and imports: networks of the literature, ordinary ones, two that grow.

``python -m benchmarks.integer [KEY...|report]`` measures all networks (or those named) and writes
``benchmarks/results/integer.json``, the tables of ``docs/integer-model.md`` and README, and the picture of the page.
``report`` measures nothing. Each network leaves its figures in ``benchmarks/results/integer/KEY.json``; a benchmark
that was stopped resumes when the networks that are left are named.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.lab import reference_mutants
from benchmarks.lab.integer_networks import SUBJECTS, WHOLE, Subject
from benchmarks.lab.integer_page import write_pages
from benchmarks.lab.integer_picture import draw
from benchmarks.lab.ordinary_networks import ORDINARY, Ordinary
from benchmarks.results import RESULTS, Row, write_results
from bitproof.export.qonnx import FILE
from bitproof.pipeline.toolchain import run_python_module

COMMAND = "make bench-integer"
RAW = RESULTS / "integer"
MUTANTS = "mutants"
KEYS = (*SUBJECTS, *ORDINARY, MUTANTS)
REPORT = "report"
IMAGES, IMAGES_OF_GROWING = 1000, 100
SECONDS, MIB = 60, 2048
"""Goals: processor seconds of lowering and proofs, and of the interpreter on 1,000 images; MiB of peak memory."""
TIMEOUT_S = 3600
MUTANT_COUNT, MUTANT_SEED = 1000, 11
PEER = "qonnx's executor, same codes"


def main(arguments: Sequence[str]) -> None:
    """Measure the networks named in *arguments*, or all; then write rows, pages and picture of all that are there."""
    unknown = [key for key in arguments if key not in (*KEYS, REPORT)]
    if unknown:
        sys.exit(f"unknown network {unknown[0]!r}; known: {', '.join((*KEYS, REPORT))}")
    RAW.mkdir(parents=True, exist_ok=True)
    for key in arguments or KEYS:
        if key != REPORT:
            with _on_one_core():
                content = _measured(key)
            partial = _path(key).with_suffix(".partial")
            partial.write_text(json.dumps(content, indent=1) + "\n")
            partial.replace(_path(key))
    found = {key: json.loads(_path(key).read_text()) for key in KEYS if _path(key).is_file()}
    draw()
    write_pages({key: content for key, content in found.items() if key != MUTANTS})
    rows = [row for key, content in found.items() for row in rows_of(key, content)]
    write_results("integer", rows, command=COMMAND, distributions=("numpy", "onnx", "onnxruntime", "qonnx", "brevitas"))


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Keep this process and those that it starts on one core: no thread of a pool waits on another and is counted."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _measured(key: str) -> dict[str, Any]:
    if key == MUTANTS:
        seen, caught = reference_mutants.caught(MUTANT_COUNT, MUTANT_SEED)
        print(f"{key}: {caught.total()} of {seen.total()} caught", file=sys.stderr, flush=True)
        return {"files": MUTANT_COUNT, "differing": dict(seen), "caught": dict(caught)}
    return _measure_import(key) if key in ORDINARY else _measure(key)


def _measure(key: str) -> dict[str, Any]:
    """Export the network *key* and measure it, each in a process of its own."""
    whole = key in WHOLE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _python("benchmarks.lab.integer_networks", [key, folder], folder)
        images = IMAGES if whole else IMAGES_OF_GROWING
        printed = _python("benchmarks.lab.integer_cost", [folder / FILE, str(images), str(int(whole))], folder)
    content: dict[str, Any] = json.loads(printed.splitlines()[-1])
    seconds = content["lowering_s"] + content["proving_s"]
    print(f"{key}: {seconds:.2f} s, {content['peak_mib']:.0f} MiB", file=sys.stderr, flush=True)
    return content


def _measure_import(key: str) -> dict[str, Any]:
    """Export the ordinary network *key* and import the file as a user would, each in a process of its own."""
    subject = ORDINARY[key]
    options = () if subject.samples is None else ("--samples", str(subject.samples))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / FILE
        _python("benchmarks.lab.ordinary_networks", [key, file], folder)
        printed = _python("benchmarks.lab.import_cost", [file, folder / "runs", *options], folder)
    content: dict[str, Any] = json.loads(printed.splitlines()[-1])
    print(f"{key}: {content['import_s']:.2f} s", file=sys.stderr, flush=True)
    return content


def _python(module: str, arguments: Sequence[str | Path], folder: Path) -> str:
    root = Path(__file__).parents[1]
    return run_python_module(
        module,
        arguments,
        needed_by=module,
        cwd=root,
        log=folder / "log",
        timeout_s=TIMEOUT_S,
        environment={"PYTHONPATH": str(root)},
    )


def rows_of(key: str, content: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the network *key*; only those of the literature and the ordinary ones have goals."""
    if key == MUTANTS:
        return [_mutants_row(content)]
    if key in ORDINARY:
        return [_import_row(ORDINARY[key], content)]
    subject, whole = SUBJECTS[key], key in WHOLE
    work = f"{subject.title}, W4A4, samples of {'x'.join(map(str, subject.shape))}"
    seconds = content["lowering_s"] + content["proving_s"]
    size = f"{content['weights']:,} weights, {content['macs']:,} MACs"
    rows = [
        _bounded(work, "lowering and proofs, one core", "processor s", seconds, SECONDS if whole else None, size),
        _bounded(work, "peak memory of that process", "MiB", content["peak_mib"], MIB if whole else None, size),
        Row(
            work=work,
            metric="cases that the proofs decide",
            unit="cases",
            ours=content["cases"],
            goal="every proof holds",
            met=content["holding"] == content["proofs"],
            note=f"{content['holding']} of {content['proofs']} proofs hold; {content['accumulators']:,} accumulators",
        ),
    ]
    return rows + (_compared(work, subject, content) if whole else [])


def _mutants_row(content: Mapping[str, Any]) -> Row:
    differing, caught = (sum(content[part].values()) for part in ("differing", "caught"))
    kinds = "; ".join(f"{name}: {content['caught'][name]} of {count}" for name, count in content["differing"].items())
    return Row(
        work=f"{content['files']:,} faulty float references, free scales",
        metric="called unexplained, of those that change a code",
        unit="%",
        ours=100 * caught / differing,
        note=f"{caught} of {differing}; the others stay within the float32 error everywhere; {kinds}",
    )


def _import_row(subject: Ordinary, content: Mapping[str, Any]) -> Row:
    checks = "; ".join(
        f"{name}: {differing} of {of} codes differ" for name, (differing, of) in content["checks"].items()
    )
    failed = "".join(f"; {name} failed" for name in content["failed"])
    return Row(
        work=subject.title,
        metric="import_s",
        unit="processor s",
        ours=content["import_s"],
        goal=f"at most {subject.goal_s}",
        met=content["import_s"] <= subject.goal_s,
        note=f"the command and all its processes, {content['wall_s']:.0f} s by the clock on one core; {checks}{failed}",
    )


def _bounded(work: str, metric: str, unit: str, value: float, goal: int | None, note: str) -> Row:
    text = None if goal is None else f"under {goal}"
    return Row(work, metric, unit, value, goal=text, met=None if goal is None else value < goal, note=note)


def _compared(work: str, subject: Subject, content: Mapping[str, Any]) -> list[Row]:
    ours, theirs = content["interpreter_s"], content["qonnx_s"]
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    differing, partings = content["unequal"], content["partings"]
    goal = f"under {SECONDS}" if subject is WHOLE["resnet8"] else None
    note = f"ratio {min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} repeats in turn"
    return [
        Row(
            work=work,
            metric=f"interpreter, {content['images']:,} samples, one core",
            unit="processor s",
            ours=statistics.median(ours),
            ours_spread=(min(ours), max(ours)),
            peer=PEER,
            peer_value=statistics.median(theirs),
            ratio=statistics.median(ratios),
            goal=goal,
            met=None if goal is None else max(ours) < SECONDS,
            note=note,
        ),
        Row(
            work=work,
            metric=f"codes that differ from {PEER}",
            unit=f"of {content['codes']:,} codes",
            ours=differing,
            peer=PEER,
            goal="0",
            met=differing == 0,
            note="; ".join(map(describe, partings)) or f"{content['distinct']} distinct outputs",
        ),
    ]


def describe(parting: Mapping[str, Any]) -> str:
    """Return where a sample diverges from qonnx, and whether qonnx's float32 rounding of that number alone is why."""
    why = (
        "its float32 chain rounds this accumulator so" if parting["explained"] else "NOT explained by its float32 chain"
    )
    return (
        f"{parting['layer']}, channel {parting['channel']}: accumulator {parting['accumulator']} is exactly code "
        f"{parting['exact']}, qonnx gives {parting['qonnx']}; {why}"
    )


def _path(key: str) -> Path:
    return RAW / f"{key}.json"


if __name__ == "__main__":
    main(sys.argv[1:])
