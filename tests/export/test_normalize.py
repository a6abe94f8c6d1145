"""Normalization changes the form of a file and not one of its values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_files import CHANNELS_LAST, FILES, GENERAL, Attribute, ForeignFile, weights
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from run_qonnx import run_qonnx

from bitproof.export.importer import normalize
from bitproof.pipeline import InputError

ZOO = Path(__file__).parent.parent.parent.parent / "shared" / "models"
"""Files that others made; they are not part of the project."""


def operations(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def samples(model: onnx.ModelProto, count: int) -> NDArray[np.float32]:
    sizes = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    # Multiples of 1/8: no sum of a few is rounded, so none depends on the order in which a batch is summed up.
    values = np.random.default_rng(0).integers(-40, 40, size=(count, *sizes)) / 8
    return values.astype(np.float32)


def require_same_values(original: onnx.ModelProto, count: int = 30) -> onnx.ModelProto:
    """Run both forms on many samples, the original one at a time, as it was written for; return the new form."""
    normalized = normalize(original)
    values = samples(normalized, count)
    expected = np.concatenate([run_qonnx(original, values[row : row + 1]) for row in range(count)])
    actual = run_qonnx(normalized, values)
    assert expected.shape == actual.shape
    assert np.array_equal(expected, actual)
    assert len(np.unique(expected)) > 1, "the values would not show a difference"
    return normalized


@pytest.mark.parametrize("name", FILES)
def test_a_normalized_file_gives_the_same_values(name: str) -> None:
    require_same_values(FILES[name]())


@pytest.mark.parametrize("name", FILES)
def test_the_comparison_sees_another_value_of_one_constant(name: str) -> None:
    original = FILES[name]()
    other = FILES[name]()
    # the zero point of the first quantizer, else its scale
    quant = next(node for node in other.graph.node if "Quant" in node.op_type)
    tensor = next(t for t in other.graph.initializer if t.name == quant.input[min(2, len(quant.input) - 1)])
    tensor.CopyFrom(numpy_helper.from_array(np.float32(2) + numpy_helper.to_array(tensor), tensor.name))
    values = samples(normalize(original), 30)
    expected = np.concatenate([run_qonnx(original, values[row : row + 1]) for row in range(30)])
    assert not np.array_equal(expected, run_qonnx(normalize(other), values))


@pytest.mark.parametrize("name", FILES)
def test_normalizing_is_deterministic_leaves_its_argument_alone_and_changes_nothing_the_second_time(name: str) -> None:
    original = FILES[name]()
    before = original.SerializeToString(deterministic=True)
    once = normalize(original)
    assert original.SerializeToString(deterministic=True) == before
    assert normalize(original).SerializeToString(deterministic=True) == once.SerializeToString(deterministic=True)
    assert normalize(once) == once
    onnx.checker.check_graph(once.graph, checker_context(once))


def checker_context(model: onnx.ModelProto) -> onnx.checker.C.CheckerContext:
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
    return context


def test_shape_arithmetic_becomes_a_constant_shape_with_an_open_batch() -> None:
    model = normalize(FILES["old-convolutional"]())
    assert operations(model) == [
        *("Quant", "Quant", "Conv", "BatchNormalization", "Relu", "Quant", "MaxPool", "Reshape", "Quant", "MatMul"),
        *("Sub", "Div"),
    ]
    reshape = model.graph.node[7]
    assert constants(model)[reshape.input[1]].tolist() == [-1, 12]
    dims = [
        [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert dims == [["N", 2, 6, 6], ["N", 5]]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20), (GENERAL, 1)]


def test_what_has_no_meaning_is_gone_and_weights_are_rearranged_before_their_quantizer() -> None:
    model = normalize(FILES["wordy"]())
    assert operations(model) == ["Mul", "Quant", "Quant", "Gemm", "Clip", "Quant"]
    assert {node.domain for node in model.graph.node} == {"", GENERAL}
    assert constants(model)[model.graph.node[2].input[0]].shape == (2, 3)


def test_channels_last_operations_stand_between_transposes() -> None:
    model = normalize(FILES["channels-last"]())
    assert not any(node.domain == CHANNELS_LAST for node in model.graph.node)
    assert "MaxPoolNHWC" not in operations(model)
    layouts = {
        node.op_type: helper.get_node_attr_value(node, "data_layout")
        for node in model.graph.node
        if node.op_type in ("MultiThreshold", "QuantAvgPool2d")
    }
    assert layouts == {"MultiThreshold": b"NCHW", "QuantAvgPool2d": b"NCHW"}


@pytest.mark.parametrize("layout", ["", "NWC"])
def test_a_multithreshold_on_three_axes_is_channels_last_unless_it_says_otherwise(layout: str) -> None:
    file = ForeignFile()
    table = file.constant(np.sort(weights((4, 3), 1), axis=1))
    options = {"data_layout": layout} if layout else {}
    tensor = file.add("MultiThreshold", "input", table, domain=GENERAL, out_dtype="UINT2", **options)
    assert operations(require_same_values(file.model(tensor, [1, 5, 4], [1, 5, 4]))) == [
        "Transpose",
        "MultiThreshold",
        "Transpose",
    ]


@pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_automatic_padding_becomes_the_pads_that_it_stands_for(padding: str, stride: int) -> None:
    file = ForeignFile()
    kernel = file.quant(file.constant(weights((3, 2, 4, 3), 1)), 0.25, 4)
    tensor = file.add("Conv", "input", kernel, auto_pad=padding, strides=[stride, stride], kernel_shape=[4, 3])
    tensor = file.add("MaxPool", tensor, auto_pad=padding, strides=[1, 1], kernel_shape=[2, 2])
    model = require_same_values(file.model(tensor, [1, 2, 9, 8], None))
    for node in model.graph.node:
        assert "auto_pad" not in {attribute.name for attribute in node.attribute}


def test_old_forms_become_those_of_opset_20() -> None:
    file = ForeignFile(opset=9)
    tensor = file.add("Unsqueeze", "input", axes=[1])
    tensor = file.add("Pad", tensor, mode="constant", pads=[0, 0, 1, 0, 0, 2], value=0.5)
    tensor = file.add("Clip", tensor, min=-1.0, max=1.5)
    tensor = file.add("Slice", tensor, starts=[1], ends=[5], axes=[2])
    tensor = file.add("Squeeze", tensor, axes=[1])
    tensor = file.add("Softmax", file.add("ReduceMean", tensor, axes=[1], keepdims=1))
    tensor = file.add("Add", tensor, file.add("Cast", "input", to=1))
    model = require_same_values(file.model(tensor, [1, 6], [1, 6]))
    inputs = [f"{node.op_type} {len(node.input)}" for node in model.graph.node]
    assert inputs == [
        *("Unsqueeze 2", "Pad 3", "Clip 3", "Slice 4", "Squeeze 2", "ReduceMean 2", "Softmax 1", "Add 2"),
    ]


def test_constants_are_folded_in_binary32_and_quantizers_of_constants_stay() -> None:
    file = ForeignFile()
    variance = file.add("Sqrt", file.add("Add", file.constant([2.0, 3.0]), file.constant(1e-5)))
    scale = file.add("Div", file.constant([0.3, -0.7]), variance)
    tensor = file.add("Mul", "input", scale)
    linear = file.quant(file.add("Mul", file.constant(weights((2, 2), 1)), file.constant(1.5)), 0.25, 3)
    model = require_same_values(file.model(file.add("Gemm", tensor, linear), [1, 2], [1, 2]))
    assert operations(model) == ["Mul", "Quant", "Gemm"]
    expected = np.array([0.3, -0.7], dtype=np.float32) / np.sqrt(np.array([2, 3], dtype=np.float32) + np.float32(1e-5))
    assert np.array_equal(constants(model)[model.graph.node[0].input[1]], expected)


@pytest.mark.parametrize("scale", [0.5, [[0.5], [0.25], [0.125]]])
def test_transposed_weights_keep_the_scale_of_each_channel(scale: float | list[list[float]]) -> None:
    file = ForeignFile()
    linear = file.add("Transpose", file.quant(file.constant(weights((3, 4), 2)), scale, 4))
    model = require_same_values(file.model(file.add("MatMul", "input", linear), [1, 4], [1, 3]))
    assert operations(model) == ["Quant", "MatMul"]


def test_weights_that_are_used_twice_stay_for_who_takes_them_as_they_are() -> None:
    file = ForeignFile()
    square = file.quant(file.constant(weights((3, 3), 3)), 0.5, 4)
    tensor = file.add("MatMul", file.add("MatMul", "input", square), file.add("Transpose", square))
    assert operations(require_same_values(file.model(tensor, [1, 3], [1, 3]))) == ["Quant", "MatMul", "Quant", "MatMul"]


@pytest.mark.parametrize(
    ("batch", "given"), [(1, [1, 12]), (4, [4, -1]), ("N", [-1, 12]), ("N", [0, -1]), (0, [1, 12])]
)
def test_a_reshape_keeps_the_samples_apart(batch: int | str, given: list[int]) -> None:
    file = ForeignFile()
    tensor = file.add("Reshape", file.add("Relu", "input"), file.constant(given, np.int64))
    model = normalize(file.model(tensor, [batch, 3, 4], [batch, 12]))
    assert constants(model)[model.graph.node[1].input[1]].tolist() == [-1, 12]


@pytest.mark.parametrize(("batch", "given"), [(1, [12]), (4, [2, 24]), ("N", [1, -1]), ("N", [-1, 6]), (2, [3, 8])])
def test_a_reshape_that_mixes_samples_is_refused(batch: int | str, given: list[int]) -> None:
    file = ForeignFile()
    tensor = file.add("Reshape", file.add("Relu", "input"), file.constant(given, np.int64))
    with pytest.raises(InputError, match=r"node 'Reshape_t1' \(Reshape\): reshapes .* the samples must stay apart"):
        normalize(file.model(tensor, [batch, 3, 4], [batch, 12]))


@pytest.mark.parametrize(
    ("operation", "attributes"),
    [
        ("ReduceMean", {"axes": [0]}),
        ("ArgMax", {}),
        ("Flatten", {"axis": 0}),
        ("Transpose", {}),
        ("Squeeze", {"axes": [0]}),
    ],
)
def test_an_operation_across_samples_is_refused(operation: str, attributes: dict[str, Attribute]) -> None:
    file = ForeignFile(opset=11)
    tensor = file.add(operation, file.add("Relu", "input"), domain="", **attributes)
    with pytest.raises(
        InputError, match=rf"node '{operation}_t1' .* the samples must stay apart, with the batch first"
    ):
        normalize(file.model(tensor, [1, 3, 4], None))


def test_operations_without_an_integer_form_are_left_to_the_lowering() -> None:
    file = ForeignFile()
    tensor = file.add("Erf", file.add("Wavelet", "input", domain="elsewhere"))
    assert operations(normalize(file.model(tensor, [1, 3], [1, 3]))) == ["Wavelet", "Erf"]


@pytest.mark.parametrize("name", ["TFC_2W2A.onnx", "unsw_nb15_mlp_w2a2.onnx"])
def test_files_of_the_model_zoo_give_the_same_values(name: str) -> None:
    if not (ZOO / name).is_file():
        pytest.skip(f"{ZOO / name} is not there")
    model = onnx.load(ZOO / name)
    # qonnx refuses values that are not those of the annotated type, which is bipolar for the second file.
    values = np.random.default_rng(0).choice(
        np.array([-1, 1], dtype=np.float32), size=samples(normalize(model), 20).shape
    )
    expected = np.concatenate([run_qonnx(model, values[row : row + 1]) for row in range(len(values))])
    assert np.array_equal(expected, run_qonnx(normalize(model), values))


def test_versions_of_the_one_versioned_operation_may_not_be_mixed() -> None:
    file = ForeignFile()
    parameters = [file.constant(value) for value in (0.5, 0.0, 4.0, 2.0)]
    tensor = file.add("Trunc", "input", *parameters, domain=GENERAL, rounding_mode="FLOOR")
    tensor = file.add("Trunc", tensor, *parameters, domain="onnx.brevitas", rounding_mode="FLOOR")
    model = file.model(tensor, [1, 3], [1, 3])
    assert normalize(model).opset_import[1].version == 1
    model.opset_import[1].version = 2
    with pytest.raises(InputError, match="mixes versions"):
        normalize(model)
