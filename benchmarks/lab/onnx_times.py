"""How long ONNX files take to load and to run in onnxruntime: one process, one thread, all of them in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from numpy.typing import NDArray

LOADS, WARMING = 5, 3
GROUP_S, SHORTEST_S = 2e-3, 1e-6
"""Shorter calls are timed in groups: to read the clock of the processor time may take longer than a call."""
Numbers = NDArray[Any]


def session_of(model: Path | bytes, profile: Path | None = None) -> Any:  # noqa: ANN401  onnxruntime has no types
    """Open *model* with default optimizations and one thread; *profile*: how the name of a profile begins."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    given = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def call_of(session: Any, values: Numbers) -> Callable[[], Any]:  # noqa: ANN401
    """Return a call that runs *session*, which has one input, on *values*."""
    return partial(session.run, None, {session.get_inputs()[0].name: values})


def load_seconds(files: Mapping[str, Path]) -> dict[str, float]:
    """Return the best processor time in which each of *files* is opened."""
    rounds = [{form: _seconds(partial(session_of, path)) for form, path in files.items()} for _ in range(LOADS)]
    return {form: min(each[form] for each in rounds) for form in files}


def run_seconds(calls: Mapping[str, Callable[[], object]], rounds: int, round_s: float) -> list[dict[str, float]]:
    """Return for each of *rounds* the best processor time of each call, which is repeated for *round_s* seconds."""
    counts = {form: _calls_in_group(call) for form, call in calls.items()}
    return [{form: _best(call, counts[form], round_s) for form, call in calls.items()} for _ in range(rounds)]


def _calls_in_group(call: Callable[[], object]) -> int:
    """Return how many calls last :data:`GROUP_S` together; the first calls prepare what later ones use."""
    usual = median(_seconds(call) for _ in range(WARMING))
    return max(1, round(GROUP_S / max(usual, SHORTEST_S)))


def _best(call: Callable[[], object], count: int, round_s: float) -> float:
    """Return the time of one call in the fastest group of *count*."""
    end, best = time.monotonic() + round_s, float("inf")
    while time.monotonic() < end:
        best = min(best, _seconds(lambda: [call() for _ in range(count)]) / count)
    return best


def _seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started
