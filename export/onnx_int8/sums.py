"""The proofs of a packed-int8 file's products: its weights, float32 sums of one order or another, sums in 16 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bitproof.export.integer import EXACT_FLOAT32, INPUT, Affine, Conv, IntegerModel, MatMul, MaxPool, Threshold, hull
from bitproof.export.onnx_int8.alone import Run, every_pair
from bitproof.export.onnx_int8.fault import layout_of, packed_bytes
from bitproof.export.onnx_int8.fused import PAIR_LIMIT
from bitproof.export.onnx_int8.packing import is_packed, packed_name, unpack
from bitproof.export.onnx_int8.products import FLOAT_SUMS, partial_sums
from bitproof.pipeline import Codes
from bitproof.pipeline.ledger import ProofEntry

NAME = "onnx-int8"
Constants = Mapping[str, NDArray[Any]]


def prove_sums(
    model: IntegerModel, graph: onnx.GraphProto, layers: Sequence[Mapping[str, Any]], run: Run
) -> list[ProofEntry]:
    """Return the proofs of all products of *model* in *graph*, and of sums of codes that are one operator.

    Args:
        model: the integer model.
        graph: that of the file.
        layers: the activations, as the file's description has them.
        run: runs a graph in onnxruntime.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    packed = {tensor.name: tensor for tensor in graph.initializer if is_packed(tensor.name)}
    entries = [_weights(node, constants, packed) for node in model.nodes if isinstance(node, Conv | MatMul)]
    floats = {name for node in graph.node for name in node.output if node.op_type == "Conv"}
    convolutions = (node for node in model.nodes if isinstance(node, Conv) and f"{node.name}{FLOAT_SUMS}" in floats)
    entries += [_exact(node, model, 1, np.zeros(1)) for node in convolutions]
    products = {layer["layer"]: layer for layer in layers}
    for activation in model.nodes_of(Threshold):
        layer = products.get(activation.name, {})
        if layer.get("construction") == "joined":
            entries.append(_joined(model, activation, *every_pair(graph, layer, run), int(layer["zero_point"])))
        product = _product(model, activation)
        if product is None or layer.get("construction") not in ("quantized", "carried"):
            continue
        if layer["construction"] == "carried":
            factor = int(layer["factor"])
            entries.append(_exact(product, model, factor, constants[layer["offset"]].astype(np.float64) * factor))
        else:
            highest = hull(model.values[model.sources(product.name)[0]].ranges).high
            entries.extend(_pairs(product, int(layer["factor"]), graph, str(layer["scale"]), constants, highest))
    return entries


def _product(model: IntegerModel, activation: Threshold) -> Conv | MatMul | None:
    """Return the product whose sums *activation* takes, with nothing but a bias or a max pool between."""
    (source,) = model.sources(activation.name)
    while source != INPUT and isinstance(model.node(source), Affine | MaxPool):
        (source,) = model.sources(source)
    node = None if source == INPUT else model.node(source)
    return node if isinstance(node, Conv | MatMul) else None


def _weights(node: Conv | MatMul, constants: Constants, packed: Mapping[str, onnx.TensorProto]) -> ProofEntry:
    """Compare every weight of the file with the integer model's."""
    held = unpack(packed_bytes(packed[packed_name(node.name)]), layout_of(constants, node.name))
    expected = node.weights.reshape(node.outputs, -1)
    wrong = np.argwhere(held != expected) if held.shape == expected.shape else np.zeros((1, 2), dtype=np.int64)
    first = None if not len(wrong) else {"channel": int(wrong[0][0]), "weight": int(wrong[0][1])}
    return ProofEntry(
        layer=node.name,
        claim="every weight in the file is that of the integer model",
        method="the packed fields of the file unpacked and compared, each of them",
        cases=int(expected.size),
        holds=not len(wrong),
        actual=NAME,
        first=first,
        failing=len(wrong),
    )


def _exact(product: Conv | MatMul, model: IntegerModel, factor: int, biases: NDArray[np.float64]) -> ProofEntry:
    """Prove that float32 holds every partial sum of *product* and its *biases*, both in parts of 1 / *factor*."""
    taken = model.values[model.sources(product.name)[0]].ranges
    whole = factor > 0 and factor & (factor - 1) == 0 and bool((biases == np.rint(biases)).all())
    largest = partial_sums(product, taken) * factor + int(np.abs(biases).max())
    return ProofEntry(
        layer=product.name,
        claim="every partial sum of its products and its bias is exact in float32, in whatever order they are added",
        method=f"all are multiples of 1/{factor}, and at most {largest} of them: float32 holds {EXACT_FLOAT32}",
        cases=int(product.weights.size),
        holds=whole and largest <= EXACT_FLOAT32,
        actual=NAME,
        failing=int(not whole or largest > EXACT_FLOAT32),
    )


def _joined(
    model: IntegerModel, activation: Threshold, one: Codes, two: Codes, stored: Codes, zero_point: int
) -> ProofEntry:
    """Compare what every pair of codes gives with the thresholds, in each channel that reaches their sum."""
    (name,) = model.sources(activation.name)
    ranges = model.values[name].ranges
    total = one + two
    sums = np.arange(total.min(), total.max() + 1)
    expected = activation.apply(np.repeat(sums[:, None], activation.channels, axis=1))[total - sums[0]]
    lows, highs = (np.array([getattr(i, end) for i in ranges]) for end in ("low", "high"))
    reached = (total[:, None] >= lows) & (total[:, None] <= highs)
    wrong = np.argwhere(reached & (expected != (stored - zero_point)[:, None]))
    first = None
    if len(wrong):
        first = {"channel": int(wrong[0][1]), "one": int(one[wrong[0][0]]), "two": int(two[wrong[0][0]])}
    return ProofEntry(
        layer=name,
        claim="every pair of codes gives the code of their sum, in every channel that reaches it",
        method="all pairs were run through the sum and the activation of the file",
        cases=int(reached.sum()),
        holds=not len(wrong),
        actual=NAME,
        first=first,
        failing=len(wrong),
    )


def _pairs(
    product: Conv | MatMul, factor: int, graph: onnx.GraphProto, scale: str, constants: Constants, highest: int
) -> Iterator[ProofEntry]:
    """Yield the proof that two products fit 16 bits, of weights in int8; those in uint8 are never added so."""
    node = next(node for node in graph.node if node.op_type in ("QLinearConv", "QGemm") and scale in node.input)
    if constants[node.input[5]].dtype != np.int8:
        return
    largest = highest + int(constants[node.input[2]])
    magnitude = int(np.abs(product.weights).max(initial=0)) * factor
    worst = 2 * magnitude * largest
    yield ProofEntry(
        layer=product.name,
        claim="two products fit 16 bits, where a processor with AVX2 and without VNNI adds them, saturating",
        method=f"2 x {magnitude} x {largest} = {worst} is at most {PAIR_LIMIT}",
        cases=int(product.weights.size),
        holds=worst <= PAIR_LIMIT,
        actual=NAME,
        failing=int(worst > PAIR_LIMIT),
    )
