"""One weight bit of any layer is flipped where it was asked for, shows where it can, and is found there first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreign_files import ForeignFile, weights
from qonnx_files import random_mlp

from bitproof.commands.verify import Flip
from bitproof.export.divergence import explain
from bitproof.export.executors import IntegerExecutor
from bitproof.export.importer import normalize
from bitproof.export.integer import Conv, IntegerModel, MatMul, choose_weight, flip_weight_bit, load, run, save
from bitproof.export.lower import lower
from bitproof.export.lowering import lower_graph
from bitproof.export.onnx_int8 import OnnxInt8Executor, WriteOnnxInt8
from bitproof.export.onnx_int8 import flip_weight_bit as flip_packed_bit
from bitproof.pipeline import Artifact, Codes, ConfigError, Executor, StageContext

Flipping = Callable[..., str]


def convolutional() -> IntegerModel:
    """Return three convolutions, the second of one channel a group, and a product."""
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4, signed=0)
    for seed, (members, groups) in enumerate(((2, 1), (1, 4), (4, 1))):
        kernel = file.quant(file.constant(weights((4, members, 3, 3), seed)), 0.25, 3)
        tensor = file.add("Relu", file.add("Conv", tensor, kernel, pads=[1, 1, 1, 1], group=groups))
        tensor = file.quant(tensor, 1.0, 4, signed=0)
    linear = file.quant(file.constant(weights((5, 4 * 25), 9)), 0.25, 3)
    tensor = file.add("Gemm", file.add("Flatten", tensor), linear, transB=1)
    return lower_graph(normalize(file.model(tensor, ["N", 2, 5, 5], None)), Path("net.onnx"), "net").model


def perceptron(folder: Path) -> IntegerModel:
    model, _ = lower(random_mlp(folder / "export" / "model.onnx", 2))
    return model


def codes_of(model: IntegerModel, samples: int = 100) -> Codes:
    allowed = model.allowed_codes
    return np.random.default_rng(0).integers(allowed[0], allowed[-1] + 1, size=(samples, model.inputs))


def artifact_of(model: IntegerModel, folder: Path, kind: str) -> Artifact:
    integer, out = folder / "integer", folder / "out"
    for path in (integer, out, folder / "scratch"):
        path.mkdir()
    save(model, integer)
    source = Artifact("integer", "integer-model", integer, "")
    if kind == "integer":
        return source
    WriteOnnxInt8().run(source, StageContext(out, folder / "scratch", 0))
    return Artifact("onnx-int8", kind, out, "")


KINDS: dict[str, tuple[Callable[[Artifact], Executor], Flipping]] = {
    "integer": (IntegerExecutor, flip_weight_bit),
    "onnx-int8": (OnnxInt8Executor, flip_packed_bit),
}


@pytest.mark.parametrize("layer", ["conv0", "conv1", "conv2", "fc0"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bit_of_any_layer_is_found_at_its_weight(kind: str, layer: str, tmp_path: Path) -> None:
    model = convolutional()
    codes = codes_of(model)
    make, flip = KINDS[kind]
    artifact = artifact_of(model, tmp_path, kind)
    assert explain(make(artifact), model, codes).ok
    weight = choose_weight(model, codes, node=layer, index=())
    assert (weight.node, weight.visible) == (layer, True)
    said = flip(artifact.path, node=weight.node, row=weight.row, column=weight.column)
    assert f"weight [{weight.row}, {weight.column}] of {layer}" in said
    found = explain(make(artifact), model, codes)
    assert found.differing_outputs > 0
    assert found.divergence is not None
    assert found.divergence.layer == layer
    assert str(list(weight.index)) in " ".join(found.divergence.lines())


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_that_is_named_is_the_one_that_is_flipped(kind: str, tmp_path: Path) -> None:
    model = convolutional()
    index = (3, 2, 0, 1)
    artifact = artifact_of(model, tmp_path, kind)
    weight = choose_weight(model, codes_of(model), node="conv2", index=index)
    assert (weight.index, weight.row, weight.column) == (index, 3, 2 * 9 + 1)
    make, flip = KINDS[kind]
    flip(artifact.path, node=weight.node, row=weight.row, column=weight.column)
    found = explain(make(artifact), model, codes_of(model)).divergence
    assert found is not None
    assert str(list(index)) in " ".join(found.lines())


def test_a_bit_of_the_integer_model_changes_that_weight_alone(tmp_path: Path) -> None:
    model = convolutional()
    artifact = artifact_of(model, tmp_path, "integer")
    flip_weight_bit(artifact.path, node=model.products[1].name, row=2, column=4)
    for number, (before, after) in enumerate(zip(model.products, load(artifact.path).products, strict=True)):
        differing = np.argwhere(before.weights != after.weights).tolist()
        assert differing == ([[2, 0, 1, 1]] if number == 1 else [])
    flip_weight_bit(artifact.path, node=model.products[1].name, row=2, column=4)
    assert all(
        (a.weights == b.weights).all() for a, b in zip(model.products, load(artifact.path).products, strict=True)
    )


def test_without_a_layer_the_last_is_meant(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    chosen = choose_weight(model, codes_of(model), node=None, index=())
    assert chosen.node == model.products[-1].name


def test_visible_is_what_the_integer_model_shows(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    codes = codes_of(model)
    expected, found = run(model, codes[:64]), []
    first = model.products[0]
    for index in np.ndindex(first.weights.shape):
        weight = choose_weight(model, codes, node=first.name, index=index)
        shown = []
        for delta in (-1, 1):
            save(model, tmp_path)
            changed = load(tmp_path)
            changed_weights = changed.products[0].weights
            changed_weights[index] += delta
            shown.append(bool((run(changed, codes[:64]) != expected).any()))
        assert weight.visible == all(shown)
        found.append(weight.visible)
    assert {True, False} == set(found)


@pytest.mark.parametrize(
    ("node", "index", "message"),
    [
        ("fc9", (), "no bit of 'fc9' can be flipped; .* hold weights: conv0, conv1, conv2, fc0"),
        ("act0", (), "no bit of 'act0' can be flipped"),
        ("conv2", (0, 1), r"conv2 has no weight \[0, 1\]; its weights have the shape \[4, 4, 3, 3\]"),
        ("conv2", (0, 4, 0, 0), r"conv2 has no weight \[0, 4, 0, 0\]"),
        ("fc0", (5, 0), r"fc0 has no weight \[5, 0\]; its weights have the shape \[5, 100\]"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(node: str, index: tuple[int, ...], message: str) -> None:
    model = convolutional()
    with pytest.raises(ConfigError, match=message):
        choose_weight(model, codes_of(model, 2), node=node, index=index)


def test_products_are_matmuls_and_convolutions_in_order() -> None:
    model = convolutional()
    assert [(node.name, type(node)) for node in model.products] == [
        *((f"conv{i}", Conv) for i in range(3)),
        ("fc0", MatMul),
    ]


@pytest.mark.parametrize(
    ("spec", "flip"),
    [
        ("rtl", Flip("rtl")),
        ("c:cortex-m4", Flip("c:cortex-m4")),
        ("c:cortex-m4@fc1", Flip("c:cortex-m4", "fc1")),
        ("c:cortex-m4@fc1:0,12", Flip("c:cortex-m4", "fc1", (0, 12))),
        ("onnx-int8@conv2:0,3,1,1", Flip("onnx-int8", "conv2", (0, 3, 1, 1))),
    ],
)
def test_the_option_names_executor_layer_and_weight(spec: str, flip: Flip) -> None:
    assert Flip.parse(spec) == flip


@pytest.mark.parametrize("spec", ["", "@fc0", "rtl@", "rtl@fc0:", "rtl@fc0:1,", "rtl@fc0:-1,0", "rtl@fc0@fc1", "a@b\n"])
def test_an_option_that_names_no_bit_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="write EXECUTOR, EXECUTOR@LAYER or EXECUTOR@LAYER:I,J"):
        Flip.parse(spec)
