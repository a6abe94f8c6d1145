"""Graphs of products, pools, joins, layouts and outputs."""

from __future__ import annotations

from collections.abc import Callable

from qonnx_files import CUSTOM, QonnxFile
from small_graphs import (
    CASES,
    PER_CHANNEL,
    SIGNS,
    Case,
    Sizes,
    case,
    convolution,
    image,
    per_channel,
    product,
    vector,
    whole,
)

# Convolutions.
CONVOLUTIONS: dict[str, tuple[Sizes, Sizes, dict[str, object]]] = {
    "1-D": ((3, 9), (4, 3, 3), {"strides": [2], "pads": [2, 1]}),
    "1-D, dilated, depthwise": ((4, 9), (4, 1, 3), {"dilations": [2], "group": 4}),
    "stride": ((3, 6, 5), (4, 3, 2, 3), {"strides": [3, 2]}),
    "uneven pads": ((3, 4, 5), (4, 3, 3, 2), {"pads": [2, 0, 1, 1]}),
    "dilation": ((3, 7, 6), (4, 3, 3, 2), {"dilations": [2, 3], "pads": [1, 1, 1, 1]}),
    "groups": ((4, 4, 4), (6, 2, 2, 2), {"group": 2}),
    "depthwise with a multiplier": ((3, 4, 4), (6, 1, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    "pointwise": ((3, 4, 4), (4, 3, 1, 1), {}),
    "SAME_UPPER": ((3, 5, 6), (4, 3, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    "SAME_LOWER": ((3, 5, 6), (4, 3, 2, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "VALID": ((3, 5, 6), (4, 3, 2, 4), {"auto_pad": "VALID", "kernel_shape": [2, 4]}),
}


for title, (sizes, kernels, options) in CONVOLUTIONS.items():

    @case(f"Conv, {title}")
    def alone(sizes: Sizes = sizes, kernels: Sizes = kernels, options: dict[str, object] = options) -> Case:
        file, source = image()
        return Case(file, sizes, convolution(file, source, 2, kernels, **options), (-1,))


# Resize by whole factors.
RESIZES: dict[str, tuple[tuple[float, ...], dict[str, object]]] = {
    "as torch exports it": ((2.0, 3.0), {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    "half pixel": ((3.0, 1.0), {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}),
    "half pixel, up": (
        (4.0, 2.0),
        {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
    ),
    "in its default way": ((2.0, 2.0), {}),
    "by nothing": ((1.0, 1.0), {}),
}
for title, (factors, ways) in RESIZES.items():

    @case(f"Resize, {title}, of codes")
    def codes(factors: tuple[float, ...] = factors, ways: dict[str, object] = ways) -> Case:
        file, source = image(bits=4)
        middle = per_channel(file, convolution(file, source, 2), zero=-1.0)
        wide = file.node("Resize", [middle, "", file.constant([1.0, 1.0, *factors])], {"mode": "nearest", **ways})
        return Case(file, (3, 4, 4), convolution(file, wide, 3, (2, 4, 1, 1)), (2, -1, -1))

    @case(f"Resize, {title}, of accumulators with falling and dead channels")
    def accumulators(factors: tuple[float, ...] = factors, ways: dict[str, object] = ways) -> Case:
        file, source = image(bits=4)
        middle = file.batch_norm(convolution(file, source, 2), SIGNS, 0.0)
        wide = file.node("Resize", [middle, "", file.constant([1.0, 1.0, *factors])], {"mode": "nearest", **ways})
        return Case(file, (3, 4, 4), file.quant(wide, 0.5, 4, signed=1), (4, -1, -1))


# Pools.
POOLS: dict[str, tuple[str, dict[str, object]]] = {
    "max": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "max, overlapping, padded": ("MaxPool", {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 2, 1]}),
    "max, dilated": ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3], "strides": [1, 1]}),
    "max, ceil": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 3], "ceil_mode": 1}),
    "max, ceil, padded": ("MaxPool", {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    "max, same": ("MaxPool", {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "global max": ("GlobalMaxPool", {}),
    "mean": ("AveragePool", {"kernel_shape": [2, 4], "strides": [1, 1]}),
    "mean, padded": (
        "AveragePool",
        {"kernel_shape": [2, 2], "strides": [2, 1], "pads": [1, 1, 0, 1], "count_include_pad": 1},
    ),
    "global mean": ("GlobalAveragePool", {}),
}
for title, (op, window) in POOLS.items():

    @case(f"pool, {title}, of accumulators with falling and dead channels")
    def before(op: str = op, options: dict[str, object] = window) -> Case:
        file, source = image(bits=4)
        middle = file.batch_norm(convolution(file, source, 2), SIGNS, 0.0)
        pooled = file.node(op, [middle], options)
        return Case(file, (3, 6, 6), file.quant(pooled, 0.5, 4, signed=1), (4, -1, -1))

    @case(f"pool, {title}, of codes")
    def behind(op: str = op, options: dict[str, object] = window) -> Case:
        file, source = image(bits=4)
        middle = per_channel(file, convolution(file, source, 2), zero=-1.0)
        pooled = file.node(op, [middle], options)
        return Case(file, (3, 6, 6), convolution(file, pooled, 5, (2, 4, 1, 1)), (2, -1, -1))


@case("pool, mean of Relu of accumulators")
def _() -> Case:
    file, source = image(bits=2)
    middle = file.add("Relu", [convolution(file, source, 2, (2, 3, 2, 2))])
    pooled = file.add("AveragePool", [middle], kernel_shape=[2, 2])
    return Case(file, (3, 4, 4), file.quant(pooled, 1.0, 4, signed=0), (2, 2, 2))


@case("pool, ReduceMean that keeps the axes")
def _() -> Case:
    file, source = image()
    mean = file.add("ReduceMean", [convolution(file, source, 1), file.integers(2, 3)], keepdims=1)
    return Case(file, (3, 4, 6), file.quant(mean, 0.5, 4, signed=1), (4, 1, 1))


@case("pool, ReduceMean that drops the axes")
def _() -> Case:
    file, source = image()
    middle = per_channel(file, convolution(file, source, 1))
    mean = file.add("ReduceMean", [middle, file.integers(-1, -2)], keepdims=0)
    return Case(file, (3, 4, 6), product(file, mean, 2, 4, 3), (3,))


@case("pool, max in one dimension")
def _() -> Case:
    file, source = image()
    middle = file.add("Neg", [convolution(file, source, 1, (4, 3, 2))])
    pooled = file.add("MaxPool", [middle], kernel_shape=[3], strides=[2], pads=[1, 1])
    return Case(file, (3, 8), file.quant(pooled, 0.5, 4, signed=1), (4, 4))


@case("QuantAvgPool2d")
def _() -> Case:
    file = QonnxFile()
    source = file.quant("input", 1.0, 4, signed=0)
    pooled = file.add("QuantAvgPool2d", [source], CUSTOM, kernel=3, stride=2, ibits=4, obits=4, signed=0)
    return Case(file, (3, 7, 5), convolution(file, pooled, 1, (4, 3, 1, 1)), (4, 3, 2))


@case("QuantAvgPool2d of signed codes")
def _() -> Case:
    file = QonnxFile()
    source = file.quant("input", 2.0, 3, signed=1)
    pooled = file.add("QuantAvgPool2d", [source], CUSTOM, kernel=2, stride=2, ibits=4, obits=3, signed=1)
    return Case(file, (3, 4, 6), convolution(file, pooled, 1, (4, 3, 1, 1)), (4, 2, 3))


@case("QuantAvgPool2d to one code")
def _() -> Case:
    file = QonnxFile()
    source = file.quant("input", 1.0, 2, signed=0)
    pooled = file.add("QuantAvgPool2d", [source], CUSTOM, kernel=2, stride=2, ibits=8, obits=2, signed=0)
    return Case(file, (3, 4, 6), convolution(file, pooled, 1, (4, 3, 1, 1)), (4, 2, 3))


@case("MatMul on a sequence whose channels come last")
def _() -> Case:
    file, source = image()
    scales = PER_CHANNEL.reshape(1, 4, 1)
    first = file.quant(convolution(file, source, 1, (4, 3, 2)), scales, 3, signed=1, zero=2.0)
    last = file.add("Transpose", [first], perm=[0, 2, 1])
    middle = file.add("MatMul", [last, file.weights(whole(2, 4, 5) / 2, 0.5, 4)])
    middle = file.add("Relu", [file.add("Add", [middle, file.constant([0.25, -0.5, 1.0, 0.0, 0.75])])])
    codes = file.quant(middle, 0.5, 4, signed=0)
    return Case(file, (3, 6), file.add("MatMul", [codes, file.weights(whole(3, 5, 2))]), (5, 2))


@case("MatMul on an image whose channels come last")
def _() -> Case:
    file, source = image()
    last = file.add("Transpose", [source], perm=[0, 2, 3, 1])
    middle = file.quant(file.add("MatMul", [last, file.weights(whole(2, 3, 4))]), 0.5, 4, signed=1)
    first = file.add("Transpose", [middle], perm=[0, 3, 1, 2])
    return Case(file, (3, 4, 5), convolution(file, first, 3, (2, 4, 3, 3)), (2, 2, 3))


@case("MatMul by the last axis of a sequence whose channels come first")
def _() -> Case:
    file, source = image()
    middle = file.quant(file.add("MatMul", [source, file.weights(whole(2, 6, 4))]), 0.5, 4, signed=1)
    return Case(file, (3, 6), convolution(file, middle, 3, (2, 3, 2)), (2, 3))


# Joins.
def branches(scales: tuple[float, float], op: str, outputs: int = 4) -> Case:
    file, source = image()
    middle = convolution(file, source, 1, (4, 3, 1, 1))
    one = file.quant(middle, scales[0], 3, signed=1)
    two = file.quant(convolution(file, source, 2, (4, 3, 3, 3), pads=[1, 1, 1, 1]), scales[1], 4, signed=0)
    joined = file.node(op, [one, two], {"axis": 1} if op == "Concat" else {})
    return Case(file, (3, 3, 4), convolution(file, joined, 3, (2, outputs, 2, 2)), (2, 2, 3))


CASES["Add of one scale"] = lambda: branches((0.5, 0.5), "Add")
CASES["Add of scales that are powers of two"] = lambda: branches((0.125, 1.0), "Add")
CASES["Add of scales in the ratio 3"] = lambda: branches((0.75, 0.25), "Add")
CASES["Sub of different scales"] = lambda: branches((1.0, 0.25), "Sub")
CASES["Concat of one scale"] = lambda: branches((0.5, 0.5), "Concat", 8)
CASES["Concat of different scales before a Conv"] = lambda: branches((0.125, 1.0), "Concat", 8)


@case("Add of accumulators with biases, a batch norm behind it")
def _() -> Case:
    file, source = image()
    one = file.add("Conv", [source, file.weights(whole(1, 4, 3, 1, 1)), file.constant([0.25, -0.5, 1.0, 0.0])])
    two = file.add("Mul", [convolution(file, source, 2, pads=[1, 1, 1, 1]), file.constant(-0.5)])
    total = file.batch_norm(file.add("Add", [one, two]), SIGNS, 0.0)
    return Case(file, (3, 3, 4), file.quant(total, 0.5, 4, signed=1), (4, 3, 4))


@case("residual: the value is used twice, a batch norm and Relu behind the sum")
def _() -> Case:
    file, source = image()
    first = file.quant(convolution(file, source, 1, (4, 3, 1, 1)), 0.5, 3, signed=1)
    inner = file.batch_norm(convolution(file, first, 2, (4, 4, 3, 3), pads=[1, 1, 1, 1]), SIGNS, 0.0)
    inner = file.quant(inner, 0.25, 4, signed=1)
    total = file.add("Relu", [file.batch_norm(file.add("Add", [inner, first]), SIGNS, 0.0)])
    return Case(file, (3, 3, 4), file.quant(total, 0.5, 4, signed=0), (4, 3, 4))


@case("Add of a value to itself")
def _() -> Case:
    file, source = vector()
    middle = product(file, source, 1)
    return Case(file, (6,), file.quant(file.add("Add", [middle, middle]), 0.5, 4, signed=1), (4,))


@case("Add of Relu of small codes")
def _() -> Case:
    file, source = vector()
    middle = file.quant(product(file, source, 1), 0.5, 4, signed=1)
    other = file.quant(product(file, source, 2), 0.25, 4, signed=1)
    total = file.add("Add", [file.add("Relu", [middle]), file.add("Clip", [other, file.constant(-1.0)])])
    return Case(file, (6,), product(file, total, 3, 4, 3), (3,))


def shared(between: Callable[[QonnxFile, str], str]) -> Case:
    """Return a graph in which two branches use one product, and one of them is normalized by negative slopes."""
    file, source = vector()
    middle = between(file, product(file, source, 1))
    one = file.quant(file.batch_norm(middle, SIGNS, 0.0), 0.5, 4, signed=1)
    two = file.quant(middle, 0.5, 4, signed=1)
    return Case(file, (6,), product(file, file.add("Add", [one, two]), 2, 4, 3), (3,))


CASES["a product shared by two branches"] = lambda: shared(lambda f, x: x)
CASES["shared behind Identity"] = lambda: shared(lambda f, x: f.add("Identity", [x]))
CASES["shared behind Dropout"] = lambda: shared(lambda f, x: f.add("Dropout", [x]))
CASES["shared behind a wide Quant"] = lambda: shared(lambda f, x: f.quant(x, 0.125, 24, signed=1))
CASES["shared behind Concat of one"] = lambda: shared(lambda f, x: f.add("Concat", [x], axis=1))
CASES["shared behind Mul"] = lambda: shared(lambda f, x: f.add("Mul", [x, f.constant(2.0)]))
CASES["shared behind Neg"] = lambda: shared(lambda f, x: f.add("Neg", [x]))
CASES["shared behind Relu"] = lambda: shared(lambda f, x: f.add("Relu", [x]))
CASES["shared behind Reshape to its own shape"] = lambda: shared(lambda f, x: f.add("Reshape", [x, f.integers(0, 4)]))


def shared_image(between: Callable[[QonnxFile, str], str]) -> Case:
    file, source = image()
    middle = between(file, convolution(file, source, 1, (4, 3, 1, 1)))
    one = file.quant(file.batch_norm(middle, SIGNS, 0.0), 0.5, 4, signed=1)
    total = file.add("Add", [one, file.quant(middle, 0.5, 4, signed=1)])
    return Case(file, (3, 2, 3), convolution(file, total, 2, (2, 4, 1, 1)), (2, 2, 3))


CASES["shared behind Pad of nothing"] = lambda: shared_image(
    lambda f, x: f.add("Pad", [x, f.integers(0, 0, 0, 0, 0, 0, 0, 0)])
)
CASES["shared behind MaxPool"] = lambda: shared_image(
    lambda f, x: f.add("MaxPool", [x], kernel_shape=[2, 2], pads=[1, 0, 0, 1])
)


# Layout.
@case("channels last, all the way")
def _() -> Case:
    file = QonnxFile()
    source = file.quant("input", 0.5, 3, signed=1)
    middle = convolution(file, file.add("Transpose", [source], perm=[0, 3, 1, 2]), 1, (4, 3, 2, 2))
    middle = file.add("Transpose", [middle], perm=[0, 2, 3, 1])
    middle = file.add("Add", [file.add("Mul", [middle, file.constant([1.0, -0.5, 2.0, -1.0])]), file.constant(0.25)])
    middle = file.quant(middle, [0.5, 1.0, 0.5, 0.25], 4, signed=1)
    middle = file.add("Transpose", [middle], perm=[0, 3, 1, 2])
    output = file.add("Transpose", [convolution(file, middle, 2, (2, 4, 2, 2))], perm=[0, 2, 3, 1])
    return Case(file, (4, 5, 3), output, (2, 3, 2))


@case("channels last, joined and flattened")
def _() -> Case:
    file, source = image()
    one = file.add("Transpose", [convolution(file, source, 1, (2, 3, 2, 2))], perm=[0, 2, 3, 1])
    two = file.add("Transpose", [convolution(file, source, 2, (2, 3, 2, 2))], perm=[0, 2, 3, 1])
    one, two = (file.quant(tensor, 0.5, 3, signed=1) for tensor in (one, two))
    flat = file.add("Flatten", [file.add("Concat", [one, two], axis=-1)])
    return Case(file, (3, 3, 3), product(file, flat, 3, 16, 3), (3,))


@case("Transpose of the spatial axes")
def _() -> Case:
    file, source = image()
    middle = file.add("Transpose", [convolution(file, source, 1)], perm=[0, 1, 3, 2])
    middle = file.quant(file.batch_norm(middle, SIGNS, 0.0), 0.5, 4, signed=1)
    return Case(file, (3, 5, 4), convolution(file, middle, 2, (2, 4, 2, 1)), (2, 1, 3))


@case("Add of values of different layout")
def _() -> Case:
    file, source = image()
    one = file.quant(convolution(file, source, 1, (3, 3, 1, 1)), 0.5, 3, signed=1)
    two = file.add("Transpose", [one], perm=[0, 3, 2, 1])
    return Case(file, (3, 2, 3), convolution(file, file.add("Add", [one, two]), 2, (2, 3, 1, 1)), (2, 2, 3))


@case("Flatten of a scale per channel")
def _() -> Case:
    file, source = image()
    middle = per_channel(file, convolution(file, source, 1))
    return Case(file, (3, 4, 4), product(file, file.add("Flatten", [middle]), 2, 16, 3), (3,))


@case("Flatten of accumulators, then a batch norm")
def _() -> Case:
    file, source = image()
    flat = file.add("Flatten", [convolution(file, source, 1, (2, 3, 3, 3))], axis=1)
    return Case(file, (3, 4, 3), file.quant(file.batch_norm(flat, SIGNS, 0.0), 0.5, 4, signed=1), (4,))


@case("Reshape with 0 and -1")
def _() -> Case:
    file, source = image()
    middle = file.quant(convolution(file, source, 1), 0.5, 3, signed=1)
    middle = file.add("Reshape", [middle, file.integers(0, 2, -1, 2)])
    return Case(file, (3, 5, 4), convolution(file, middle, 2, (3, 2, 2, 1)), (3, 5, 2))


@case("Reshape of a vector into an image")
def _() -> Case:
    file, source = vector()
    middle = file.quant(product(file, source, 1, 6, 8), 0.5, 3, signed=1)
    middle = file.add("Reshape", [middle, file.integers(-1, 2, 2, 2)])
    return Case(file, (6,), convolution(file, middle, 2, (3, 2, 2, 2), pads=[1, 1, 0, 0]), (3, 2, 2))


@case("Squeeze and Unsqueeze")
def _() -> Case:
    file, source = vector()
    line = convolution(file, file.add("Unsqueeze", [source, file.integers(1)]), 1, (4, 1, 3), strides=[3])
    picture = file.add("Unsqueeze", [per_channel_line(file, line), file.integers(-1)])
    middle = file.add("Squeeze", [convolution(file, picture, 2, (4, 4, 2, 1)), file.integers(2, 3)])
    return Case(file, (6,), product(file, file.quant(middle, 0.5, 4, signed=1), 3, 4, 3), (3,))


def per_channel_line(file: QonnxFile, source: str) -> str:
    return file.quant(source, PER_CHANNEL.reshape(1, 4, 1), 3, signed=1)


@case("Pad")
def _() -> Case:
    file, source = image()
    middle = file.quant(convolution(file, source, 1, (4, 3, 2, 2)), 0.5, 3, signed=0, zero=3.0)
    middle = file.add("Pad", [middle, file.integers(0, 0, 2, 0, 0, 0, 1, 1), file.constant(0.0)])
    return Case(file, (3, 3, 3), convolution(file, middle, 2, (2, 4, 2, 2)), (2, 4, 2))


@case("Pad along listed axes, of accumulators with a bias")
def _() -> Case:
    file, source = image()
    bias = file.constant([0.25, -0.5, 0.0, 1.0])
    middle = file.add("Conv", [source, file.weights(whole(1, 4, 3, 2, 2)), bias])
    middle = file.add("Pad", [middle, file.integers(1, 2), file.constant(0.0), file.integers(-1)])
    return Case(file, (3, 3, 3), file.quant(middle, 0.5, 4, signed=1), (4, 2, 5))


# Outputs.
@case("output, Quant")
def _() -> Case:
    file, source = vector()
    return Case(file, (6,), file.quant(product(file, source, 1), 0.5, 4, signed=0, zero=3.0), (4,))


@case("output, negated")
def _() -> Case:
    file, source = vector()
    return Case(file, (6,), file.add("Mul", [product(file, source, 1), file.constant(-0.5)]), (4,))


@case("output, scale per channel and bias, both powers of two")
def _() -> Case:
    file, source = vector()
    weights = file.quant(file.constant(whole(1, 4, 6)), PER_CHANNEL.reshape(4, 1), 4, signed=1)
    output = file.add("Gemm", [source, weights, file.constant([0.5, -0.25, 3.0, 0.0])], transB=1)
    return Case(file, (6,), output, (4,))


@case("output, one bias for all")
def _() -> Case:
    file, source = vector()
    return Case(file, (6,), file.add("Add", [product(file, source, 1), file.constant(0.375)]), (4,))


@case("output, Sub of what is computed from constants per channel")
def _() -> Case:
    file, source = vector()
    return Case(file, (6,), file.add("Sub", [file.constant([1.0, 2.0, -0.5, 0.0]), product(file, source, 1)]), (4,))


@case("output, one channel is always 0")
def _() -> Case:
    file, source = vector()
    return Case(file, (6,), file.add("Mul", [product(file, source, 1), file.constant([1.0, 0.0, -2.0, 1.0])]), (4,))


@case("output, every channel is constant")
def _() -> Case:
    file, source = vector()
    nothing = file.add("Mul", [product(file, source, 1), file.constant(0.0)])
    return Case(file, (6,), file.add("Add", [nothing, file.constant(0.75)]), (4,))


@case("output, Sum of a branch and the input")
def _() -> Case:
    file, source = vector()
    middle = file.quant(product(file, source, 1, 6, 6), 0.5, 4, signed=1)
    return Case(file, (6,), file.add("Add", [source, middle]), (6,))


@case("output, image")
def _() -> Case:
    file, source = image()
    return Case(file, (3, 4, 4), convolution(file, source, 1), (4, 2, 2))


@case("output, Relu of codes and a product")
def _() -> Case:
    file, source = vector()
    middle = file.add("Relu", [file.quant(product(file, source, 1), 0.5, 4, signed=1)])
    return Case(file, (6,), product(file, middle, 2, 4, 3), (3,))


for final in ("Softmax", "LogSoftmax", "Sigmoid", "Tanh"):

    @case(f"output, {final}")
    def dropped(op: str = final) -> Case:
        file, source = vector()
        # Small outputs: no two become equal in float32, where Sigmoid and Tanh saturate.
        small = file.add("Mul", [product(file, source, 1), file.constant(2.0**-4)])
        return Case(file, (6,), file.node(op, [small], {"axis": -1} if "max" in op else {}), (4,))
