"""What onnx's own shape inference and opset converter do with files that the importer takes or refuses by name."""

from __future__ import annotations

import signal
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference, version_converter


def one_node(node: onnx.NodeProto, sizes: list[int | str], opset: int, **constants: object) -> onnx.ModelProto:
    """Return a file of one *node* from x, float32 of *sizes*, to y."""
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def test_a_stride_of_0_ends_the_process_of_shape_inference(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], strides=[0, 0])
    onnx.save_model(one_node(conv, [1, 1, 8, 8], 20, w=np.ones((1, 1, 3, 3), dtype=np.float32)), tmp_path / "zero.onnx")
    paths = str(tmp_path / "zero.onnx"), str(tmp_path / "inferred.onnx")
    process = get_context("spawn").Process(target=shape_inference.infer_shapes_path, args=paths)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGFPE


def test_shape_inference_loses_the_batch_behind_a_reshape() -> None:
    reshape = helper.make_node("Reshape", ["x", "s"], ["y"])
    inferred = shape_inference.infer_shapes(one_node(reshape, ["N", 8, 8], 20, s=np.array([-1, 64], dtype=np.int64)))
    batch, _ = inferred.graph.output[0].type.tensor_type.shape.dim
    assert batch.dim_param != "N"


def test_the_converter_drops_names_and_names_no_node_in_its_errors() -> None:
    upsample = helper.make_node("Upsample", ["x", "s"], ["y"], name="up3", mode="nearest")
    file = one_node(upsample, ["N", 2, 8, 8], 9, s=np.array([1, 1, 2, 2], dtype=np.float32))
    converted = version_converter.convert_version(file, 20)
    assert [node.name for node in converted.graph.node if node.op_type == "Resize"] == [""]
    norm = helper.make_node("BatchNormalization", ["x", *"abmv"], ["y"], name="norm7", spatial=0)
    each = dict.fromkeys("abmv", np.ones((2, 8, 8), dtype=np.float32))
    with pytest.raises(RuntimeError, match="spatial must have value 1") as refused:
        version_converter.convert_version(one_node(norm, ["N", 2, 8, 8], 7, **each), 20)
    assert "norm7" not in str(refused.value)
