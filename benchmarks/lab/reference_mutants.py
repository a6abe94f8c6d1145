"""Faults put into a float reference of free scales, and whether the walk along its layers explains them away.

The networks have scales that are no powers of two, so their float sums round; each mutant is the same file with one
fault of the kind that a broken exporter makes. The walk (:mod:`bitproof.export.float_reference`) compares the mutant
with the integer model of the file without the fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.random import Generator
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitproof.export.float_reference import Walk, walk
from bitproof.export.integer import run
from bitproof.export.lowering import Lowered, lower_graph, origins_of
from bitproof.export.qonnx_executor import QonnxExecutor
from bitproof.pipeline import Codes, Observation

QONNX = "qonnx.custom_op.general"
WIDTHS = ((16, 12, 10, 10, 6), (400, 64, 32, 32, 6))
"""Of narrow networks, whose float errors lie far below one accumulator, and of wide ones, where they span several."""
SAMPLES = 32
Floats = NDArray[np.float32]
ROUNDINGS = ("FLOOR", "CEIL", "HALF_UP", "HALF_DOWN", "UP", "DOWN")


class _File:
    """Collects nodes and constants of one network."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Floats] = {}

    def constant(self, name: str, values: object) -> str:
        self.constants[name] = np.asarray(values, dtype=np.float32)
        return name

    def quant(self, source: str, name: str, scale: float, bits: int, *, signed: bool) -> str:
        inputs = [
            source,
            *(self.constant(f"{name}.{k}", v) for k, v in (("scale", scale), ("zero", 0), ("bits", bits))),
        ]
        attributes = {"signed": int(signed), "narrow": 0, "rounding_mode": "ROUND"}
        self.nodes.append(helper.make_node("Quant", inputs, [name], name=name, domain=QONNX, **attributes))
        return name

    def layer(self, source: str, name: str, generator: Generator, sizes: tuple[int, int], bits: int) -> str:
        weights = generator.normal(0, 0.4, size=(sizes[1], sizes[0]))
        scale = float(np.abs(weights).max()) / (2 ** (bits - 1) - 1)
        quantized = self.quant(self.constant(f"{name}.weight", weights), f"{name}.quant", scale, bits, signed=True)
        bias = self.constant(f"{name}.bias", generator.normal(0, 0.3, size=sizes[1]))
        self.nodes.append(helper.make_node("Gemm", [source, quantized, bias], [name], name=name, transB=1))
        return name

    def model(self, output: str, sizes: tuple[int, int]) -> onnx.ModelProto:
        sides = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
            for name, size in zip(("input", output), sizes, strict=True)
        ]
        tensors = [numpy_helper.from_array(values, name) for name, values in self.constants.items()]
        graph = helper.make_graph(self.nodes, "net", sides[:1], sides[1:], tensors)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(QONNX, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def network(generator: Generator, bits: int, widths: Sequence[int]) -> onnx.ModelProto:
    """Return a perceptron of *bits* bits and free scales, with a residual sum of two scales before the last layer."""
    file = _File()
    tensor = file.quant("input", "q0", float(generator.uniform(0.01, 0.05)), 8, signed=True)
    for layer in range(2):
        tensor = file.layer(tensor, f"fc{layer}", generator, (widths[layer], widths[layer + 1]), bits)
        file.nodes.append(helper.make_node("Relu", [tensor], [f"relu{layer}"], name=f"relu{layer}"))
        tensor = file.quant(
            f"relu{layer}", f"q{layer + 1}", float(generator.uniform(0.5, 2)) / 2**bits, bits, signed=False
        )
    branch = file.layer(tensor, "fc2", generator, (widths[2], widths[3]), bits)
    branch = file.quant(branch, "q3", float(generator.uniform(0.5, 2)) / 2**bits, bits, signed=True)
    file.nodes.append(helper.make_node("Add", [tensor, branch], ["sum"], name="sum"))
    tensor = file.quant("sum", "q4", float(generator.uniform(1, 3)) / 2**bits, bits, signed=True)
    return file.model(file.layer(tensor, "fc3", generator, (widths[3], widths[4]), bits), (widths[0], widths[4]))


def _constant(model: onnx.ModelProto, name: str) -> tuple[onnx.TensorProto, Floats]:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    return tensor, numpy_helper.to_array(tensor).copy()


def _change(model: onnx.ModelProto, name: str, change: Callable[[Floats], None]) -> None:
    tensor, values = _constant(model, name)
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def wrong_weight(model: onnx.ModelProto, generator: Generator) -> None:
    """Move one weight to the next code."""
    layer = generator.integers(4)
    _, scale = _constant(model, f"fc{layer}.quant.scale")

    def change(weights: Floats) -> None:
        at = tuple(generator.integers(size) for size in weights.shape)
        weights[at] -= np.sign(weights[at]) * scale

    _change(model, f"fc{layer}.weight", change)


def moved_threshold(model: onnx.ModelProto, generator: Generator) -> None:
    """Move all thresholds of one channel by one accumulator: its bias by the unit of its sum."""
    layer = int(generator.integers(3))
    units = [float(_constant(model, name)[1]) for name in (f"q{layer}.scale", f"fc{layer}.quant.scale")]

    def change(biases: Floats) -> None:
        biases[generator.integers(len(biases))] += generator.choice([-1, 1]) * units[0] * units[1]

    _change(model, f"fc{layer}.bias", change)


def swapped_channels(model: onnx.ModelProto, generator: Generator) -> None:
    """Swap the weights of two outputs of a layer."""
    layer = generator.integers(4)

    def change(weights: Floats) -> None:
        one, two = generator.choice(len(weights), size=2, replace=False)
        weights[[one, two]] = weights[[two, one]]

    _change(model, f"fc{layer}.weight", change)


def wrong_rounding(model: onnx.ModelProto, generator: Generator) -> None:
    """Let one activation round by another rule."""
    name = f"q{generator.integers(1, 5)}"
    node = next(node for node in model.graph.node if node.name == name)
    mode = next(attribute for attribute in node.attribute if attribute.name == "rounding_mode")
    mode.s = str(generator.choice(ROUNDINGS)).encode()


FAULTS = (wrong_weight, moved_threshold, swapped_channels, wrong_rounding)


@dataclass(frozen=True, slots=True, eq=False)
class Mutant:
    """One mutant: its fault, the integers that it is compared with, what it gave, and what the walk found."""

    fault: str
    lowered: Lowered
    codes: Codes
    observation: Observation
    found: Walk

    @property
    def differs(self) -> bool:
        """It gave another code than the integers somewhere, for whatever reason."""
        outputs = run(self.lowered.model, self.codes)
        return bool(self.found.explained or self.found.unexplained or (outputs != self.observation.codes).any())


def mutants(count: int, seed: int, networks: int = 8) -> Iterator[Mutant]:
    """Yield *count* mutants, faults in turn, of *networks* networks of 2 to 8 bits."""
    generator = np.random.default_rng(seed)
    bits = generator.integers(2, 9, size=networks)
    made = [network(generator, int(each), WIDTHS[number % len(WIDTHS)]) for number, each in enumerate(bits)]
    lowered = [lower_graph(model, Path("mutant"), "mutant") for model in made]
    for number in range(count):
        which, fault = number % networks, FAULTS[number // networks % len(FAULTS)]
        mutant = onnx.ModelProto()
        mutant.CopyFrom(made[which])
        fault(mutant, generator)
        yield observed(fault.__name__, mutant, lowered[which], generator)


def observed(fault: str, file: onnx.ModelProto, lowered: Lowered, generator: Generator) -> Mutant:
    """Run *file* in the place of the one that *lowered* was made from, on random codes."""
    codes = generator.integers(-128, 128, size=(SAMPLES, lowered.model.inputs))
    executor = QonnxExecutor(file, lowered.model, origins_of(lowered))
    observation = executor.observe(codes)
    found = walk(lowered.model, codes, observation, lambda: lowered.activations, precision=executor.precision_bits)
    return Mutant(fault, lowered, codes, observation, found)


def caught(count: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Return by kind of fault how many of *count* mutants gave another code at all, and how many were caught."""
    seen: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for mutant in mutants(count, seed):
        seen[mutant.fault] += mutant.differs
        found[mutant.fault] += mutant.found.first is not None
    return seen, found
