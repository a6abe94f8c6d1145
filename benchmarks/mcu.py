"""The cost of generated C: executed instructions, flash and RAM of networks on emulated microcontrollers.

``python -m benchmarks.mcu [KEY...]`` builds the firmware of every network (or of those named) for a Cortex-M4, and of
some for other cores, runs it in QEMU, compares its outputs with the integer model, counts the executed instructions of
one inference, and writes ``benchmarks/results/mcu.json``. Counts do not depend on the machine; weights are drawn or
initialized, not trained, and the kernels hardly depend on them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.lab.integer_networks import WHOLE, Subject, initialized, write_qonnx
from benchmarks.lab.integer_page import fill
from benchmarks.onnx_int8 import WORKS as ONNX_WORKS
from benchmarks.results import RESULTS, Row, write_results
from bitproof.export.integer import (
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Reshape,
    Threshold,
    Window,
    run,
    save,
)
from bitproof.export.lower import lower_file
from bitproof.hw.mcu import CORES, BuildFirmware, EmulatedCore, FirmwareExecutor, GenerateC
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import Artifact, StageContext
from bitproof.pipeline.config import ModelConfig

COMMAND = "make bench-mcu"
PAGE = Path(__file__).parent.parent / "docs" / "c.md"
SEED, SAMPLES = 0, 8
LAYER = "conv 14x14x8 -> 16, pool"
BINARY = "conv 6x6x256 -> 64"
KINDS: Mapping[str, tuple[int, int]] = {"w8": (8, 8), "w4": (4, 4), "ternary": (2, 4), "w1": (1, 4)}
"""Bits of weights and of activations; ternary weights are -1, 0 and 1, those of one bit -1 and 1."""
GOALS = {
    ("small cnn", "w8"): 520_000,
    ("small cnn", "w4"): 550_000,
    ("small cnn", "ternary"): 460_000,
    ("small cnn", "w1"): 340_000,
    ("conv 16x16x32 -> 32, pool", "w8"): 3_400_000,
    ("conv 16x16x32 -> 32, pool", "w4"): 3_500_000,
    ("conv 16x16x32 -> 32, pool", "w1"): 1_700_000,
    ("mlp 784-64-32-10", "w8"): 100_000,
    ("mlp 784-64-32-10", "w4"): 92_000,
    ("mlp 784-64-32-10", "w1"): 37_000,
    (f"{LAYER}, cortex-m3", "w4"): 520_000,
    ("resnet8 w8a8", "w8"): 22_371_000,
    ("ds-cnn w8a8", "w8"): 5_769_000,
    ("mobilenet-v1 w8a8", "w8"): 19_274_000,
    ("autoencoder w8a8", "w8"): 579_000,
}
"""Instructions at most."""


class _Chain:
    """A chain of layers with drawn weights, whose thresholds lie where the sums of drawn codes are."""

    def __init__(self, shape: tuple[int, ...], input_bits: int = 8) -> None:
        self.generator = np.random.default_rng(SEED)
        self.shape, self.input = shape, IntegerType(input_bits, signed=False)
        self.codes = self.generator.integers(0, self.input.maximum, (16, *shape), endpoint=True)
        self.nodes: list[Node] = []

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        self.codes = node.apply(self.codes)

    def _weights(self, shape: tuple[int, ...], bits: int) -> tuple[np.ndarray, IntegerType]:
        if bits == 1:
            return 2 * self.generator.integers(0, 1, shape, endpoint=True) - 1, IntegerType(2, signed=True)
        low = -1 if bits == 2 else 1 - (1 << (bits - 1))
        return self.generator.integers(low, -low, shape, endpoint=True), IntegerType(bits, signed=True)

    def conv(self, outputs: int, bits: int, *, pool: bool, act_bits: int, padding: int = 1) -> None:
        """Add a convolution of 3 x 3, its activation, and a max pool of 2 x 2; with *padding* 1 it keeps the size."""
        weights, kind = self._weights((outputs, self.codes.shape[1], 3, 3), bits)
        place = Window((3, 3), (1, 1), (padding, padding), (padding, padding), (1, 1))
        self._add(Conv(f"conv{len(self.nodes)}", weights, kind, place, 1))
        self._activation(act_bits)
        if pool:
            self._add(MaxPool(f"pool{len(self.nodes)}", Window((2, 2), (2, 2), (0, 0), (0, 0), (1, 1))))

    def flat(self) -> None:
        """Make a vector of the image."""
        shape = self.codes.shape[1:]
        self._add(Reshape(f"flat{len(self.nodes)}", shape, (int(np.prod(shape)),)))

    def matmul(self, outputs: int, bits: int, act_bits: int | None) -> None:
        """Add a matrix product, and its activation unless *act_bits* is None."""
        weights, kind = self._weights((outputs, self.codes.shape[1]), bits)
        self._add(MatMul(f"fc{len(self.nodes)}", weights, kind))
        if act_bits is not None:
            self._activation(act_bits)

    def _activation(self, bits: int) -> None:
        """Add thresholds of an affine function with a slope and an offset of its own in each channel, as of a norm."""
        sums = np.moveaxis(self.codes, 1, 0).reshape(self.codes.shape[1], -1)
        levels = (1 << bits) - 1
        step = np.maximum(3 * sums.std(axis=1) / levels, 1) * self.generator.uniform(0.9, 1.1, len(sums))
        start = sums.mean(axis=1) * self.generator.uniform(0.9, 1.1, len(sums))
        rows = np.ceil(start[:, None] + step[:, None] * (np.arange(levels) + 0.5)).astype(np.int64)
        kind = IntegerType(bits, signed=False)
        self._add(Threshold(f"act{len(self.nodes)}", rows, kind, 0, np.zeros(len(sums), dtype=np.bool_)))

    def model(self, name: str) -> IntegerModel:
        """Return the network."""
        return IntegerModel(name, self.input, Fraction(1, 256), self.shape, tuple(self.nodes), Fraction(1))


def _small_cnn(weight_bits: int, act_bits: int) -> IntegerModel:
    """Two convolutions with pools and a matrix, 290,080 multiply-accumulates; the first has weights of 8 bits."""
    chain = _Chain((1, 28, 28))
    chain.conv(8, 8, pool=True, act_bits=act_bits)
    chain.conv(16, weight_bits, pool=True, act_bits=act_bits)
    chain.flat()
    chain.matmul(10, weight_bits, None)
    return chain.model("small_cnn")


def _conv(weight_bits: int, act_bits: int) -> IntegerModel:
    chain = _Chain((32, 16, 16), act_bits)
    chain.conv(32, weight_bits, pool=True, act_bits=act_bits)
    return chain.model("conv")


def _layer(weight_bits: int, act_bits: int) -> IntegerModel:
    """The second convolution of the small network, 225,792 multiply-accumulates."""
    chain = _Chain((8, 14, 14), act_bits)
    chain.conv(16, weight_bits, pool=True, act_bits=act_bits)
    return chain.model("layer")


def _binary(weight_bits: int, act_bits: int) -> IntegerModel:
    """A wide convolution of codes of *act_bits*, such as of CNV at one bit: 2,304 columns, 64 rows, 16 positions."""
    chain = _Chain((256, 6, 6), act_bits)
    chain.conv(64, weight_bits, pool=False, act_bits=act_bits, padding=0)
    return chain.model("binary")


def _mlp(weight_bits: int, act_bits: int) -> IntegerModel:
    chain = _Chain((784,))
    chain.matmul(64, weight_bits, act_bits)
    chain.matmul(32, weight_bits, act_bits)
    chain.matmul(10, weight_bits, None)
    return chain.model("mlp")


def whole(subject: Subject) -> Callable[[], IntegerModel]:
    """Return what lowers *subject*, initialized."""

    def lowered() -> IntegerModel:
        with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of exporters about their own insides
            path = Path(name) / "net" / "model.onnx"
            path.parent.mkdir()
            write_qonnx(initialized(subject), (subject.inputs,), path)
            return lower_file(path).model

    return lowered


def of_bits(subject: Subject, bits: int) -> Subject:
    """Return *subject* with weights and activations of *bits* bits."""
    options = {**subject.model.model_dump(), "weight_bits": bits, "act_bits": bits}
    return replace(subject, model=ModelConfig.model_validate(options))


TINY = ("resnet8", "ds-cnn", "mobilenet-v1", "autoencoder")
"""The networks of MLPerf Tiny."""
DRAWN = {"small cnn": _small_cnn, "conv 16x16x32 -> 32, pool": _conv, "mlp 784-64-32-10": _mlp}
WITHOUT_DSP: tuple[EmulatedCore, ...] = ("cortex-m3", "cortex-m0", "rv32imac")
ONE_BIT: Mapping[str, tuple[int, int]] = {"w1a1": (1, 1), "w1a2": (1, 2)}
"""Codes of one bit are packed and ones are counted; of two bits they stay bytes."""
WORKS: dict[tuple[str, str], Callable[[], IntegerModel]] = {
    **{(name, kind): partial(make, *bits) for name, make in DRAWN.items() for kind, bits in KINDS.items()},
    ("cnn w8w2a4", "own"): whole(ONNX_WORKS["cnn w8w2a4"].subject),
    ("mlp w2a4 (default)", "own"): whole(ONNX_WORKS["mlp w2a4 (default)"].subject),
    **{
        (f"{LAYER}, {core}", kind): partial(_layer, *KINDS[kind])
        for core in WITHOUT_DSP
        for kind in ("w4", "ternary", "w1")
    },
    **{
        (f"{BINARY}, {core}", kind): partial(_binary, *bits)
        for core in ("cortex-m4", "cortex-m3")
        for kind, bits in ONE_BIT.items()
    },
    **{(f"{name} w4a4", "w4"): whole(WHOLE[name]) for name in ("resnet8", "ds-cnn", "mobilenet-v1")},
    **{(f"{name} w8a8", "w8"): whole(of_bits(WHOLE[name], 8)) for name in TINY},
}
PORTED = tuple((name, kind) for name in ("small cnn", "mlp 784-64-32-10") for kind in KINDS)
"""What is measured on every core."""


def main(arguments: Sequence[str]) -> None:
    """Measure the networks named in *arguments*, or all; each is written when it is measured, other rows are kept."""
    names = {name for name, _ in WORKS}
    unknown = [key for key in arguments if key not in names]
    if unknown:
        sys.exit(f"unknown network {unknown[0]!r}; known: {', '.join(sorted(names))}")
    asked = [(name, kind) for name, kind in WORKS if not arguments or name in arguments]
    for name, kind in asked:
        print(f"measuring {name}, {kind}", file=sys.stderr, flush=True)
        _keep(list(_rows(name, kind, WORKS[name, kind]())))
    for name, kind in asked:
        if (name, kind) in PORTED:
            _keep(list(_ports(name, kind)))


def _keep(measured: Sequence[Row]) -> None:
    """Write *measured* rows in the place of those of the same network and metric, and the tables of the page."""
    path = RESULTS / "mcu.json"
    kept = [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.is_file() else []
    rows = {(row.work, row.metric): row for row in (*kept, *measured)}
    order = {work: place for place, (work, _) in enumerate(WORKS)}
    ordered = sorted((row for row in rows.values() if row.work in order), key=lambda row: order[row.work])
    write_results("mcu", ordered, command=COMMAND, distributions=("numpy",))
    fill(PAGE, "mcu", table([row for row in ordered if "@" not in row.metric]), COMMAND)
    ports = [row for row in ordered if "@" in row.metric]
    if len(ports) == len(CORES) * len(PORTED):
        fill(PAGE, "mcu-cores", table_of_cores(ports), COMMAND)


def table(rows: Sequence[Row]) -> str:
    """Return the table of the page: a line for each network and kind of weights."""
    lines = ["| network | weights | multiply-accumulates | instructions | of each | at most | flash | RAM |"]
    lines.append("|" + "---|" * 8)
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        metric, _, kind = row.metric.rpartition("_")
        found.setdefault((row.work, kind), {})[metric] = row
    for (work, kind), of in found.items():
        counted, macs = of["instructions"], of["macs"].ours or 1
        goal = counted.goal.removeprefix("<= ") if counted.goal else ""
        numbers = [f"{of[metric].ours:,.0f}" for metric in ("macs", "instructions")]
        sizes = [f"{of[metric].ours:,.0f}" for metric in ("flash_bytes", "ram_bytes")]
        shown = [work, kind, *numbers, f"{(counted.ours or 0) / macs:.2f}", goal, *sizes]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def table_of_cores(ports: Sequence[Row]) -> str:
    """Return the table of the page: a line for each core, a column for each network and kind of weights."""
    counted = {(row.work, *row.metric.split("@")): row.ours or 0 for row in ports}
    headings = [f"{name}, {kind}" for name, kind in PORTED]
    lines = [f"| core | {' | '.join(headings)} |", "|" + "---|" * (1 + len(headings))]
    for core in CORES:
        numbers = [f"{counted[name, f'instructions_{kind}', core]:,.0f}" for name, kind in PORTED]
        lines.append(f"| `{core}` | {' | '.join(numbers)} |")
    return "\n".join(lines)


def _ports(name: str, kind: str) -> Iterator[Row]:
    """Yield the instructions of one network on every core."""
    model = WORKS[name, kind]()
    for core in CORES:
        print(f"measuring {name}, {kind}, on {core}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            cost = _cost(model, Path(folder), core)
        unit = f"executed instructions of one inference, {core}, -O2"
        yield Row(name, f"instructions_{kind}@{core}", unit, int(cost["instructions_per_inference"]))


def _rows(name: str, kind: str, model: IntegerModel) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        cost = _cost(model, Path(folder), core_of(name))
    goal = GOALS.get((name, kind))
    counted = int(cost["instructions_per_inference"])
    bound = plan_network(model).storage.lower_bound_bytes
    yield Row(
        name,
        f"instructions_{kind}",
        f"executed instructions of one inference, {core_of(name)}, -O2",
        counted,
        goal=None if goal is None else f"<= {goal:,}",
        met=None if goal is None else counted <= goal,
    )
    yield Row(name, f"macs_{kind}", "multiply-accumulates", int(cost["macs"]))
    yield Row(name, f"flash_bytes_{kind}", "bytes with test harness", int(cost["flash_bytes"]))
    note = f"arena and stack; {bound:,} bytes of values are alive at once"
    yield Row(name, f"ram_bytes_{kind}", "bytes", int(cost["ram_bytes"]), note=note)


def core_of(name: str) -> EmulatedCore:
    """Return the core that the network *name* is measured on: the one behind its last comma, or a Cortex-M4."""
    last = name.rpartition(", ")[2]
    return next((core for core in get_args(EmulatedCore) if core == last), "cortex-m4")


def _cost(model: IntegerModel, folder: Path, core: EmulatedCore) -> Mapping[str, int | float | str]:
    """Build the firmware, compare it with the integer model, and measure it.

    Raises:
        SystemExit: its outputs are not those of the integer model.
    """
    (folder / "integer").mkdir()
    save(model, folder / "integer")
    artifact = Artifact("integer", "integer-model", folder / "integer", "0" * 64)
    for stage in (GenerateC(core), BuildFirmware(core)):
        workdir, scratch = folder / stage.name, folder / f"{stage.name}-scratch"
        workdir.mkdir()
        scratch.mkdir()
        stage.run(artifact, StageContext(workdir, scratch, SEED))
        artifact = Artifact(stage.name, stage.produces, workdir, "")
    executor = FirmwareExecutor(artifact, folder / "work", core)
    codes = np.random.default_rng(SEED).integers(0, model.input.maximum, (SAMPLES, model.inputs), endpoint=True)
    if not np.array_equal(executor(codes), run(model, codes)):
        sys.exit(f"the firmware of {model.name} for {core} does not equal the integer model")
    return executor.measure(codes[:2])


if __name__ == "__main__":
    main(sys.argv[1:])
