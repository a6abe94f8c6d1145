"""The tables of ``docs/integer-model.md`` and of README that ``make bench-integer`` writes between markers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.lab.integer_networks import GROWING, SUBJECTS, WHOLE
from benchmarks.lab.ordinary_networks import ORDINARY

ROOT = Path(__file__).parents[2]
PAGE, README = ROOT / "docs" / "integer-model.md", ROOT / "README.md"
Found = Mapping[str, Mapping[str, Any]]


def write_pages(found: Found) -> None:
    """Fill the tables of both pages with what was *found*, by the key of the network."""
    fill(PAGE, "figures", figures(found))
    fill(PAGE, "growth", growth(found))
    fill(PAGE, "imports", imports(found))
    fill(README, "integer", short(found))


def fill(page: Path, name: str, content: str, by: str = "make bench-integer") -> None:
    """Put *content* between the markers of *name* in *page*, which say that *by* writes it, by a rename."""
    text = page.read_text(encoding="utf-8")
    before, marker, rest = text.partition(f"<!-- {name}: written by {by} -->\n")
    assert marker, f"{page} has no place for the table {name!r}"
    partial = page.with_suffix(".partial")
    partial.write_text(f"{before}{marker}{content}\n{rest[rest.index('<!-- end -->') :]}", encoding="utf-8")
    partial.replace(page)


def figures(found: Found) -> str:
    """Return the table of the networks of the literature."""
    headings = [
        "W4A4, full size",
        "weights",
        "cases decided",
        "lowering",
        "proofs",
        "peak memory",
        "1,000 samples, interpreter",
        "qonnx, same codes",
        "ours / qonnx",
        "codes that differ",
    ]
    rows = []
    for key in (key for key in WHOLE if key in found):
        content = found[key]
        ours, theirs = content["interpreter_s"], content["qonnx_s"]
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        rows.append(
            [
                SUBJECTS[key].title,
                f"{content['weights']:,}",
                f"{content['cases']:,}",
                f"{content['lowering_s']:.2f} s",
                f"{content['proving_s']:.2f} s",
                f"{content['peak_mib']:.0f} MiB",
                f"{statistics.median(ours):.2f} s",
                f"{statistics.median(theirs):.2f} s",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{content['unequal']:,} of {content['codes']:,}",
            ]
        )
    return table(headings, rows) + "".join(f"\n\n{reason}" for reason in _reasons(found))


def _reasons(found: Found) -> list[str]:
    """Return a sentence for each network some of whose codes differ."""
    sentences = []
    for key in (key for key in WHOLE if key in found and found[key]["partings"]):
        content = found[key]
        cases = ", ".join(
            f"accumulator {p['accumulator']:,} in channel {p['channel']} of `{p['layer']}` (code {p['exact']}, qonnx "
            f"{p['qonnx']})"
            for p in content["partings"]
        )
        explained = all(parting["explained"] for parting in content["partings"])
        why = "qonnx's float32 chain, run on that number alone, rounds it so" if explained else "the reason is UNKNOWN"
        sentences.append(
            f"{SUBJECTS[key].title}: {content['unequal_images']} of {content['images']:,} samples diverge from qonnx, "
            f"all first at {cases}: {why}. The exact code is the definition."
        )
    return sentences


def growth(found: Found) -> str:
    """Return the table of the networks that grow."""
    headings = ["W4A4", "weights", "MACs a sample", "cases decided", "lowering", "proofs", "peak memory", "interpreter"]
    rows = []
    for key in (key for key in GROWING if key in found):
        content = found[key]
        each = statistics.median(content["interpreter_s"]) / content["images"]
        rows.append(
            [
                SUBJECTS[key].title,
                f"{content['weights']:,}",
                f"{content['macs']:,}",
                f"{content['cases']:,}",
                f"{content['lowering_s']:.2f} s",
                f"{content['proving_s']:.2f} s",
                f"{content['peak_mib']:.0f} MiB",
                f"{1000 * each:.2g} ms a sample",
            ]
        )
    return table(headings, rows)


def imports(found: Found) -> str:
    """Return the table of whole imports."""
    headings = ["`import --target onnx-int8`", "processor time", "at most", "codes of onnx-int8 that differ"]
    rows = [
        [
            subject.title,
            f"{found[key]['import_s']:.1f} s",
            f"{subject.goal_s} s",
            "{:,} of {:,}".format(*found[key]["checks"]["onnx-int8"]),
        ]
        for key, subject in ORDINARY.items()
        if key in found
    ]
    return table(headings, rows)


def short(found: Found) -> str:
    """Return README's table: the costs alone."""
    headings = ["W4A4, full size", "cases decided", "lowering and proofs", "peak memory", "interpreter, 1,000 samples"]
    rows = [
        [
            SUBJECTS[key].title,
            f"{found[key]['cases']:,}",
            f"{found[key]['lowering_s'] + found[key]['proving_s']:.2g} s",
            f"{found[key]['peak_mib']:.0f} MiB",
            f"{statistics.median(found[key]['interpreter_s']):.2g} s",
        ]
        for key in WHOLE
        if key in found
    ]
    return table(headings, rows)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
