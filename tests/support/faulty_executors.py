"""Executors that are the integer model but for one fault, and random networks whose activations are known exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from bitproof.export.integer import (
    INPUT,
    Activation,
    Chain,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Quantizer,
    Reshape,
    Rounding,
    Threshold,
    Window,
    run,
    thresholds_of,
)
from bitproof.pipeline import Codes, WeightSign

Fault = Callable[[Codes], Codes]
"""From what a layer gives, shape (N, *sample), to what the faulty one gives."""
SCALE = Fraction(1, 8)
CODE_BITS = 4


@dataclass(frozen=True)
class Network:
    """An integer model with the exact activations that its thresholds come from."""

    model: IntegerModel
    activations: Mapping[str, list[Activation]]


def quantizer(rounding: Rounding = Rounding.ROUND, bits: int = CODE_BITS) -> Quantizer:
    return Quantizer(Fraction(1), 0, 0, (1 << bits) - 1, rounding)


def activation_node(
    name: str, product: MatMul | Conv, ranges: tuple[object, ...], scale: Fraction = SCALE
) -> tuple[Threshold, list[Activation]]:
    """A quantized ReLU behind *product*: its boundaries are hit exactly by every eighth accumulator."""
    activations = [Activation(Chain.of(scale).clamped(0, None), quantizer()) for _ in ranges]
    rows = [thresholds_of(a, interval) for a, interval in zip(activations, ranges, strict=True)]  # type: ignore[arg-type]
    kind = IntegerType(CODE_BITS, signed=False)
    flipped = np.zeros(len(rows), dtype=np.bool_)
    return Threshold(name, np.array(rows, dtype=np.int64), kind, 0, flipped), activations


def window(kernel: int, padding: int, stride: int = 1) -> Window:
    return Window((kernel, kernel), (stride, stride), (padding, padding), (padding, padding), (1, 1))


def perceptron(seed: int, scale: Fraction = SCALE) -> Network:
    """Three matrix products with two activations between them."""
    generator = np.random.default_rng(seed)
    nodes: list[Node] = []
    exact: dict[str, list[Activation]] = {}
    ranges = IntegerModel(
        "r", IntegerType(4, signed=False), Fraction(1), (12,), (_product("x", generator, (1, 12)),), Fraction(1)
    ).input_ranges
    for layer, (inputs, outputs) in enumerate(((12, 9), (9, 7), (7, 4))):
        product = _product(f"fc{layer}", generator, (outputs, inputs))
        nodes.append(product)
        ranges = product.ranges(ranges * inputs if len(ranges) == 1 else ranges)
        if layer < 2:
            node, exact[f"act{layer}"] = activation_node(f"act{layer}", product, ranges, scale)
            nodes.append(node)
            ranges = node.ranges(ranges)
    model = IntegerModel("perceptron", IntegerType(4, signed=False), Fraction(1), (12,), tuple(nodes), Fraction(1))
    return Network(model, exact)


def convolutional(seed: int) -> Network:
    """Two convolutions, the second grouped, with activations; a pool; the codes flattened; a matrix product."""
    generator = np.random.default_rng(seed)
    weights = generator.integers(-3, 3, size=(4, 2, 3, 3), endpoint=True)
    first = Conv("conv0", weights, IntegerType(3, signed=True), window(3, 1), 1)
    shape, ranges = (
        (2, 6, 6),
        (IntegerModel("r", IntegerType(4, signed=False), Fraction(1), (2, 6, 6), (first,), Fraction(1))).input_ranges,
    )
    ranges = first.ranges(ranges)
    act0, exact0 = activation_node("act0", first, ranges)
    ranges = act0.ranges(ranges)
    weights = generator.integers(-3, 3, size=(6, 2, 3, 3), endpoint=True)
    second = Conv("conv1", weights, IntegerType(3, signed=True), window(3, 1), 2)
    ranges = second.ranges(ranges)
    act1, exact1 = activation_node("act1", second, ranges)
    pool = MaxPool("pool0", Window((2, 2), (2, 2), (0, 0), (0, 0), (1, 1)))
    flat = Reshape("reshape0", (6, 3, 3), (54,))
    last = _product("fc0", generator, (3, 54))
    nodes: tuple[Node, ...] = (first, act0, second, act1, pool, flat, last)
    model = IntegerModel("convolutional", IntegerType(4, signed=False), Fraction(1), shape, nodes, Fraction(1))
    return Network(model, {"act0": exact0, "act1": exact1})


def _product(name: str, generator: np.random.Generator, shape: tuple[int, int]) -> MatMul:
    return MatMul(name, generator.integers(-3, 3, size=shape, endpoint=True), IntegerType(3, signed=True))


def inputs_of(network: Network, samples: int, seed: int = 1) -> Codes:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 15, size=(samples, network.model.inputs), endpoint=True)


@dataclass
class FaultyTracer:
    """The integer model with a fault behind one layer; it shows its layers, but for the *hidden* ones."""

    model: IntegerModel
    layer: str = ""
    fault: Fault | None = None
    hidden: tuple[str, ...] = ()
    name: str = "faulty"

    def __call__(self, codes: Codes) -> Codes:
        return self._values(codes)[self.model.nodes[-1].name].reshape(len(codes), self.model.outputs)

    def trace(self, codes: Codes) -> dict[str, Codes]:
        values = self._values(codes)
        return {name: value for name, value in values.items() if name != INPUT and name not in self.hidden}

    def _values(self, codes: Codes) -> dict[str, Codes]:
        values = {INPUT: codes.reshape(len(codes), *self.model.shape)}
        for node, sources in self.model.wired():
            made = node.apply(*(values[source] for source in sources))
            values[node.name] = self.fault(made) if self.fault is not None and node.name == self.layer else made
        return values


@dataclass
class UnitExecutor:
    """An executor that cannot be traced: *other* is the model that it really holds, *outer* changes its outputs."""

    other: IntegerModel
    outer: Fault | None = None
    weight_sign: WeightSign = "lowered"
    name: str = "units"

    def __call__(self, codes: Codes) -> Codes:
        outputs = run(self.other, codes)
        return outputs if self.outer is None else self.outer(outputs)

    def multiply(self, node: str, codes: Codes) -> Codes:
        return self.other.node(node).apply(codes)

    def requantize(self, node: str, first: int, last: int) -> Codes:
        layer = self.other.node(node)
        assert isinstance(layer, Threshold)
        accumulators = np.arange(first, last + 1, dtype=np.int64)[:, None]
        return layer.apply(np.repeat(accumulators, layer.channels, axis=1))


@dataclass
class OutputsOnly:
    """An executor of which nothing but the outputs is known."""

    other: IntegerModel
    outer: Fault
    name: str = "closed"

    def __call__(self, codes: Codes) -> Codes:
        return self.outer(run(self.other, codes))


def with_node(model: IntegerModel, changed: Node) -> IntegerModel:
    """Return *model* with the node of that name replaced."""
    nodes = tuple(changed if node.name == changed.name else node for node in model.nodes)
    return replace(model, nodes=nodes)


def node_of(model: IntegerModel, name: str) -> Node:
    return next(node for node in model.nodes if node.name == name)


def with_weight(node: MatMul | Conv, index: tuple[int, ...], delta: int) -> MatMul | Conv:
    """Return *node* with *delta* added to one weight."""
    weights = node.weights.copy()
    weights[index] += delta
    return replace(node, weights=weights, weight_type=IntegerType(8, signed=True))
