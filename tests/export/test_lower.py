"""Lowering is exact: the integer model equals qonnx's own executor, and what has no exact form is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qonnx_files import QonnxFile, qonnx_executor, random_mlp

from bitproof.export.integer import IntegerType, MatMul, Threshold, load, run, save
from bitproof.export.lower import lower
from bitproof.pipeline import Codes, InputError


def codes(seed: int, width: int, count: int = 400) -> Codes:  # int64, (count, width)
    random = np.random.default_rng(seed).integers(0, 256, size=(count, width))
    return np.concatenate([random, np.zeros((1, width), dtype=np.int64), np.full((1, width), 255)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("weight_bits", "act_bits"), [(2, 4), (2, 2), (3, 3), (4, 4), (8, 2)])
def test_integer_model_equals_qonnx_executor(tmp_path: Path, seed: int, weight_bits: int, act_bits: int) -> None:
    path = random_mlp(tmp_path / "export" / "model.onnx", seed, weight_bits=weight_bits, act_bits=act_bits)
    model, proofs = lower(path)
    executor = qonnx_executor(path)
    inputs = codes(seed, model.inputs)
    np.testing.assert_array_equal(run(model, inputs), executor(inputs), strict=True)
    assert all(proof.holds and proof.cases > 0 for proof in proofs)


def test_negative_slopes_flip_their_channels_and_dead_channels_do_not(tmp_path: Path) -> None:
    model, _ = lower(random_mlp(tmp_path / "export" / "model.onnx", 3))
    flipped = np.concatenate([node.flipped for node in model.nodes_of(Threshold)])
    assert flipped.any()
    assert not flipped.all()
    assert not any(node.flipped[0] for node in model.nodes_of(Threshold))  # gamma is 0 there


def test_model_survives_a_round_trip_through_its_files(tmp_path: Path) -> None:
    model, _ = lower(random_mlp(tmp_path / "export" / "model.onnx", 1))
    save(model, tmp_path)
    again = load(tmp_path)
    inputs = codes(1, model.inputs)
    np.testing.assert_array_equal(run(model, inputs), run(again, inputs), strict=True)
    assert (again.input, again.input_scale, again.output_scale) == (model.input, model.input_scale, model.output_scale)
    flips = zip(again.nodes_of(Threshold), model.nodes_of(Threshold), strict=True)
    assert all((a.flipped == b.flipped).all() for a, b in flips)


def test_weights_round_half_to_even_and_saturate(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant("input", 1.0, 8, signed=0)
    values = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 9.0, -9.0]], dtype=np.float32)
    weights = file.quant(file.constant(values), 1.0, 3, signed=1, narrow=1)
    output = file.add("Gemm", [source, weights], transB=1)
    model, _ = lower(file.save(tmp_path / "m.onnx", 7, output, 1))
    assert model.nodes_of(MatMul)[0].weights.tolist() == [[0, 2, 2, 0, -2, 3, -3]]
    assert model.nodes_of(MatMul)[0].weight_type == IntegerType(3, signed=True)


def test_flipping_a_full_range_weight_widens_its_type(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant("input", 1.0, 8, signed=0)
    weights = file.quant(file.constant(np.array([[-2.0]], dtype=np.float32)), 1.0, 2, signed=1)
    product = file.add("MatMul", [source, weights])
    normal = file.batch_norm(product, np.array([[-1], [0], [0], [1]], dtype=np.float32))
    output = file.quant(normal, 1.0, 2, signed=0)
    model, _ = lower(file.save(tmp_path / "m.onnx", 1, output, 1))
    assert model.nodes_of(MatMul)[0].weights.tolist() == [[2]]
    assert model.nodes_of(MatMul)[0].weight_type == IntegerType(2, signed=False)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\xff\xff"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.onnx"):
        lower(path)


def mistakes() -> dict[str, tuple[QonnxFile, str, str]]:
    """Return graphs that have no exact integer form: what is wrong, the output tensor, the expected words."""
    cases: dict[str, tuple[QonnxFile, str, str]] = {}

    def start() -> tuple[QonnxFile, str, str]:
        file = QonnxFile()
        source = file.quant("input", 1.0, 8, signed=0)
        return file, source, file.quant(file.constant(np.ones((1, 2), dtype=np.float32)), 1.0, 2, signed=1, narrow=1)

    file, source, weights = start()
    middle = file.add("Softmax", [file.add("Gemm", [source, weights], transB=1)])
    cases["softmax"] = (file, file.quant(middle, 1.0, 4, signed=0), "t3 (Softmax): is not the last node")
    file, source, weights = start()
    output = file.quant(file.add("Gemm", [source, weights], transB=1), 1.0, 4, signed=0, mode="NEAREST")
    cases["rounding"] = (file, output, "rounding mode 'NEAREST' is not one of QONNX")
    file, source, weights = start()
    output = file.add("Relu", [file.add("Gemm", [source, weights], transB=1)])
    cases["relu at the end"] = (file, output, "is made of real numbers behind a ReLU, clip or curve")
    file, source, weights = start()
    cases["scale"] = (
        file,
        file.quant(file.add("Gemm", [source, weights], transB=1), -1.0, 4, signed=0),
        "must be positive",
    )
    file, source, weights = start()
    cases["alpha"] = (file, file.add("Gemm", [source, weights], transB=1, alpha=2.0), "alpha = 2.0; supported: 1.0")
    file, source, weights = start()
    nan = np.array([[np.nan], [0], [0], [1]], dtype=np.float32)
    normal = file.batch_norm(file.add("Gemm", [source, weights], transB=1), nan)
    cases["nan"] = (file, file.quant(normal, 1.0, 4, signed=0), "not finite")
    file = QonnxFile()
    weights = file.quant(file.constant(np.ones((1, 2), dtype=np.float32)), 1.0, 2, signed=1, narrow=1)
    cases["unquantized input"] = (
        file,
        file.add("Gemm", ["input", weights], transB=1),
        "begin the network with a quantizer of its input: a QuantIdentity",
    )
    for words, values, scale in (
        ("a scale is 0 or negative; it must be positive", [[1.0, -1.0]], [-0.5]),
        ("weights of shape (1, 1, 2); supported: 2 axes", [[[1.0, -1.0]]], [0.5]),
        ("holds a value that is not finite", [[np.inf, -1.0]], [0.5]),
    ):
        file, source, _ = start()
        signs = bipolar(file, file.constant(np.array(values, dtype=np.float32)), scale)
        cases[f"bipolar {words}"] = (file, file.add("Gemm", [source, signs], transB=1), words)
    return cases


def bipolar(file: QonnxFile, source: str, scale: list[float]) -> str:
    factors = file.constant(np.array(scale, dtype=np.float32))
    return file.add("BipolarQuant", [source, factors], "qonnx.custom_op.general")


def test_weights_of_one_bit_are_their_signs_and_zero_is_positive(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant("input", 1.0, 8, signed=0)
    values = np.array([[0.25, -0.25, 0.0, -0.0], [-3.0, 3.0, -1e-30, 1e-30]], dtype=np.float32)
    signs = bipolar(file, file.constant(values), [0.5])
    path = file.save(tmp_path / "model.onnx", 4, file.add("Gemm", [source, signs], transB=1), 2)
    model, _ = lower(path)
    (node,) = model.nodes_of(MatMul)
    assert node.weights.tolist() == [[1, -1, 1, 1], [-1, 1, -1, 1]]
    assert float(model.output_scale) == 0.5
    inputs = codes(0, 4, 20)
    executor = qonnx_executor(path)
    np.testing.assert_array_equal(run(model, inputs), executor(inputs), strict=True)


@pytest.mark.parametrize("name", list(mistakes()))
def test_what_has_no_exact_integer_form_is_refused_by_name(tmp_path: Path, name: str) -> None:
    file, output, words = mistakes()[name]
    path = file.save(tmp_path / "m.onnx", 2, output, 1)
    with pytest.raises(InputError) as caught:
        lower(path)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2
