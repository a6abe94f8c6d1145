"""What cannot be represented is refused as the user's mistake, and the message names it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_files import FILES, GENERAL, ForeignFile, weights
from onnx import TensorProto, helper

from bitproof.export.importer import normalize
from bitproof.export.qonnx import load_qonnx
from bitproof.pipeline import InputError


def small() -> onnx.ModelProto:
    file = ForeignFile()
    linear = file.quant(file.constant(weights((2, 3), 1)), 0.5, 3)
    tensor = file.add("Gemm", file.quant("input", 0.25, 4), linear, transB=1)
    return file.model(tensor, ["N", 3], ["N", 2])


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[0] = "t3"
    model.graph.node.append(helper.make_node("Relu", ["t2"], ["t3"], name="back"))


def missing_tensor(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[0] = "nowhere"


def made_twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["input"], ["t2"]))


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 3]))
    model.graph.node[0].input[0] = "mask"
    model.graph.node[2].input[0] = "sum"
    model.graph.node.append(helper.make_node("Add", ["t0", "input"], ["sum"]))


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def declared_huge(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1 << 40


def cut_short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"\0" * 8


def of_text(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [1], [b"a"]))


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(helper.make_tensor("few", TensorProto.FLOAT, [1], [1.0]))


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="Own", domain="own", output=["y"])


def subgraph(model: onnx.ModelProto) -> None:
    branch = helper.make_attribute("then_branch", helper.make_graph([], "branch", [], []))
    model.graph.node[2].attribute.append(branch)


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 6


def unknown_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def unknown_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def integer_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def open_width(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "W"


def no_batch(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[0]


def huge_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1 << 40


def explosion(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "size"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["bomb"], name="bomb"))
    model.graph.node[2].input[0] = "bomb"


def constant_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "c0"


def without_signed(model: onnx.ModelProto) -> None:
    kept = [attribute for attribute in model.graph.node[0].attribute if attribute.name != "signed"]
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.extend(kept)


def attribute_of_another_type(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute[0].CopyFrom(helper.make_attribute("transB", "yes"))


def not_a_number(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute.append(helper.make_attribute("alpha", float("nan")))


REFUSALS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "cycle": (cycle, "the graph has a cycle through, or before, the nodes Gemm_t2, back"),
    "missing tensor": (missing_tensor, "node 'Gemm_t2' (Gemm): takes the tensor 'nowhere', which is not in the file"),
    "made twice": (made_twice, "the tensor 't2' is defined 2 times; once is allowed"),
    "second input": (second_input, "the network has 2 inputs (input, mask); one is supported"),
    "external": (
        external,
        (
            "the constant 'c0' lies outside the file, in '../../etc/passwd', which is not followed; save the model "
            "with its data inside"
        ),
    ),
    "declared huge": (
        declared_huge,
        "the constant 'c0' has the shape [1099511627776, 3]; at most 268435456 numbers",
    ),
    "cut short": (cut_short, "the constant 'c0' of shape [2, 3] does not hold 6 numbers"),
    "text": (of_text, "the constant 'words' has the type STRING, which is not supported"),
    "sparse": (sparse, "the file holds sparse constants (few); store them as dense ones"),
    "function": (function, "the file defines functions of its own (Own); inline them before the import"),
    "subgraph": (
        subgraph,
        "node 'Gemm_t2' (Gemm): attribute 'then_branch' is a graph of its own (If, Loop, Scan); unroll it",
    ),
    "old opset": (old_opset, "the file has opset 6; supported: 7 to 26"),
    "unknown opset": (unknown_opset, "the file has opset 99; supported: 7 to 26"),
    "unknown IR": (unknown_ir, "the file has ONNX IR version 99; supported: 3 to 13"),
    "integer input": (integer_input, "the input 'input' holds UINT8; supported: FLOAT, 32 bits"),
    "open width": (
        open_width,
        (
            "the input 'input' has the shape ['N', 'W']; supported: the batch first, then at least one size, all of "
            "them fixed"
        ),
    ),
    "no batch": (
        no_batch,
        "the input 'input' has the shape [3]; supported: the batch first, then at least one size, all of them fixed",
    ),
    "huge input": (huge_input, "the input 'input' has more than 4194304 numbers a sample"),
    "explosion": (
        explosion,
        "node 'bomb' (ConstantOfShape): the constants that the file computes would hold more than 67108864 numbers",
    ),
    "constant output": (constant_output, "the output 'c0' does not depend on the input"),
    "no attribute": (without_signed, "node 'Quant_t0' (Quant): has no attribute 'signed'"),
    "another type": (
        attribute_of_another_type,
        "node 'Gemm_t2' (Gemm): attribute 'transB' is not an integer",
    ),
    "not a number": (not_a_number, "node 'Gemm_t2' (Gemm): attribute 'alpha' is nan; a finite number is expected"),
}


def test_the_undamaged_file_is_accepted() -> None:
    assert len(normalize(small()).graph.node) == 3


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_what_and_where(name: str) -> None:
    damage, message = REFUSALS[name]
    model = small()
    damage(model)
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        normalize(model)


def test_an_attribute_that_the_schema_of_onnx_does_not_know_is_refused() -> None:
    model = small()
    model.graph.node[2].attribute.append(helper.make_attribute("spare", 1))
    with pytest.raises(InputError, match=r"node 'Gemm_t2' \(Gemm\): is not what ONNX asks for: .*spare"):
        normalize(model)


@pytest.mark.parametrize("kind", ["Expand", "Tile", "Range", "Mul"])
def test_a_few_bytes_cannot_ask_for_any_number_of_constants(kind: str) -> None:
    file = ForeignFile()
    one, many = file.constant(1, np.int64), file.constant(1 << 40, np.int64)
    row, column = file.constant(np.ones((1, 1 << 14))), file.constant(np.ones((1 << 14, 1)))
    size = file.constant([1 << 40], np.int64)
    inputs = {"Range": [one, many, one], "Mul": [row, column]}.get(kind, [file.constant([1.0]), size])
    tensor = file.add("Add", "input", file.add(kind, *inputs))
    with pytest.raises(InputError, match=f"node '{kind}_t0' .* would hold more than 67108864 numbers"):
        normalize(file.model(tensor, ["N", 3], None))


def test_a_division_of_integers_by_zero_is_left_in_the_file() -> None:
    file = ForeignFile()
    quotient = file.add("Div", file.constant([4], np.int64), file.constant([0], np.int64))
    tensor = file.add("Add", "input", file.add("Cast", quotient, to=TensorProto.FLOAT))
    assert [node.op_type for node in normalize(file.model(tensor, ["N", 3], None)).graph.node] == ["Div", "Cast", "Add"]


def test_a_deep_chain_of_nodes_is_no_recursion() -> None:
    file = ForeignFile()
    tensor = "input"
    for _ in range(2_400):
        tensor = file.add("Neg", tensor)
    assert len(normalize(file.model(tensor, ["N", 3], None)).graph.node) == 2_400


def test_a_name_that_is_not_utf8_is_refused() -> None:
    damaged = FILES["binary"]().SerializeToString().replace(b"Gemm_t3", b"Gemm\xff\xfe3")
    with pytest.raises(InputError, match="is not UTF-8"):
        normalize(onnx.ModelProto.FromString(damaged))


def test_an_unknown_quantizer_input_count_is_refused() -> None:
    model = small()
    del model.graph.node[0].input[3]
    with pytest.raises(InputError, match=r"node 'Quant_t0' \(Quant\): has 3 inputs and 1 outputs; 4 and 1"):
        normalize(model)
    model = small()
    model.graph.node[0].domain = GENERAL + ".other"
    assert normalize(model).graph.node[0].domain == GENERAL + ".other"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes; an ONNX file of 1 to 1073741824 bytes is read"),
        (b"not an ONNX file at all", "is not a readable ONNX file"),
        (small().SerializeToString()[:-40], "is not a readable ONNX file"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "is not an ONNX file with a network"),
    ],
)
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_qonnx(path)


def test_a_missing_file_a_folder_a_pipe_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a readable ONNX file"):
        load_qonnx(tmp_path / "missing.onnx")
    with pytest.raises(InputError, match="is not a regular file"):
        load_qonnx(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(InputError, match="is not a regular file"):
        load_qonnx(tmp_path / "pipe.onnx")
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(InputError, match="has 1073741825 bytes"):
        load_qonnx(tmp_path / "huge.onnx")
