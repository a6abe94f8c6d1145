"""Files that are made to break the reader are refused by name, at once, and never end in a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign_files import CHANNELS_LAST, GENERAL, ForeignFile, weights

from export.foreign import find_input_quantizer, normalize
from export.integer import IntegerModel, IntegerType, MatMul, load, save
from export.integer.ops import Reshape, Window
from export.lowering import lower_graph
from export.qonnx_executor import execute
from pipeline import InputError, StageError

Edit = Callable[[dict[str, Any]], object]


def product(file: ForeignFile, source: str, inputs: int = 3, outputs: int = 2) -> str:
    linear = file.quant(file.constant(weights((outputs, inputs), 1)), 0.5, 3)
    return file.add("Gemm", source, linear, transB=1)


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(InputError) as caught:
        lower_graph(normalize(model), Path("net.onnx"), "net")
    return str(caught.value)


@pytest.mark.parametrize("domain", ["com.example", CHANNELS_LAST])
def test_an_operation_of_another_domain_is_not_the_standard_one_of_its_name(domain: str) -> None:
    file = ForeignFile()
    product(file, file.quant("input", 0.25, 4))
    file.nodes[-1].domain = domain
    model = file.model("t2", ["N", 3], None)
    assert f"Gemm_t2 (Gemm): is of the domain {domain!r}, whose operations are not supported" in refusal(model)


def test_an_axis_that_is_not_there_is_refused() -> None:
    file = ForeignFile()
    source = file.quant("input", 0.25, 4)
    model = file.model(file.add("Concat", source, source, axis=9), ["N", 3], None)
    assert "axis = 9 of 2 axes; allowed: -2 to 1" in refusal(model)


def test_parameters_of_a_batch_norm_that_are_no_vectors_are_refused() -> None:
    file = ForeignFile()
    tensor = product(file, file.quant("input", 0.25, 4))
    parameters = [file.constant(np.ones((1, 2))) for _ in range(4)]
    tensor = file.quant(file.add("BatchNormalization", tensor, *parameters), 0.5, 4)
    assert "2 channels need (2,)" in refusal(file.model(tensor, ["N", 3], None))


def test_more_axes_than_arrays_have_are_refused() -> None:
    file = ForeignFile()
    shape = file.constant([-1, 3] + [1] * 70, np.int64)
    model = file.model(file.add("Reshape", file.quant("input", 0.25, 4), shape), ["N", 3], None)
    assert "its samples have 71 axes; at most 16 are supported" in refusal(model)
    file = ForeignFile()
    tall: list[int | str] = ["N", *(1,) * 70]
    with pytest.raises(InputError, match="'input' has 71 axes; at most 17 are supported"):
        normalize(file.model(file.quant("input", 0.25, 4), tall, None))


@pytest.mark.parametrize("bits", [(1e9, 4.0), (8.0, 1e9), (8.0, -1e9)])
def test_a_trunc_of_any_number_of_bits_takes_no_time(bits: tuple[float, float]) -> None:
    file = ForeignFile()
    tensor = product(file, file.quant("input", 0.25, 4))
    inputs = [file.constant(value) for value in (0.5, 0.0, *bits)]
    model = file.model(file.add("Trunc", tensor, *inputs, domain=GENERAL, rounding_mode="FLOOR"), ["N", 3], None)
    assert "bit width" in refusal(model)
    assert "supported: 1 to 32" in refusal(model)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2Jcleared", "right\u202eleft", "x" * 10_001])
def test_a_name_that_disfigures_a_message_is_refused(name: str) -> None:
    file = ForeignFile()
    model = file.model(product(file, file.quant("input", 0.25, 4)), ["N", 3], None)
    model.graph.node[2].name = name
    with pytest.raises(InputError, match="rename it") as caught:
        normalize(model)
    assert str(caught.value).isprintable()


def test_input_codes_that_no_integer_holds_are_refused() -> None:
    file = ForeignFile()
    inputs = [file.constant(value) for value in (0.5, 1e30, 4.0)]
    quantized = file.add("Quant", "input", *inputs, domain=GENERAL, signed=1, narrow=0, rounding_mode="ROUND")
    with pytest.raises(InputError, match="a zero point from -2147483648 to 2147483648"):
        find_input_quantizer(normalize(file.model(product(file, quantized), ["N", 3], None)))
    file = ForeignFile()
    table = file.constant([[0.0, 1.0]])
    counted = file.add("MultiThreshold", "input", table, domain=GENERAL, out_dtype="INT8", out_bias=1e30)
    with pytest.raises(InputError, match="at most 2147483648"):
        find_input_quantizer(normalize(file.model(product(file, counted), ["N", 3], None)))


def test_a_kernel_of_any_size_takes_no_time() -> None:
    with pytest.raises(ValueError, match="at most 1048576 taps"):
        Window((1 << 40, 1 << 40), (1, 1), (0, 0), (0, 0), (1, 1))


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_windows_that_meet_data_are_those_with_a_tap_in_it(size: int, dilation: int, stride: int) -> None:
    for begin in range(6):
        for end in range(6):
            window = Window((2,), (stride,), (begin,), (end,), (dilation,))
            (count,) = window.output_sizes((size,))
            taps = [[at * stride - begin + tap * dilation for tap in range(2)] for at in range(count)]
            assert window.meets_data((size,)) == all(any(0 <= tap < size for tap in of_one) for of_one in taps)


def test_a_file_that_qonnx_cannot_run_is_no_bug_of_ours() -> None:
    file = ForeignFile()
    model = file.model(file.add("Relu", "input", domain="com.example"), ["N", 3], ["N", 3])
    with pytest.raises(StageError, match="qonnx cannot run the file"):
        execute(model, {"input": np.zeros((1, 3), dtype=np.float32)}, ["t0"])


def saved(folder: Path) -> None:
    product = MatMul("fc0", np.ones((2, 3), dtype=np.int64), IntegerType(2, signed=True))
    nodes = (product, Reshape("flat", (2,), (2, 1)))
    save(IntegerModel("net", IntegerType(4, signed=False), Fraction(1, 3), (3,), nodes, Fraction(1)), folder)


def put(*path: str | int, value: object) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        at: Any = content
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return edit


EDITS: dict[str, tuple[Edit, str]] = {
    "an infinite size": (put("shape", value=[float("inf")]), "infinity"),
    "an infinite scale": (put("output_scale", value=float("inf")), "is not a fraction"),
    "an exponent": (put("output_scale", value="1e9999999999"), "'1e9999999999' is not a fraction such as 1/3"),
    "a type of any width": (put("input", value={"bits": 10**12, "signed": False}), "at most 64 bits"),
    "a huge input": (put("shape", value=[1 << 40]), "1099511627776 integers a sample; at most 67108864"),
    "too many shapes": (put("nodes", 1, "shape", value=[1 << 62, 1 << 62]), "cannot give"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_model_is_refused(tmp_path: Path, name: str) -> None:
    saved(tmp_path)
    edit, message = EDITS[name]
    path = tmp_path / "model.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_the_model_that_was_not_edited_is_read(tmp_path: Path) -> None:
    saved(tmp_path)
    assert load(tmp_path).input_scale == Fraction(1, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04aaaa",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((((\n",
        b"\x93NUMPY\x01\x00\x49\x00{'descr': '<i8', 'fortran_order': False, 'shape': (1125899906842624, 6)}\n",
    ],
)
def test_a_tensor_that_is_no_tensor_is_refused(tmp_path: Path, content: bytes) -> None:
    saved(tmp_path)
    (tmp_path / "fc0.weights.npy").write_bytes(content)
    with pytest.raises(InputError, match="does not hold an integer model"):
        load(tmp_path)
