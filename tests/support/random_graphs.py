"""Random QONNX graphs of every operation, drawn by Hypothesis: the structure is drawn and shrinks, numbers are seeded.

All constants are short binary fractions, so that float32 evaluates a graph exactly in any order, and each evaluator
must give the same numbers. With ``exact = False`` batch norms hold square roots: only float64 comes close enough then.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx.printer
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from onnx import TensorProto
from qonnx_files import CUSTOM, QonnxFile
from random_drawing import ROUNDINGS, Value
from random_layers import Layers

NEAREST = (
    {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"},
    {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
)
"""Ways of Resize to find the nearest element that repeat each."""
MAX_BLOCK_BITS = 10
"""A block takes numbers of so many bits at most: more are quantized first, so that its sums stay exact in float32."""


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


class Blocks(Layers):
    """Appends blocks: layers with their quantizers, branches, and nodes that move numbers."""

    def block(self, value: Value) -> Value:
        """Append a product with its quantizer, branches that join, a pool, or nodes that move numbers."""
        value = self.quantized(value) if value.bits > MAX_BLOCK_BITS else value
        kinds = ["plain", "plain", "shared", "concat", "shape"]
        spatial = ["residual", "pool", "mean", "pad", "resize", "layout", "permute", "sequence"]
        planar = ["shifted sum"] if len(value.shape) == 3 else []
        kind = self.choose(*kinds, *(spatial if len(value.shape) > 1 else []), *planar)
        if kind == "plain":
            return self.quantized(self.chained(self.multiplied(value)))
        blocks = {
            "shared": self.shared,
            "concat": self.joined,
            "shape": self.reshaped,
            "residual": self.residual,
            "pool": self.pooled,
            "mean": self.averaged_whole,
            "shifted sum": self.shifted_sum,
            "pad": self.padded,
            "resize": self.upsampled,
            "layout": self.laid_out,
            "permute": self.permuted,
            "sequence": self.along_sequence,
        }
        return blocks[kind](value)

    def multiplied(self, value: Value) -> Value:
        """Append a matrix product or a convolution."""
        return self.product(value) if len(value.shape) == 1 else self.convolution(value)

    # Branches.
    def residual(self, value: Value) -> Value:
        branch = self.quantized(self._perhaps_normalized(self.convolution(value, keep=True)))
        name = self.file.add(self.choose("Add", "Sub"), [branch.name, value.name])
        return self.quantized(self.chained(self._joined(name, branch, value)))

    def shared(self, value: Value) -> Value:
        """Append two quantizers of one product, and their sum."""
        middle = self.multiplied(value)
        if self.flag():
            middle = self.same(
                middle, self.file.add(self.choose("Dropout", "Identity"), [middle.name]), middle.bits, middle.unit
            )
        one, two = (self.quantized(self._perhaps_normalized(middle)) for _ in range(2))
        return self._joined(self.file.add("Add", [one.name, two.name]), one, two)

    def joined(self, value: Value) -> Value:
        """Append two quantizers of one value, their Concat, and a product."""
        one, two = self.quantized(value), self.quantized(self._perhaps_normalized(value))
        joined = self._joined(self.file.add("Concat", [one.name, two.name], axis=1), one, two)
        shape = (2 * value.shape[0], *value.shape[1:])
        wide = Value(joined.name, shape, joined.bits, joined.unit, quantized=True)
        return self.quantized(self.multiplied(wide))

    def _perhaps_normalized(self, value: Value) -> Value:
        return self.normalized(value) if self.flag() else self.same(value, value.name, value.bits, value.unit)

    def _joined(self, name: str, one: Value, two: Value) -> Value:
        unit = min(one.unit, two.unit)
        bits = 1 + max(v.bits + round(np.log2(v.unit / unit)) for v in (one, two))
        return Value(name, one.shape, bits, unit, quantized=True)

    # Pools and padding.
    def pooled(self, value: Value) -> Value:
        """Append a pool of windows or of all that is spatial."""
        return self.choose(self.largest, self.average, self.largest_whole)(value)

    def padded(self, value: Value) -> Value:
        """Append zeros around the spatial axes, all of them named or some."""
        axes = list(range(2, len(value.shape) + 1))
        begin, end = ([self.among(0, 2) for _ in axes] for _ in range(2))
        zero = self.file.constant(0.0)
        if self.flag():
            inputs = [self.file.integers(*begin, *end), zero, self.file.integers(*axes)]
        else:
            inputs = [self.file.integers(0, 0, *begin, 0, 0, *end), *([zero] if self.flag() else [])]
        sizes = (size + b + e for size, b, e in zip(value.shape[1:], begin, end, strict=True))
        name = self.file.add("Pad", [value.name, *inputs])
        return Value(name, (value.shape[0], *sizes), value.bits, value.unit, quantized=True)

    def upsampled(self, value: Value) -> Value:
        """Append a Resize by whole factors."""
        factors = [self.among(1, 2) for _ in value.shape[1:]]
        inputs = [value.name, "", self.file.constant([1.0, 1.0, *map(float, factors)])]
        name = self.file.node("Resize", inputs, {**self.choose(*NEAREST), "mode": "nearest"})
        sizes = (size * factor for size, factor in zip(value.shape[1:], factors, strict=True))
        return Value(name, (value.shape[0], *sizes), value.bits, value.unit, quantized=True)

    # Nodes that move numbers.
    def laid_out(self, value: Value) -> Value:
        """Append nodes that move the channels to the end and back, with maps of the channels in between."""
        file, axes = self.file, len(value.shape)
        last = file.add("Transpose", [value.name], perm=[0, *range(2, axes + 1), 1])
        factors = self.powers(value.shape[0], -1, 0) * self.numbers.choice([-1, 1], size=value.shape[0])
        name, bits, unit = file.add("Mul", [last, file.constant(factors)]), value.bits + 1, value.unit / 2
        if self.flag():
            at = np.sort(np.round(self.numbers.normal(size=(value.shape[0], 3)) * 2.0 ** max(bits - 4, 1)), axis=1)
            options = {"out_dtype": "INT8", "data_layout": {2: "NWC", 3: "NHWC"}[axes], "out_bias": -1.0}
            inputs = [name, file.constant(at * unit)]
            name, bits, unit = file.node("MultiThreshold", inputs, options, CUSTOM), 4, 1.0
        name = file.add("Transpose", [name], perm=[0, axes, *range(1, axes)])
        return Value(name, value.shape, bits, unit, quantized=True)

    def along_sequence(self, value: Value) -> Value:
        """Append a MatMul by the last axis: of the channels, moved there, or of the places in their stead."""
        file, axes = self.file, len(value.shape)
        if self.flag():
            turned, name = [0, *range(2, axes + 1), 1], value.name
            value = self._moved(value, file.add("Transpose", [name], perm=turned), (*value.shape[1:], value.shape[0]))
            back = [0, axes, *range(1, axes)]
        else:
            value, back = self.uniform(value), list(range(axes + 1))
        outputs = self.among(2, 5)
        weights, bits, unit = self.weights((outputs, value.shape[-1]), value)
        name = file.add("MatMul", [value.name, file.add("Transpose", [weights], perm=[1, 0])])
        unit *= value.unit
        if self.flag():
            name = file.add("Add", [name, file.constant(self.numbers.integers(-8, 8, size=outputs) * unit / 2)])
        codes = self.uniform(Value(name, (*value.shape[:-1], outputs), bits + 1, unit / 2, quantized=False))
        name = file.add("Transpose", [codes.name], perm=back)
        moved = self._moved(codes, name, tuple(codes.shape[axis - 1] for axis in back[1:]))
        return moved if back[1] == axes else self.quantized(self.convolution(moved))

    def permuted(self, value: Value) -> Value:
        """Append a Transpose to other channels, and a convolution of them: constants follow the channels of a sum."""
        codes = self.uniform(value)
        order = self.draw(st.permutations(range(len(codes.shape))))
        name = self.file.add("Transpose", [codes.name], perm=[0, *(1 + axis for axis in order)])
        moved = self._moved(codes, name, tuple(codes.shape[axis] for axis in order))
        return self.quantized(self.convolution(moved))

    def reshaped(self, value: Value) -> Value:
        """Append a Squeeze, an Unsqueeze or a Reshape."""
        rank = len(value.shape) + 1
        ones = [axis for axis in range(2, rank) if value.shape[axis - 1] == 1]
        if ones and self.flag():
            axis = self.choose(*ones)
            name = self.file.add("Squeeze", [value.name, self.file.integers(self.choose(axis, axis - rank))])
            return self._moved(value, name, value.shape[: axis - 1] + value.shape[axis:])
        if rank < 4 and self.flag():
            axis = self.among(2, rank)
            name = self.file.add("Unsqueeze", [value.name, self.file.integers(self.choose(axis, axis - rank - 1))])
            return self._moved(value, name, (*value.shape[: axis - 1], 1, *value.shape[axis - 1 :]))
        return self._reshaped(value)

    def _reshaped(self, value: Value) -> Value:
        channels, rest = value.shape[0], prod(value.shape[1:])
        numbers = channels * rest
        kinds = {(0, -1): (numbers,), (-1, numbers): (numbers,), (0, 0, -1): (channels, rest)}
        kinds |= {(0, channels, 1, rest): (channels, 1, rest), (0, -1, rest): (channels, rest)}
        if len(value.shape) == 3:
            kinds[0, -1, value.shape[2]] = (channels * value.shape[1], value.shape[2])
        if numbers % 2 == 0:
            kinds[-1, 2, numbers // 2] = (2, numbers // 2)
        wanted = self.choose(*kinds)
        value = self.uniform(value) if kinds[wanted][0] < channels else value
        name = self.file.add("Reshape", [value.name, self.file.integers(*wanted)])
        return self._moved(value, name, kinds[wanted])

    def _moved(self, value: Value, name: str, shape: tuple[int, ...]) -> Value:
        return Value(name, shape, value.bits, value.unit, quantized=value.quantized)

    def flattened(self, value: Value) -> Value:
        if len(value.shape) == 1:
            return value
        name = self.file.add("Flatten", [value.name], axis=self.choose(1, -len(value.shape)))
        return self._moved(value, name, (prod(value.shape),))

    def headed(self, value: Value) -> Graph:
        """End the graph: with the numbers, the indices of the largest, or a function that keeps their order."""
        file, vector = self.file, len(value.shape) == 1
        kind = self.choose("none", "none", "Sigmoid", "Tanh", *(["Softmax", "LogSoftmax", "ArgMax", "TopK"] * vector))
        if kind == "none":
            return Graph(file, self.inputs, value.name)
        if kind == "TopK":
            count = file.integers(self.among(1, value.shape[0]))
            index = file.add(kind, [value.name, count], outputs=2, axis=self.choose(1, -1))
            return Graph(file, self.inputs, index, TensorProto.INT64)
        if kind == "ArgMax":
            index = file.add(kind, [value.name], axis=1, keepdims=int(self.flag()))
            return Graph(file, self.inputs, index, TensorProto.INT64)
        options: dict[str, object] = {"axis": self.choose(1, -1)} if kind.endswith("Softmax") else {}
        return Graph(file, self.inputs, file.node(kind, [value.name], options))


@st.composite
def graphs(draw: st.DrawFn, *, exact: bool = True) -> Graph:
    """Draw a graph of up to three blocks on a vector, a line or an image, with a head or without."""
    drawing = Blocks(draw, exact)
    drawing.file.trunc_version = drawing.choose(2, 1)
    value = drawing.input(draw(st.sampled_from([(4,), (6,), (2, 5), (3, 7), (2, 4, 4), (3, 3, 5), (4, 5, 4)])))
    for _ in range(drawing.among(1, 3)):
        value = drawing.block(value)
    bare = not {"Conv", "Gemm", "MatMul"} & {node.op_type for node in drawing.file.nodes}
    if bare or drawing.flag():
        value = drawing.quantized(value) if value.bits > MAX_BLOCK_BITS else value
        value = drawing.product(drawing.flattened(value))
        if drawing.flag():
            value = drawing.quantized(drawing.chained(value))
    return drawing.headed(value)


@st.composite
def perceptrons(draw: st.DrawFn) -> Graph:
    """Draw a chain of products and unsigned quantizers on an unsigned input, which every target takes."""
    drawing = Layers(draw, exact=True, weight_bits=6)
    value = Value(drawing.file.quant("input", 0.25, drawing.among(1, 8), signed=0), (6,), 8, 0.25, quantized=True)
    for _ in range(drawing.among(1, 3)):
        middle = drawing.chained(drawing.product(value))
        bits = drawing.among(1, 5)
        scale = middle.unit * 2.0 ** max(middle.bits - 4 - bits, 0)
        name = drawing.file.quant(middle.name, scale, bits, signed=0, mode=drawing.choose(*ROUNDINGS))
        value = Value(name, middle.shape, bits + 1, scale, quantized=True)
    return Graph(drawing.file, (6,), value.name)


SEARCH = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
"""How tests search random graphs: the same ones in every run, as long as it takes."""
