"""What the monitors of a simulation say: which FIFOs are full, which empty, and where words moved last."""

from __future__ import annotations

import pytest
from rtl_nodes import CHAIN, described, make_node, relinked, stream

from bitproof.hw.rtl.bench import bench_module, bench_units
from bitproof.hw.rtl.progress import (
    MONITORS,
    FifoUse,
    StreamUse,
    describe_stall,
    monitor_text,
    read_progress,
)
from bitproof.hw.rtl.tasks import require_known_tasks

LAST = relinked(make_node("last", "StreamingFIFO_rtl", stream(3, 1, 6), stream(3, 1, 6), depth=9), "out", "host_out")
DESCRIPTION = described(*CHAIN[:-1], relinked(CHAIN[-1], "narrow", "out"), LAST)
LINES = (
    "stream host_in 5 77 1 0",
    "stream codes 2 40 1 0",
    "stream sums 1 50 0 1",
    "stream narrow 3 61 0 1",
    "stream out 2 71 0 1",
    "stream host_out 2 73 0 1",
    "fifo fifo 4 3",
    "fifo last 1 0",
    "- a line of something else",
)


def test_lines_are_read() -> None:
    progress = read_progress(DESCRIPTION, LINES)
    assert progress.streams["codes"] == StreamUse(words=2, last_cycle=40, valid=True, ready=False)
    assert progress.fifos == {"fifo": FifoUse(most=4, held=3, depth=2), "last": FifoUse(most=1, held=0, depth=9)}


def test_a_stall_names_fifos_and_nodes() -> None:
    said = describe_stall(DESCRIPTION, read_progress(DESCRIPTION, LINES))
    assert said == (
        "full FIFOs: fifo from the host to mvau, 3 words; empty FIFOs: last from thresholds to the host; last word of "
        "each node: mvau in cycle 50, widths in cycle 61, thresholds in cycle 71"
    )


def test_every_stream_has_a_monitor_and_no_task_beyond_a_simulation() -> None:
    text = MONITORS + bench_module(bench_units(DESCRIPTION), monitor_text(DESCRIPTION, top="top", clock="clock[0]"))
    require_known_tasks("bench.sv", text)
    for name in ("host_in", "codes", "sums", "narrow", "out", "host_out"):
        assert text.count(f'stream_monitor #(.NAME("{name}"))') == 1
    assert ".valid(top.s_axis_tvalid), .ready(top.s_axis_tready)" in text
    assert ".valid(top.codes_valid), .ready(top.codes_ready)" in text
    assert ".came(words_0), .left(words_1)" in text


@pytest.mark.parametrize("line", ["fifo other 1 0", "stream codes 1"])
def test_a_line_that_is_none_of_the_monitors_is_an_error_of_ours(line: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        read_progress(DESCRIPTION, [line])
