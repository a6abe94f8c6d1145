"""Random layers: products, convolutions, pools, and the nodes between them and their quantizers."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from qonnx_files import CUSTOM
from random_drawing import MAX_EXACT_BITS, Drawing, Value

Options = dict[str, object]


class Layers(Drawing):
    """Appends layers; each method takes a tensor and returns the one that it made."""

    # Products.
    def product(self, value: Value) -> Value:
        """Append a matrix product of a vector."""
        (inputs,), outputs = value.shape, self.among(2, 5)
        kind = self.choose("MatMul", "Gemm", "Gemm turned")
        weights, bits, unit = self.weights((outputs, inputs), value)
        unit *= value.unit
        if kind != "Gemm turned":
            weights = self.file.add("Transpose", [weights], perm=[1, 0])
        if kind == "MatMul":
            name = self.file.add("MatMul", [value.name, weights])
        else:
            options: Options = {"transB": 1} if kind == "Gemm turned" else {}
            name = self.file.node("Gemm", [value.name, weights, *self._bias(outputs, unit)], options)
        return Value(name, (outputs,), bits + 1, unit / 2, quantized=False)

    def _bias(self, outputs: int, unit: float) -> list[str]:
        if self.flag():
            return []
        return [self.file.constant(self.numbers.integers(-8, 8, size=outputs) * unit / self.choose(1, 2))]

    def convolution(self, value: Value, *, keep: bool = False) -> Value:
        """Append a convolution; *keep*: of the same shape."""
        channels, *sizes = value.shape
        kernel = [self.choose(1, 3) if keep else self.among(1, 3) for _ in sizes]
        if keep:
            options: Options = {"pads": [(k - 1) // 2 for k in kernel] + [k // 2 for k in kernel]}
            counts = sizes
        else:
            options, counts = self._window(sizes, kernel, [self.among(1, 2) for _ in sizes], [2] * len(sizes))
        groups = self.choose(*(g for g in range(1, channels + 1) if channels % g == 0))
        outputs = channels if keep else groups * self.among(1, 2)
        weights, bits, unit = self.weights((outputs, channels // groups, *kernel), value)
        unit *= value.unit
        inputs = [value.name, weights, *self._bias(outputs, unit)]
        name = self.file.node("Conv", inputs, {**options, "group": groups})
        return Value(name, (outputs, *counts), bits + 1, unit / 2, quantized=False)

    def _window(
        self, sizes: list[int], kernel: list[int], dilations: list[int], most_pads: list[int]
    ) -> tuple[Options, list[int]]:
        """Draw strides and pads of a window; return its attributes and how often it lies on each of *sizes*."""
        strides = [self.among(1, 2) for _ in sizes]
        auto = self.choose("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
        along = list(zip(sizes, kernel, strides, strict=True))
        if auto.startswith("SAME") and all((-(-n // s) - 1) * s + k >= n for n, k, s in along):
            return {"strides": strides, "auto_pad": auto}, [-(-n // s) for n, _, s in along]
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        options: Options = {"strides": strides, "dilations": dilations}
        if auto == "VALID" and all(n >= span for n, span in zip(sizes, spans, strict=True)):
            counts = [(n - span) // s + 1 for n, span, s in zip(sizes, spans, strides, strict=True)]
            return {**options, "auto_pad": auto}, counts
        begin, end = ([self.among(0, most) for most in most_pads] for _ in range(2))
        for axis, size in enumerate(sizes):
            end[axis] = max(end[axis], spans[axis] - size - begin[axis])
        each = zip(sizes, begin, end, spans, strides, strict=True)
        return {**options, "pads": begin + end}, [(n + b + e - span) // s + 1 for n, b, e, span, s in each]

    # What lies between a product and its quantizer.
    def chained(self, value: Value) -> Value:
        """Append up to four nodes that map each number, or pool."""
        if len(value.shape) > 1 and value.bits + 4 <= MAX_EXACT_BITS and self.flag():
            value = self.average(value) if self.flag() else self.averaged_whole(value)
        for _ in range(self.among(0, 4)):
            value = self.mapped(value) if value.bits + 4 <= MAX_EXACT_BITS else value
        if value.bits + 4 <= MAX_EXACT_BITS and self.among(0, 3) == 0:
            return replace(self.curved(value), curve=True)
        return value

    def curved(self, value: Value) -> Value:
        """Append a function that never falls and is no affine map; powers of two keep float32 exact."""
        kind = self.choose("PRelu", "PRelu", "LeakyRelu", "HardSigmoid", "Sign")
        if kind == "LeakyRelu":
            name = self.file.add(kind, [value.name], alpha=self.choose(0.25, 0.5))
        elif kind == "PRelu":
            slopes = self.numbers.choice([0.0, 0.25, 0.5, 1.0], size=value.shape[0])
            name = self.file.add(kind, [value.name, self.file.constant(self.column(slopes, len(value.shape) - 1))])
        elif kind == "Sign":
            return self.same(value, self.file.add(kind, [value.name]), 2, 1.0)
        else:
            unit = min(value.unit / 4, 0.5)
            name = self.file.add(kind, [value.name], alpha=0.25, beta=0.5)
            return self.same(value, name, min(value.bits + 4, 2 - int(np.log2(unit))), unit)
        return self.same(value, name, value.bits + 2, value.unit / 4)

    def mapped(self, value: Value) -> Value:
        """Append a node that maps each number."""
        file, axes = self.file, len(value.shape) - 1
        kinds = ["norm", "norm", "Relu", "Neg", "Clip", "Mul", "Div", "Add", "Sub", "from", "Identity", "Dropout"]
        kind = self.choose(*kinds, *(["MaxPool"] if axes else []))
        if kind == "norm":
            return self.normalized(value)
        if kind == "MaxPool":
            return self.largest(value)
        if kind in ("Relu", "Neg", "Identity", "Dropout"):
            return self.same(value, file.add(kind, [value.name]), value.bits, value.unit)
        if kind in ("Mul", "Div"):
            return self.scaled(value, kind)
        whole = self.numbers.integers(-20, 20, size=value.shape[0]).astype(np.float64)
        steps = whole * (value.unit * 2.0 ** max(0, value.bits - 8))
        if kind == "Clip":
            low, high = sorted(float(step) for step in (steps[0], -steps[0]))
            bounds = [file.constant(low), file.constant(high)]
            taken = [[value.name, *bounds], [value.name, bounds[0]], [value.name, "", bounds[1]]]
            return self.same(value, file.add("Clip", taken[self.among(0, 2)]), value.bits, value.unit)
        constant = file.constant(self.column(steps, axes) if self.flag() else float(steps[0]))
        inputs = [constant, value.name] if kind == "from" else [value.name, constant]
        return self.same(value, file.add("Sub" if kind == "from" else kind, inputs), value.bits + 1, value.unit)

    def scaled(self, value: Value, kind: str) -> Value:
        """Append a product with powers of two of both signs and zeros, or a quotient."""
        channels = value.shape[0]
        signs = self.numbers.choice([-1.0, 1.0, 1.0, 0.0 if kind == "Mul" else -1.0], size=channels)
        factors = self.powers(channels, -1, 1) * signs
        constant = self.file.constant(self.column(factors, len(value.shape) - 1) if self.flag() else float(factors[0]))
        inputs = [constant, value.name] if kind == "Mul" and self.flag() else [value.name, constant]
        return self.same(value, self.file.add(kind, inputs), value.bits + 2, value.unit / 2)

    def same(self, value: Value, name: str, bits: int, unit: float) -> Value:
        """Return the tensor *name*, of the shape of *value*."""
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
        return self.same(value, name, value.bits + 4, value.unit / 4)

    # Pools. A mean is over a power of two, so that float32 is exact.
    def largest(self, value: Value) -> Value:
        """Append a MaxPool: padded, dilated or rounded up."""
        channels, *sizes = value.shape
        kernel = [min(self.among(1, 3), size) for size in sizes]
        if self.among(0, 3) == 0:
            options, counts = self._rounded_up(sizes, kernel)
        elif self.flag():
            options, counts = self._window(sizes, kernel, [1] * len(sizes), [k - 1 for k in kernel])
        else:  # a dilated window that lay on padding alone would have no largest number
            dilations = [self.among(1, 2) if 2 * k - 1 <= n else 1 for k, n in zip(kernel, sizes, strict=True)]
            options, counts = self._window(sizes, kernel, dilations, [0] * len(sizes))
        name = self.file.node("MaxPool", [value.name], {**options, "kernel_shape": kernel})
        return Value(name, (channels, *counts), value.bits, value.unit, quantized=value.quantized)

    def _rounded_up(self, sizes: list[int], kernel: list[int]) -> tuple[Options, list[int]]:
        begin, end = ([self.among(0, k - 1) for k in kernel] for _ in range(2))
        strides, counts = [], []
        for n, k, b, e in zip(sizes, kernel, begin, end, strict=True):
            stride = self.among(1, 3)
            if -(-(n + b + e - k) // stride) * stride >= n + b:  # ONNX counts a window that begins in the padding,
                stride = 1  # and runtimes leave it out
            strides.append(stride)
            counts.append(-(-(n + b + e - k) // stride) + 1)
        return {"strides": strides, "pads": begin + end, "ceil_mode": 1}, counts

    def average(self, value: Value) -> Value:
        """Append an AveragePool; padding counts, and is on codes alone."""
        channels, *sizes = value.shape
        kernel = [min(self.among(1, 2), size) for size in sizes]
        if value.quantized:
            options, counts = self._window(sizes, kernel, [1] * len(sizes), [k - 1 for k in kernel])
            options |= {"count_include_pad": 1}
        else:
            strides = [self.among(1, 2) for _ in sizes]
            counts = [(n - k) // s + 1 for n, k, s in zip(sizes, kernel, strides, strict=True)]
            options = {"strides": strides}
        name = self.file.node("AveragePool", [value.name], {**options, "kernel_shape": kernel})
        return Value(name, (channels, *counts), value.bits + 4, value.unit / prod(kernel), quantized=False)

    def averaged_whole(self, value: Value) -> Value:
        """Append a mean over all spatial axes, behind a MaxPool that leaves a power of two of numbers."""
        channels, *sizes = value.shape
        left = [1 << min(size.bit_length() - 1, 2) for size in sizes]
        name = value.name
        if left != sizes:
            kernel = [size - count + 1 for size, count in zip(sizes, left, strict=True)]
            name = self.file.node("MaxPool", [name], {"kernel_shape": kernel})
        shape: tuple[int, ...] = (channels, *(1 for _ in sizes))
        if self.flag():
            name, shape = self._perhaps_squeezed(self.file.add("GlobalAveragePool", [name]), shape)
        else:
            keep, first = self.flag(), self.choose(2, -len(sizes))
            axes = self.file.integers(*range(first, first + len(sizes)))
            name, shape = self.file.add("ReduceMean", [name, axes], keepdims=int(keep)), shape if keep else (channels,)
        return Value(name, shape, value.bits + 4, value.unit / prod(left), quantized=False)

    def largest_whole(self, value: Value) -> Value:
        """Append a GlobalMaxPool."""
        name, shape = self._perhaps_squeezed(
            self.file.add("GlobalMaxPool", [value.name]), (value.shape[0], *(1 for _ in value.shape[1:]))
        )
        return Value(name, shape, value.bits, value.unit, quantized=value.quantized)

    def _perhaps_squeezed(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        if self.flag():
            return name, shape
        first = self.choose(2, 1 - len(shape))
        axes = self.file.integers(*range(first, first + len(shape) - 1))
        return self.file.add("Squeeze", [name, axes]), shape[:1]

    def shifted_sum(self, value: Value) -> Value:
        """Append QuantAvgPool2d, which takes integers: real numbers that are multiples of a whole scale."""
        file, bits, output_bits = self.file, self.among(1, 5), self.among(2, 6)
        scaling = ("Div", value.unit) if self.flag() else ("Mul", 1 / value.unit)
        whole = file.add(scaling[0], [value.name, file.constant(scaling[1])])
        exponent = max(value.bits - 3 - bits, 0)
        signed, mode = int(self.flag()), self.choose(*("FLOOR", "ROUND", "CEIL"))
        codes = file.quant(whole, 2.0**exponent, bits, signed=signed, mode=mode)
        kernel, stride = self.among(1, min(3, *value.shape[1:])), self.among(1, 2)
        options: Options = {"kernel": kernel, "stride": stride, "ibits": bits + exponent, "obits": output_bits}
        name = file.node("QuantAvgPool2d", [codes], {**options, "signed": signed}, CUSTOM)
        counts = ((size - kernel) // stride + 1 for size in value.shape[1:])
        return Value(name, (value.shape[0], *counts), output_bits + 2, 1.0, quantized=True)
