"""Graphs of one node of interest each: quantizers of activations, weights and inputs, and what maps each number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from qonnx_files import CUSTOM, QonnxFile
from small_graphs import (
    SIGNS,
    THRESHOLDS,
    UPWARD,
    Array,
    Case,
    case,
    convolution,
    image,
    multi_threshold,
    norm,
    per_channel,
    product,
    vector,
    whole,
)

from bitproof.export.integer import Rounding


# Quantizers of activations.
def activation(name: str, make: Callable[[QonnxFile, str], str]) -> None:
    """List the quantizer *make* behind a product of vectors, and behind one of images with a bias per channel."""

    @case(f"{name}, vector")
    def on_vectors() -> Case:
        file, source = vector()
        return Case(file, (6,), make(file, product(file, source, 1)), (4,))

    @case(f"{name}, image")
    def on_images() -> Case:
        file, source = image()
        bias = file.constant(whole(7, 4) / 8)
        weights = file.weights(whole(1, 4, 3, 3, 3) / 2, 0.5, 4)
        accumulators = file.add("Conv", [source, weights, bias], pads=[1, 1, 1, 1], strides=[2, 1])
        return Case(file, (3, 5, 4), make(file, accumulators), (4, 3, 4))


for mode in (*Rounding.__members__, "HALF_EVEN", "floor"):
    activation(f"rounding {mode}", lambda f, x, m=mode: f.quant(x, 1.0, 4, signed=1, mode=m))  # type: ignore[misc]
    activation(
        f"rounding {mode} about a zero point",
        lambda f, x, m=mode: f.quant(x, 1.0, 4, signed=0, mode=m, zero=5.0),  # type: ignore[misc]
    )
for bits in range(1, 9):
    for signed in (0, 1):
        activation(
            f"{bits} bits, signed {signed}",
            lambda f, x, b=bits, s=signed: f.quant(x, 0.25, b, signed=s),  # type: ignore[misc]
        )
        if bits > 1:
            activation(
                f"{bits} bits, signed {signed}, narrow",
                lambda f, x, b=bits, s=signed: f.quant(x, 0.25, b, signed=s, narrow=1),  # type: ignore[misc]
            )
activation("IntQuant", lambda f, x: f.quant(x, 1.0, 3, signed=1, op="IntQuant"))
activation("one signed bit about a zero point", lambda f, x: f.quant(x, 0.5, 1, signed=1, zero=1.0))
activation("zero point outside the codes", lambda f, x: f.quant(x, 0.5, 3, signed=1, zero=-7.0))
activation("a scale per channel", per_channel)
activation("a scale per channel and a zero point", lambda f, x: per_channel(f, x, zero=2.0))
for zero in (0, 5, 128, 255):
    activation(f"QuantizeLinear about {zero}", lambda f, x, z=zero: f.linear(x, 0.5, z))  # type: ignore[misc]
    activation(
        f"QuantizeLinear about {zero} with a Clip",
        lambda f, x, z=zero: f.linear(x, 0.5, z, ends=(max(0, z - 4), min(255, z + 3))),  # type: ignore[misc]
    )
activation("QuantizeLinear to int8", lambda f, x: f.linear(x, 1.0, -7, np.int8))
activation(
    "QuantizeLinear with a scale per channel", lambda f, x: f.linear(x, [0.5, 1.0, 2.0, 0.25], [3] * 4, np.int8, axis=1)
)
activation("BipolarQuant", lambda f, x: f.bipolar(x, 0.5))
activation(
    "Trunc of version 2",
    lambda f, x: f.add(
        "Trunc",
        [x, *(f.constant(v) for v in (0.125, 0.0, 12.0, 1.0, 4.0))],
        CUSTOM,
        rounding_mode="FLOOR",
        signed=1,
        narrow=1,
    ),
)
activation(
    "Trunc of version 2 about a zero point, rounding half to even",
    lambda f, x: f.add(
        "Trunc",
        [x, *(f.constant(v) for v in (0.125, 16.0, 12.0, 1.0, 4.0))],
        CUSTOM,
        rounding_mode="ROUND",
        signed=0,
    ),
)


def trunc_of_version_1(file: QonnxFile, source: str) -> str:
    file.trunc_version = 1
    constants = [file.constant(value) for value in (0.125, 4.0, 10.0, 6.0)]
    return file.add("Trunc", [source, *constants], CUSTOM, rounding_mode="CEIL")


activation("Trunc of version 1", trunc_of_version_1)


def trunc_to_one_code(file: QonnxFile, source: str) -> str:
    file.trunc_version = 1
    constants = [file.constant(value) for value in (0.125, 0.0, 20.0, 4.0)]
    return file.add("Trunc", [source, *constants], CUSTOM, rounding_mode="ROUND")


activation("Trunc of version 1 to one code", trunc_to_one_code)
activation("MultiThreshold", multi_threshold(THRESHOLDS))
activation("MultiThreshold for all channels", multi_threshold(THRESHOLDS[:1], out_scale=2.0, out_bias=-6.0))
activation("MultiThreshold, FINN's bipolar form", multi_threshold(THRESHOLDS[:, :1], out_scale=2.0, out_bias=-1.0))
activation("MultiThreshold, codes two apart", multi_threshold(THRESHOLDS, out_scale=1.0, out_bias=-2.5))
activation("MultiThreshold of another bias", multi_threshold(THRESHOLDS, out_scale=1.0, out_bias=-0.03125))
activation("MultiThreshold that falls", multi_threshold(THRESHOLDS, out_scale=-0.5, out_bias=0.75))
activation("MultiThreshold, unordered", multi_threshold(THRESHOLDS[:, ::-1], out_scale=0.5, out_bias=-1.0))


@case("MultiThreshold, channels last")
def _() -> Case:
    file, source = image()
    last = file.add("Transpose", [convolution(file, source, 1)], perm=[0, 2, 3, 1])
    codes = multi_threshold(THRESHOLDS, data_layout="NHWC")(file, last)
    middle = file.add("Transpose", [codes], perm=[0, 3, 1, 2])
    return Case(file, (3, 5, 4), convolution(file, middle, 2, (2, 4, 2, 2)), (2, 2, 1))


@case("MultiThreshold on a line, channels first")
def _() -> Case:
    file, source = image()
    codes = multi_threshold(THRESHOLDS, data_layout="NCW")(file, convolution(file, source, 1, (4, 3, 2)))
    return Case(file, (3, 6), codes, (4, 5))


@case("MultiThreshold on a line, channels last, which is what no layout means")
def _() -> Case:
    file, source = image()
    last = file.add("Transpose", [convolution(file, source, 1, (4, 3, 2))], perm=[0, 2, 1])
    return Case(file, (3, 6), multi_threshold(THRESHOLDS)(file, last), (5, 4))


@case("MultiThreshold for all channels, whatever the layout")
def _() -> Case:
    file, source = image()
    codes = multi_threshold(THRESHOLDS[:1])(file, convolution(file, source, 1, (4, 3, 2)))
    return Case(file, (3, 6), codes, (4, 5))


# Chains before a quantizer.
BESIDE_SATURATION = norm([2, -1, 0, 1], [0.125, 0, 1, -0.125], [0, 0, 0, 0], [1, 1, 1, 1])
"""Floats round tanh to 1 early; no boundary lies where this takes 1 or -1."""


def leaky(file: QonnxFile, source: str) -> str:
    return file.add("LeakyRelu", [source], alpha=0.25)


def slopes_of(file: QonnxFile, slopes: list[float]) -> Array:
    """Return *slopes*, one per channel, as PRelu takes them: along the channels of vectors or of images."""
    axes = 2 if any(node.op_type == "Conv" for node in file.nodes) else 0
    return np.array(slopes).reshape((4,) + (1,) * axes)


def chain(name: str, make: Callable[[QonnxFile, str], str]) -> None:
    activation(name, lambda file, source: file.quant(make(file, source), 0.5, 4, signed=1, mode="HALF_UP"))


chain("batch norm of both signs and a dead channel", lambda f, x: f.batch_norm(x, SIGNS, 0.0))
chain("two batch norms", lambda f, x: f.batch_norm(f.batch_norm(x, SIGNS, 0.0), UPWARD, 0.0))
chain("Relu behind a batch norm", lambda f, x: f.add("Relu", [f.batch_norm(x, SIGNS, 0.0)]))
chain("Relu before a batch norm", lambda f, x: f.batch_norm(f.add("Relu", [x]), SIGNS, 0.0))
chain(
    "Clip between batch norms",
    lambda f, x: f.batch_norm(
        f.add("Clip", [f.batch_norm(x, SIGNS, 0.0), f.constant(-1.5), f.constant(2.25)]), UPWARD, 0.0
    ),
)
chain("Clip from below alone", lambda f, x: f.add("Clip", [x, f.constant(0.75)]))
chain("Clip from above alone", lambda f, x: f.add("Clip", [x, "", f.constant(0.75)]))
chain("LeakyRelu", lambda f, x: f.add("LeakyRelu", [x], alpha=0.25))
chain("LeakyRelu between batch norms", lambda f, x: f.batch_norm(leaky(f, f.batch_norm(x, SIGNS, 0.0)), SIGNS, 0.0))
chain("LeakyRelu, clipped and negated", lambda f, x: f.add("Neg", [f.add("Clip", [leaky(f, x), f.constant(-0.25)])]))
chain("PRelu", lambda f, x: f.add("PRelu", [x, f.constant(slopes_of(f, [0.5, 0.0, 2.0, 1.0]))]))
chain("PRelu for all channels", lambda f, x: f.add("PRelu", [f.add("Neg", [x]), f.constant(0.5)]))
chain("HardSigmoid", lambda f, x: f.add("HardSigmoid", [x], alpha=0.25, beta=0.5))
chain("Sign", lambda f, x: f.add("Sign", [f.add("Add", [x, f.constant(0.25)])]))
chain("Sign of both ways", lambda f, x: f.batch_norm(f.add("Sign", [f.batch_norm(x, SIGNS, 0.0)]), SIGNS, 0.0))
chain("Tanh", lambda f, x: f.add("Tanh", [x]))
chain(
    "Tanh between batch norms",
    lambda f, x: f.batch_norm(f.add("Tanh", [f.batch_norm(x, SIGNS, 0.0)]), BESIDE_SATURATION, 0.0),
)
chain("Relu of Tanh", lambda f, x: f.add("Relu", [f.add("Tanh", [x])]))
chain("Tanh of LeakyRelu", lambda f, x: f.add("Tanh", [leaky(f, x)]))
chain("LeakyRelu of Tanh", lambda f, x: f.add("LeakyRelu", [f.add("Tanh", [x])], alpha=0.5))
chain("Sigmoid", lambda f, x: f.add("Mul", [f.add("Sigmoid", [x]), f.constant(3.0)]))
chain("Mul by a constant", lambda f, x: f.add("Mul", [x, f.constant(-0.5)]))
chain("Mul, constant first", lambda f, x: f.add("Mul", [f.constant([0.5]), x]))
chain("Mul by 0", lambda f, x: f.add("Mul", [x, f.constant(0.0)]))
chain("Div by a constant", lambda f, x: f.add("Div", [x, f.constant(-4.0)]))
chain("Add of a constant", lambda f, x: f.add("Add", [x, f.constant(0.75)]))
chain("Add, constant first", lambda f, x: f.add("Add", [f.constant(-0.75), x]))
chain("Sub of a constant", lambda f, x: f.add("Sub", [x, f.constant(0.75)]))
chain("Sub from a constant", lambda f, x: f.add("Sub", [f.constant(0.75), x]))
chain("Neg", lambda f, x: f.add("Neg", [x]))
chain("Identity and Dropout", lambda f, x: f.add("Dropout", [f.add("Identity", [x])]))
chain("Add of a quantized constant", lambda f, x: f.add("Add", [x, f.quant(f.constant(1.3), 0.25, 4, signed=1)]))


# Weights.
WEIGHTS: dict[str, Callable[[QonnxFile, Array], str]] = {
    "a scale per channel": lambda f, w: f.quant(
        f.constant(w), np.array([0.5, 1, 0.25, 2]).reshape(-1, *[1] * (w.ndim - 1)), 4, signed=1, narrow=1
    ),
    "a zero point": lambda f, w: f.quant(f.constant(w), 0.5, 4, signed=0, zero=6.0),
    "zero points that differ": lambda f, w: f.quant(
        f.constant(w), 0.5, 4, signed=0, zero=np.array([6, 0, 3, 9]).reshape(-1, *[1] * (w.ndim - 1))
    ),
    "codes of DequantizeLinear": lambda f, w: f.add(
        "DequantizeLinear", [f.codes((w * 2).astype(np.int64), np.int8), f.constant(0.5)]
    ),
    "codes of DequantizeLinear, a scale and a zero point for each": lambda f, w: f.add(
        "DequantizeLinear",
        [f.codes((w * 2).astype(np.int64) + 9), f.constant([0.5, 1, 0.25, 2]), f.codes([9, 0, 3, 12])],
        axis=0,
    ),
    "BipolarQuant": lambda f, w: f.bipolar(f.constant(w), 0.5),
    "BipolarQuant a channel": lambda f, w: f.bipolar(
        f.constant(w), np.array([0.5, 1, 0.25, 2]).reshape(-1, *[1] * (w.ndim - 1))
    ),
    "one signed bit": lambda f, w: f.quant(f.constant(w), 0.5, 1, signed=1),
    "one unsigned bit": lambda f, w: f.quant(f.constant(w), 0.5, 1, signed=0),
    "multiples of a number, no quantizer": lambda f, w: f.constant(w),
    "Mul behind the quantizer": lambda f, w: f.add("Mul", [f.weights(w, 0.5, 4), f.constant(0.25)]),
    "Div behind the quantizer": lambda f, w: f.add("Div", [f.weights(w, 0.5, 4), f.constant(4.0)]),
    "a scale for each column": lambda f, w: f.quant(
        f.constant(w), np.exp2(np.arange(w.shape[1]) % 3 - 2).reshape(1, -1, *[1] * (w.ndim - 2)), 4, signed=1
    ),
    **{
        f"rounding {mode}": lambda f, w, m=mode: f.quant(f.constant(w / 2), 0.5, 3, signed=1, mode=m)  # type: ignore[misc]
        for mode in Rounding.__members__
    },
}
for title, make_weights in WEIGHTS.items():

    @case(f"weights, {title}, Gemm")
    def on_vectors(make: Callable[[QonnxFile, Array], str] = make_weights) -> Case:
        file, source = vector()
        return Case(file, (6,), file.add("Gemm", [source, make(file, whole(1, 4, 6) / 2)], transB=1), (4,))

    @case(f"weights, {title}, Conv")
    def on_images(make: Callable[[QonnxFile, Array], str] = make_weights) -> Case:
        file, source = image()
        output = file.add("Conv", [source, make(file, whole(1, 4, 3, 3, 2) / 2)], pads=[1, 0, 0, 1])
        return Case(file, (3, 4, 4), output, (4, 3, 4))


@case("weights, transposed and reshaped behind the quantizer")
def _() -> Case:
    file, source = vector()
    scales = np.array([0.5, 1, 0.25, 2]).reshape(4, 1)
    weights = file.add("Transpose", [file.quant(file.constant(whole(1, 4, 6)), scales, 4, signed=1)], perm=[1, 0])
    weights = file.add("Reshape", [weights, file.integers(6, 4)])
    return Case(file, (6,), file.add("MatMul", [source, weights]), (4,))


@case("Gemm with a bias and weights of either layout")
def _() -> Case:
    file, source = vector()
    hidden = file.add("Gemm", [source, file.weights(whole(1, 6, 5)), file.constant(whole(2, 5) / 8)])
    hidden = file.quant(hidden, 1.0, 4, signed=1)
    return Case(file, (6,), file.add("Gemm", [hidden, file.weights(whole(3, 4, 5))], transB=1), (4,))


# Quantizers of the input.
INPUTS: dict[str, Callable[[QonnxFile], str]] = {
    "unsigned": lambda f: f.quant("input", 0.5, 5, signed=0),
    "narrow": lambda f: f.quant("input", 0.5, 4, signed=1, narrow=1),
    "a zero point": lambda f: f.quant("input", 0.5, 4, signed=0, zero=5.0),
    "a zero point outside the codes": lambda f: f.quant("input", 0.5, 3, signed=0, zero=11.0),
    "BipolarQuant": lambda f: f.bipolar("input", 0.5),
    "one signed bit": lambda f: f.quant("input", 0.5, 1, signed=1),
    "one unsigned bit": lambda f: f.quant("input", 0.5, 1, signed=0),
    "8 bits": lambda f: f.quant("input", 0.125, 8, signed=1),
    "MultiThreshold": lambda f: multi_threshold(np.arange(-2.5, 4.0)[None] / 2, out_scale=0.5, out_bias=-1.5)(
        f, "input"
    ),
    "MultiThreshold, codes two apart": lambda f: multi_threshold(
        np.arange(-3.0, 4.0)[None] / 2, out_scale=0.5, out_bias=-1.75
    )(f, "input"),
    "QuantizeLinear": lambda f: f.linear("input", 0.125, 3, np.int8),
    "QuantizeLinear with a Clip": lambda f: f.linear("input", 0.5, 129, ends=(125, 140)),
}
for title, make_input in INPUTS.items():

    @case(f"input, {title}")
    def on_padded_images(make: Callable[[QonnxFile], str] = make_input) -> Case:
        file = QonnxFile()
        middle = file.quant(convolution(file, make(file), 2, pads=[1, 1, 1, 1]), 1.0, 4, signed=1)
        return Case(file, (3, 3, 4), convolution(file, middle, 4, (2, 4, 1, 1)), (2, 3, 4))
