"""QuantizeLinear and DequantizeLinear: files of onnxruntime and Brevitas give the codes that onnxruntime gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import Subject, differences, random_codes, reals_of
from numpy.typing import NDArray
from onnx import numpy_helper
from qdq_files import (
    FloatArray,
    Sizes,
    float_cnn,
    float_mlp,
    normal,
    quantized,
    run_unoptimized,
    with_powers_of_two,
)
from qonnx_files import QonnxFile
from torch_graph import evaluate

from bitproof.export.importer.input_quantizer import require_input_quantizer, run_head
from bitproof.export.importer.normalize import normalize
from bitproof.export.integer import MatMul, Product, Quantizer, Rounding, run
from bitproof.export.lower import lower_file
from bitproof.export.lowering.lower import lower_graph
from bitproof.export.proofs import prove_lowering
from bitproof.pipeline import Codes, InputError

Builder = Callable[[Path], tuple[Path, Sizes]]


def subject_of(path: Path) -> Subject:
    """Return the file at *path*, normalized as an import does it, and its integer model."""
    model = normalize(onnx.load(path))
    return Subject(model, lower_graph(model, path, "net"))


def inputs_of(subject: Subject, values: FloatArray) -> Codes:
    """Return the codes that the file's own quantizer makes of real *values*."""
    quantizer = require_input_quantizer(subject.proto)
    return quantizer.codes_of(run_head(subject.proto, quantizer, values)).reshape(len(values), -1)


def outputs_of(subject: Subject, values: FloatArray) -> NDArray[np.float64]:
    return reals_of(subject.model, run(subject.model, inputs_of(subject, values))).reshape(len(values), -1)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("build", [float_mlp, float_cnn])
def test_static_quantization_of_onnxruntime(tmp_path: Path, build: Builder, per_channel: bool, signed: bool) -> None:
    source, shape = build(tmp_path / "float.onnx")
    path = quantized(source, tmp_path / "qdq.onnx", shape, per_channel=per_channel, signed=signed)
    subject = subject_of(with_powers_of_two(path))
    values = normal(5, 400, shape) * 2
    expected = run_unoptimized(path, values)
    assert (outputs_of(subject, values) == expected).all()
    assert len(np.unique(expected)) > 50
    assert [proof.claim for proof in prove_lowering(subject.lowered) if not proof.holds] == []
    assert differences(subject, random_codes(subject.model, 1)) == []


@pytest.mark.parametrize("build", [float_mlp, float_cnn])
def test_free_scales_equal_float64(tmp_path: Path, build: Builder) -> None:
    source, shape = build(tmp_path / "float.onnx")
    path = quantized(source, tmp_path / "qdq.onnx", shape, per_channel=True, signed=False)
    subject = subject_of(path)
    values = normal(5, 400, shape) * 2
    codes = np.rint(outputs_of(subject, values) / float(subject.model.output_scale))
    exact = evaluate(subject.proto, subject.inputs(inputs_of(subject, values)))[subject.output]
    assert (np.rint(exact / float(subject.model.output_scale)) == codes).all()
    if build is float_mlp:  # the means of the other network fall on ties, which float32 rounds either way
        single = np.rint(run_unoptimized(path, values) / np.float64(subject.model.output_scale))
        assert (single == codes).all()


def test_weight_codes_are_those_of_the_file(tmp_path: Path) -> None:
    source, shape = float_mlp(tmp_path / "float.onnx")
    path = quantized(source, tmp_path / "qdq.onnx", shape, per_channel=True, signed=False)
    stored = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if t.name.endswith("quantized")
    }
    matrices = [values for values in stored.values() if values.ndim == 2]
    products = [node for node in subject_of(path).model.nodes if isinstance(node, MatMul)]
    assert len(matrices) == len(products) == 3
    for values, product in zip(matrices, products, strict=True):
        expected = values if values.shape == product.weights.shape else values.T
        assert (product.weights == expected).all()


def test_a_changed_weight_code_is_a_difference(tmp_path: Path) -> None:
    source, shape = float_mlp(tmp_path / "float.onnx")
    path = with_powers_of_two(quantized(source, tmp_path / "q.onnx", shape, per_channel=False, signed=False))
    values, expected = normal(5, 400, shape) * 2, run_unoptimized(path, normal(5, 400, shape) * 2)
    model = onnx.load(path)
    weights = next(t for t in model.graph.initializer if t.name.endswith("quantized") and len(t.dims) == 2)
    changed = numpy_helper.to_array(weights).copy()
    changed[0, 0] += 1 if changed[0, 0] < 100 else -1
    weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
    onnx.save_model(model, path)
    assert (outputs_of(subject_of(path), values) != expected).any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_every_code_and_tie_about_every_zero_point(tmp_path: Path, kind: type[np.integer]) -> None:
    limits = np.iinfo(kind)
    codes = np.arange(-128, 128)[:, None]
    values = (codes * 1.5).astype(np.float32)  # every second one is a tie
    unlike = 0
    for zero in range(int(limits.min), int(limits.max) + 1):
        file = QonnxFile()
        source = file.quant("input", 1.5, 8, signed=1)
        output = file.linear(source, 1.0, zero, kind)
        path = file.save(tmp_path / "tie" / f"{zero}.onnx", 1, output, 1)
        model = lower_file(path).model
        only = QonnxFile()
        pair = only.save(tmp_path / "pair.onnx", 1, only.linear("input", 1.0, zero, kind), 1)
        assert (run(model, codes) == run_unoptimized(pair, values)).all()
        # Quant of QONNX rounds after the zero point is added, which moves the ties of an odd one.
        other = Quantizer(model.output_scale, zero, int(limits.min) - zero, int(limits.max) - zero, Rounding.ROUND)
        same = Quantizer(model.output_scale, 0, other.lowest, other.highest, Rounding.ROUND)
        unlike += other.boundary(5) != same.boundary(5)
    assert unlike == 128


