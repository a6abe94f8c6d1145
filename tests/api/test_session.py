"""``bitproof.onnx_session``: the codes and classes of the integer model, by numpy and onnxruntime alone."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from integer_networks import random_codes, random_network
from numpy.typing import NDArray
from qonnx_files import QonnxFile
from written_onnx import Written

import bitproof
from bitproof.export.importer.input_quantizer import require_input_quantizer, run_head
from bitproof.export.integer import Coding, IntegerModel, IntegerType, MatMul, classify, run
from bitproof.export.lower import lower_file
from bitproof.export.onnx_int8 import build
from bitproof.export.onnx_int8.ends import METADATA, Ends
from bitproof.pipeline.toolchain import run_program
from bitproof.session import OnnxSession

NETWORK = random_network((9, 8, 4))


def written(model: IntegerModel, folder: Path, ends: Ends | None = None) -> Path:
    onnx.save_model(build(model, ends=ends or Ends())[0], folder / "model.onnx")
    return folder / "model.onnx"


def linear(outputs: int, codings: tuple[Coding, ...]) -> IntegerModel:
    weights = np.random.default_rng(outputs).integers(-2, 2, size=(outputs, 6))
    product = MatMul("fc", weights, IntegerType(2, signed=True))
    kind = IntegerType(8, signed=False)
    return IntegerModel("linear", kind, Fraction(1), (6,), (product,), Fraction(1), output_codings=codings)


def test_codes_and_classes_are_those_of_the_integer_model(tmp_path: Path) -> None:
    session, codes = bitproof.onnx_session(written(NETWORK, tmp_path)), random_codes(NETWORK, 600)
    expected = run(NETWORK, codes)
    np.testing.assert_array_equal(session.codes(codes), expected, strict=True)
    np.testing.assert_array_equal(session.codes(codes.astype(np.uint8)), expected, strict=True)
    np.testing.assert_array_equal(session.codes(codes[0]), expected[:1], strict=True)
    np.testing.assert_array_equal(session.classes(codes), classify(NETWORK, expected), strict=True)
    assert session.values(codes).tolist() == (expected * 1.0).tolist()
    assert (session.shape, session.outputs, session.pixels, session.heads) == ((9,), 4, False, ())
    assert session.codes(codes[:0]).shape == (0, 4)


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "onnx-int8.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    written(NETWORK, tmp_path)
    codes = random_codes(NETWORK, 20)
    np.save(tmp_path / "images.npy", codes.astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block, str(page), "exec"), names)
    expected = run(NETWORK, codes)
    np.testing.assert_array_equal(names["codes"], expected, strict=True)
    np.testing.assert_array_equal(names["classes"], classify(NETWORK, expected), strict=True)
    assert names["values"].tolist() == (expected * 1.0).tolist()


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    changed, other = Written.of(NETWORK).with_flipped_weight(NETWORK, NETWORK.nodes_of(MatMul)[-1], 3)
    onnx.save_model(changed.proto, tmp_path / "model.onnx")
    codes = random_codes(NETWORK, 50)
    made = bitproof.onnx_session(tmp_path / "model.onnx").codes(codes)
    assert (made != run(NETWORK, codes)).any()
    np.testing.assert_array_equal(made, run(other, codes), strict=True)


def test_nothing_but_numpy_and_onnxruntime_is_imported(tmp_path: Path) -> None:
    path = written(NETWORK, tmp_path)
    script = (
        "import sys, bitproof, numpy as np\n"
        f"session = bitproof.onnx_session({str(path)!r})\n"
        "print(session.codes(np.zeros((2, 9), dtype=np.uint8)).tolist())\n"
        "heavy = {'torch', 'onnx', 'pydantic', 'qonnx', 'bitproof.export', 'bitproof.pipeline', 'bitproof.api'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    said = run_program(
        [sys.executable, "-c", script], needed_by="the test", cwd=tmp_path, log=tmp_path / "log", timeout_s=120
    )
    assert json.loads(said) == run(NETWORK, np.zeros((2, 9), dtype=np.int64)).tolist()


CODINGS = {
    "scales": tuple(Coding(Fraction(1, n)) for n in (2, 3, 4, 5)),
    "offsets": tuple(Coding(Fraction(1, 3), Fraction(n, 7)) for n in (-3, 1, 0, 2)),
    "roots": tuple(Coding(Fraction(1, 3), Fraction(1, n), n, Fraction(-n, 9)) for n in (2, 3, 5, 7)),
    "mixed": (
        Coding(Fraction(1)),
        Coding(Fraction(1, 2), Fraction(0), 4),
        Coding(Fraction(1, 3), Fraction(1), 2),
        Coding(Fraction(-1)),
    ),
    "falling": (Coding(Fraction(-1)),) * 4,
}


@pytest.mark.parametrize("codings", CODINGS.values(), ids=CODINGS)
@pytest.mark.parametrize("outputs", [4, 1])
def test_channels_of_other_scales_are_compared_exactly(
    codings: tuple[Coding, ...], outputs: int, tmp_path: Path
) -> None:
    model = linear(outputs, codings[:outputs])
    session = bitproof.onnx_session(written(model, tmp_path))
    codes = np.random.default_rng(0).integers(0, 4, size=(300, 6))
    np.testing.assert_array_equal(session.classes(codes), classify(model, run(model, codes)), strict=True)


def test_numbers_that_float64_cannot_tell_apart_are_compared_with_more_digits(tmp_path: Path) -> None:
    near = Fraction(1, 3) + Fraction(1, 10**40)
    for first, second, expected in ((Fraction(1, 3), near, 1), (near, Fraction(1, 3), 0), (near, near, 0)):
        codings = (Coding(first, Fraction(0), 2), Coding(second, Fraction(0), 2))
        weights = np.ones((2, 6), dtype=np.int64)
        model = replace(linear(2, codings), nodes=(MatMul("fc", weights, IntegerType(2, signed=True)),))
        session = bitproof.onnx_session(written(model, tmp_path))
        assert session.classes(np.ones((1, 6), dtype=np.uint8)).tolist() == [expected]


def quantized(folder: Path, *, before: float | None = None, zero: float = 0.0, mode: str = "ROUND") -> Path:
    """Write a QONNX file whose input has 4-bit codes of 1/16 each, perhaps calculated with before."""
    file = QonnxFile()
    source = "input" if before is None else file.add("Mul", ["input", file.constant(before)])
    codes = file.quant(source, 1 / 16, 4, signed=0, zero=zero, mode=mode)
    product = file.add("MatMul", [codes, file.weights(np.eye(6, 3, dtype=np.float32))])
    return file.save(folder / "net" / "model.onnx", 6, product, 3)


ROUNDED = {"plain": {}, "even zero point": {"zero": 4.0}}
OTHERWISE = {"odd zero point": {"zero": 3.0}, "down": {"mode": "FLOOR"}, "calculated with": {"before": 2.0}}


@pytest.mark.parametrize("options", ROUNDED.values(), ids=ROUNDED)
def test_real_inputs_become_the_codes_of_the_exported_quantizer(options: dict[str, Any], tmp_path: Path) -> None:
    path = quantized(tmp_path, **options)
    quantizer = require_input_quantizer(onnx.load(path))
    session = bitproof.onnx_session(written(lower_file(path).model, tmp_path))
    ties = np.arange(-40, 80, dtype=np.float32)[:, None].repeat(6, axis=1) / np.float32(32)
    random = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    for values in (ties, random, ties + np.float32(1e-7)):
        given = values.astype(np.float32)
        exported = quantizer.codes_of(run_head(onnx.load(path), quantizer, given))
        shift = session._input.zero_point
        np.testing.assert_array_equal(session.quantize(given).astype(np.int64) - shift, exported)


@pytest.mark.parametrize("options", OTHERWISE.values(), ids=OTHERWISE)
def test_real_inputs_that_are_rounded_otherwise_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    session = bitproof.onnx_session(written(lower_file(quantized(tmp_path, **options)).model, tmp_path))
    with pytest.raises(ValueError, match="or rounds otherwise, which this file does not hold: give codes"):
        session.codes(np.zeros((1, 6), dtype=np.float32))
    assert session.codes(np.zeros((1, 6), dtype=np.int64)).tolist() == [[0, 0, 0]]


def test_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    model = replace(NETWORK, input_scale=Fraction(1, 256))
    session = bitproof.onnx_session(written(model, tmp_path, Ends("1/255", classes=True)))
    images = np.arange(9 * 200).reshape(200, 9) % 256
    codes = np.array([min(round(Fraction(p * 256, 255)), 255) for p in range(256)])[images]
    np.testing.assert_array_equal(session.codes(images.astype(np.uint8)), run(model, codes), strict=True)
    np.testing.assert_array_equal(session.classes(images), classify(model, run(model, codes)), strict=True)
    with pytest.raises(ValueError, match=r"takes pixels 0..255, not real numbers"):
        session.codes(images / 255)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8), dtype=np.uint8), r"the images have the shape \(2, 8\); expected \(N, 9\)"),
        (np.full((2, 9), 256), "the images hold 256; the file takes codes 0..255"),
        (np.full((2, 9), -1), "the images hold -1; the file takes codes 0..255"),
        (np.full((2, 9), np.nan), "a number that is not finite"),
        (np.full((2, 9), -np.inf), "a number that is not finite"),
        ([[0] * 9, [0] * 8], r"of type list, are no array: rows of different lengths, .*; expected the shape \(N, 9\)"),
        (np.ma.masked_equal(np.zeros((2, 9), dtype=np.uint8), 1), "the images are masked, .* fill what is masked"),
        ([np.ma.masked_less(np.arange(9), 3)], "the images are masked, .* fill what is masked"),
        (np.full((2, 9), "1"), "expected integers or real numbers"),
        (np.zeros(()), "the images have the shape"),
    ],
)
def test_images_that_the_network_does_not_take_are_refused(images: NDArray[Any], message: str, tmp_path: Path) -> None:
    session = bitproof.onnx_session(written(NETWORK, tmp_path))
    with pytest.raises(ValueError, match=message):
        session.codes(images)


def test_real_inputs_beyond_float32_saturate(tmp_path: Path) -> None:
    session = bitproof.onnx_session(written(NETWORK, tmp_path))
    for value, code in ((1e300, 255), (-1e300, 0), (3e38, 255), (-1e-300, 0)):
        assert session.quantize(np.full((1, 9), value)).tolist() == [[code] * 9]


def test_rows_are_checked_and_converted_group_by_group(tmp_path: Path) -> None:
    network = random_network((300, 8, 4))
    session = bitproof.onnx_session(written(network, tmp_path))
    images = np.random.default_rng(0).integers(0, 256, size=(6000, 300), dtype=np.uint8)
    tracemalloc.start()
    made = session.codes(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes  # the int64 form of all rows takes eight times as much
    np.testing.assert_array_equal(made[::50], run(network, images[::50].astype(np.int64)), strict=True)
    wide = images.astype(np.int64)
    wide[-1, -1] = 256
    with pytest.raises(ValueError, match="the images hold 256; the file takes codes"):
        session.codes(wide)


def described(model: IntegerModel, folder: Path, text: str | None) -> Path:
    proto = build(model)[0]
    del proto.metadata_props[:]
    if text is not None:
        onnx.helper.set_model_props(proto, {METADATA: text})
    onnx.save_model(proto, folder / "model.onnx")
    return folder / "model.onnx"


def test_files_that_bitproof_did_not_describe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no metadata of bitproof"):
        bitproof.onnx_session(described(NETWORK, tmp_path, None))
    text = {entry.key: entry.value for entry in build(NETWORK)[0].metadata_props}[METADATA]
    good = json.loads(text)
    source = good["input"]
    bad: list[object] = [
        [],
        {**good, "format": 2},
        {**good, "codings": [["1e9999999", "0", "1", "0"]]},
        {**good, "codings": [["1/0", "0", "1", "0"]]},
        {**good, "codings": []},
        {**good, "outputs": [{"tensor": "elsewhere"}]},
        {**good, "input": {**source, "codes": [0, 0, 1]}},
        {**good, "input": {**source, "codes": [0, 9, 0]}},
        {**good, "input": {**source, "scale": "-1"}},
        {key: value for key, value in good.items() if key != "answers"},
    ]
    for content in bad:
        with pytest.raises(ValueError, match="has metadata that bitproof did not write"):
            bitproof.onnx_session(described(NETWORK, tmp_path, json.dumps(content)))
    with pytest.raises(ValueError, match="has metadata that bitproof did not write"):
        bitproof.onnx_session(described(NETWORK, tmp_path, "{"))
    assert isinstance(bitproof.onnx_session(described(NETWORK, tmp_path, text)), OnnxSession)


@pytest.mark.parametrize("threads", ["2", 1.5, 2.0, 2**40, 1025, 0, -1, True, None])
def test_a_number_of_threads_that_there_cannot_be_is_refused(threads: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = written(NETWORK, tmp_path)
    with pytest.raises(
        ValueError, match=rf"^threads = {re.escape(repr(threads))}; expected a whole number from 1 to 1024$"
    ):
        bitproof.onnx_session(path, threads=threads)
    assert bitproof.onnx_session(path, threads=2).shape == (9,)


@pytest.mark.parametrize("providers", ["CPUExecutionProvider", b"CPU", [b"CPU"], None, {"CPUExecutionProvider": 1}])
def test_providers_that_are_no_list_of_names_are_refused(providers: Any, tmp_path: Path) -> None:  # noqa: ANN401
    said = re.escape(f"providers = {providers!r}; expected a list of names, for example ['CPUExecutionProvider']")
    with pytest.raises(ValueError, match=f"^{said}$"):
        bitproof.onnx_session(written(NETWORK, tmp_path), providers=providers)


def test_a_path_that_names_no_file_is_refused(tmp_path: Path) -> None:
    held: Any = written(NETWORK, tmp_path).read_bytes()
    with pytest.raises(ValueError, match=r"^the path is of type bytes; expected the name of a file, as text"):
        bitproof.onnx_session(held)
    for path in ("", str(tmp_path), tmp_path / "absent", "\0"):
        said = re.escape(repr(str(path))[:200])
        with pytest.raises(ValueError, match=f"^{said}.* is no file; give the path of a model.onnx"):
            bitproof.onnx_session(path)
    with pytest.raises(ValueError, match=r"^'x{199} cannot be read: File name too long$"):
        bitproof.onnx_session("x" * 9999)


def test_what_onnxruntime_cannot_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ValueError, match=r"text.onnx is no file that onnxruntime [\d.]+ runs"):
        bitproof.onnx_session(tmp_path / "text.onnx")
    path = written(NETWORK, tmp_path)
    with pytest.raises(ValueError, match="has no CUDAExecutionProvider; it has"):
        bitproof.onnx_session(path, providers=["CUDAExecutionProvider"])

    class FallsBack(onnxruntime.InferenceSession):  # type: ignore[misc]  # it has no types
        def __init__(self, path: str, options: object, providers: object) -> None:
            super().__init__(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", FallsBack)
    with pytest.raises(ValueError, match="fell back from CUDAExecutionProvider to CPUExecutionProvider"):
        bitproof.onnx_session(path, providers=["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "__version__", "1.16.3")
    with pytest.raises(ImportError, match=r"onnxruntime 1.16.3 is too old; at least 1.17: pip install -U onnxruntime"):
        bitproof.onnx_session(path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        bitproof.onnx_session(path)
