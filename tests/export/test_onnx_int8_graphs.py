"""Packed-int8 ONNX of graphs: every operation of the integer model, alone and together, run by onnxruntime."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest

from bitproof.export.integer import (
    INPUT,
    Add,
    Affine,
    Concat,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    Shape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    Window,
    run,
    trace,
)
from bitproof.export.integer.ir import Wiring
from bitproof.export.onnx_int8 import OnnxInt8Executor, build
from bitproof.export.onnx_int8.target import OnnxInt8Target
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.export.proofs import prove_requantization
from bitproof.pipeline import Artifact, Codes, StageError

UINT4, INT4 = IntegerType(4, signed=False), IntegerType(4, signed=True)
SHAPE: Shape = (4, 7, 6)


def window(
    kernel: Shape, strides: Shape = (1, 1), begin: Shape = (0, 0), end: Shape = (0, 0), dilations: Shape = (1, 1)
) -> Window:
    return Window(kernel, strides, begin, end, dilations)


def numbers(seed: int, low: int, high: int, shape: Shape) -> Codes:
    return np.random.default_rng(seed).integers(low, high, size=shape, endpoint=True)


def conv(name: str, outputs: int, groups: int, where: Window, channels: int = 4) -> Conv:
    kind = IntegerType(3, signed=True)
    return Conv(name, numbers(len(name), -4, 3, (outputs, channels // groups, *where.kernel)), kind, where, groups)


def threshold(name: str, channels: int, reach: int, *, lowest: int = 0, levels: int = 15, step: int = 1) -> Threshold:
    rows = np.sort(numbers(channels, -reach, reach, (channels, levels)), axis=1)
    kind = IntegerType.smallest_for(lowest, lowest + step * levels)
    return Threshold(name, rows, kind, lowest, np.zeros(channels, dtype=np.bool_), step)


def model(
    *nodes: Node, wiring: Wiring | None = None, source: IntegerType = UINT4, shape: Shape = SHAPE
) -> IntegerModel:
    return IntegerModel("graph", source, Fraction(1), shape, nodes, Fraction(1), wiring)


def residual() -> IntegerModel:
    """Two branches of different scale, joined, pooled and classified; a second use of one product."""
    same = window((3, 3), begin=(1, 1), end=(1, 1))
    nodes: tuple[Node, ...] = (
        conv("conv0", 4, 1, same),
        threshold("act0", 4, 150),
        conv("conv10", 4, 4, same),
        threshold("act1", 4, 60, lowest=-8),
        Affine("affine0", np.array([2, -3, 1, 0]), np.array([1, 0, -5, 7])),
        Add("add0"),
        threshold("act2", 4, 40),
        Concat("concat0"),
        MaxPool("pool0", window((2, 2), (2, 2))),
        SumPool("sum0", window((3, 3))),
        threshold("act3", 8, 60),
        Reshape("reshape0", (8, 1, 1), (8,)),
        MatMul("fc0", numbers(3, -2, 2, (3, 8)), IntegerType(3, signed=True)),
    )
    wiring = (
        (INPUT,),
        ("conv0",),
        ("act0",),
        ("conv10",),
        ("act1",),
        ("act0", "affine0"),
        ("add0",),
        ("act2", "act0"),
        ("concat0",),
        ("pool0",),
        ("sum0",),
        ("act3",),
        ("reshape0",),
    )
    return model(*nodes, wiring=wiring)


MODELS: dict[str, Callable[[], IntegerModel]] = {
    "conv": lambda: model(conv("conv0", 5, 1, window((3, 2)))),
    "conv strided, padded, dilated": lambda: model(conv("conv0", 6, 2, window((2, 3), (2, 1), (1, 2), (0, 1), (2, 1)))),
    "conv depthwise": lambda: model(conv("conv0", 8, 4, window((3, 3), begin=(1, 1), end=(1, 1)))),
    "conv one-dimensional": lambda: model(
        conv("conv0", 3, 1, Window((3,), (2,), (1,), (0,), (1,))), threshold("act0", 3, 60), shape=(4, 9)
    ),
    "conv of signed codes, padded": lambda: model(
        conv("conv0", 3, 1, window((3, 3), begin=(1, 1), end=(1, 1))), source=INT4
    ),
    "threshold": lambda: model(conv("conv0", 5, 1, window((3, 3))), threshold("act0", 5, 200)),
    "threshold of signed codes": lambda: model(
        conv("conv0", 5, 1, window((3, 3))),
        threshold("act0", 5, 200, lowest=-8),
        conv("conv01", 2, 1, window((1, 1)), 5),
    ),
    "threshold to bipolar codes": lambda: model(
        conv("conv0", 5, 1, window((3, 3))), threshold("act0", 5, 200, lowest=-1, levels=1, step=2)
    ),
    "affine of codes": lambda: model(Affine("affine0", np.array([3, -1, 0, 2]), np.array([0, 5, 9, -9]))),
    "max pool of codes": lambda: model(MaxPool("pool0", window((3, 2), (2, 2), (1, 0), (1, 1))), source=INT4),
    "max pool dilated and padded as far as its kernel allows": lambda: model(
        MaxPool("pool0", window((3, 2), (1, 2), (2, 1), (2, 1), (2, 2))), source=INT4
    ),
    "max pool of sums": lambda: model(conv("conv0", 3, 1, window((2, 2))), MaxPool("pool0", window((2, 2), (2, 1)))),
    "sum pool of windows": lambda: model(SumPool("sum0", window((2, 3), (2, 2), (1, 0), (0, 1))), source=INT4),
    "sum pool of a plane": lambda: model(SumPool("sum0", window((7, 6)))),
    "transpose": lambda: model(Transpose("transpose0", SHAPE, (2, 0, 1)), source=INT4),
    "pad of signed codes": lambda: model(Pad("pad0", (1, 0), (2, 3)), source=INT4),
    "pad of sums": lambda: model(conv("conv0", 2, 1, window((3, 3))), Pad("pad0", (1, 0), (2, 3))),
    "max pool of what is padded wider than its kernel": lambda: model(
        Pad("pad0", (0, 2), (3, 1)), MaxPool("pool0", window((2, 1)))
    ),
    "max pool of padded sums, most of them negative": lambda: model(
        Affine("affine0", np.array([-3, -1, -1, 2]), np.array([-5, -1, 0, -9])),
        Pad("pad0", (1, 0), (1, 1)),
        MaxPool("pool0", window((3, 2))),
    ),
    "max pool of padded signed codes": lambda: model(
        conv("conv0", 5, 1, window((3, 3))),
        threshold("act0", 5, 200, lowest=-8),
        Pad("pad0", (1, 1), (0, 1)),
        MaxPool("pool0", window((2, 2))),
    ),
    "top k": lambda: model(
        Reshape("reshape0", (4, 1, 2), (8,)), TopK("top0", 8, 3), shape=(4, 1, 2), source=IntegerType(1, signed=False)
    ),
    "residual": residual,
}


def executor_of(network: IntegerModel, folder: Path) -> OnnxInt8Executor:
    proto, layers = build(network)
    folder.mkdir()
    onnx.save_model(proto, folder / FILE)
    (folder / LAYERS).write_text(json.dumps(layers))
    return OnnxInt8Executor(Artifact("onnx-int8", "onnx-int8", folder, ""))


def samples(network: IntegerModel) -> Codes:
    codes = network.allowed_codes
    drawn = np.random.default_rng(1).choice(list(codes), size=(60, network.inputs)).astype(np.int64)
    drawn[0], drawn[1], drawn[2] = codes[0], codes[-1], 0
    return drawn


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_integer_model(tmp_path: Path, name: str) -> None:
    network = MODELS[name]()
    executor = executor_of(network, tmp_path / "out")
    codes = samples(network)
    expected = run(network, codes)
    np.testing.assert_array_equal(expected, executor(codes), strict=True)
    assert len(np.unique(expected)) > 1
    shown, layers = executor.trace(codes), trace(network, codes)
    assert all(np.array_equal(shown[layer], layers[layer]) for layer in shown)
    assert len(shown) >= len(network.nodes) - 1
    proofs = prove_requantization(network, executor)
    assert len(proofs) == len(network.nodes_of(Threshold))
    assert all(proof.holds and proof.cases for proof in proofs)


@pytest.mark.parametrize(("begin", "end"), [((2, 0), (0, 0)), ((0, 0), (0, 3)), ((2, 2), (2, 2))])
def test_a_max_pool_with_padding_that_onnxruntime_does_not_load_is_refused(begin: Shape, end: Shape) -> None:
    network = model(MaxPool("pool0", window((2, 3), (1, 1), begin, end, (2, 2))))
    said = (
        rf"^onnx-int8: pool0 \(max-pool\) pads {re.escape(str(begin))} before and {re.escape(str(end))} after, with a "
        r"kernel of \(2, 3\); onnxruntime loads padding below the size of the kernel on each axis: pad less, or by a "
        r"Pad node before it if none of its numbers is negative$"
    )
    with pytest.raises(StageError, match=said):
        OnnxInt8Target().require_supported(network)


def test_a_max_pool_padded_otherwise_as_its_refusal_says_gives_the_same(tmp_path: Path) -> None:
    refused = model(MaxPool("pool0", window((2, 2), (1, 1), (2, 1), (1, 2), (2, 2))))
    padded = model(Pad("pad0", (2, 1), (1, 2)), MaxPool("pool0", window((2, 2), dilations=(2, 2))))
    codes = samples(refused)
    np.testing.assert_array_equal(run(refused, codes), executor_of(padded, tmp_path / "out")(codes), strict=True)


def test_one_weight_more_and_one_threshold_more_are_found(tmp_path: Path) -> None:
    network = residual()
    executor = executor_of(network, tmp_path / "out")
    first, second = network.nodes[0], network.nodes[6]
    assert isinstance(first, Conv)
    assert isinstance(second, Threshold)
    weights = first.weights.copy()
    weights[0, 0, 1, 1] += 1 if weights[0, 0, 1, 1] < 3 else -1
    other = replace(network, nodes=(replace(first, weights=weights), *network.nodes[1:]))
    assert (run(other, samples(network)) != executor(samples(network))).any()
    moved = replace(second, thresholds=second.thresholds + 1)
    other = replace(network, nodes=(*network.nodes[:6], moved, *network.nodes[7:]))
    assert [proof.holds for proof in prove_requantization(other, executor)] == [True, True, False, True]