def brevitas_network(path: Path, *, dynamo: bool) -> Sizes:
    """Export a network of Brevitas' with a Clip between Q and DQ (4 bits), scales per channel, and an Int32 bias."""
    import torch
    from torch import nn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from brevitas.export import export_onnx_qcdq
        from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
        from brevitas.quant import Int8ActPerTensorFloat, Int32Bias

        torch.manual_seed(0)
        net = nn.Sequential(
            QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=6, return_quant_tensor=True),
            QuantConv2d(2, 4, 3, bias=True, weight_bit_width=4, weight_scaling_per_output_channel=True),
            nn.BatchNorm2d(4),
            QuantReLU(bit_width=4, return_quant_tensor=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            # The newer exporter refuses quantized biases, and writes weights as floats behind a QuantizeLinear.
            QuantLinear(16, 5, bias=True, weight_bit_width=8, bias_quant=None if dynamo else Int32Bias),
            QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=5),
        )
        with torch.no_grad():
            for _ in range(3):
                net(torch.randn(64, 2, 6, 6))
        net.eval()
        export_onnx_qcdq(net, args=torch.randn(1, 2, 6, 6), export_path=str(path), dynamo=dynamo)
    return 2, 6, 6


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
def test_qcdq_of_brevitas(tmp_path: Path, dynamo: bool) -> None:
    path = tmp_path / "qcdq.onnx"
    shape = brevitas_network(path, dynamo=dynamo)
    subject = subject_of(path)
    values = normal(5, 200, shape)
    codes = np.rint(outputs_of(subject, values) / float(subject.model.output_scale))
    single = np.concatenate([run_unoptimized(path, values[i : i + 1]) for i in range(len(values))])
    assert (np.rint(single / np.float64(subject.model.output_scale)) == codes).all()
    assert subject.model.nodes[-1].op == "threshold"
    assert subject.model.allowed_codes in (range(-32, 32), range(-31, 32))
    assert {int(abs(n.weights).max()) for n in subject.model.nodes if isinstance(n, Product)} == {7, 127}


def refused(file: QonnxFile, path: Path, output: str) -> str:
    with pytest.raises(InputError) as caught:
        lower_file(file.save(path / "m.onnx", 4, output, 4))
    return str(caught.value).splitlines()[1].strip()


def test_other_operations_on_the_integers_are_refused(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant("input", 0.5, 4, signed=1)
    integers = file.add("QuantizeLinear", [source, file.constant(0.5), file.codes(3)])
    assert refused(file, tmp_path, file.add("Relu", [integers])) == (
        "t2 (Relu): takes 't1', the integers of a QuantizeLinear; supported on them are Clip, DequantizeLinear; put "
        "this node behind the DequantizeLinear"
    )


def test_wide_activations_are_refused_unless_clipped(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant("input", 0.5, 4, signed=1)
    assert refused(file, tmp_path, file.linear(source, 0.25, 0, np.int16)) == (
        "t2 (DequantizeLinear): integers from -32768 to 32767 on an activation; supported: up to 8 bits"
    )
    file = QonnxFile()
    source = file.quant("input", 0.5, 4, signed=1)
    path = file.save(tmp_path / "m.onnx", 4, file.linear(source, 0.25, 0, np.int16, ends=(-5, 9)), 4)
    assert (run(lower_file(path).model, np.array([[-8, -1, 2, 7]])) == [[-5, -2, 4, 9]]).all()


def test_scales_of_another_type_are_refused(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant("input", 0.5, 4, signed=1)
    constants = [file.half(0.5), file.codes(0)]
    integers = file.add("QuantizeLinear", [source, *constants])
    assert refused(file, tmp_path, file.add("DequantizeLinear", [integers, *constants])) == (
        "t1 (QuantizeLinear): scales of the type float16; supported: float32"
    )


def test_a_code_is_worth_what_dequantize_linear_says(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant("input", 1.0, 5, signed=1)
    integers = file.add("QuantizeLinear", [source, file.constant(2.0), file.codes(3)])
    output = file.add("DequantizeLinear", [integers, file.constant(0.25), file.codes(7)])
    path = file.save(tmp_path / "m.onnx", 1, output, 1)
    subject = Subject.of(path)
    codes = np.arange(-16, 16)[:, None]
    expected = run_unoptimized_part(path, codes.astype(np.float32))
    assert (reals_of(subject.model, run(subject.model, codes)) == expected).all()


def run_unoptimized_part(path: Path, values: FloatArray) -> FloatArray:
    """Run what stands behind the Quant node, which onnxruntime does not know, on its outputs *values*."""
    model = onnx.load(path)
    quant = next(node for node in model.graph.node if node.op_type == "Quant")
    model.graph.input[0].name = quant.output[0]
    model.graph.node.remove(quant)
    onnx.save_model(model, path)
    return run_unoptimized(path, values)
