"""The measurement of a table of times: layers of several shapes, each construction of each, in onnxruntime here.

A layer is measured where it stands in a network: between quantized products of windows of one code, which decide how
its codes lie in memory, and behind the image itself, if it takes as few channels as a first layer does. What the same
network takes without the layer is subtracted. All networks run in turns, in one thread, for several rounds. What counts
in a round is the best processor time of many calls, and of the rounds the second best: other work on the machine shows
little, and neither does a call for which a virtual machine accounts for too little time.
"""

from __future__ import annotations

import datetime as dt
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import (
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    Node,
    Shape,
    Threshold,
    Window,
)
from bitproof.export.onnx_int8.costs import CostTable, Kind, LayerShape, MeasuredLayer, Way, ways_of
from bitproof.export.onnx_int8.executor import open_session
from bitproof.export.onnx_int8.writer import build
from bitproof.pipeline.progress import Progress, silent
from bitproof.pipeline.toolchain import distribution_version

IMAGES, VECTORS = 16, 256
"""Samples in a call: what a single one takes is mostly the call itself, which all constructions have in common."""
ROUNDS, COUNTED = 6, 1
BUDGET_S = 60.0
LAYER = "layer"
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "asimddp", "i8mm")
"""Those that products of bytes depend on, as Linux calls them."""
IMAGE_CHANNELS = 3
LAST_CHANNELS = 16
WEIGHTS, CODES, IMAGE = IntegerType(4, signed=True), IntegerType(4, signed=False), IntegerType(8, signed=False)


@dataclass(frozen=True, slots=True)
class Probe:
    """A layer that is measured: *kernel* and *size* hold along both axes of an image; 1 for a matrix."""

    kind: Kind
    inputs: int
    outputs: int
    kernel: int = 1
    size: int = 1

    @property
    def samples(self) -> int:
        """How many are in a call."""
        return VECTORS if self.kind == "matrix" else IMAGES

    @property
    def shape(self) -> LayerShape:
        """What its time stands for in a table."""
        inputs = 1 if self.kind == "depthwise" else self.inputs
        window, positions = self.kernel**2, self.size**2
        return LayerShape(kind=self.kind, inputs=inputs, outputs=self.outputs, window=window, positions=positions)

    def sample(self, channels: int) -> Shape:
        """Return the shape of a sample of so many *channels*."""
        return (channels,) if self.kind == "matrix" else (channels, self.size, self.size)

    def product(self, name: str, inputs: int, outputs: int, kernel: int, *, depthwise: bool = False) -> Node:
        """Return a product that keeps the size of the image, with random weights of 4 bits."""
        generator = np.random.default_rng(0)
        if self.kind == "matrix":
            return MatMul(name, generator.integers(-7, 8, (outputs, inputs)), WEIGHTS)
        members = 1 if depthwise else inputs
        weights = generator.integers(-7, 8, (outputs, members, kernel, kernel))
        begin, end = (kernel - 1) // 2, kernel // 2
        pair = ((kernel, kernel), (1, 1), (begin, begin), (end, end), (1, 1))
        return Conv(name, weights, WEIGHTS, Window(*pair), outputs if depthwise else 1)

    def network(self, *, layer: bool) -> IntegerModel:
        """Return the network in which the layer stands, or that without it."""
        takes_image = self.kind == "convolution" and self.inputs <= IMAGE_CHANNELS
        is_first = takes_image or self.kind == "matrix"  # vectors lie in memory in one way
        first = self.outputs if is_first and not layer else self.inputs
        channels, nodes = first, [] if is_first else _activated(self.product("first", first, first, 1))
        if layer:
            is_depthwise = self.kind == "depthwise"
            nodes += _activated(self.product(LAYER, first, self.outputs, self.kernel, depthwise=is_depthwise))
            channels = self.outputs
        nodes += _activated(self.product("last", channels, LAST_CHANNELS, 1))
        source, scale = IMAGE if takes_image else CODES, Fraction(1)
        return IntegerModel("probe", source, scale, self.sample(first), tuple(nodes), scale)


def _images() -> list[Probe]:
    """Return first layers, which take images of 1 to 3 channels."""
    sizes = ((1, 16, 3, 28), (1, 32, 3, 28), (1, 32, 5, 24), (2, 16, 3, 28), (3, 16, 3, 32), (3, 32, 3, 32))
    return [Probe("convolution", *sizes) for sizes in sizes]


PROBES: Sequence[Probe] = (
    *_images(),
    *(Probe("convolution", n, m, 3, size) for n, m, size in ((4, 16, 28), (8, 16, 24), (16, 16, 16), (16, 16, 32))),
    *(Probe("convolution", n, m, 3, size) for n, m, size in ((32, 32, 16), (64, 64, 8), (64, 64, 16), (128, 128, 8))),
    *(Probe("pointwise", n, m, 1, size) for n, m, size in ((8, 16, 32), (16, 32, 32), (32, 32, 16), (64, 64, 16))),
    *(Probe("pointwise", n, m, 1, size) for n, m, size in ((64, 64, 8), (128, 128, 8), (256, 256, 4))),
    *(Probe("depthwise", n, n, 3, size) for n, size in ((8, 32), (16, 32), (32, 16), (64, 16), (64, 8))),
    *(Probe("depthwise", n, n, 3, size) for n, size in ((128, 8), (256, 4))),
    *(Probe("matrix", n, m) for n, m in ((16, 64), (64, 64), (256, 64), (784, 64), (256, 256), (1024, 256))),
)
"""Shapes of layers as small image networks have them."""


