"""Networks with several outputs: constants among them are left out, and heads keep their names, shapes and scales."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_files import ForeignFile, weights
from mcu_host import host_executor
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from qonnx_files import QonnxFile
from written_onnx import Written

from bitproof.export.importer import PrepareVectors, normalize
from bitproof.export.importer.join_heads import KEY, heads_of
from bitproof.export.integer import Head, IntegerModel, MatMul, Threshold, load, run, save
from bitproof.export.lower import lower_file
from bitproof.export.lowering import Lowered, origins_of
from bitproof.export.qonnx_executor import QonnxExecutor
from bitproof.export.qonnx_executor import execute as execute_qonnx
from bitproof.hw.finn.walk import require_supported
from bitproof.pipeline import Artifact, Codes, InputError, StageContext, StageError
from bitproof.pipeline.import_config import source_file

Reals = NDArray[np.float32]


def two_heads(*, scale: float = 0.5, third: str | None = None) -> onnx.ModelProto:
    """A convolution whose codes are one output, and whose logits, with a bias, are another; both of shape and scale."""
    file = ForeignFile()
    source = file.quant("input", 0.25, 4, signed=1)
    kernel = file.quant(file.constant(weights((3, 2, 2, 2), 1)), 0.25, 3)
    features = file.quant(file.add("Relu", file.add("Conv", source, kernel)), scale, 4, signed=0)
    linear = file.quant(file.constant(weights((5, 12), 2)), 0.125, 4, narrow=1)
    bias = file.constant([0.5, -0.25, 0.0, 1.0, -2.0])
    logits = file.add("Gemm", file.add("Flatten", features), linear, bias, transB=1)
    model = file.model(logits, ["N", 2, 3, 3], ["N", 5])
    model.graph.output[0].name = "logits"
    model.graph.node[-1].output[0] = "logits"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = "features" if name == features else name
    model.graph.output.insert(0, helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 3, 2, 2]))
    if third is not None:
        model.graph.node.append(helper.make_node(third, ["logits"], ["third"], name="third", axis=1))
        model.graph.output.append(helper.make_tensor_value_info("third", TensorProto.FLOAT, None))
    return model


def lowered(model: onnx.ModelProto, folder: Path) -> Lowered:
    folder.mkdir(exist_ok=True)
    onnx.save_model(normalize(model), folder / "model.onnx")
    return lower_file(folder / "model.onnx")


def samples(model: IntegerModel) -> Codes:
    return np.random.default_rng(3).integers(-8, 8, size=(60, model.inputs))


def decoded(model: IntegerModel, codes: Codes, head: str) -> list[list[Fraction]]:
    """Return the exact real numbers of *head*, whose codes lie in its part of *codes*."""
    place = model.head_places[head]
    codings = model.output_codings or ()
    return [[codings[i].scale * int(row[i]) + codings[i].offset for i in place] for row in codes]


def test_each_head_gives_what_qonnx_gives_for_that_output(tmp_path: Path) -> None:
    file = two_heads()
    model = lowered(file, tmp_path).model
    assert model.heads == (Head("features", (3, 2, 2)), Head("logits", (5,)))
    assert model.head_places == {"features": range(12), "logits": range(12, 17)}
    codes = samples(model)
    outputs = run(model, codes)
    values = (codes * 0.25).astype(np.float32).reshape(-1, 2, 3, 3)
    gold = execute_qonnx(file, {"input": values}, ["features", "logits"])
    for name, real in gold.items():
        exact = [[Fraction(float(number)) for number in row] for row in real.reshape(len(codes), -1)]
        assert decoded(model, outputs, name) == exact
        assert len({tuple(row) for row in exact}) > 1
    swapped = replace(model, output_codings=model.output_codings[::-1])
    assert decoded(swapped, outputs, "logits") != decoded(model, outputs, "logits")


def test_qonnx_and_onnx_int8_give_all_heads_and_a_wrong_one_is_found(tmp_path: Path) -> None:
    result = lowered(two_heads(), tmp_path)
    model, codes = result.model, samples(result.model)
    normalized = onnx.load(tmp_path / "model.onnx")
    np.testing.assert_array_equal(QonnxExecutor(normalized, model, origins_of(result))(codes), run(model, codes))
    written = Written.of(model)
    assert written.unequal(model, codes) == []
    shapes = [[d.dim_value or d.dim_param for d in o.type.tensor_type.shape.dim] for o in written.proto.graph.output]
    assert shapes == [["N", 3, 2, 2], ["N", 5]]
    assert [output.name.partition(".")[0] for output in written.proto.graph.output] == ["features", "logits"]
    flipped, changed = written.with_flipped_weight(model, model.nodes_of(MatMul)[0], 7)
    assert (run(model, codes) != run(changed, codes))[:, :12].sum() == 0
    assert flipped.unequal(model, codes) == [
        "fc0",
        *(["affine0"] if "affine0" in written.layers["values"] else []),
        "output",
    ]


def test_heads_are_stored_with_the_model(tmp_path: Path) -> None:
    model = lowered(two_heads(), tmp_path).model
    save(model, tmp_path)
    assert load(tmp_path).heads == model.heads
    with pytest.raises(ValueError, match=r"the heads \[\(3, 2, 2\), \(4,\)\] are not 17 outputs"):
        replace(model, heads=(model.heads[0], Head("logits", (4,))))


def test_outputs_that_are_constants_are_left_out(tmp_path: Path) -> None:
    file = two_heads()
    file.graph.output.remove(file.graph.output[0])
    alone = lowered(file, tmp_path / "alone").model
    file.graph.initializer.append(numpy_helper.from_array(np.array(0.125, dtype=np.float32), "scale"))
    file.graph.node.append(helper.make_node("Identity", ["scale"], ["step"]))
    for name in ("scale", "step"):
        file.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    model = lowered(file, tmp_path / "constants").model
    assert model.heads == ()
    codes = samples(model)
    np.testing.assert_array_equal(run(model, codes), run(alone, codes), strict=True)
    del file.graph.output[0]
    with pytest.raises(InputError, match=r"no output of the file \('scale', 'step'\) depends on the input 'input'"):
        normalize(file)


def test_heads_that_cannot_be_carried_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the output 'third', one of 3, holds indices of classes"):
        lowered(two_heads(third="ArgMax"), tmp_path)
    with pytest.raises(InputError, match=r"third \(Softmax\): is not the last node"):
        lowered(two_heads(third="Softmax"), tmp_path)
    model = lowered(two_heads(), tmp_path).model
    with pytest.raises(StageError, match=r"has no form for reshape\d \(reshape\), which moves codes on the way"):
        require_supported(model)


@pytest.mark.tool
def test_heads_are_the_outputs_of_generated_c(tmp_path: Path) -> None:
    model = lowered(two_heads(), tmp_path).model
    codes = samples(model)
    np.testing.assert_array_equal(
        host_executor(model, tmp_path / "host", lanes=1)(codes), run(model, codes), strict=True
    )


def test_damaged_metadata_is_refused() -> None:
    model = normalize(two_heads())
    assert [name for name, _, _ in heads_of(model)] == ["features", "logits"]
    model.metadata_props[0].value = "[1]"
    with pytest.raises(InputError, match=f"the metadata '{KEY}' of the file is damaged"):
        heads_of(model)


def test_float_references_show_a_network_that_ends_with_codes(tmp_path: Path) -> None:
    file = two_heads()
    file.graph.output.remove(file.graph.output[1])
    result = lowered(file, tmp_path)
    model, codes = result.model, samples(result.model)
    assert [node.name for node in model.nodes][-1] == model.nodes_of(Threshold)[0].name
    executor = QonnxExecutor(onnx.load(tmp_path / "model.onnx"), model, origins_of(result))
    seen = executor.observe(codes)
    np.testing.assert_array_equal(seen.codes, run(model, codes), strict=True)
    np.testing.assert_array_equal(seen.layers[model.nodes_of(Threshold)[0].name].reshape(len(codes), -1), seen.codes)


def test_labels_are_refused_for_several_outputs(tmp_path: Path) -> None:
    for name in ("export", "data", "scratch"):
        (tmp_path / name).mkdir()
    onnx.save_model(normalize(two_heads()), tmp_path / "export" / "model.onnx")
    np.save(tmp_path / "x.npy", np.zeros((4, 18), dtype=np.int64))
    np.save(tmp_path / "y.npy", np.zeros(4, dtype=np.int64))
    stage = PrepareVectors(source_file(tmp_path / "x.npy"), source_file(tmp_path / "y.npy"), samples=4, split="vectors")
    with pytest.raises(
        InputError, match=r"labels have no meaning for a network with several outputs \(features, logits\)"
    ):
        stage.run(
            Artifact("export", "qonnx", tmp_path / "export", ""),
            StageContext(tmp_path / "data", tmp_path / "scratch", 0),
        )


def test_an_output_that_is_listed_twice_is_refused() -> None:
    model = two_heads()
    name = model.graph.output[0].name
    model.graph.output.append(model.graph.output[0])
    with pytest.raises(InputError, match=rf"^the output '{name}' is listed 2 times; list each output once$"):
        normalize(model)


def test_an_input_that_is_divided_by_0_is_refused(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant(file.add("Div", ["input", file.constant(0.0)]), 0.5, 4, signed=1)
    output = file.add("Gemm", [source, file.weights(np.eye(2))], transB=1)
    with pytest.raises(InputError, match=r"t0 \(Div\): divides by 0"):
        lower_file(file.save(tmp_path / "net" / "m.onnx", 2, output, 2))
