"""Random QONNX graphs of many operations, drawn by Hypothesis: the structure is drawn and shrinks, numbers are seeded.

All constants are short binary fractions, so that float32 evaluates a graph exactly in any order, and each evaluator
must give the same numbers. With ``exact = False`` batch norms hold square roots: only float64 comes close enough then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx.printer
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from numpy.typing import NDArray
from onnx import TensorProto
from qonnx_files import CUSTOM, QonnxFile

ROUNDINGS = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
Array = NDArray[np.float64]
T = TypeVar("T")
MAX_BITS = 23
"""No integer that a graph computes needs more: float32 would round it."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph, the shape of one of its samples, the bits that its integers take at most, and its unit.

    The unit is a power of two of which every real number is a whole multiple; so float32 is exact within 24 bits.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    unit: float
    quantized: bool


@dataclass(frozen=True, repr=False)
class Graph:
    """A drawn graph: the shape of a sample of its input, and its output tensor."""

    file: QonnxFile
    inputs: tuple[int, ...]
    output: str
    kind: int = TensorProto.FLOAT

    def save(self, folder: Path) -> Path:
        return self.file.save(folder / "net" / "m.onnx", self.inputs, self.output, (-1,), self.kind)

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        printer.text(repr(self))

    def __repr__(self) -> str:
        text: str = onnx.printer.to_text(self.file.proto(self.inputs, self.output, (-1,)).graph)
        return text

    @property
    def operations(self) -> frozenset[str]:
        """The operations that occur."""
        return frozenset(node.op_type for node in self.file.nodes)