def _activated(node: Node) -> list[Node]:
    """Return *node* and thresholds on a line, as far apart as its sums spread: every construction is proven for it."""
    assert isinstance(node, Conv | MatMul)
    spread = 8 * max(1, int(np.sqrt(prod(node.weights.shape[1:]))))
    rows = np.tile(spread * (np.arange(CODES.maximum) - 3), (node.outputs, 1)).astype(np.int64)
    return [node, Threshold(f"{node.name}_act", rows, CODES, 0, np.zeros(node.outputs, dtype=bool))]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Costs by which *way* is the cheapest construction of the layer that is measured, and int8 that of all others."""

    way: Way

    def estimate_ps(self, node: Conv | MatMul, positions: int) -> Mapping[Way, int]:
        """Return 1 for what is wanted, and 2 for all else."""
        wanted: Way = self.way if node.name == LAYER else "quantized-int8"
        return {way: 1 if way == wanted else 2 for way in ways_of(LayerShape.of(node, positions).kind)}


def measure(probes: Sequence[Probe] = PROBES, *, budget_s: float = BUDGET_S, progress: Progress = silent) -> CostTable:
    """Measure *probes* in about *budget_s* seconds, and what it takes to write and load their files before."""
    benches = []
    for number, probe in enumerate(probes):
        progress(f"writing a {probe.kind} layer", number, len(probes))
        benches.append(_Bench.of(probe))
    each_s = budget_s / ROUNDS / sum(len(bench.sessions) for bench in benches)
    for turn in range(ROUNDS):
        for number, bench in enumerate(benches):
            done = turn * len(benches) + number
            progress(f"round {turn + 1} of {ROUNDS}, a {bench.probe.kind} layer", done, ROUNDS * len(benches))
            bench.run(each_s)
    return CostTable(
        machine=processor(),
        onnxruntime=distribution_version("onnxruntime") or "unknown",
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        layers=tuple(bench.measured() for bench in benches),
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """The networks of a probe: that without the layer, and one for each construction.

    Attributes:
        probe: what is measured.
        sessions: that run them.
        codes: what each takes.
        rounds: the seconds of each in each round.
    """

    probe: Probe
    sessions: tuple[Any, ...]
    codes: tuple[NDArray[np.uint8], ...]
    rounds: list[list[float]] = field(default_factory=list)

    @classmethod
    def of(cls, probe: Probe) -> _Bench:
        model, without = probe.network(layer=True), probe.network(layer=False)
        ways = ways_of(probe.kind)
        protos = [build(without, costs=_Wanted("quantized-int8"))[0], *(_built(model, way) for way in ways)]
        codes = [_codes(network, probe.samples) for network in (without, *(model for _ in ways))]
        return cls(probe, tuple(map(open_session, protos)), tuple(codes))

    def run(self, seconds: float) -> None:
        """Run each network for so many *seconds*."""
        pairs = zip(self.sessions, self.codes, strict=True)
        self.rounds.append([_best_s(session, codes, seconds) for session, codes in pairs])

    def measured(self) -> MeasuredLayer:
        """Return picoseconds a sample for each construction."""
        base, *totals = (sorted(seconds)[COUNTED] for seconds in zip(*self.rounds, strict=True))
        times_ps = {
            way: max(1, round((total - base) / self.probe.samples * 1e12))
            for way, total in zip(ways_of(self.probe.kind), totals, strict=True)
        }
        return MeasuredLayer(shape=self.probe.shape, samples=self.probe.samples, times_ps=times_ps)


def _built(model: IntegerModel, way: Way) -> Any:  # noqa: ANN401  onnx has no types
    """Return the file of *model* with *way* for its layer."""
    proto, layers = build(model, costs=_Wanted(way))
    made = next(entry for entry in layers["activations"] if entry["layer"] == f"{LAYER}_act")
    assert made["time_ps"] == 1, f"{way} is not proven for {model.node(LAYER)}"
    return proto


def _codes(model: IntegerModel, samples: int) -> NDArray[np.uint8]:
    shape = (samples, *model.shape)
    return np.random.default_rng(0).integers(0, model.input.maximum, shape, endpoint=True).astype(np.uint8)


def _best_s(session: Any, codes: NDArray[np.uint8], seconds: float) -> float:  # noqa: ANN401
    """Return the least processor time of a call within *seconds*, of at least two calls."""
    end, best, calls = time.monotonic() + seconds, float("inf"), 0
    while calls < 2 or time.monotonic() < end:
        started = time.process_time_ns()
        session.run(None, {"codes": codes})
        best, calls = min(best, (time.process_time_ns() - started) * 1e-9), calls + 1
    return best


def processor() -> str:
    """Return the name of this machine's processor and its vector instructions, as far as the system tells them."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    found = {key.strip(): value.split() for key, _, value in (line.partition(":") for line in lines)}
    vectors = [name for name in INSTRUCTIONS if name in found.get("flags", found.get("Features", []))]
    return " ".join([*(found.get("model name") or [platform.machine() or "unknown"]), *vectors])


def ratios(table: CostTable) -> list[list[str]]:
    """Return a row for each layer of *table*: its shape, nanoseconds by int8, and the ratio of the others to that."""
    rows = []
    for layer in table.layers:
        shape, base = layer.shape, layer.times_ps["quantized-int8"]
        sizes = f"{shape.inputs} x {shape.window} -> {shape.outputs}, {shape.positions} positions"
        others: tuple[Way, ...] = ("quantized-uint8", "carried", "single-steps")
        cells = [f"{layer.times_ps[way] / base:.2f}" if way in layer.times_ps else "" for way in others]
        rows.append([shape.kind, sizes, f"{base / 1000:,.0f}", *cells])
    return rows
