"""What random graphs are drawn with: tensors that know how many bits they need, random numbers, quantizers, weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from qonnx_files import CUSTOM, QonnxFile

ROUNDINGS = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
Array = NDArray[np.float64]
T = TypeVar("T")
MAX_EXACT_BITS = 23
"""No integer that a graph computes needs more: float32 would round it."""
MAX_QUANTIZED_BITS = 7
"""Trunc of version 1 has no limits of its own: so few bits are left that their codes stay within 8."""


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
    curve: bool = False
    """It comes from a function that is no affine map."""


@dataclass
class Drawing:
    """Appends drawn nodes to a file; *weight_bits* at most.

    Attributes:
        inputs: the shape of one sample of the file's input, once it is drawn.
    """

    draw: st.DrawFn
    exact: bool
    weight_bits: int = 8
    file: QonnxFile = field(default_factory=QonnxFile)
    inputs: tuple[int, ...] = ()

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

    # The input.
    def input(self, shape: tuple[int, ...]) -> Value:
        """Quantize the graph's input, perhaps behind the Reshape that gives its samples *shape*."""
        self.inputs, source = shape, "input"
        if len(shape) > 1 and self.among(0, 3) == 0:
            self.inputs = (prod(shape),)
            source = self.file.add("Reshape", [source, self.file.integers(self.choose(0, -1), *shape)])
        bits, signed = self.among(1, 8), self.flag()
        if bits == 1 and self.flag():
            return Value(self.file.bipolar(source, 0.5), shape, 2, 0.5, quantized=True)
        zero = 0.0 if self.flag() or (bits == 1 and signed) else float(self.among(-3, 1 << bits))
        narrow = int(bits > 1 and self.flag())
        name = self.file.quant(source, 0.25, bits, signed=int(signed), narrow=narrow, zero=zero)
        return Value(name, shape, bits + 2 * (zero != 0), 0.25, quantized=True)

    # Quantizers of activations.
    def quantized(self, value: Value) -> Value:
        """Append a quantizer of activations of any kind, with a scale of about the numbers' size."""
        kinds = [
            "Quant",
            "Quant",
            "Quant",
            "IntQuant",
            "per channel",
            "BipolarQuant",
            "MultiThreshold",
            *(() if value.curve else ("Trunc",)),  # it is refused behind a curve
            "linear",
        ]
        kind, bits = self.choose(*kinds), self.among(1, 6)
        scale = self._size(value) / 2.0 ** (bits - 1)
        if kind == "BipolarQuant":
            return self._made(value, self.file.bipolar(value.name, scale), 2, scale)
        if kind == "Trunc" and self.file.trunc_version == 1:
            return self._truncated_unlimited(value)
        if kind == "Trunc":
            return self._truncated(value, bits)
        if kind == "MultiThreshold":
            return self._counted(value, bits, scale)
        if kind == "linear":
            return self._linear(value, bits, scale)
        return self._rounded(value, bits, scale, kind)

    def _size(self, value: Value) -> float:
        # The largest number is about 2^(bits - 1) units: random accumulators are smaller by a few bits.
        return value.unit * 2.0 ** max(value.bits - 4, 1)

    def _rounded(self, value: Value, bits: int, scale: float, kind: str) -> Value:
        each, axes = kind == "per channel", len(value.shape) - 1
        scales = self.column(scale * self.powers(value.shape[0], -1, 1), axes) if each else scale
        name = self.file.quant(
            value.name,
            scales,
            bits,
            signed=int(self.flag()),
            narrow=int(bits > 1 and self.flag()),
            mode=self.choose(*ROUNDINGS),
            zero=0.0 if self.flag() else float(self.among(-2, 1 << bits)),
            op="IntQuant" if kind == "IntQuant" else "Quant",
        )
        return self._made(value, name, bits + 2 + 2 * each, scale / 2 if each else scale)

    def _linear(self, value: Value, bits: int, scale: float) -> Value:
        """Append QuantizeLinear to uint8 or int8, a Clip to fewer codes, and DequantizeLinear."""
        kind: type[np.uint8 | np.int8] = np.uint8 if self.flag() else np.int8
        limits = np.iinfo(kind)
        zero = self.among(int(limits.min), int(limits.max))
        low = min(max(int(limits.min), zero - self.among(0, 1 << bits)), int(limits.max) - 1)
        ends = (low, min(int(limits.max), low + (1 << bits)))
        return self._made(value, self.file.linear(value.name, scale, zero, kind, ends=ends), bits + 2, scale)

    def uniform(self, value: Value) -> Value:
        """Append a quantizer of one scale: what moves numbers between channels needs one."""
        bits = self.among(2, 5)
        return self._rounded(value, bits, self._size(value) / 2.0 ** (bits - 1), "Quant")

    def _counted(self, value: Value, bits: int, scale: float) -> Value:
        rows = self.choose(1, value.shape[0])
        size = self._size(value) / value.unit
        at = np.round(self.numbers.normal(size=(rows, (1 << min(bits, 4)) - 1)) * size)
        inputs = [value.name, self.file.constant(np.sort(at * value.unit, axis=1))]
        layout = {1: "NC", 2: "NCW", 3: "NCHW"}[len(value.shape)]
        options: dict[str, object] = {"out_dtype": "INT8", "out_scale": scale, "data_layout": layout}
        options["out_bias"] = -scale * self.among(0, 4)
        return self._made(value, self.file.node("MultiThreshold", inputs, options, CUSTOM), bits + 3, scale)

    def _truncated(self, value: Value, bits: int) -> Value:
        """Append Trunc of version 2: two roundings."""
        scale = value.unit * self.choose(1, 2)
        dropped = self.among(0, max(value.bits - bits, 0))
        zero, output_scale = 2.0**dropped * self.among(-1, 3), scale * 2.0**dropped
        constants = [self.file.constant(v) for v in (scale, zero, 16.0, output_scale, float(bits))]
        options = {"signed": int(self.flag()), "narrow": int(bits > 1 and self.flag())}
        mode = self.choose(*ROUNDINGS)
        name = self.file.add("Trunc", [value.name, *constants], CUSTOM, rounding_mode=mode, **options)
        return self._made(value, name, bits + 3, output_scale)

    def _truncated_unlimited(self, value: Value) -> Value:
        """Append Trunc of version 1: it drops bits and has no limits, so the codes are as many as the numbers give."""
        dropped = max(value.bits - self.among(2, MAX_QUANTIZED_BITS), 0)
        zero = float(self.among(-2, 3))
        constants = [self.file.constant(v) for v in (value.unit, zero, 8.0 + dropped, 8.0)]
        name = self.file.add("Trunc", [value.name, *constants], CUSTOM, rounding_mode=self.choose(*ROUNDINGS))
        return self._made(value, name, value.bits - dropped + 3, value.unit)

    def _made(self, value: Value, name: str, bits: int, unit: float) -> Value:
        return Value(name, value.shape, bits, unit, quantized=True)

    # Weights.
    def weights(self, shape: tuple[int, ...], source: Value) -> tuple[str, int, float]:
        """Append quantized weights; return them, the bits of the sums of products with *source*, and their unit."""
        terms = prod(shape[1:]).bit_length() + 1
        bits = self.among(1, max(1, min(self.weight_bits, MAX_EXACT_BITS - 6 - source.bits - terms)))
        values = self.numbers.normal(size=shape) * 2.0 ** (bits - 2)
        values[self.numbers.integers(0, shape[0])] *= self.choose(1, 0)
        if self.among(0, 7) == 0:  # no quantizer: whole multiples of one number
            largest = 2 ** (bits - 1)
            return self.file.constant(np.clip(np.round(values), -largest, largest) / 2), source.bits + terms + bits, 0.5
        constant, each = self.file.constant(np.round(values * 4) / 4), self.flag()
        scales = self.column(self.powers(shape[0], -1, 1), len(shape) - 1) if each else np.array(0.5)
        if bits == 1 and self.flag():
            return self.file.bipolar(constant, scales), source.bits + terms + 2 * each, 0.5
        mode, signed = self.choose(*ROUNDINGS), int(bits == 1 or self.flag())
        zeros = self._weight_zeros(bits, len(shape), shape[0])
        name = self.file.quant(constant, scales, bits, signed=signed, mode=mode, zero=zeros)
        factor = self.choose(1.0, 1.0, 1.0, 0.5, 2.0)
        if factor != 1:
            name = self.file.add(self.choose("Mul", "Div"), [name, self.file.constant(factor)])
        return name, source.bits + terms + bits + 2 * each + 2 * (factor != 1), 0.5 / max(factor, 1 / factor)

    def _weight_zeros(self, bits: int, axes: int, outputs: int) -> Array | float:
        if self.flag() or bits == 1:
            return 0.0
        zeros = self.numbers.integers(0, 1 << bits, size=outputs).astype(float)
        return self.column(zeros, axes - 1) if self.flag() else float(zeros[0])
