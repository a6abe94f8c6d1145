"""Graphs as FINN and qonnx streamline them: thresholds of any scale, lowered convolutions, XNOR popcounts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import Subject, differences, random_codes, reals_of
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.bipolar_to_xnor import ConvertBipolarMatMulToXnorPopcount
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
from qonnx_files import CUSTOM, QonnxFile
from small_graphs import THRESHOLDS, Case, multi_threshold, subject_of, vector, whole

from bitproof.export.importer.normalize import normalize
from bitproof.export.integer import Conv, MatMul, Threshold, run
from bitproof.export.lower import lower_file
from bitproof.export.lowering.lower import lower_graph
from bitproof.pipeline import InputError


def normalized(model: onnx.ModelProto, path: Path) -> Subject:
    result = normalize(model)
    return Subject(result, lower_graph(result, path, "net"))


def test_bipolar_thresholds_are_codes_two_apart(tmp_path: Path) -> None:
    file, source = vector()
    product = file.add("Gemm", [source, file.weights(whole(1, 4, 6))], transB=1)
    output = multi_threshold(THRESHOLDS[:, :1], out_scale=2.0, out_bias=-1.0)(file, product)
    subject = subject_of(tmp_path, Case(file, (6,), output, (4,)))
    (node,) = (node for node in subject.model.nodes if isinstance(node, Threshold))
    assert (node.lowest, node.step, float(subject.model.output_scale)) == (-1, 2, 1.0)
    assert subject.model.output_codings == ()
    assert set(np.unique(run(subject.model, random_codes(subject.model, 1)))) == {-1, 1}


def lowered_convolutions() -> onnx.ModelProto:
    """Two convolutions behind thresholds, each Im2Col and a matrix product, as qonnx lowers them."""
    file = QonnxFile()
    source = file.quant("input", 0.5, 3, signed=1)
    first = file.add(
        "Conv",
        [source, file.constant(whole(1, 4, 3, 3, 2))],
        kernel_shape=[3, 2],
        pads=[1, 0, 1, 1],
        strides=[2, 1],
        dilations=[1, 1],
        group=1,
    )
    codes = multi_threshold(THRESHOLDS, out_scale=0.5, out_bias=-1.25, data_layout="NCHW")(file, first)
    second = file.add(
        "Conv",
        [codes, file.constant(whole(2, 4, 1, 2, 2))],
        kernel_shape=[2, 2],
        pads=[0, 1, 0, 1],
        strides=[1, 1],
        dilations=[1, 1],
        group=4,
    )
    model = file.proto((3, 6, 5), second, (4, 2, 6))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    wrapper = ModelWrapper(model).transform(InferShapes()).transform(LowerConvsToMatMul())
    lowered: onnx.ModelProto = wrapper.model
    assert [node.op_type for node in lowered.graph.node].count("Im2Col") == 2
    return lowered


def test_lowered_convolutions_are_convolutions_again(tmp_path: Path) -> None:
    subject = normalized(lowered_convolutions(), tmp_path / "lowered.onnx")
    assert len([node for node in subject.model.nodes if isinstance(node, Conv)]) == 2
    assert differences(subject, random_codes(subject.model, 1)) == []
    assert differences_from_original(subject) == 0


def differences_from_original(subject: Subject) -> int:
    """Return how many outputs of *subject* differ from those of qonnx's own Im2Col, sample by sample."""

    codes = random_codes(subject.model, 2, 20)
    wrapper = ModelWrapper(lowered_convolutions())
    outputs = [
        execute_onnx(wrapper, {"input": values[None]})[wrapper.graph.output[0].name] for values in subject.inputs(codes)
    ]
    reals = reals_of(subject.model, run(subject.model, codes))
    return int((reals != np.concatenate(outputs)).sum())


@pytest.mark.parametrize("wrong", [False, True])
def test_xnor_popcounts_count_equal_bits(tmp_path: Path, wrong: bool) -> None:
    file = QonnxFile()
    bits = multi_threshold(np.array([[0.25]]), data_layout="")(file, "input")
    weights = np.random.default_rng(5).integers(0, 2, size=(7, 5)).astype(np.float64)
    weights[0, 0] = 2 if wrong else weights[0, 0]
    count = file.add("XnorPopcountMatMul", [bits, file.constant(weights)], CUSTOM)
    model = file.proto(7, count, 5)
    if wrong:
        with pytest.raises(InputError, match=r"has weights other than 0 and 1; it counts equal bits"):
            normalize(model)
        return
    subject = normalized(model, tmp_path / "xnor.onnx")
    codes = np.random.default_rng(6).integers(0, 2, size=(128, 7))
    equal = (codes[:, :, None] == weights[None]).sum(axis=1)
    assert (run(subject.model, codes) == equal).all()
    assert isinstance(subject.model.nodes[0], MatMul)


def test_bipolar_products_that_qonnx_turns_into_popcounts(tmp_path: Path) -> None:
    file = QonnxFile()
    bits = multi_threshold(np.array([[0.25]]), out_dtype="BIPOLAR", out_scale=2.0, out_bias=-1.0)(file, "input")
    weights = file.constant(2.0 * np.random.default_rng(5).integers(0, 2, size=(7, 5)) - 1)
    product = file.add("MatMul", [bits, weights])
    model = file.proto(7, product, 5)
    wrapper = ModelWrapper(model).transform(InferShapes())
    for tensor in (bits, weights):
        wrapper.set_tensor_datatype(tensor, DataType["BIPOLAR"])
    converted = wrapper.transform(ConvertBipolarMatMulToXnorPopcount()).model
    assert "XnorPopcountMatMul" in [node.op_type for node in converted.graph.node]
    before, after = normalized(model, tmp_path / "a.onnx"), normalized(converted, tmp_path / "b.onnx")
    steps = np.random.default_rng(6).integers(0, 2, size=(128, 7))
    outputs = []
    for subject in (before, after):
        allowed = np.array(subject.model.allowed_codes)
        outputs.append(reals_of(subject.model, run(subject.model, allowed[steps])))
    assert (outputs[0] == outputs[1]).all()
    assert len(np.unique(outputs[0])) > 3


def test_hardware_layers_of_finn_are_refused_with_what_to_do(tmp_path: Path) -> None:
    file, source = vector()
    node = file.add("MVAU_hls", [source], "finn.custom_op.fpgadataflow.hls")
    path = file.save(tmp_path / "m.onnx", 6, node, 6)
    with pytest.raises(InputError) as caught:
        lower_file(path)
    assert str(caught.value).splitlines()[1].strip() == (
        "t1 (MVAU_hls): is a hardware layer of FINN; import the file as it is before FINN's conversion to hardware "
        "layers: the QONNX file, or the streamlined one of MultiThreshold and MatMul"
    )


def test_integer_operators_are_refused_with_what_to_do(tmp_path: Path) -> None:
    file, source = vector()
    node = file.add("QLinearConv", [source])
    with pytest.raises(InputError) as caught:
        lower_file(file.save(tmp_path / "m.onnx", 6, node, 6))
    assert str(caught.value).splitlines()[1].strip() == (
        "t1 (QLinearConv): calculates with integer tensors (QOperator format, or dynamic quantization); write the file "
        "with QuantizeLinear and DequantizeLinear: quantize_static(..., quant_format=QuantFormat.QDQ)"
    )
