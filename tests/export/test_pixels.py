"""Pixels as input codes: what a file calculates before its input quantizer is an exact table of 256 codes a channel."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_files import ForeignFile, weights
from onnx import TensorProto
from run_qonnx import run_qonnx
from written_onnx import Written

from bitproof.export.importer import ImportQonnx, PrepareVectors
from bitproof.export.integer import IntegerType, Threshold, run, trace
from bitproof.export.lower import lower_file
from bitproof.export.lowering import Lowered, origins_of
from bitproof.export.qonnx import load_qonnx
from bitproof.export.qonnx_executor import QonnxExecutor
from bitproof.pipeline import Artifact, Codes, InputError, StageContext, load_vectors
from bitproof.pipeline.import_config import source_file

MEANS, SPREADS, SCALE = (0.485, 0.456, 0.406), (0.229, -0.224, 0.225), 0.03125
EVERY_PIXEL = np.arange(256).repeat(3).reshape(256, 3, 1, 1)


def column(values: tuple[float, ...]) -> list[list[list[float]]]:
    return [[[value]] for value in values]


def network(kind: str = "constants", *, quantized: bool = True, pads: int = 1, cast: bool = False) -> onnx.ModelProto:
    """Return a network of images of 3 x 4 x 4 whose pixels are normalized inside, by *kind*."""
    file = ForeignFile()
    tensor = file.add("Cast", "input", to=TensorProto.FLOAT) if cast else "input"
    if kind == "relu":
        tensor = file.add("Relu", file.add("Clip", tensor, file.constant(-1.0), file.constant(3.0)))
    else:
        tensor = file.add("Div", tensor, file.constant(255.0))
    if kind == "norm":
        ones = [file.constant(row) for row in ([1.0, -1.0, 1.0], [0.0] * 3, MEANS, np.square(SPREADS))]
        tensor = file.add("BatchNormalization", tensor, *ones, epsilon=0.0)
    elif kind == "constants":
        tensor = file.add("Sub", tensor, file.constant(column(MEANS)))
        tensor = file.add("Div", tensor, file.constant(column(SPREADS)))
    if quantized:
        tensor = file.quant(tensor, SCALE, 8, signed=int(kind != "relu"))
    kernel = file.quant(file.constant(weights((4, 3, 3, 3), 1)), 0.25, 4, narrow=1)
    tensor = file.add("Relu", file.add("Conv", tensor, kernel, pads=[pads] * 4))
    tensor = file.add("Flatten", file.add("GlobalAveragePool", file.quant(tensor, 0.5, 4, signed=0)))
    logits = file.add("MatMul", tensor, file.quant(file.constant(weights((4, 5), 2)), 0.125, 4, narrow=1))
    model = file.model(logits, ["N", 3, 4, 4], ["N", 5])
    if cast:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


def imported(model: onnx.ModelProto, folder: Path, declared: str | None) -> tuple[Lowered, Artifact]:
    made = folder / "export"
    for path in (folder, made, folder / "scratch"):
        path.mkdir(exist_ok=True)
    onnx.save_model(model, folder / "net.onnx")
    ImportQonnx(source_file(folder / "net.onnx"), declared).run(StageContext(made, folder / "scratch", 0))
    return lower_file(made / "model.onnx"), Artifact("export", "qonnx", made, "")


def pixels(count: int = 200) -> Codes:
    return np.random.default_rng(0).integers(0, 256, size=(count, 48))


def exact_table() -> Codes:
    """Return the code of each pixel, shape (256, 3), by fractions of the constants as float32 holds them."""
    rows = []
    for pixel in range(256):
        pairs = zip(*(np.array(each, dtype=np.float32).tolist() for each in (MEANS, SPREADS)), strict=True)
        reals = [(Fraction(pixel, 255) - Fraction(mean)) / Fraction(spread) / Fraction(SCALE) for mean, spread in pairs]
        rows.append([min(max(round(real), -128), 127) for real in reals])
    return np.array(rows)


def table_of(lowered: Lowered) -> Codes:
    """Return the code of each pixel, shape (256, 3), that the first activation of the integer model gives."""
    images = np.broadcast_to(EVERY_PIXEL, (256, 3, 4, 4)).reshape(256, 48)
    first = lowered.model.nodes_of(Threshold)[0].name
    return trace(lowered.model, images)[first][:, :, 0, 0]


def test_normalized_pixels_are_the_exact_table_of_256_codes_a_channel(tmp_path: Path) -> None:
    lowered, _ = imported(network(), tmp_path, "uint8")
    assert lowered.model.input == IntegerType(8, signed=False)
    assert lowered.model.input_scale == Fraction(1)
    np.testing.assert_array_equal(table_of(lowered), exact_table(), strict=True)
    assert len(np.unique(exact_table())) > 150
    other, _ = imported(network(), tmp_path, "uint8*1/2")
    assert (table_of(other) != exact_table()).any()


@pytest.mark.parametrize("kind", ["constants", "norm", "scaled"])
def test_the_network_on_pixels_gives_what_qonnx_gives_for_the_file_itself(tmp_path: Path, kind: str) -> None:
    file = network(kind)
    lowered, artifact = imported(file, tmp_path, "uint8")
    model, codes = lowered.model, pixels()
    gold = run_qonnx(file, codes.astype(np.float32).reshape(-1, 3, 4, 4))  # scales are powers of two: exact
    assert [[int(c) * model.output_scale for c in row] for row in run(model, codes)] == gold.tolist()
    executor = QonnxExecutor(load_qonnx(artifact.path / "model.onnx"), model, origins_of(lowered))
    np.testing.assert_array_equal(executor(codes), run(model, codes))
    written = Written.of(model)
    assert written.proto.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert written.unequal(model, codes) == []
    act = model.nodes_of(Threshold)[0]
    assert isinstance(act, Threshold)
    moved = replace(act, thresholds=act.thresholds + 1)
    wrong = replace(model, nodes=tuple(moved if node is act else node for node in model.nodes))
    assert written.unequal(wrong, codes)[0] == act.name


def test_a_byte_input_that_is_cast_is_declared_by_its_type(tmp_path: Path) -> None:
    cast, artifact = imported(network(cast=True), tmp_path / "cast", None)
    declared, _ = imported(network(), tmp_path / "declared", "uint8")
    np.testing.assert_array_equal(run(cast.model, pixels()), run(declared.model, pixels()), strict=True)
    codes = pixels(20).astype(np.uint8)
    np.save(tmp_path / "x.npy", codes.reshape(20, 3, 4, 4))
    for name in ("data", "data-scratch"):
        (tmp_path / name).mkdir()
    stage = PrepareVectors(source_file(tmp_path / "x.npy"), None, samples=20, split="vectors")
    stage.run(artifact, StageContext(tmp_path / "data", tmp_path / "data-scratch", 0))
    stored = load_vectors(Artifact("data", "dataset", tmp_path / "data", ""), "vectors").codes
    np.testing.assert_array_equal(stored, codes.reshape(20, 48))


def test_a_byte_input_that_is_calculated_with_as_it_is_stays_refused(tmp_path: Path) -> None:
    model = network()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    with pytest.raises(InputError, match="the input 'input' holds UINT8; supported: FLOAT"):
        imported(model, tmp_path, None)


def test_a_relu_or_clip_before_the_input_quantizer_needs_no_declaration(tmp_path: Path) -> None:
    file = network("relu")
    lowered, artifact = imported(file, tmp_path, None)
    model = lowered.model
    assert model.allowed_codes == range(256)
    codes = np.random.default_rng(1).integers(0, 97, size=(50, 48))  # what Clip to [-1, 3] lets through
    gold = run_qonnx(file, (codes * SCALE).astype(np.float32).reshape(-1, 3, 4, 4))
    assert [[int(c) * model.output_scale for c in row] for row in run(model, codes)] == gold.tolist()
    values = np.random.default_rng(2).uniform(-4, 4, size=(30, 48)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    for name in ("data", "data-scratch"):
        (tmp_path / name).mkdir()
    stage = PrepareVectors(source_file(tmp_path / "x.npy"), None, samples=30, split="vectors")
    stage.run(artifact, StageContext(tmp_path / "data", tmp_path / "data-scratch", 0))
    stored = load_vectors(Artifact("data", "dataset", tmp_path / "data", ""), "vectors").codes
    np.testing.assert_array_equal(stored, np.rint(np.clip(values, 0, 3) / SCALE).astype(np.int64))


def test_a_quantizer_right_behind_the_input_takes_the_worth_of_other_codes(tmp_path: Path) -> None:
    file = network("relu")
    with pytest.raises(InputError, match=r"quantizes its input already; leave out --input, or write .* uint8\*1/255"):
        imported(file, tmp_path, "uint8")
    lowered, _ = imported(file, tmp_path, "uint8*1/255")
    expected = [[min(round(Fraction(pixel, 255) / Fraction(SCALE)), 255)] * 3 for pixel in range(256)]
    np.testing.assert_array_equal(table_of(lowered), np.array(expected), strict=True)


def test_normalized_pixels_without_a_quantizer_are_refused_in_the_numbers_of_the_network(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"Conv_t4 \(Conv\): takes 0\.0171248 \* code - 2\.1179 in channel 0, where no"
    ) as at:
        imported(network(quantized=False), tmp_path, "uint8")
    assert "exactly 0, which the padding adds" in str(at.value)
    with pytest.raises(InputError, match="where no code stands for exactly 0: what is normalized"):
        imported(network(quantized=False, pads=0), tmp_path, "uint8")
    with pytest.raises(
        InputError,
        match=r"the input 'input' is not quantized but normalized by constants \(Div_t0, Sub_t1, Div_t2\)",
    ):
        imported(network(quantized=False), tmp_path, None)
