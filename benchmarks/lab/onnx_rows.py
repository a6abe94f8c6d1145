"""The figures of ``make bench-onnx`` as rows of its results, and as the tables of ``docs/onnx-int8.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from benchmarks.lab.integer_page import table as markdown
from benchmarks.lab.onnx_figures import BATCHES, LARGEST, Figures
from benchmarks.lab.onnx_forms import FLOAT, OPERATORS, OURS, PEERS, QCDQ, QUANT_TO_QCDQ, SAME_NETWORK, STATIC
from benchmarks.results import Row

FASTER_STATIC = "quantize_static"
"""Whichever form of ``quantize_static`` is the faster one."""
COMPARED = (FLOAT, FASTER_STATIC, STATIC, OPERATORS, QCDQ, QUANT_TO_QCDQ)
LOAD_MS, BARE_SHARE = 50, 0.9
"""Goals for every network: at most, at least."""


def rows_of(key: str, goals: Mapping[str, float], figures: Figures) -> Iterator[Row]:
    """Return the rows of the network *key*; *goals*: by metric, what a ratio of speed or size should be at least."""
    for batch, rounds in figures.seconds.items():
        for peer in COMPARED:
            yield _speed(key, batch, rounds, peer, goals, figures)
    for form in PEERS:
        yield _file(key, form, goals, figures)
    yield from _costs(key, figures)
    yield from _agreements(key, figures)
    yield from _shares(key, figures)


def _speed(
    key: str,
    batch: int,
    rounds: Sequence[Mapping[str, float]],
    peer: str,
    goals: Mapping[str, float],
    figures: Figures,
) -> Row:
    metric, ours = f"vs_{peer}_b{batch}", batch / median(each[OURS] for each in rounds)
    form = _faster_static(rounds) if peer == FASTER_STATIC else peer
    if form not in figures.sizes:
        return Row(key, metric, "images per second", ours, peer=PEERS[form], note=_reason(form, figures))
    ratios = [each[form] / each[OURS] for each in rounds]
    goal = goals.get(metric)
    return Row(
        work=key,
        metric=metric,
        unit="images per second",
        ours=ours,
        ours_spread=(min(ratios), max(ratios)),
        peer=PEERS[form],
        peer_value=batch / median(each[form] for each in rounds),
        ratio=median(ratios),
        goal=None if goal is None else f">= {goal:g}",
        met=None if goal is None else median(ratios) >= goal,
        note="the spread is that of the ratio",
    )


def _faster_static(rounds: Sequence[Mapping[str, float]]) -> str:
    """Return the faster form of ``quantize_static``, or the first if there is none."""
    found = [form for form in (STATIC, OPERATORS) if form in rounds[0]]
    return min(found, key=lambda form: median(each[form] for each in rounds), default=STATIC)


def _reason(form: str, figures: Figures) -> str:
    return f"not measured: {figures.missing[form]}"


def _file(key: str, form: str, goals: Mapping[str, float], figures: Figures) -> Row:
    """Return the row of the file sizes; the ratio is the peer's over ours."""
    metric, ours = "file_ratio" if form == FLOAT else f"file_ratio_{form}", figures.sizes[OURS]
    if form not in figures.sizes:
        return Row(key, metric, "bytes", ours, peer=PEERS[form], note=_reason(form, figures))
    size, goal = figures.sizes[form], goals.get(metric)
    text, met = (None, None) if goal is None else (f">= {goal:g}", size / ours >= goal)
    return Row(key, metric, "bytes", ours, None, PEERS[form], size, size / ours, text, met)


def _costs(key: str, figures: Figures) -> Iterator[Row]:
    """Yield the rows of what a file costs before it is fast: the time to load it, and memory."""
    load_ms = {form: 1000 * seconds for form, seconds in figures.load_s.items()}
    alone = f"over {figures.bare_mib:.1f} MiB of Python, NumPy and onnxruntime, in a process of its own"
    note = f"{alone}, which opens the file and runs a batch of {LARGEST} once"
    for metric, unit, found, text in (
        ("load", "ms of processor time", load_ms, ""),
        ("peak_memory", "MiB", figures.memory_mib, note),
    ):
        for form in PEERS:
            name = metric if form == FLOAT else f"{metric}_{form}"
            if form not in found:
                yield Row(key, name, unit, found[OURS], peer=PEERS[form], note=_reason(form, figures))
                continue
            is_goal = name == "load"
            yield Row(
                work=key,
                metric=name,
                unit=unit,
                ours=found[OURS],
                peer=PEERS[form],
                peer_value=found[form],
                ratio=found[OURS] / found[form],
                goal=f"< {LOAD_MS}" if is_goal else None,
                met=found[OURS] < LOAD_MS if is_goal else None,
                note=text,
            )


