"""How much of a packed-int8 file's time is arithmetic: the fastest bare operators for its layers over all it runs.

Both are times of kernels, as onnxruntime's profiler gives them, in one thread. Unlike a ratio to float32, this ratio
hardly depends on the processor: what makes an operator fast there makes it fast in both.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.onnx_bare import Bare, bare_layers
from benchmarks.lab.onnx_times import Numbers, session_of
from bitproof.export.integer import IntegerModel

PRODUCTS = {
    *("QLinearConv", "QGemm", "QLinearAdd", "Conv", "ConvInteger", "MatMulInteger", "MaxPool", "NhwcMaxPool"),
    *("ReduceSum", "Cast", "QuantizeLinear"),
}
"""Operators that multiply, pool, join or make one type of another."""
LAYOUTS = {"Transpose", "ReorderInput", "ReorderOutput"}
"""Operators that onnxruntime puts around others to change a layout."""
WARMING, LEAST_CALLS = 2, 20
"""Calls of an opened file that do not count, and how many do at least."""
RESOLUTION_US = 1
"""The profiler cuts durations to whole microseconds."""
KernelTimes = Mapping[tuple[str, int], float]
"""Microseconds by the type of a node and its number."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the time that a file takes in all its operators.

    Attributes:
        bare: what the fastest bare operators for its layers take, by the best round of each operator.
        spread: the lowest and the highest such ratio of one round.
        products: what its own operators in :data:`PRODUCTS` take, by their best rounds.
        fastest: how many layers each bare operator is the fastest for.
    """

    bare: float
    spread: tuple[float, float]
    products: float
    fastest: Mapping[str, int]


def shares(path: Path, model: IntegerModel, codes: Numbers, rounds: int, round_s: float) -> Shares:
    """Compare the file of *model* at *path*, which takes *codes*, shape (N, *sample), with bare operators.

    Each is opened anew in each of *rounds*, since where its memory lies decides about the time of a small operator, and
    run for at least *round_s* seconds.
    """
    layers = bare_layers(model)
    whole: list[KernelTimes] = []
    alone: dict[Bare, list[float]] = {bare: [] for choices in layers.values() for bare in choices}
    for _ in range(rounds):
        whole.append(kernel_times(path, {"codes": codes}, path.parent, round_s))
        for bare, found in alone.items():
            found.append(_alone(kernel_times(bare.graph, bare.values(len(codes)), path.parent, round_s)))
    return compared(layers, whole, alone)


def compared(
    layers: Mapping[str, Sequence[Bare]], whole: Sequence[KernelTimes], alone: Mapping[Bare, Sequence[float]]
) -> Shares:
    """Return the shares, given the times of a file and of the bare operators for its *layers*, each by round."""
    best = {node: min(times[node] for times in whole) for node in whole[0]}
    chosen = [min(choices, key=lambda bare: min(alone[bare])) for choices in layers.values()]
    rounds = [sum(alone[bare][i] for bare in chosen) / sum(times.values()) for i, times in enumerate(whole)]
    total = sum(best.values())
    return Shares(
        bare=sum(min(alone[bare]) for bare in chosen) / total,
        spread=(min(rounds), max(rounds)),
        products=sum(time for (op, _), time in best.items() if op in PRODUCTS) / total,
        fastest=Counter(bare.name for bare in chosen),
    )


def kernel_times(model: Path | bytes, given: Mapping[str, Numbers], scratch: Path, round_s: float) -> KernelTimes:
    """Return how long each node of *model* takes on *given*: the mean of the fastest quarter of the calls.

    It is run for at least *round_s* seconds; the profile is written into the folder *scratch*, and deleted.
    """
    session = session_of(model, scratch / "profile")
    calls, end = 0, time.monotonic() + round_s
    while calls < WARMING + LEAST_CALLS or time.monotonic() < end:
        session.run(None, dict(given))
        calls += 1
    profile = Path(session.end_profiling())
    durations: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for event in json.loads(profile.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            durations[event["args"]["op_name"], int(event["args"]["node_index"])].append(int(event["dur"]))
    profile.unlink()
    return {node: _typical(found[WARMING:]) for node, found in durations.items()}


def _typical(durations: list[int]) -> float:
    fastest = sorted(durations)[: len(durations) // 4]
    return sum(fastest) / len(fastest) + RESOLUTION_US / 2


def _alone(times: KernelTimes) -> float:
    """Return the time of the one operator that a graph is for."""
    return sum(time for (op, _), time in times.items() if op not in LAYOUTS) or sum(times.values())