@dataclass
class Drawing:
    """Appends drawn nodes to a file; *weight_bits* at most."""

    draw: st.DrawFn
    exact: bool
    weight_bits: int = 8
    file: QonnxFile = field(default_factory=QonnxFile)

    def __post_init__(self) -> None:
        self.numbers = np.random.default_rng(self.draw(st.integers(0, 1 << 16)))

    def choose(self, *options: T) -> T:
        return self.draw(st.sampled_from(options))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def among(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def powers(self, count: int, low: int, high: int) -> Array:
        return np.exp2(self.numbers.integers(low, high, size=count, endpoint=True))

    def column(self, values: Array, axes: int) -> Array:
        return values.reshape(-1, *[1] * axes)

    # Sources and quantizers.
    def input(self, shape: tuple[int, ...]) -> Value:
        """Quantize the graph's input."""
        bits, signed = self.among(1, 8), self.flag()
        if bits == 1 and self.flag():
            return Value(self.file.bipolar("input", 0.5), shape, 2, 0.5, quantized=True)
        zero = 0.0 if self.flag() or (bits == 1 and signed) else float(self.among(-3, 1 << bits))
        narrow = int(bits > 1 and self.flag())
        name = self.file.quant("input", 0.25, bits, signed=int(signed), narrow=narrow, zero=zero)
        return Value(name, shape, bits + 2 * (zero != 0), 0.25, quantized=True)

    def quantized(self, value: Value) -> Value:
        """Append a quantizer of activations of any kind, with a scale of about the numbers' size."""
        channels, axes = value.shape[0], len(value.shape) - 1
        bits, signed = self.among(1, 6), self.flag()
        # The largest number is about 2^(bits - 1) units: random accumulators are smaller by a few bits.
        size = value.unit * 2.0 ** max(value.bits - 4, 1)
        scale = size / 2.0 ** max(bits - 1, 0)
        kind = self.choose(
            "Quant", "Quant", "Quant", "IntQuant", "per channel", "BipolarQuant", "MultiThreshold", "Trunc"
        )
        if kind == "BipolarQuant":
            return self._made(value, self.file.bipolar(value.name, scale), 2, scale)
        if kind == "Trunc":
            return self.truncated(value, bits)
        if kind == "MultiThreshold":
            rows = self.choose(1, channels)
            at = np.round(self.numbers.normal(size=(rows, (1 << min(bits, 4)) - 1)) * size / value.unit)
            inputs = [value.name, self.file.constant(np.sort(at * value.unit, axis=1))]
            layout = {1: "NC", 2: "NCW", 3: "NCHW"}[len(value.shape)]
            options: dict[str, object] = {"out_dtype": "INT8", "out_scale": scale, "data_layout": layout}
            options["out_bias"] = -scale * self.among(0, 4)
            name = self.file.node("MultiThreshold", inputs, options, CUSTOM)
            return self._made(value, name, bits + 3, scale)
        each = kind == "per channel"
        scales = scale * self.powers(channels, -1, 1) if each else scale
        zero = 0.0 if self.flag() else float(self.among(-2, 1 << bits))
        name = self.file.quant(
            value.name,
            self.column(scales, axes) if isinstance(scales, np.ndarray) else scales,
            bits,
            signed=int(signed),
            narrow=int(bits > 1 and self.flag()),
            mode=self.choose(*ROUNDINGS),
            zero=zero,
            op="IntQuant" if kind == "IntQuant" else "Quant",
        )
        return self._made(value, name, bits + 2 + 2 * each, scale / 2 if each else scale)

    def truncated(self, value: Value, bits: int) -> Value:
        """Append Trunc of version 2: two roundings."""
        dropped = self.among(0, max(value.bits - bits, 0))
        zero, output_scale = 2.0**dropped * self.among(-1, 3), value.unit * 2.0**dropped
        constants = [self.file.constant(v) for v in (value.unit, zero, 16.0, output_scale, float(bits))]
        options = {"signed": int(self.flag()), "narrow": int(bits > 1 and self.flag())}
        name = self.file.add(
            "Trunc", [value.name, *constants], CUSTOM, rounding_mode=self.choose(*ROUNDINGS), **options
        )
        return self._made(value, name, bits + 3, output_scale)

    def _made(self, value: Value, name: str, bits: int, unit: float) -> Value:
        return Value(name, value.shape, bits, unit, quantized=True)

    # Weights.
    def weights(self, shape: tuple[int, ...], source: Value) -> tuple[str, int, float]:
        """Append quantized weights; return them, the bits of the sums of products with *source*, and their unit."""
        terms = prod(shape[1:]).bit_length() + 1
        bits = self.among(1, max(1, min(self.weight_bits, MAX_BITS - 6 - source.bits - terms)))
        values = self.numbers.normal(size=shape) * 2.0 ** (bits - 2)
        values[self.numbers.integers(0, shape[0])] *= self.choose(1, 0)
        constant = self.file.constant(np.round(values * 4) / 4)
        each = self.flag()
        scales = self.column(self.powers(shape[0], -1, 1), len(shape) - 1) if each else np.array(0.5)
        if bits == 1 and self.flag():
            return self.file.bipolar(constant, scales), source.bits + terms + 2 * each, 0.5
        mode, signed = self.choose(*ROUNDINGS), int(bits == 1 or self.flag())
        zero = 0.0 if self.flag() or bits == 1 else float(self.among(0, (1 << bits) - 1))
        name = self.file.quant(constant, scales, bits, signed=signed, mode=mode, zero=zero)
        return name, source.bits + terms + bits + 2 * each, 0.5

    def product(self, value: Value) -> Value:
        """Append a matrix product of a vector."""
        (inputs,), outputs = value.shape, self.among(2, 5)
        layout = self.flag()
        weights, bits, unit = self.weights((outputs, inputs), value)
        unit *= value.unit
        if layout:
            name = self.file.add("MatMul", [value.name, self.file.add("Transpose", [weights], perm=[1, 0])])
        else:
            name = self.file.add("Gemm", [value.name, weights, *self.bias(outputs, unit)], transB=1)
        return Value(name, (outputs,), bits + 1, unit / 2, quantized=False)

    def bias(self, outputs: int, unit: float) -> list[str]:
        if self.flag():
            return []
        return [self.file.constant(self.numbers.integers(-8, 8, size=outputs) * unit / self.choose(1, 2))]

    def convolution(self, value: Value, *, keep: bool = False) -> Value:
        """Append a convolution; *keep*: of the same shape."""
        channels, *sizes = value.shape
        dilations = [1 if keep else self.among(1, 2) for _ in sizes]
        kernel = [self.choose(1, 3) if keep else self.among(1, 3) for _ in sizes]
        begin = [(k - 1) // 2 if keep else self.among(0, 2) for k in kernel]
        end = [k // 2 if keep else self.among(0, 2) for k in kernel]
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        for axis, size in enumerate(sizes):
            end[axis] = max(end[axis], spans[axis] - size - begin[axis])
        strides = [1 if keep else self.among(1, 2) for _ in sizes]
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = self.choose(*divisors)
        outputs = channels if keep else groups * self.among(1, 2)
        weights, bits, unit = self.weights((outputs, channels // groups, *kernel), value)
        options = {"pads": begin + end, "strides": strides, "dilations": dilations, "group": groups}
        unit *= value.unit
        name = self.file.node("Conv", [value.name, weights, *self.bias(outputs, unit)], options)
        counts = [
            (n + b + e - span) // s + 1 for n, b, e, span, s in zip(sizes, begin, end, spans, strides, strict=True)
        ]
        return Value(name, (outputs, *counts), bits + 1, unit / 2, quantized=False)

    # What lies between a product and its quantizer.
    def chained(self, value: Value) -> Value:
        """Append up to four nodes that map each number, or pool."""
        if len(value.shape) > 1 and value.bits + 4 <= MAX_BITS and self.flag():
            value = self.pooled(value, "AveragePool")
        for _ in range(self.among(0, 4)):
            value = self.mapped(value) if value.bits + 4 <= MAX_BITS else value
        return value

    def mapped(self, value: Value) -> Value:
        file, axes = self.file, len(value.shape) - 1
        channels = value.shape[0]
        kinds = ["norm", "norm", "Relu", "Neg", "Clip", "Mul", "Add", "Sub", "from", "Identity"]
        kind = self.choose(*kinds, *(["MaxPool"] if axes else []))
        if kind == "norm":
            return self.normalized(value)
        if kind == "MaxPool":
            return self.pooled(value, kind)
        if kind in ("Relu", "Neg", "Identity"):
            return self._mapped(value, file.add(kind, [value.name]), value.bits, value.unit)
        steps = (self.numbers.integers(-20, 20, size=channels) * value.unit * 2.0 ** max(0, value.bits - 8)).astype(
            float
        )
        constant = file.constant(self.column(steps, axes) if self.flag() else steps[0])
        if kind == "Clip":
            low, high = sorted(float(step) for step in (steps[0], -steps[0]))
            bounds = [file.constant(low), file.constant(high)]
            taken = [[value.name, *bounds], [value.name, bounds[0]], [value.name, "", bounds[1]]]
            return self._mapped(value, file.add("Clip", taken[self.among(0, 2)]), value.bits, value.unit)
        if kind == "Mul":
            factors = self.powers(channels, -1, 1) * self.numbers.choice([-1.0, 1.0, 1.0, 0.0], size=channels)
            constant = file.constant(self.column(factors, axes) if self.flag() else factors[0])
            return self._mapped(value, file.add("Mul", [value.name, constant]), value.bits + 2, value.unit / 2)
        inputs = [constant, value.name] if kind == "from" else [value.name, constant]
        return self._mapped(value, file.add("Sub" if kind == "from" else kind, inputs), value.bits + 1, value.unit)

    def _mapped(self, value: Value, name: str, bits: int, unit: float) -> Value:
        return Value(name, value.shape, bits, unit, quantized=False)

    def normalized(self, value: Value) -> Value:
        """Append a batch norm with falling and dead channels."""
        channels = value.shape[0]
        gamma = self.numbers.choice([-1.0, -0.5, 0.5, 1.0, 0.0], size=channels, p=[0.2, 0.2, 0.3, 0.2, 0.1])
        beta, mean = self.numbers.integers(-8, 8, size=(2, channels)) * value.unit * 2.0 ** max(0, value.bits - 8)
        variance = 4.0 ** self.numbers.integers(-1, 1, size=channels, endpoint=True)
        if not self.exact:
            gamma, variance = gamma * self.numbers.uniform(0.3, 1, channels), self.numbers.uniform(0.2, 2, channels)
        name = self.file.batch_norm(value.name, np.stack([gamma, beta, mean, variance]), 0.0 if self.exact else 1e-5)
        return self._mapped(value, name, value.bits + 4, value.unit / 4)

    def pooled(self, value: Value, kind: str) -> Value:
        """Append a pool; the mean is over a power of two, so that float32 is exact."""
        channels, *sizes = value.shape
        most = 3 if kind == "MaxPool" else 2
        kernel = [min(self.among(1, most), size) for size in sizes]
        strides = [self.among(1, 2) for _ in sizes]
        options: dict[str, object] = {"kernel_shape": kernel, "strides": strides}
        begin, end = [0] * len(sizes), [0] * len(sizes)
        if self.flag() and (kind == "MaxPool" or value.quantized):
            begin, end = ([self.among(0, k - 1) for k in kernel] for _ in range(2))
            options |= {"pads": begin + end} | ({} if kind == "MaxPool" else {"count_include_pad": 1})
        counts = [(n + b + e - k) // s + 1 for n, b, e, k, s in zip(sizes, begin, end, kernel, strides, strict=True)]
        name = self.file.node(kind, [value.name], options)
        grown, unit = (value.bits, value.unit) if kind == "MaxPool" else (value.bits + 4, value.unit / prod(kernel))
        return Value(name, (channels, *counts), grown, unit, quantized=False)

    # Blocks.
    def block(self, value: Value) -> Value:
        """Append a product with its quantizer, or branches that join."""
        kind = self.choose("plain", "plain", "residual", "concat", "shared", "pool", "layout", "pad")
        multiply = self.product if len(value.shape) == 1 else self.convolution
        if kind == "residual" and len(value.shape) > 1:
            branch = self.quantized(self.chained_in_place(self.convolution(value, keep=True)))
            name = self.file.add(self.choose("Add", "Sub"), [branch.name, value.name])
            return self.quantized(self.chained(self._joined(name, branch, value)))
        if kind == "shared":
            middle = multiply(value)
            if self.flag():
                middle = self._mapped(middle, self.file.add("Identity", [middle.name]), middle.bits, middle.unit)
            one, two = (self.quantized(self.chained_in_place(middle)) for _ in range(2))
            return self._joined(self.file.add("Add", [one.name, two.name]), one, two)
        if kind == "concat":
            one, two = self.quantized(value), self.quantized(self.chained_in_place(value))
            name = self.file.add("Concat", [one.name, two.name], axis=1)
            shape = (2 * value.shape[0], *value.shape[1:])
            joined = self._joined(name, one, two)
            return self.quantized(multiply(Value(name, shape, joined.bits, joined.unit, quantized=True)))
        if kind == "pool" and len(value.shape) > 1 and self.among(0, 3) == 0:
            return self.pooled_whole(value)
        if kind == "pool" and len(value.shape) > 1:
            return self.pooled(value, self.choose("MaxPool", "AveragePool"))
        if kind == "pad" and len(value.shape) > 1:
            return self.padded(value)
        if kind == "layout" and len(value.shape) == 3:
            return self.laid_out(value)
        return self.quantized(self.chained(multiply(value)))

    def chained_in_place(self, value: Value) -> Value:
        return self.normalized(value) if self.flag() else self._mapped(value, value.name, value.bits, value.unit)

    def _joined(self, name: str, one: Value, two: Value) -> Value:
        unit = min(one.unit, two.unit)
        bits = 1 + max(v.bits + round(np.log2(v.unit / unit)) for v in (one, two))
        return Value(name, one.shape, bits, unit, quantized=True)

    def laid_out(self, value: Value) -> Value:
        """Append nodes that move the axes there and back, with a map of the channels in between."""
        file = self.file
        last = file.add("Transpose", [value.name], perm=[0, 2, 3, 1])
        factors = self.powers(value.shape[0], -1, 0) * self.numbers.choice([-1, 1], size=value.shape[0])
        scaled = file.add("Mul", [last, file.constant(factors)])
        name = file.add("Transpose", [scaled], perm=[0, 3, 1, 2])
        return Value(name, value.shape, value.bits + 1, value.unit / 2, quantized=True)

    def padded(self, value: Value) -> Value:
        """Append zeros around the spatial axes."""
        begin, end = ([self.among(0, 2) for _ in value.shape[1:]] for _ in range(2))
        pads = self.file.integers(0, 0, *begin, 0, 0, *end)
        name = self.file.add("Pad", [value.name, pads, self.file.constant(0.0)])
        sizes = (size + b + e for size, b, e in zip(value.shape[1:], begin, end, strict=True))
        shape = (value.shape[0], *sizes)
        return Value(name, shape, value.bits, value.unit, quantized=True)

    def pooled_whole(self, value: Value) -> Value:
        """Append a pool over all spatial axes."""
        name = self.file.add("GlobalMaxPool", [value.name])
        shape = (value.shape[0], *(1 for _ in value.shape[1:]))
        return Value(name, shape, value.bits, value.unit, quantized=value.quantized)

    def flattened(self, value: Value) -> Value:
        if len(value.shape) == 1:
            return value
        name = self.file.add("Flatten", [value.name])
        return Value(name, (prod(value.shape),), value.bits, value.unit, quantized=True)


@st.composite
def graphs(draw: st.DrawFn, *, exact: bool = True) -> Graph:
    """Draw a graph of up to three blocks on a vector, a line or an image, with a head or without."""
    drawing = Drawing(draw, exact)
    shape = draw(st.sampled_from([(4,), (6,), (2, 5), (3, 7), (2, 4, 4), (3, 3, 5), (4, 5, 4)]))
    value = drawing.input(shape)
    for _ in range(drawing.among(1, 3)):
        value = drawing.block(value)
    bare = not {"Conv", "Gemm", "MatMul"} & {node.op_type for node in drawing.file.nodes}
    if bare or drawing.flag():
        value = drawing.product(drawing.flattened(value))
        if drawing.flag():
            value = drawing.quantized(drawing.chained(value))
        if drawing.among(0, 3) == 0:
            index = drawing.file.add("ArgMax", [value.name], axis=1, keepdims=1)
            return Graph(drawing.file, shape, index, TensorProto.INT64)
    return Graph(drawing.file, shape, value.name)


@st.composite
def perceptrons(draw: st.DrawFn) -> Graph:
    """Draw a chain of products and unsigned quantizers on an unsigned input, which every target takes."""
    drawing = Drawing(draw, exact=True, weight_bits=6)
    value = Value(drawing.file.quant("input", 0.25, drawing.among(1, 8), signed=0), (6,), 8, 0.25, quantized=True)
    for _ in range(drawing.among(1, 3)):
        middle = drawing.chained(drawing.product(value))
        bits = drawing.among(1, 5)
        scale = middle.unit * 2.0 ** max(middle.bits - 4 - bits, 0)
        name = drawing.file.quant(middle.name, scale, bits, signed=0, mode=drawing.choose(*ROUNDINGS))
        value = Value(name, middle.shape, bits + 1, scale, quantized=True)
    return Graph(drawing.file, (6,), value.name)
