"""The proofs of a packed-int8 file's products: its weights, float32 sums of one order or another, sums in 16 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bitproof.export.integer import INPUT, Affine, Conv, IntegerModel, MatMul, MaxPool, Threshold, hull
from bitproof.export.onnx_int8.fault import PACKED, layout_of
from bitproof.export.onnx_int8.folding import Folded, margin_of
from bitproof.export.onnx_int8.fused import PAIR_LIMIT, counted
from bitproof.export.onnx_int8.packing import unpack
from bitproof.pipeline import Codes
from bitproof.pipeline.ledger import ProofEntry

NAME = "onnx-int8"
Constants = Mapping[str, NDArray[Any]]


def prove_sums(model: IntegerModel, graph: onnx.GraphProto, layers: Sequence[Mapping[str, Any]]) -> list[ProofEntry]:
    """Return the proofs of all products of *model* in *graph*.

    Args:
        model: the integer model.
        graph: that of the file.
        layers: the activations, as the file's description has them.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    entries = [_weights(node, constants) for node in model.nodes if isinstance(node, Conv | MatMul)]
    products = {layer["layer"]: layer for layer in layers}
    for activation in model.nodes_of(Threshold):
        layer = products.get(activation.name, {})
        product = _product(model, activation)
        if product is None or layer.get("construction") not in ("quantized", "folded"):
            continue
        if layer["construction"] == "folded":
            entries.append(_margin(model, product, activation, layer, constants))
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


def _weights(node: Conv | MatMul, constants: Constants) -> ProofEntry:
    """Compare every weight of the file with the integer model's."""
    held = unpack(constants[f"{node.name}{PACKED}"].reshape(-1), layout_of(constants, node.name))
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


def _margin(
    model: IntegerModel, product: Conv | MatMul, activation: Threshold, layer: Mapping[str, Any], constants: Constants
) -> ProofEntry:
    value = model.values[product.name]
    bias: Codes = np.array(layer["bias"], dtype=np.int64)
    node = counted(activation)
    moved = replace(node, thresholds=activation.thresholds - bias[:, None])
    folded = Folded(constants[layer["scale"]], constants[layer["offset"]])
    margin = margin_of(moved, value.ranges, folded, value.sums.magnitudes, value.sums.terms)
    return ProofEntry(
        layer=product.name,
        claim="no float32 sum of its products crosses a boundary between two codes, in whatever order it is added",
        method=(
            f"a sum is off by at most {float(margin.error):.3g} codes, and the nearest boundary is "
            f"{float(margin.distance):.3g} codes away, in the channel where that is tightest; both as fractions"
        ),
        cases=activation.channels * activation.levels,
        holds=margin.holds,
        actual=NAME,
        failing=0 if margin.holds else 1,
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