def _agreements(key: str, figures: Figures) -> Iterator[Row]:
    """Yield who gives what the integer model gives; only forms of the quantized network can."""
    unit, ours = f"of {figures.samples} samples", figures.agreements[OURS]
    yield Row(key, "exact_share", unit, ours.exact, goal="1", met=ours.exact == 1)
    occurring = f"the integer model gives {figures.classes} classes to these samples"
    equal = "all outputs are the real numbers of the integer model's codes"
    for form in SAME_NETWORK:
        classes, exact = f"class_agreement_{form}", f"exact_share_{form}"
        if form not in figures.agreements:
            note = _reason(form, figures)
            yield Row(key, classes, unit, ours.classes, peer=PEERS[form], note=note)
            yield Row(key, exact, unit, ours.exact, peer=PEERS[form], note=note)
            continue
        found = figures.agreements[form]
        yield Row(key, classes, unit, ours.classes, None, PEERS[form], found.classes, note=occurring)
        note = equal if found.exact is not None else f"not compared whether {equal}: binary32 does not hold them"
        yield Row(key, exact, unit, ours.exact, None, PEERS[form], found.exact, note=note)


def _shares(key: str, figures: Figures) -> Iterator[Row]:
    unit, found = f"of the time at batch {LARGEST}", figures.shares
    fastest = ", ".join(f"{count} {name}" for name, count in found.fastest.items())
    yield Row(
        key,
        "share_of_bare_operators",
        unit,
        found.bare,
        found.spread,
        goal=f">= {BARE_SHARE}",
        met=found.bare >= BARE_SHARE,
        note="the fastest bare operators of the same shapes over all operators of ours, each by its best round, by the "
        f"profiler; the spread is that of single rounds; fastest are {fastest}",
    )
    note = "products, pools, joins and conversions of types over all operators of ours, by the profiler"
    yield Row(key, "time_in_products", unit, found.products, note=note)


def tables(rows: Sequence[Row]) -> str:
    """Return the tables of the page: speed, and what stands beside it; a line for each network."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.work, {})[row.metric] = row
    return f"{_speeds(found)}\n\n{_beside(found)}"


def _speeds(found: Mapping[str, Mapping[str, Row]]) -> str:
    batches = f"batch {' / '.join(map(str, BATCHES))}"
    headings = [f"network, {batches}", "images/s", "float32 = 1", "quantize_static = 1", "QCDQ = 1", "QuantToQCDQ = 1"]
    lines = []
    for key, rows in found.items():
        speed = " / ".join(f"{rows[f'vs_{FLOAT}_b{batch}'].ours:,.0f}" for batch in BATCHES)
        peers = (FLOAT, FASTER_STATIC, QCDQ, QUANT_TO_QCDQ)
        ratios = [" / ".join(_cell(rows[f"vs_{peer}_b{batch}"].ratio) for batch in BATCHES) for peer in peers]
        lines.append([key, speed, *ratios, _cell(rows["share_of_bare_operators"].ours)])
    return markdown([*headings, "bare operators / ours"], lines)


def _beside(found: Mapping[str, Mapping[str, Row]]) -> str:
    headings = ["network", "file, bytes", "of float32", "load, ours / float32", "peak memory, ours / float32"]
    lines = []
    for key, rows in found.items():
        size, load, memory, exact = (rows[name] for name in ("file_ratio", "load", "peak_memory", "exact_share"))
        peers = [_percent(rows[f"class_agreement_{form}"].peer_value) for form in SAME_NETWORK]
        cells = [key, f"{size.ours:,.0f}", f"1/{_cell(size.ratio, 1)}"]
        cells += [f"{_cell(load.ours, 0)} / {_cell(load.peer_value, 0)} ms"]
        cells += [f"{_cell(memory.ours, 1)} / {_cell(memory.peer_value, 1)} MiB"]
        lines.append([*cells, f"{_percent(exact.ours)} {exact.unit}", *peers])
    return markdown([*headings, "codes equal", "QCDQ: classes equal", "QuantToQCDQ: classes equal"], lines)


def _cell(number: float | None, digits: int = 2) -> str:
    return "-" if number is None else f"{number:,.{digits}f}"


def _percent(share: float | None) -> str:
    """Return *share* in percent; nothing below 1 is shown as 100 %."""
    return "-" if share is None else f"{100 * (share if share == 1 else min(share, 0.9999)):.4g} %"
